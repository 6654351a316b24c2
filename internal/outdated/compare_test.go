package outdated_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

// parse reads a config with two HTTP repositories, one and two, and one OCI repository.
func parse(t *testing.T, rules string) *outdated.Config {
	t.Helper()
	cfg, err := outdated.ParseConfig([]byte(`
repositories:
- {name: one, url: https://one.example.com}
- {name: two, url: https://two.example.com/charts}
- {name: own, url: oci://registry.example.com/helm}
rules:
` + rules))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// answers are versions by "REPOSITORY CHART". A repository without any has been asked and has none, one that is named
// "REPOSITORY failed" or "REPOSITORY pending" is so.
type answers map[string]string

func (a answers) known(q outdated.Question, chart string) ([]string, outdated.State) {
	if _, failed := a[q.Repository+" failed"]; failed {
		return nil, outdated.Failed
	}
	if _, pending := a[q.Repository+" pending"]; pending {
		return nil, outdated.NotAsked
	}
	return strings.Fields(a[q.Repository+" "+chart]), outdated.Answered
}

func TestARowOfARelease(t *testing.T) {
	for name, tc := range map[string]struct {
		running, rules string
		has            answers
		want           outdated.Row
		detail         string // is a part of it
	}{
		"behind by a patch":                          {"1.2.3", "", answers{"one app": "1.2.3 1.2.4 1.2.10"}, outdated.Row{Latest: "1.2.10", Level: outdated.Patch, Repository: "one"}, ""},
		"behind by a minor":                          {"1.2.3", "", answers{"one app": "1.10.0 1.9.9"}, outdated.Row{Latest: "1.10.0", Level: outdated.Minor, Repository: "one"}, ""},
		"behind by a major":                          {"1.2.3", "", answers{"two app": "3.0.0 2.0.0"}, outdated.Row{Latest: "3.0.0", Level: outdated.Major, Repository: "two"}, ""},
		"the latest":                                 {"1.2.3", "", answers{"one app": "1.2.2 1.2.3"}, outdated.Row{Latest: "1.2.3", Level: outdated.None, Repository: "one"}, ""},
		"newer than the latest is not behind":        {"2.0.0", "", answers{"one app": "1.2.3"}, outdated.Row{Latest: "1.2.3", Level: outdated.None, Repository: "one"}, ""},
		"a version that the repository dropped":      {"1.2.3", "", answers{"one app": "1.3.0"}, outdated.Row{Latest: "1.3.0", Level: outdated.Minor, Repository: "one"}, ""},
		"a v before the version means nothing":       {"1.2.3", "", answers{"one app": "v1.2.3"}, outdated.Row{Latest: "v1.2.3", Level: outdated.None, Repository: "one"}, ""},
		"build metadata never counts":                {"1.2.3+7", "", answers{"one app": "1.2.3+8 1.2.3"}, outdated.Row{Latest: "1.2.3+8", Level: outdated.None, Repository: "one"}, ""},
		"pre-releases are not the latest by default": {"1.0.0", "", answers{"one app": "1.0.1 2.0.0-rc.1"}, outdated.Row{Latest: "1.0.1", Level: outdated.Patch, Repository: "one"}, ""},
		"pre-releases that are asked for":            {"1.0.0", "- {chart: app, prerelease: true}", answers{"one app": "1.0.1 2.0.0-rc.1"}, outdated.Row{Latest: "2.0.0-rc.1", Level: outdated.Major, Repository: "one"}, ""},
		"a running pre-release is followed in its line": {"2.0.0-rc.1", "", answers{"one app": "1.9.0 2.0.0-rc.2 2.1.0-rc.1"},
			outdated.Row{Latest: "2.0.0-rc.2", Level: outdated.Patch, Repository: "one"}, ""},
		"a running pre-release is behind its release": {"2.0.0-rc.1", "", answers{"one app": "2.0.0-rc.2 2.0.0"}, outdated.Row{Latest: "2.0.0", Level: outdated.Patch, Repository: "one"}, ""},
		"a running pre-release is followed within the constraint": {"0.7.1-rc.1", "- {chart: app, constraint: ~0.7}", answers{"one app": "0.7.0 0.7.1-rc.2 0.8.0"},
			outdated.Row{Latest: "0.7.1-rc.2", Level: outdated.Patch, Repository: "one"}, ""},
		"a constraint": {"0.7.0", "- {chart: app, constraint: ~0.7}", answers{"one app": "0.7.5 0.8.0"}, outdated.Row{Latest: "0.7.5", Level: outdated.Patch, Repository: "one"}, ""},
		"a constraint that asks for pre-releases, as Helm has it": {"1.0.0", `- {chart: app, constraint: ">=1.0.0-0"}`, answers{"one app": "2.0.0-rc.1"},
			outdated.Row{Latest: "2.0.0-rc.1", Level: outdated.Major, Repository: "one"}, ""},
		"a constraint that no version satisfies":     {"0.7.0", "- {chart: app, constraint: ~0.7}", answers{"one app": "0.8.0"}, outdated.Row{Reason: outdated.NotFound}, "~0.7"},
		"only pre-releases":                          {"0.7.0", "", answers{"one app": "0.8.0-rc.1"}, outdated.Row{Reason: outdated.NotFound}, "prerelease: true"},
		"a desired version needs no repository":      {"5.9.0", "- {chart: app, desiredVersion: 6.0.0}", answers{"one failed": ""}, outdated.Row{Latest: "6.0.0", Level: outdated.Major}, ""},
		"a desired version may be a pre-release":     {"5.9.0", "- {chart: app, desiredVersion: 6.0.0-rc.1}", answers{}, outdated.Row{Latest: "6.0.0-rc.1", Level: outdated.Major}, ""},
		"no repository":                              {"1.0.0", "", answers{}, outdated.Row{Reason: outdated.NoRepository}, "rule"},
		"several repositories":                       {"1.0.0", "", answers{"one app": "1.0.0", "two app": "1.0.0"}, outdated.Row{Reason: outdated.Ambiguous}, "{chart: app, repository: one}"},
		"several repositories, and a rule":           {"1.0.0", "- {chart: a*, repository: two}", answers{"one app": "2.0.0", "two app": "1.0.0"}, outdated.Row{Latest: "1.0.0", Level: outdated.None, Repository: "two"}, ""},
		"an OCI repository is asked by rule only":    {"1.0.0", "", answers{"own app": "2.0.0"}, outdated.Row{Reason: outdated.NoRepository}, "OCI"},
		"an OCI repository":                          {"1.0.0", "- {chart: app, repository: own}", answers{"own app": "2.0.0"}, outdated.Row{Latest: "2.0.0", Level: outdated.Major, Repository: "own"}, ""},
		"the rule's repository does not have it":     {"1.0.0", "- {chart: app, repository: own}", answers{"one app": "2.0.0"}, outdated.Row{Reason: outdated.NotFound}, "own"},
		"the rule's repository has no version of it": {"1.0.0", "", answers{"one app": "latest"}, outdated.Row{Reason: outdated.NotFound}, "one"},
		"the rule's repository failed":               {"1.0.0", "- {chart: app, repository: one}", answers{"one failed": ""}, outdated.Row{Reason: outdated.RepositoryFailed}, "one"},
		"another repository than the rule's failed":  {"1.0.0", "- {chart: app, repository: two}", answers{"one failed": "", "two app": "1.0.0"}, outdated.Row{Latest: "1.0.0", Level: outdated.None, Repository: "two"}, ""},
		"one that may list it, too, failed":          {"1.0.0", "", answers{"one failed": "", "two app": "1.0.0"}, outdated.Row{Latest: "1.0.0", Level: outdated.None, Repository: "two"}, "repository one has never answered"},
		"none lists it, and one failed":              {"1.0.0", "", answers{"one failed": ""}, outdated.Row{Reason: outdated.RepositoryFailed}, "one"},
		"none lists it, and one is asked":            {"1.0.0", "", answers{"one pending": ""}, outdated.Row{}, ""},
		"one that may list it, too, is asked":        {"1.0.0", "", answers{"one pending": "", "two app": "1.0.0"}, outdated.Row{Latest: "1.0.0", Level: outdated.None, Repository: "two"}, ""},
		"not a semantic version":                     {"latest", "", answers{"one app": "1.0.0"}, outdated.Row{Reason: outdated.NotSemver}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			running := outdated.Release{Cluster: "c", Namespace: "team-a", Name: "web", Chart: "app", Version: tc.running}
			rows := parse(t, tc.rules).Compare([]outdated.Release{running}, tc.has.known)
			tc.want.Release = running
			if diff := cmp.Diff([]outdated.Row{tc.want}, rows, cmpopts.IgnoreUnexported(outdated.Row{}), cmpopts.IgnoreFields(outdated.Row{}, "Detail")); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
			if got := rows[0].Detail; !strings.Contains(got, tc.detail) || (got == "") != (tc.detail == "" && tc.want.Reason == "") {
				t.Errorf("detail %q, want %q in it", got, tc.detail)
			}
		})
	}
}

