package outdated

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Release is a release that runs.
type Release struct {
	Cluster, Namespace, Name string
	// Chart and Version are what the exporter tells of it.
	Chart, Version string
}

// Level is how far a running version is behind: the first number in which it differs from the latest.
type Level string

// The levels. Pre-releases of one version differ by a patch.
const (
	None  Level = "none"
	Patch Level = "patch"
	Minor Level = "minor"
	Major Level = "major"
)

// Reason is why the latest version is not known.
type Reason string

// The reasons.
const (
	NoRepository     Reason = "no_repository"     // none lists the chart
	Ambiguous        Reason = "ambiguous"         // several do
	NotFound         Reason = "not_found"         // the rule's repository has no such version
	NotSemver        Reason = "not_semver"        // the running version cannot be compared
	RepositoryFailed Reason = "repository_failed" // none lists the chart, and one has never answered
)

// Row is what is known of a release.
type Row struct {
	Release
	// Latest is the latest version, as the repository writes it, and Repository the name of that.
	Latest, Repository string
	// Level is "" if the latest version is not known.
	Level Level
	// Reason is why it is not known, in one word. If both Level and Reason are "", a repository has not been asked
	// yet.
	Reason Reason
	// Detail explains the Reason, or restricts what is known, in a sentence.
	Detail string

	distance uint64 // between the numbers that differ
}

// State is whether a repository has said which versions it has.
type State int

// The states.
const (
	NotAsked State = iota
	Failed         // it has been asked, and has never answered
	Answered
)

// Known returns the versions of a chart that the answer to a question has, none if it does not list the chart.
type Known func(q Question, chart string) ([]string, State)

// Question is what a repository is asked.
type Question struct {
	Repository string
	// Chart is whose versions are asked for in an OCI repository. Others have an index of all charts, and it is "".
	Chart string
}

// Questions returns what is to be asked to compare some releases, each with a version that runs.
func (c *Config) Questions(releases []Release) map[Question]string {
	questions := make(map[Question]string)
	oci := make(map[string]bool)
	for _, r := range c.Repositories {
		if oci[r.Name] = r.IsOCI(); !oci[r.Name] {
			questions[Question{Repository: r.Name}] = ""
		}
	}
	for i := range releases {
		if rule := c.rule(&releases[i]); oci[rule.Repository] {
			questions[Question{rule.Repository, releases[i].Chart}] = releases[i].Version
		}
	}
	return questions
}

// rule returns the rule that applies to a release.
func (c *Config) rule(running *Release) *Rule {
	for i := range c.Rules {
		if c.Rules[i].matches(running) {
			return &c.Rules[i]
		}
	}
	return &c.fallback
}

// Compare returns a row for each release that no rule ignores, those farthest behind first.
func (c *Config) Compare(releases []Release, known Known) []Row {
	var rows []Row
	byChart := make(map[subject]source)
	byVersion := make(map[subject]Row)
	for i := range releases {
		running := &releases[i]
		rule := c.rule(running)
		if rule.Ignore {
			continue
		}
		s := subject{rule, running.Chart, running.Version}
		row, done := byVersion[s]
		if !done {
			chart := subject{rule: rule, chart: running.Chart}
			if _, done := byChart[chart]; !done {
				byChart[chart] = c.find(rule, running.Chart, known)
			}
			row = rule.compare(running.Version, byChart[chart])
			byVersion[s] = row
		}
		row.Release = *running
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.distance, a.distance),
			strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return rows
}

// subject is what releases with one row have in common.
type subject struct {
	rule           *Rule
	chart, version string
}

// rank is the place of a row: unknown ones come before those that are not behind.
func (r *Row) rank() int {
	return slices.Index([]Level{Major, Minor, Patch, "", None}, r.Level)
}

// source is where a chart comes from, and which versions may be the latest one.
type source struct {
	row      Row  // without versions, what is known
	versions bool // whether there is any
	latest   *semver.Version
	// lines are the pre-releases by what they precede: the latest one of each, that a running one is compared with.
	lines map[line]*semver.Version
}

// line is a version without its pre-release.
type line struct{ major, minor, patch uint64 }

func lineOf(v *semver.Version) line { return line{v.Major(), v.Minor(), v.Patch()} }

