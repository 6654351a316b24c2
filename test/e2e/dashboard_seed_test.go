package e2e_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// seed is a Prometheus that scrapes an exporter of two namespaces, in which
// there are releases in every state, and what Helm says of these.
type seed struct {
	prometheus
	exporter *exporter
	shop     helm
	team     helm
	facts    []fact
}

// newSeed has Prometheus evaluate the alert rules too, with times that suit a
// test.
func newSeed(t *testing.T) seed {
	t.Helper()
	s := seed{
		shop: newHelm(t, "helm4", newNamespace(t, "shop"), "secret"),
		team: newHelm(t, "helm3", newNamespace(t, "team"), "secret"),
	}
	newer := filepath.Join(t.TempDir(), "web-2.0.0.tgz")
	s.shop.run(t, "package chart:web --version=2.0.0 --destination="+filepath.Dir(newer))
	// Helm stores the values as they are and as rendered, and gzip cannot make
	// them smaller: together they take about 90% of what a record may hold.
	values := writeFile(t, "values", string(stored(garbage(340<<10))))
	for _, step := range []step{
		does("install front chart:web"),
		does("install big chart:site-settings --set-file greeting=" + values),
		does("install my.app " + newer),
		fails("install broken chart:web --set broken=true", refusedPort),
		does("install dated chart:deprecated"),
		does("install kept chart:site-settings"),
		does("uninstall kept --keep-history"),
		does("install app chart:hook --set event=pre-delete"),
		killed("uninstall app"),
	} {
		step(t, s.shop)
	}
	for _, step := range []step{
		does("install front " + newer),
		does("install half chart:site-settings"),
		fails("upgrade half chart:site-settings --set broken=true", refusedKey),
		does("install app chart:hook --set event=pre-upgrade"),
		killed("upgrade app chart:hook --set event=pre-upgrade"),
	} {
		step(t, s.team)
	}
	s.exporter = startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+s.shop.namespace+","+s.team.namespace)
	s.exporter.awaitReady(t)
	s.prometheus = runPrometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: e2e, honor_labels: true, static_configs: [{targets: [%q]}]}]
`, impatientRules(t), strings.TrimPrefix(s.exporter.url, "http://")))
	eventually(t, patience, func() error {
		got, err := s.query("helm_state_metrics_build_info")
		if err == nil && len(got) != 1 {
			err = errors.New("Prometheus has not scraped the exporter")
		}
		return err
	})
	// Something happens while Prometheus looks, so that counters grow.
	s.team.run(t, "upgrade front chart:web")
	s.facts = append(s.shop.facts(t), s.team.facts(t)...)
	return s
}

// answer is what a query is expected to return.
type answer struct {
	series series
	within float64 // how far off values may be
	holds  func(series) bool
}

// to compares the answer with the one to a query.
func (a answer) to(p prometheus, query string) error {
	got, err := p.query(query)
	if err != nil {
		return err
	}
	if a.holds != nil {
		if !a.holds(got) {
			return fmt.Errorf("it returns %v", got)
		}
		return nil
	}
	if diff := cmp.Diff(a.series, got, cmpopts.EquateApprox(0, a.within)); diff != "" {
		return fmt.Errorf("it returns something else (-want +got):\n%s", diff)
	}
	return nil
}
