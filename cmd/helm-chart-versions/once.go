package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/helm-state-metrics/helm-state-metrics/internal/outdated"
	"github.com/helm-state-metrics/helm-state-metrics/internal/versions"
)

// untilReady runs a tracker until it has asked everybody once.
func untilReady(ctx context.Context, tracker *versions.Tracker) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- tracker.Run(ctx) }()
	select {
	case <-tracker.Ready():
		cancel()
		return <-ended
	case err := <-ended:
		return cmp.Or(err, tracker.WhyNotReady())
	}
}

// once asks everybody once, and prints what came of it.
func once(ctx context.Context, tracker *versions.Tracker, output string, stdout io.Writer) error {
	if err := untilReady(ctx, tracker); err != nil {
		return err
	}
	view := tracker.View()
	for _, e := range view.Exporters {
		if e.Failure != nil {
			return fmt.Errorf("exporter %s: %w", e.Name, e.Failure)
		}
	}
	if output == "json" {
		return printJSON(stdout, view.Rows)
	}
	return printTable(stdout, view.Rows)
}

// printTable prints a line per release, those farthest behind first.
func printTable(to io.Writer, rows []outdated.Row) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RELEASE\tCHART\tRUNNING\tLATEST\tLEVEL\tREPOSITORY")
	for i := range rows {
		r := &rows[i]
		release := r.Namespace + "/" + r.Name
		if r.Cluster != "" {
			release = r.Cluster + "/" + release
		}
		latest, level, repository := r.Latest, string(r.Level), r.Repository
		if r.Level == "" {
			latest, level, repository = "-", string(r.Reason), r.Detail
		}
		fields := []string{release, r.Chart, r.Version, latest, level, repository}
		for i, field := range fields {
			fields[i] = printable(field)
		}
		fmt.Fprintln(table, strings.TrimRight(strings.Join(fields, "\t"), "\t"))
	}
	return table.Flush()
}

// printable replaces what would move the cursor of a terminal: names come from whoever may write records.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// printJSON prints the same as JSON.
func printJSON(to io.Writer, rows []outdated.Row) error {
	type release struct {
		Cluster    string          `json:"cluster,omitempty"`
		Namespace  string          `json:"namespace"`
		Name       string          `json:"name"`
		Chart      string          `json:"chart"`
		Running    string          `json:"running"`
		Latest     string          `json:"latest,omitempty"`
		Level      outdated.Level  `json:"level,omitempty"`
		Repository string          `json:"repository,omitempty"`
		Reason     outdated.Reason `json:"reason,omitempty"`
		Detail     string          `json:"detail,omitempty"`
	}
	all := make([]release, 0, len(rows))
	for _, r := range rows {
		all = append(all, release{r.Cluster, r.Namespace, r.Name, r.Chart, r.Version, r.Latest, r.Level, r.Repository, r.Reason, r.Detail})
	}
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{"releases": all})
}
