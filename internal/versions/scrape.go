package versions

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
)

const (
	// family is what tells which chart and version a release runs, and statuses which releases do not run.
	family   = "helm_release_info"
	statuses = "helm_release_other_status"
	// These bound a scrape: a release takes about 200 bytes of text, and as many of memory.
	maxScrape   = 64 << 20 // bytes
	maxLine     = 64 << 10 // bytes
	maxReleases = 200_000
	// batch is how many lines are parsed at once: a parsed line takes ten times the memory.
	batch = 1000
)

// Exporter is a helm-state-metrics, at the URL of its metrics.
type Exporter struct {
	// Cluster is the value of the label cluster; "" for none.
	Cluster string
	URL     *url.URL
}

// ParseExporter reads [cluster=NAME,]URL.
func ParseExporter(text string) (Exporter, error) {
	var e Exporter
	if named, ok := strings.CutPrefix(text, "cluster="); ok {
		e.Cluster, text, _ = strings.Cut(named, ",")
		if e.Cluster == "" || text == "" {
			return e, errors.New("want cluster=NAME,URL")
		}
	}
	var err error
	if e.URL, err = url.Parse(text); err != nil || e.URL.Host == "" || e.URL.Scheme != "http" && e.URL.Scheme != "https" ||
		!utf8.ValidString(e.Cluster+e.URL.Host+e.URL.Path) {
		return e, errors.New("want a URL such as http://helm-state-metrics:8080/metrics") // without the text, which may have a password
	}
	return e, nil
}

// scrape returns the releases of an exporter.
func (e Exporter) scrape(ctx context.Context, client *http.Client) ([]outdated.Release, error) {
	at := *e.URL
	query := at.Query()
	query["name[]"] = []string{family, statuses}
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	response, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) { // its text repeats the URL
			err = failed.Err
		}
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		why, _ := bufio.NewReader(io.LimitReader(response.Body, 200)).ReadString('\n')
		return nil, fmt.Errorf("it answers %s: %.200q", response.Status, strings.TrimSpace(why))
	}
	return e.parse(http.MaxBytesReader(nil, response.Body, maxScrape))
}

// parse reads the releases that are not uninstalled with their history kept. It fails if there is no family of
// releases: then this is no helm-state-metrics, or not its metrics.
func (e Exporter) parse(text io.Reader) ([]outdated.Release, error) {
	var releases []outdated.Release
	uninstalled := make(map[outdated.Release]bool) // by namespace and name
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, maxLine)
	var some bytes.Buffer
	flush := func() error {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(&some)
		if err != nil {
			return err
		}
		for _, m := range families[family].GetMetric() {
			releases = append(releases, e.release(m))
		}
		for _, m := range families[statuses].GetMetric() {
			if slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "status" && l.GetValue() == "uninstalled" }) {
				uninstalled[e.release(m)] = true
			}
		}
		return nil
	}
	pending, found := 0, false
	for lines.Scan() {
		switch line := lines.Bytes(); {
		case bytes.HasPrefix(line, []byte(family+"{")), bytes.HasPrefix(line, []byte("# TYPE "+family+" ")):
			found = true
		case bytes.HasPrefix(line, []byte(statuses+"{")):
		default:
			continue
		}
		if pending == maxReleases {
			return nil, fmt.Errorf("more than %d releases; use --shard and --total-shards, and scrape each shard", maxReleases)
		}
		some.Write(lines.Bytes())
		some.WriteByte('\n')
		if pending++; pending%batch == 0 {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("there is no %s; check that the URL ends in /metrics, and that the exporter exposes it", family)
	}
	return slices.DeleteFunc(releases, func(r outdated.Release) bool {
		return uninstalled[outdated.Release{Cluster: r.Cluster, Namespace: r.Namespace, Name: r.Name}]
	}), nil
}

func (e Exporter) release(m *dto.Metric) outdated.Release {
	r := outdated.Release{Cluster: e.Cluster}
	for _, l := range m.GetLabel() {
		switch l.GetName() {
		case "namespace":
			r.Namespace = l.GetValue()
		case "name":
			r.Name = l.GetValue()
		case "chart":
			r.Chart = l.GetValue()
		case "chart_version":
			r.Version = l.GetValue()
		}
	}
	return r
}
