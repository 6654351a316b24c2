//go:build unix

package main

import (
	"bytes"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
)

func TestPayloadsAreAboutAsLargeAsThoseOfRealCharts(t *testing.T) {
	cfg := config{releases: 40, revisions: 1, namespaces: 50, templates: 30}
	total := 0
	for n := range cfg.releases {
		records, err := history(cfg, n, 1, 2)
		if err != nil {
			t.Fatal(err)
		}
		total += len(records[0].payload)
	}
	if mean := total / cfg.releases; mean < 40_000 || mean > 48_000 {
		t.Errorf("the mean payload is of %d bytes, want about 44,000", mean)
	}
}

func TestRevisionsDifferInTheirHeads(t *testing.T) {
	records, err := history(config{revisions: 3, namespaces: 50, templates: 30}, 7, 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for i, r := range records {
		want := "superseded"
		if i == 2 {
			want = "deployed"
		}
		if r.revision != i+1 || r.status != want {
			t.Errorf("record %d is revision %d, %s; want %d, %s", i, r.revision, r.status, i+1, want)
		}
		full, err := decodeFully(r.payload)
		if err != nil {
			t.Fatal(err)
		}
		head, err := decode.New().Head(bytes.NewReader(r.payload))
		if err != nil {
			t.Fatal(err)
		}
		if head.Chart.Version != full.Chart.Metadata.Version || !head.LastDeployed.Equal(full.Info.LastDeployed) {
			t.Errorf("revision %d: the head says %s of %s, the whole %s of %s", r.revision,
				head.Chart.Version, head.LastDeployed, full.Chart.Metadata.Version, full.Info.LastDeployed)
		}
		seen[head.Chart.Version] = true
	}
	if len(seen) != len(records) {
		t.Errorf("%d revisions have %d chart versions", len(records), len(seen))
	}
}
