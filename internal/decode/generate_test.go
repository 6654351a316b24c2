package decode_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// generated makes releases that look like those of real charts, the same ones for the same seed.
type generated struct{ *rand.Rand }

func generate(seed uint64) generated {
	return generated{rand.New(rand.NewPCG(seed, 2))}
}

// release makes a release of about size bytes of YAML in each of its templates and its manifest, and notes of
// about the given length.
func (g generated) release(size, notes int) *payload.Release {
	deployed := time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.FixedZone("", 3600))
	name := g.word() + "-" + g.word()
	r := &payload.Release{
		Name: name,
		Info: &payload.Info{
			FirstDeployed: payload.Time{Time: deployed},
			LastDeployed:  payload.Time{Time: deployed.Add(time.Duration(g.IntN(1e15)))},
			Description:   "Upgrade complete",
			Status:        "deployed",
			Notes:         g.prose(notes),
		},
		Chart:     &payload.Chart{Metadata: g.metadata(name), Values: map[string]any{}},
		Config:    map[string]any{"image": map[string]any{"tag": g.hex(7)}},
		Version:   1 + g.IntN(40),
		Namespace: g.word(),
	}
	for n := 0; n < size; {
		data := g.yaml(min(4000, size))
		n += len(data)
		r.Chart.Templates = append(r.Chart.Templates,
			&payload.File{Name: "templates/" + g.word() + ".yaml", Data: []byte(data)})
	}
	for range 3 + size/1000 {
		r.Chart.Values[g.word()+g.hex(2)] = map[string]any{"enabled": true, g.word(): g.word()}
	}
	r.Manifest = g.yaml(size)
	return r
}

func (g generated) metadata(name string) *payload.Metadata {
	m := &payload.Metadata{
		Name: name, Version: "12.3.45", AppVersion: "v2.71.828", APIVersion: "v2", Type: "application",
		KubeVersion: ">=1.25.0-0",
		Home:        "https://" + name + ".example.com",
		Icon:        "https://cdn.example.com/assets/stacks/" + name + "/img/" + name + "-stack-220x234.png",
		Description: g.prose(60 + g.IntN(300)),
		Annotations: map[string]string{},
	}
	for range g.IntN(6) {
		m.Sources = append(m.Sources, "https://github.com/"+g.word()+"/"+g.word())
		m.Keywords = append(m.Keywords, g.word())
		m.Annotations[g.word()+".example.com/"+g.word()] = g.prose(g.IntN(200))
	}
	for range g.IntN(5) {
		m.Maintainers = append(m.Maintainers,
			&payload.Maintainer{Name: g.word() + " " + g.word(), Email: g.word() + "@" + g.word() + ".example"})
		m.Dependencies = append(m.Dependencies,
			map[string]any{"name": g.word(), "version": "1.x.x", "repository": "oci://registry.example.com/charts", "condition": g.word() + ".enabled"})
	}
	return m
}

// boilerplate is what the manifests of a chart have in common.
const boilerplate = `spec:
  template:
    spec:
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, fsGroup: 1001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - image: registry.example.com/app:v2.71.828
          imagePullPolicy: IfNotPresent
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: ["ALL"]}}
          livenessProbe: {httpGet: {path: /healthz, port: http}, initialDelaySeconds: 30}
          readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 10}
          resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 256Mi}}
`

func (g generated) yaml(size int) string {
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: %s-%s\n", g.word(), g.word())
		for range 8 + g.IntN(30) {
			fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", 1+g.IntN(5)), g.word(), g.scalar())
		}
		b.WriteString(boilerplate)
		b.WriteString("      labels:\n        app.kubernetes.io/managed-by: Helm\n        helm.sh/chart: {{ include \"chart\" . }}\n")
	}
	return b.String()
}

func (g generated) scalar() string {
	switch g.IntN(5) {
	case 0:
		return fmt.Sprint(g.IntN(65536))
	case 1:
		return `"` + g.word() + `"`
	case 2:
		return "{{ .Values." + g.word() + " | quote }}"
	}
	return g.word()
}

func (g generated) prose(size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(g.word())
		b.WriteString([]string{" ", " ", " ", ", ", ".\n", ":\n\n  $ "}[g.IntN(6)])
	}
	return b.String()[:size]
}

func (g generated) word() string {
	start := []string{"de", "con", "re", "pro", "in", "ser", "ex", "work", "sub", "cert", "node", "kube"}
	end := []string{"ployment", "fig", "plica", "vider", "gress", "vice", "porter", "load", "ject", "manager", "port", "s"}
	return start[g.IntN(len(start))] + end[g.IntN(len(end))]
}

func (g generated) hex(n int) string {
	return fmt.Sprintf("%0*x", n, g.Uint64())[:n]
}

// stored is a release as Helm stores it.
func stored(tb testing.TB, release any) []byte {
	tb.Helper()
	text, err := payload.Encode(release)
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
