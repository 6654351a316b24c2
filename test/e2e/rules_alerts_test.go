package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var timeOrSize = regexp.MustCompile(`20\d\d-.*|\d\S*kiB.*`)

// alerts expects those alerts of the rules that the seed calls for, in
// whatever state, since most have to last for minutes.
func (s seed) alerts(t *testing.T) {
	shop, team := s.shop.namespace, s.team.namespace
	want := map[string]string{
		"HelmReleaseFailed " + shop + "/broken":         "Release " + shop + "/broken at revision 1 failed, and no older revision is deployed.",
		"HelmReleaseUpgradeFailed " + team + "/half":    "Release " + team + "/half at revision 2 failed; an older revision (1) is still deployed.",
		"HelmReleaseStuckPending " + team + "/app":      "Release " + team + "/app at revision 2 is pending-upgrade, and the last write to its record at …",
		"HelmReleaseStuckUninstalling " + shop + "/app": "Release " + shop + "/app at revision 1 is uninstalling, and the last write to the record is long ago.",
		"HelmReleasePayloadLarge " + shop + "/big":      "The record of release " + shop + "/big at revision 1 (…",
		"HelmReleaseChartDeprecated " + shop + "/dated": "The chart of release " + shop + "/dated at revision 1 is marked as deprecated by its authors.",
	}
	for _, f := range s.facts {
		if f.stored > 1 {
			name := f.Namespace + "/" + f.Name
			want["HelmReleaseManyRevisions "+name] = fmt.Sprintf("The %d stored revisions of release %s at revision %d are many: whoever upgrades it does not limit its history.", f.stored, name, f.Revision)
		}
	}
	eventually(t, patience, func() error {
		var data struct {
			Alerts []struct {
				State               string
				Labels, Annotations map[string]string
			}
		}
		if err := s.get("/api/v1/alerts", nil, &data); err != nil {
			return err
		}
		got := make(map[string]string)
		for _, a := range data.Alerts {
			name := a.Labels["alertname"] + " " + a.Labels["namespace"] + "/" + a.Labels["name"]
			// Times and sizes are left out.
			got[name] = timeOrSize.ReplaceAllString(a.Annotations["description"], "…")
			if a.Labels["alertname"] == "HelmReleaseStuckPending" && (a.State != "firing" || a.Labels["status"] != "pending-upgrade") {
				return fmt.Errorf("%s is %s: %v", name, a.State, a.Labels)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("alerts (-want +got):\n%s", diff)
		}
		return nil
	})
}

// silence expects an alert to go on while the exporter is away.
func (s seed) silence(t *testing.T) {
	s.exporter.stop(t)
	eventually(t, patience, func() error {
		got, err := s.query("count_over_time(helm_state_metrics:silent[1m]) >= 3")
		if err == nil && len(got) == 0 {
			err = errors.New("the rules have not noticed yet, three times over")
		}
		return err
	})
	firing := answer{series: series{"": 1}}
	if err := firing.to(s.prometheus, `count(ALERTS{alertname="HelmReleaseStuckPending", alertstate="firing"})`); err != nil {
		t.Error(err)
	}
}

// impatientRules returns a file with the alert rules, whose settings are
// changed as people change them.
func impatientRules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "chart", "helm-state-metrics", "files", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	rules := string(text)
	for _, setting := range []string{"pending_after_seconds", "uninstalling_after_seconds", "stored_revisions_limit"} {
		record := regexp.MustCompile(`(record: helm_state_metrics:` + setting + `\n +expr:) \d+`)
		if !record.MatchString(rules) {
			t.Fatal(errors.New("there is no setting " + setting))
		}
		rules = record.ReplaceAllString(rules, "$1 1")
	}
	return writeFile(t, "rules.yaml", rules)
}