func TestTheFirstRuleThatMatchesApplies(t *testing.T) {
	cfg := parse(t, `
- {chart: legacy-*, ignore: true}
- {chart: app, namespace: team-*, desiredVersion: 1.0.0}
- {chart: app, desiredVersion: 2.0.0}
- {chart: "?pp", desiredVersion: 3.0.0}
- {namespace: kube-system, ignore: true}
`)
	var releases []outdated.Release
	for _, r := range []string{"team-a app", "x-team-a app", "other bpp", "other myapp", "other legacy-app", "kube-system thing"} {
		namespace, chart, _ := strings.Cut(r, " ")
		releases = append(releases, outdated.Release{Namespace: namespace, Name: "web", Chart: chart, Version: "0.1.0"})
	}
	got := make(map[string]string)
	for _, r := range cfg.Compare(releases, answers{}.known) {
		got[r.Namespace+" "+r.Chart] = r.Latest + string(r.Reason)
	}
	want := map[string]string{"team-a app": "1.0.0", "x-team-a app": "2.0.0", "other bpp": "3.0.0", "other myapp": "no_repository"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestThoseFarthestBehindComeFirst(t *testing.T) {
	has := answers{"one app": "4.3.2", "two other": "1.0.0", "one other": "1.0.0"}
	var releases []outdated.Release
	for _, r := range []string{"f app 4.3.2", "e other 1.0.0", "d app 4.3.0", "c app 4.1.0", "b app 3.0.0", "a app 1.0.0", "0 app 3.0.0"} {
		fields := strings.Fields(r)
		releases = append(releases, outdated.Release{Namespace: "x", Name: fields[0], Chart: fields[1], Version: fields[2]})
	}
	var got []string
	for _, r := range parse(t, "").Compare(releases, has.known) {
		got = append(got, r.Name)
	}
	if diff := cmp.Diff([]string{"a", "0", "b", "c", "d", "e", "f"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOneQuestionPerRepositoryOrChart(t *testing.T) {
	cfg := parse(t, `
- {chart: old-*, repository: own, ignore: false}
- {chart: hidden, ignore: true}
- {chart: fixed, desiredVersion: 1.0.0}
- {chart: own-*, repository: own}
`)
	var releases []outdated.Release
	for _, chart := range []string{"own-a", "own-b", "own-a", "app", "hidden", "fixed"} {
		releases = append(releases, outdated.Release{Namespace: "x", Name: "r", Chart: chart, Version: "1.0.0"})
	}
	want := map[outdated.Question]string{
		{Repository: "one"}: "", {Repository: "two"}: "",
		{Repository: "own", Chart: "own-a"}: "1.0.0", {Repository: "own", Chart: "own-b"}: "1.0.0",
	}
	if diff := cmp.Diff(want, cfg.Questions(releases)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkCompare(b *testing.B) {
	cfg, err := outdated.ParseConfig([]byte("repositories:\n- {name: one, url: https://one.example.com}\nrules:\n- {chart: legacy-*, ignore: true}\n"))
	if err != nil {
		b.Fatal(err)
	}
	has := answers{}
	var releases []outdated.Release
	for i := range 10_000 { // each with a version of its own
		chart := "chart-" + strings.Repeat("x", i%100)
		has["one "+chart] = strings.Repeat("1.2.3 ", 999) + "2.0.0"
		releases = append(releases, outdated.Release{Namespace: "x", Name: "r", Chart: chart, Version: fmt.Sprintf("1.0.%d-rc.1", i)})
	}
	for b.Loop() {
		cfg.Compare(releases, has.known)
	}
}
