// Package hostile has what somebody could write into a record to hurt whoever reads it, for the tests of all that shows it.
package hostile

import (
	"regexp"
	"strings"
	"unicode"
)

// Texts returns values for fields that hold any text, by what they try.
func Texts() map[string]string {
	return map[string]string{
		"to end the label and the line": "\"} 1\nhelm_release_info{name=\"forged\",namespace=\"forged\"} 1\n",
		"to end the exposition":         "\n# EOF\n",
		"to declare a family":           "\n# TYPE helm_release_info counter\n# HELP helm_release_status forged\n",
		"to escape what follows":        `\`,
		"to unescape what is escaped":   `\\" \n \u0022 &quot; %22`,
		"to run a script":               `</script></title><script>document.title="forged"</script><img src=x onerror='document.title="forged"'>`,
		"to add an attribute":           `" onmouseover="document.title='forged'" autofocus onfocus="document.title='forged'" x='`,
		"to be a link":                  `javascript:document.title="forged"`,
		"to load something":             `<link rel=stylesheet href=//forged.invalid/a.css><style>@import "//forged.invalid/b.css"</style><iframe src=//forged.invalid>`,
		"to be a template":              "{{.Root}} {{template \"top\"}} ${document.title='forged'}",
		"to break lines":                "a\r\nb\rc\vd\fe\u0085f\u2028g\u2029h",
		"to control a terminal":         "\x00\x1b[2J\x1b]0;forged\x07\x7f\u009b31m",
		"to turn text around":           "\u202e1.2.3\u2066\u2067\u2068 \u200f\u061c",
		"to hide":                       "ng\u200binx\ufeff\u200d\u00ad\u2060\U000e0041",
		"to be no text":                 "a\xff\xc3\xed\xa0\x80\xf4\x90\x80\x80b\xf0\x9f",
		"to be no character":            "\ufffd\ufffe\uffff\U0010ffff",
		"to be more than two bytes":     "späť 東京 \U0001f680 \U0001f469\U0001f3fd\u200d\U0001f692",
		"to draw over others":           "Z" + strings.Repeat("\u0300\u0323", 200),
		"to be as long as it may":       strings.Repeat("x", 1024),
		"to be nothing but blanks":      " \t\u00a0\u3000 ",
	}
}

// Plain returns a text as it is in parsed metrics: each byte that is not UTF-8 is U+FFFD.
func Plain(text string) string { return string([]rune(text)) }

// JSON writes a text as a string of JSON, with its bytes that are no UTF-8 as they are.
func JSON(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"', c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ':
			const digits = "0123456789abcdef"
			b.WriteString(`\u00`)
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

var (
	tag       = regexp.MustCompile(`<[^>]*>`)
	attribute = regexp.MustCompile(`="[^"]*"`)
)

// Markup returns the elements of a page with the names of their attributes. It is the same for all texts, unless one is
// taken for markup.
func Markup(page string) string {
	return attribute.ReplaceAllString(strings.Join(tag.FindAllString(page, -1), "\n"), "")
}

// Hidden returns the first character of a page that cannot be seen, 0 if there is none.
func Hidden(page string) rune {
	for _, r := range page {
		if r != '\n' && r != '\t' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return r
		}
	}
	return 0
}
