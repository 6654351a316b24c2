package main

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/cluster"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// untilRight returns how long after the last write a scrape first showed exactly what the records say.
func (f *flooding) untilRight(ctx context.Context, last time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type seen struct {
		after time.Duration
		shown uint64
	}
	var all []seen
	var want uint64
	truth := make(chan error, 1)
	go func() {
		text, err := f.truth(ctx)
		want = fingerprint(text)
		truth <- err
	}()
	known := false
	for {
		s, err := f.run.scrape(ctx)
		if err != nil {
			return 0, err
		}
		all = append(all, seen{s.end.Sub(last), fingerprint(s.text)})
		select {
		case err := <-truth:
			if err != nil {
				return 0, err
			}
			known = true
		case <-ctx.Done():
			return 0, ctx.Err()
		default:
		}
		if !known {
			continue
		}
		if at := slices.IndexFunc(all, func(s seen) bool { return s.shown == want }); at >= 0 {
			return all[at].after, nil
		}
	}
}

var seed = maphash.MakeSeed()

// fingerprint is the same for the same lines about releases, in any order. It leaves out the size of a payload: that is
// the one when it was read, and later writes change it.
func fingerprint(text []byte) (sum uint64) {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("helm_release_")) && !bytes.HasPrefix(line, []byte("helm_release_payload_bytes{")) {
			sum += maphash.Bytes(seed, line)
		}
	}
	return sum
}

// truth returns the lines that the records call for, derived in the simplest way.
func (f *flooding) truth(ctx context.Context) ([]byte, error) {
	list, err := f.client.CoreV1().Secrets(metav1.NamespaceAll).List(ctx, records())
	if err != nil {
		return nil, err
	}
	type truth struct {
		newest                     *corev1.Secret
		revision, deployed, stored int
	}
	releases := make(map[string]*truth)
	for i := range list.Items {
		s := &list.Items[i]
		revision, err := strconv.Atoi(s.Labels["version"])
		if err != nil {
			return nil, err
		}
		key := s.Namespace + "/" + s.Labels["name"]
		if releases[key] == nil {
			releases[key] = &truth{}
		}
		r := releases[key]
		r.stored++
		if revision > r.revision {
			r.newest, r.revision = s, revision
		}
		if s.Labels["status"] == "deployed" {
			r.deployed = max(r.deployed, revision)
		}
	}
	var b bytes.Buffer
	for _, r := range releases {
		if err := writeTruth(&b, r.newest, r.revision, r.deployed, r.stored); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

func writeTruth(b *bytes.Buffer, newest *corev1.Secret, revision, deployed, stored int) error {
	p, err := payload.Decode(newest.Data[cluster.PayloadKey])
	if err != nil {
		return err
	}
	var modified time.Time
	for _, field := range newest.ManagedFields {
		if field.Time.After(modified) {
			modified = field.Time.Time
		}
	}
	key := fmt.Sprintf("name=%q,namespace=%q", newest.Labels["name"], newest.Namespace)
	line := func(family, labels string, value int64) {
		fmt.Fprintf(b, "helm_release_%s{%s} %s\n", family, labels, strconv.FormatFloat(float64(value), 'g', -1, 64))
	}
	line("created_timestamp_seconds", key, newest.CreationTimestamp.Unix())
	line("modified_timestamp_seconds", key, modified.Unix())
	line("revision", key, int64(revision))
	line("stored_revisions", key, int64(stored))
	line("updated", key, p.Info.LastDeployed.Unix())
	if deployed > 0 {
		line("deployed_revision", key, int64(deployed))
	}
	chart := p.Chart.Metadata
	line("info", fmt.Sprintf("app_version=%q,chart=%q,chart_version=%q,%s,revision=\"%d\"", chart.AppVersion, chart.Name, chart.Version, key, revision), 1)
	for status := range strings.FieldsSeq("deployed failed pending-install pending-rollback pending-upgrade") {
		value := int64(0)
		if status == newest.Labels["status"] {
			value = 1
		}
		line("status", fmt.Sprintf("%s,status=%q", key, status), value)
	}
	return nil
}

// records selects Helm's records.
func records() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: cluster.Owner, FieldSelector: "type=" + cluster.RecordType}
}
