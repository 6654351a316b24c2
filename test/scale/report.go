package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// report is what is printed, and written as JSON.
type report struct {
	Machine   machine `json:"machine"`
	Releases  int     `json:"releases"`
	Revisions int     `json:"revisions"`
	Payload   int64   `json:"mean_payload_bytes"`
	Targets   []row   `json:"targets"`
	Details   []row   `json:"details"`
}

func newReport(cfg config, f findings) (report, error) {
	m, err := describeMachine()
	return report{
		Machine: m, Releases: cfg.releases, Revisions: cfg.revisions,
		Payload: f.filled.bytes / int64(f.filled.records),
		Targets: targets(cfg, f), Details: details(f),
	}, err
}

// publish prints the report, and writes it to files if that was asked for.
func (r report) publish(cfg config, stdout io.Writer) error {
	document, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	document = append(document, '\n')
	if cfg.json {
		_, err = stdout.Write(document)
	} else {
		err = r.print(stdout)
	}
	if err != nil || cfg.out == "" {
		return err
	}
	return errors.Join(
		os.WriteFile(cfg.out+".json", document, 0o644),
		os.WriteFile(cfg.out+".md", []byte(r.markdown()), 0o644),
	)
}

// print writes the report for a terminal.
func (r report) print(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "\n%s\n%s\n\n", r.title(), r.Machine)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\tmeasured\treach\tbaseline\t")
	for _, row := range append(r.Targets[:len(r.Targets):len(r.Targets)], r.Details...) {
		_, _ = fmt.Fprintln(t, strings.Join([]string{row.Figure, row.measured(), row.Reach, row.baseline(), row.verdict()}, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.summary())
	return err
}

// markdown is the report as a page of the documentation.
func (r report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Figures at scale\n\n")
	fmt.Fprintf(&b, "Written by `make scale` (`test/scale`) on %s. Do not edit.\n\n", r.Machine.Date)
	fmt.Fprintf(&b, "%s\nMachine: %s, which also ran the API server, etcd and Helm.\n\n", r.title(), r.Machine)
	b.WriteString("The baseline, where there is one, works the way exporters did before: one informer holds every record in " +
		"full, and every\npayload is decoded. The API server is a real one. " + r.summary() + "\n\n")
	b.WriteString("| figure | measured | reach | | baseline | remark |\n|---|---:|---:|---|---:|---|\n")
	writeRows(&b, r.Targets)
	b.WriteString("\nWhat else was seen on the way:\n\n| figure | measured | baseline | remark |\n|---|---:|---:|---|\n")
	for _, row := range r.Details {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.Figure, row.measured(), row.baseline(), row.Note)
	}
	return b.String()
}

func writeRows(b *strings.Builder, rows []row) {
	for _, row := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", row.Figure, row.measured(), row.Reach, row.verdict(), row.baseline(), row.Note)
	}
}

func (r report) title() string {
	return fmt.Sprintf("%d releases × %d revisions, mean payload %s.", r.Releases, r.Revisions, inBytes.format(float64(r.Payload)))
}

func (r report) summary() string {
	missed, set := 0, 0
	for _, row := range r.Targets {
		if row.Met == nil {
			continue
		}
		if set++; !*row.Met {
			missed++
		}
	}
	if missed > 0 {
		return fmt.Sprintf("%d of %d figures MISSED what they are to reach.", missed, set)
	}
	return fmt.Sprintf("All %d figures reach what they are to reach.", set)
}

func (r row) measured() string { return r.Unit.format(r.Measured) }

func (r row) baseline() string {
	if r.Baseline == nil {
		return ""
	}
	return r.Unit.format(*r.Baseline)
}

func (r row) verdict() string {
	switch {
	case r.Met == nil:
		return ""
	case *r.Met:
		return "ok"
	}
	return "MISSED"
}
