package e2e_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPrometheus has a real Prometheus scrape the exporter, and asks it.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	h := newHelm(t, "helm4", newNamespace(t, "scraped"), "secret")
	h.run(t, "install app chart:site-settings")
	h.run(t, "install my.app chart:deprecated")
	e := startExporter(t, shared.kubeconfig(t, access{}), "--namespaces="+h.namespace)
	p := startPrometheus(t, e)

	eventually(t, 2*patience, func() error { return p.agrees(view{}.series(t, h.facts(t)), `{__name__=~"helm_release_.+"}`) })
	h.run(t, "upgrade app chart:web")
	h.run(t, "uninstall my.app")
	want := view{}.series(t, h.facts(t))
	eventually(t, patience, e.shows(want, h.namespace, sizeWhenRead))
	eventually(t, patience, func() error { return p.agrees(want, `{__name__=~"helm_release_.+"}`) })
	eventually(t, patience, func() error {
		return p.agrees(series{"up": 1}, `label_replace(up, "instance", "", "", "")`)
	})
}

// prometheus is the URL of a running server.
type prometheus string

func startPrometheus(t *testing.T, e *exporter) prometheus {
	t.Helper()
	return runPrometheus(t, fmt.Sprintf("global: {scrape_interval: 1s, scrape_timeout: 1s}\n"+
		"scrape_configs: [{job_name: e2e, honor_labels: true, static_configs: [{targets: [%q]}]}]\n",
		strings.TrimPrefix(e.url, "http://")))
}

// runPrometheus starts a server with a configuration.
func runPrometheus(t *testing.T, config string) prometheus {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	// Prometheus does not tell which port it got, so it has to be told one.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_ = free.Close()
	cmd := exec.Command(program("prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return prometheus("http://" + address)
}

// get asks the API and decodes the data of its answer.
func (p prometheus) get(path string, query url.Values, data any) error {
	resp, err := http.Get(string(p) + path + "?" + query.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("Prometheus answers: %s", answer.Error)
	}
	return nil
}

// query returns the answer to a query, without the labels of the target.
func (p prometheus) query(query string) (series, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := p.get("/api/v1/query", url.Values{"query": {query}}, &data); err != nil {
		return nil, err
	}
	got := make(series)
	for _, result := range data.Result {
		text, _ := result.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		family := result.Metric["__name__"]
		for _, label := range []string{"__name__", "job", "instance"} {
			delete(result.Metric, label)
		}
		got.add(value, family, result.Metric)
	}
	return got, nil
}

// agrees compares the answer to a query with the wanted series.
func (p prometheus) agrees(want series, query string) error {
	got, err := p.query(query)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(want, got, sizeWhenRead); diff != "" {
		return fmt.Errorf("Prometheus answers otherwise (-want +got):\n%s", diff)
	}
	return nil
}
