// Package prometheus runs a real Prometheus server and asks it, and counts the samples of an exposition.
package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

// Server is a running Prometheus server.
type Server struct {
	*process.Process
	url string
}

// Start starts a server with its files in dir, and returns when it answers queries. The caller stops it.
func Start(ctx context.Context, dir, config string) (*Server, error) {
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	address, err := process.FreeAddress() // Prometheus does not report a port that it has chosen itself.
	if err != nil {
		return nil, err
	}
	p, err := process.Start(exec.Command(process.Path("prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=error"))
	if err != nil {
		return nil, err
	}
	s := &Server{p, "http://" + address}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = p.Await(ctx, 50*time.Millisecond, func() error {
		_, err := s.Query("vector(1)")
		return err
	})
	if err != nil {
		p.Kill()
		return nil, err
	}
	return s, nil
}

// Get makes a request to the HTTP API and decodes the data of the answer.
func (s *Server) Get(path string, query url.Values, data any) error {
	resp, err := http.Get(s.url + path + "?" + query.Encode())
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
		return fmt.Errorf("the answer is an error: %s", answer.Error)
	}
	return nil
}

// Sample is an element of the result of a query.
type Sample struct {
	Labels map[string]string // "__name__" is the name of the metric
	Value  float64
}

// Query evaluates a query whose result is an instant vector.
func (s *Server) Query(promQL string) ([]Sample, error) {
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := s.Get("/api/v1/query", url.Values{"query": {promQL}}, &data); err != nil {
		return nil, err
	}
	samples := make([]Sample, len(data.Result))
	for i, result := range data.Result {
		text, _ := result.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		samples[i] = Sample{result.Metric, value}
	}
	return samples, nil
}

// Count returns how many samples of a metric a text exposition has, or how many of all metrics if the name is empty.
func Count(exposition []byte, metric string) int {
	count := 0
	for line := range bytes.Lines(exposition) {
		if line[0] != '#' && (metric == "" || bytes.HasPrefix(line, []byte(metric+"{"))) {
			count++
		}
	}
	return count
}
