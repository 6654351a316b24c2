//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// templateSize is about how long a template of a chart is, in bytes.
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

// author invents what is in a release. The same seed makes the same release.
type author struct{ *rand.Rand }

func newAuthor(seed int) author { return author{rand.New(rand.NewPCG(uint64(seed), 1))} }

// record is one revision of one release to fill the cluster with.
type record struct {
	namespace string
	name      string
	revision  int
	status    string
	payload   []byte
}

// history makes revisions of the n-th release, oldest first: those of the given numbers, the last one not included.
// They share the chart's body; what an upgrade changes differs: the info, the chart's version, the values and the number.
func history(cfg config, n, from, to int) ([]record, error) {
	a := newAuthor(n)
	r := a.release(n, cfg.templates, namespaceName(cfg, n))
	begin := time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC)
	r.Info.FirstDeployed = begin
	records := make([]record, 0, cfg.revisions)
	for revision := 1; revision <= cfg.revisions; revision++ {
		r.Version = revision
		r.Info.LastDeployed = begin.Add(time.Duration(revision) * 31 * time.Hour).Add(time.Duration(a.IntN(1e9)))
		r.Info.Description, r.Info.Status = "Upgrade complete", "superseded"
		if revision == 1 {
			r.Info.Description = "Install complete"
		}
		if revision == cfg.revisions {
			r.Info.Status = "deployed"
		}
		r.Chart.Metadata.Version = fmt.Sprintf("%d.%d.%d", 1+n%7, revision, a.IntN(10))
		r.Chart.Metadata.AppVersion = fmt.Sprintf("v2.%d.%d", n%13, revision)
		r.Config = map[string]any{"image": map[string]any{"tag": a.hex(40)}, "replicas": 1 + a.IntN(9)}
		if revision < from || revision >= to {
			continue // but for what is invented of it, from which the next ones follow
		}
		payload, err := encode(r)
		if err != nil {
			return nil, err
		}
		records = append(records, record{r.Namespace, r.Name, revision, r.Info.Status, payload})
	}
	return records, nil
}

// release makes what all revisions of a release have in common.
func (a author) release(n, meanTemplates int, namespace string) *helmRelease {
	chart := a.word()
	r := &helmRelease{
		Name:        fmt.Sprintf("%s-%04d", chart, n),
		Info:        &helmInfo{Notes: a.prose(200 + a.IntN(1200))},
		Chart:       &helmChart{Metadata: a.metadata(chart), Values: a.values(4), Files: []*helmFile{}},
		Namespace:   namespace,
		ApplyMethod: "ssa",
	}
	var manifest strings.Builder
	for range meanTemplates/2 + a.IntN(meanTemplates+1) {
		name := "templates/" + a.word() + "-" + a.hex(4) + ".yaml"
		r.Chart.Templates = append(r.Chart.Templates, &helmFile{name, []byte(a.yaml(true))})
		fmt.Fprintf(&manifest, "---\n# Source: %s/%s\n%s", chart, name, a.yaml(false))
	}
	r.Manifest = manifest.String()
	return r
}

func (a author) metadata(chart string) *helmMetadata {
	m := &helmMetadata{
		Name: chart, APIVersion: "v2", Type: "application", KubeVersion: ">=1.25.0-0",
		Home:        "https://" + chart + ".example.com",
		Icon:        "https://" + chart + ".example.com/logo-" + a.hex(8) + ".svg",
		Description: a.prose(40 + a.IntN(120)),
	}
	for range 1 + a.IntN(4) {
		m.Sources = append(m.Sources, "https://git.example.com/"+a.word()+"/"+a.word())
		m.Keywords = append(m.Keywords, a.word())
		person := a.word()
		m.Maintainers = append(m.Maintainers, &helmMaintainer{Name: person, Email: person + "@example.com"})
	}
	return m
}

// values makes a values file of the given depth.
func (a author) values(depth int) map[string]any {
	v := make(map[string]any)
	for range 4 + a.IntN(3) {
		switch {
		case depth > 1:
			v[a.word()] = a.values(depth - 1)
		case a.IntN(3) == 0:
			v[a.word()] = a.IntN(10000)
		default:
			v[a.word()] = a.word()
		}
	}
	return v
}

// yaml makes a manifest, or the template of one.
func (a author) yaml(template bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: apps/v1\nkind: %s\nmetadata:\n  name: %s\n", a.word(), a.word())
	if template {
		b.WriteString(templateLabels)
	} else {
		b.WriteString(manifestLabels)
	}
	for b.Len() < templateSize {
		fmt.Fprintf(&b, "%s%s: ", strings.Repeat("  ", 1+a.IntN(5)), a.word())
		switch choice := a.IntN(6); {
		case choice < 2 && template:
			fmt.Fprintf(&b, "{{ .Values.%s.%s | quote }}\n", a.word(), a.word())
		case choice == 2:
			fmt.Fprintf(&b, "%d\n", a.IntN(65536))
		default:
			fmt.Fprintf(&b, "%s\n", a.word())
		}
	}
	return b.String()
}

func (a author) prose(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(a.word())
		b.WriteString([]string{" ", " ", " ", ", ", ".\n"}[a.IntN(5)])
	}
	return b.String()[:size]
}

// word draws from about a thousand words, the first of a syllable more often than the last, as in real text.
func (a author) word() string {
	heads := []string{"con", "de", "re", "ser", "pod", "node", "cert", "in", "ex", "sub", "pro", "work", "net", "vol", "back", "key"}
	middles := []string{"", "tain", "ploy", "fig", "vic", "gres", "port", "ject"}
	tails := []string{"er", "ment", "s", "ure", "load", "ity", "set", "ing"}
	return heads[min(a.IntN(16), a.IntN(16))] + middles[a.IntN(8)] + tails[min(a.IntN(8), a.IntN(8))]
}

func (a author) hex(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%016x", a.Uint64())
	}
	return b.String()[:n]
}
