package payload

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// templateSize is about how long a template of a generated chart is, in bytes.
const templateSize = 1800

// What every manifest of a chart repeats.
const (
	templateLabels = `  namespace: {{ include "chart.namespace" . | quote }}
  labels: {{- include "chart.labels.standard" (dict "customLabels" .Values.commonLabels "context" $) | nindent 4 }}
    app.kubernetes.io/component: server
  {{- if .Values.commonAnnotations }}
  annotations: {{- include "chart.tplvalues.render" (dict "value" .Values.commonAnnotations "context" $) | nindent 4 }}
  {{- end }}
spec:
`
	manifestLabels = `  labels:
    app.kubernetes.io/component: server
    app.kubernetes.io/instance: release
    app.kubernetes.io/managed-by: Helm
    app.kubernetes.io/name: chart
    helm.sh/chart: chart-1.2.3
spec:
  selector:
    matchLabels:
      app.kubernetes.io/component: server
      app.kubernetes.io/instance: release
      app.kubernetes.io/name: chart
`
)

// Generator generates releases like those of real charts. It is not safe for concurrent use.
type Generator struct{ *rand.Rand }

// NewGenerator returns a generator. The same seed gives the same releases.
func NewGenerator(seed int) Generator { return Generator{rand.New(rand.NewPCG(uint64(seed), 1))} }

// Release generates a release without times, version and status. On average its chart has the given number of
// templates: 30 make a payload of about 44 kB, as charts of databases or ingress controllers have.
func (g Generator) Release(namespace string, templates int) *Release {
	chart := g.word()
	r := &Release{
		Name:        chart,
		Info:        &Info{Notes: g.prose(200 + g.IntN(1200))},
		Chart:       &Chart{Metadata: g.metadata(chart), Values: g.values(4), Files: []*File{}},
		Namespace:   namespace,
		ApplyMethod: "ssa",
	}
	var manifest strings.Builder
	for range templates/2 + g.IntN(templates+1) {
		name := "templates/" + g.word() + "-" + g.Hex(4) + ".yaml"
		r.Chart.Templates = append(r.Chart.Templates, &File{name, []byte(g.yaml(true))})
		fmt.Fprintf(&manifest, "---\n# Source: %s/%s\n%s", chart, name, g.yaml(false))
	}
	r.Manifest = manifest.String()
	return r
}

func (g Generator) metadata(chart string) *Metadata {
	m := &Metadata{
		Name: chart, APIVersion: "v2", Type: "application", KubeVersion: ">=1.25.0-0",
		Home:        "https://" + chart + ".example.com",
		Icon:        "https://" + chart + ".example.com/logo-" + g.Hex(8) + ".svg",
		Description: g.prose(40 + g.IntN(120)),
	}
	for range 1 + g.IntN(4) {
		m.Sources = append(m.Sources, "https://git.example.com/"+g.word()+"/"+g.word())
		m.Keywords = append(m.Keywords, g.word())
		person := g.word()
		m.Maintainers = append(m.Maintainers, &Maintainer{Name: person, Email: person + "@example.com"})
	}
	return m
}

// values generates a values file of the given depth.
func (g Generator) values(depth int) map[string]any {
	v := make(map[string]any)
	for range 4 + g.IntN(3) {
		switch {
		case depth > 1:
			v[g.word()] = g.values(depth - 1)
		case g.IntN(3) == 0:
			v[g.word()] = g.IntN(10000)
		default:
			v[g.word()] = g.word()
		}
	}
	return v
}

// yaml generates a manifest, or the template of one.
func (g Generator) yaml(template bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: apps/v1\nkind: %s\nmetadata:\n  name: %s\n", g.word(), g.word())
	if template {
		b.WriteString(templateLabels)
	} else {
		b.WriteString(manifestLabels)
	}
	for b.Len() < templateSize {
		fmt.Fprintf(&b, "%s%s: ", strings.Repeat("  ", 1+g.IntN(5)), g.word())
		switch choice := g.IntN(6); {
		case choice < 2 && template:
			fmt.Fprintf(&b, "{{ .Values.%s.%s | quote }}\n", g.word(), g.word())
		case choice == 2:
			fmt.Fprintf(&b, "%d\n", g.IntN(65536))
		default:
			fmt.Fprintf(&b, "%s\n", g.word())
		}
	}
	return b.String()
}

func (g Generator) prose(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(g.word())
		b.WriteString([]string{" ", " ", " ", ", ", ".\n"}[g.IntN(5)])
	}
	return b.String()[:size]
}

// word draws one of about a thousand words. As in real text, some are much more frequent than others.
func (g Generator) word() string {
	starts := []string{"con", "de", "re", "ser", "pod", "node", "cert", "in", "ex", "sub", "pro", "work", "net", "vol", "back", "key"}
	middles := []string{"", "tain", "ploy", "fig", "vic", "gres", "port", "ject"}
	ends := []string{"er", "ment", "s", "ure", "load", "ity", "set", "ing"}
	return starts[min(g.IntN(16), g.IntN(16))] + middles[g.IntN(8)] + ends[min(g.IntN(8), g.IntN(8))]
}

// Hex returns n random hexadecimal digits.
func (g Generator) Hex(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%016x", g.Uint64())
	}
	return b.String()[:n]
}
