package outdated_test

import (
	"strings"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

func TestHelmsOwnFileIsAConfig(t *testing.T) {
	cfg, err := outdated.ParseConfig([]byte(`apiVersion: ""
generated: "0001-01-01T00:00:00Z"
repositories:
- caFile: ""
  certFile: ""
  insecure_skip_tls_verify: false
  keyFile: ""
  name: prom
  pass_credentials_all: true
  password: secret
  url: https://charts.example.com
  username: bot
`))
	if err != nil || len(cfg.Repositories) != 1 || cfg.Repositories[0].Password != "secret" {
		t.Errorf("got %+v, %v", cfg, err)
	}
}

func TestAnEmptyConfigIsOne(t *testing.T) {
	for _, text := range []string{"", "---\n", "# nothing\n", "repositories:\nrules: []\n"} {
		if _, err := outdated.ParseConfig([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestErrorsNameTheLineAndNotThePassword(t *testing.T) {
	const start = "repositories:\n- {name: own, url: https://one.example.com}\n"
	for text, want := range map[string]string{
		start + "- {name: own, url: https://two.example.com}\n":                         `line 3: repository "own" is in line 2, too`,
		start + "- {name: two}\n":                                                       "line 3: url",
		start + "- {name: two, url: ftp://x}\n":                                         "line 3: url",
		start + "- {name: two, url: https://x, passwd: s3cret}\n":                       `line 3: unknown key "passwd"`,
		start + "- {name: two, url: https://x, insecure_skip_tls_verify: s3cret}":       "line 3: the value is of another kind",
		start + "- {name: two, url: https://x, insecure_skip_tls_verify: !!int s3cret}": "the value is of another kind",
		start + "- {name: two, url: https://x, password: [s3cret]}":                     "line 3: the value is of another kind",
		start + "- {name: two, url: https://x, password: s3cret, passwordFile: x}":      "line 3: password",
		start + "- {name: two, url: https://x, password:s3cret}\n":                      `line 3: unknown key "password:…"; there must be a space`,
		start + "- {name: two, url: https://x, password:s3cret, password:s3cret}\n":     "line 3",
		start + "- {name: two, url: https://x, password: *s3cret}\n":                    "needs quotes",
		start + "-\n- {name: two}\n":                                                    "line 4: url",
		start + "rules:\n- {}\n":                                                        "line 4: the rule is empty",
		start + "rules:\n- {chart: '[a'}\n":                                             `line 4: chart: "[a" is no glob`,
		start + "rules:\n- {namespace: 'x[]'}\n":                                        "line 4: namespace",
		start + "rules:\n- {chart: a, repository: other}\n":                             `line 4: repository: no repository has the name "other"`,
		start + "rules:\n- {chart: a}\n- {chart: b, constraint: '=>>1'}\n":              `line 5: constraint: "=>>1"`,
		start + "rules:\n- {chart: a, desiredVersion: newest}\n":                        `line 4: desiredVersion: "newest"`,
		start + "rules:\n- {chart: a, desiredVersion: 1.0.0, repository: own}\n":        "line 4: desiredVersion",
		start + "rules:\n- {chart: a, ignore: true, prerelease: true}\n":                "line 4: ignore",
		start + "rules:\n- {chart: a, chart: b}\n":                                      "line 4",
		start + "rules:\n- chart: a\n   x: b\n":                                         "line 5",
		start + "rule: []\n":                                                            `line 3: unknown key "rule"`,
		start + "---\nrules: []\n":                                                      "more than one YAML document",
		"- a\n":                                                                         "line 1",
	} {
		cfg, err := outdated.ParseConfig([]byte(text))
		if err == nil {
			t.Errorf("%q: accepted as %+v", text, cfg)
			continue
		}
		message := err.Error()
		if !strings.Contains(message, want) || strings.Contains(message, "s3cret") || strings.Contains(message, "\n") || strings.Contains(message, "outdated.") {
			t.Errorf("%q: error %q, want %q in it, in one line, without Go types and values", text, message, want)
		}
	}
}

// FuzzParseConfig checks that no text makes the parser panic or show a value of the wrong kind.
func FuzzParseConfig(f *testing.F) {
	f.Add("repositories:\n- {name: a, url: https://a.example.com}\nrules:\n- {chart: x, constraint: ~1, repository: a}\n")
	f.Add("rules: &a [*a]")
	f.Add("repositories: {a: 1}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, err := outdated.ParseConfig([]byte(text))
		if (cfg == nil) != (err != nil) {
			t.Fatalf("got %v and %v", cfg, err)
		}
		if err == nil {
			cfg.Compare([]outdated.Release{{Namespace: "a", Name: "b", Chart: "x", Version: "1.0.0"}}, answers{"a x": "1.0.0"}.known)
		}
	})
}
