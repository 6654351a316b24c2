package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// series are values by name and labels, written as in the text format with the labels in alphabetical order.
type series map[string]float64

func seriesName(family string, labels map[string]string) string {
	var b strings.Builder
	b.WriteString(family)
	for i, name := range slices.Sorted(maps.Keys(labels)) {
		separator := byte(',')
		if i == 0 {
			separator = '{'
		}
		b.WriteByte(separator)
		fmt.Fprintf(&b, "%s=%q", name, labels[name])
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	return b.String()
}

func (s series) add(value float64, family string, labels map[string]string) {
	s[seriesName(family, labels)] = value
}

// parse reads the text format. Of histograms it keeps only the count.
func parse(text string) (series, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	all := make(series)
	for _, family := range families {
		for _, metric := range family.Metric {
			labels := make(map[string]string)
			for _, pair := range metric.Label {
				labels[pair.GetName()] = pair.GetValue()
			}
			name := family.GetName()
			value := metric.GetGauge().GetValue() + metric.GetCounter().GetValue() + metric.GetUntyped().GetValue()
			if family.GetType() == dto.MetricType_HISTOGRAM {
				name, value = name+"_count", float64(metric.GetHistogram().GetSampleCount())
			}
			if _, twice := all[seriesName(name, labels)]; twice {
				return nil, fmt.Errorf("%s occurs twice", seriesName(name, labels))
			}
			all.add(value, name, labels)
		}
	}
	return all, nil
}

// scrape returns everything that the exporter exposes.
func (e *exporter) scrape() (series, error) {
	status, body, err := e.get("/metrics")
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %d: %s", status, body)
	}
	return parse(body)
}

// inNamespaces returns the series about releases in the given namespaces, or in all if none is given.
func (s series) inNamespaces(namespaces ...string) series {
	kept := make(series)
	for name, value := range s {
		if !strings.HasPrefix(name, "helm_release_") {
			continue
		}
		if len(namespaces) == 0 || slices.ContainsFunc(namespaces, func(namespace string) bool {
			return strings.Contains(name, fmt.Sprintf("namespace=%q", namespace))
		}) {
			kept[name] = value
		}
	}
	return kept
}

// shows returns a check that the series about releases in a namespace are exactly the given ones.
func (e *exporter) shows(want series, namespace string, options ...cmp.Option) func() error {
	return func() error {
		all, err := e.scrape()
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, all.inNamespaces(namespace), options...); diff != "" {
			return fmt.Errorf("/metrics differs (-want +got):\n%s", diff)
		}
		return nil
	}
}

// has returns a check that the given series, among others, are exposed.
func (e *exporter) has(want series) func() error {
	return func() error {
		all, err := e.scrape()
		if err != nil {
			return err
		}
		got := make(series)
		for name := range want {
			if value, ok := all[name]; ok {
				got[name] = value
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("/metrics differs (-want +got):\n%s", diff)
		}
		return nil
	}
}

// value returns the value of a series, which must exist.
func (e *exporter) value(t *testing.T, name string) float64 {
	t.Helper()
	all, err := e.scrape()
	if err != nil {
		t.Fatal(err)
	}
	value, ok := all[name]
	if !ok {
		t.Fatalf("there is no series %s", name)
	}
	return value
}