// find finds the repository of a chart, and the versions there.
func (c *Config) find(rule *Rule, chart string, known Known) source {
	if rule.desired != nil {
		return source{versions: true, latest: rule.desired}
	}
	var listed, failed, versions []string
	pending := false
	for _, r := range c.Repositories {
		q := Question{Repository: r.Name}
		if r.IsOCI() {
			q.Chart = chart
		}
		if r.Name != rule.Repository && (rule.Repository != "" || r.IsOCI()) {
			continue
		}
		has, state := known(q, chart)
		switch {
		case state == NotAsked:
			pending = true
		case state == Failed:
			failed = append(failed, r.Name)
		case len(has) > 0:
			listed, versions = append(listed, r.Name), has
		}
	}
	unknown := func(reason Reason, format string, args ...any) source {
		return source{row: Row{Reason: reason, Detail: fmt.Sprintf(format, args...)}}
	}
	switch {
	case len(listed) > 1:
		return unknown(Ambiguous, "repositories %s list the chart; a rule settles it: {chart: %s, repository: %s}", strings.Join(listed, ", "), quoted(chart), quoted(listed[0]))
	case len(listed) == 1:
		s := rule.choose(listed[0], versions)
		if len(failed) > 0 {
			s.row.Detail = fmt.Sprintf("repository %s has never answered, and may list the chart, too", strings.Join(failed, ", "))
		}
		return s
	case pending:
		return source{}
	case len(failed) > 0:
		return unknown(RepositoryFailed, "repository %s has never answered", strings.Join(failed, ", "))
	case rule.Repository != "":
		return unknown(NotFound, "repository %s does not have the chart", rule.Repository)
	}
	return unknown(NoRepository, "no repository with an index lists the chart; a rule can name an OCI repository")
}

// choose finds the latest of some versions. It leaves out what is not a semantic version: nothing can be said of it.
func (r *Rule) choose(repository string, versions []string) source {
	s := source{row: Row{Repository: repository}, lines: make(map[line]*semver.Version)}
	for _, text := range versions {
		v, err := semver.NewVersion(text)
		if err != nil {
			continue
		}
		s.versions = true
		if r.strict != nil && r.strict.Check(v) || r.strict == nil && (v.Prerelease() == "" || r.Prerelease) {
			s.latest = later(s.latest, v)
		}
		if v.Prerelease() != "" && (r.lenient == nil || r.lenient.Check(v)) {
			s.lines[lineOf(v)] = later(s.lines[lineOf(v)], v)
		}
	}
	return s
}

// later returns the later of two versions, of which one may be nil.
func later(a, b *semver.Version) *semver.Version {
	if a == nil || b != nil && cmp.Or(b.Compare(a), strings.Compare(b.Original(), a.Original())) > 0 {
		return b
	}
	return a
}

// quoted writes a name for YAML.
func quoted(name string) string {
	if strings.Trim(name, "-._abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return fmt.Sprintf("%q", name)
	}
	return name
}

// compare compares a running version with the latest one. A pre-release that runs is also compared with other
// pre-releases of the same version.
func (r *Rule) compare(version string, from source) Row {
	row := from.row
	running, err := semver.NewVersion(version)
	if err != nil {
		return Row{Reason: NotSemver, Detail: "the running version is not a semantic version"}
	}
	latest := from.latest
	if running.Prerelease() != "" {
		latest = later(latest, from.lines[lineOf(running)])
	}
	switch {
	case latest != nil:
		row.Latest = latest.Original()
		row.Level, row.distance = distance(running, latest)
	case row.Repository == "": // there is none, or it is not known yet
	case !from.versions:
		row = Row{Reason: NotFound, Detail: fmt.Sprintf("repository %s has no semantic version of the chart", row.Repository)}
	case r.Constraint != "":
		row = Row{Reason: NotFound, Detail: fmt.Sprintf("repository %s has no version of the chart that satisfies %s", row.Repository, r.Constraint)}
	default:
		row = Row{Reason: NotFound, Detail: fmt.Sprintf("repository %s has only pre-releases of the chart; a rule with prerelease: true allows them", row.Repository)}
	}
	return row
}

// distance returns how far a running version is behind.
func distance(running, latest *semver.Version) (Level, uint64) {
	switch {
	case running.Compare(latest) >= 0:
		return None, 0
	case running.Major() != latest.Major():
		return Major, latest.Major() - running.Major()
	case running.Minor() != latest.Minor():
		return Minor, latest.Minor() - running.Minor()
	}
	return Patch, latest.Patch() - running.Patch()
}
