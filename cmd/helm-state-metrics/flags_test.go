package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
)

func TestListsTakeRepetitionAndCommas(t *testing.T) {
	cfg, err := parseFlags([]string{"--namespaces=a,b", "--namespaces", "c", "--namespaces=a", "--storage=configmaps,secrets"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, cfg.watch.Namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]release.Storage{release.ConfigMaps, release.Secrets}, cfg.watch.Storages); diff != "" {
		t.Errorf("storages (-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	cfg, err := parseFlags(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]release.Storage{release.Secrets}, cfg.watch.Storages); diff != "" {
		t.Errorf("storages (-want +got):\n%s", diff)
	}
	if cfg.watch.FetchConcurrency != 4 || len(cfg.watch.Namespaces) != 0 {
		t.Errorf("got %+v", cfg)
	}
}

func TestPayloadNeverMeansNoFetches(t *testing.T) {
	cfg, err := parseFlags([]string{"--payload=never"}, nil)
	if err != nil || cfg.watch.FetchConcurrency != 0 {
		t.Errorf("got %d fetches at once, err %v", cfg.watch.FetchConcurrency, err)
	}
}

func TestBadFlagsAreNamed(t *testing.T) {
	for _, args := range [][]string{
		{"--storage=disk"}, {"--storage="}, {"--payload=eager"}, {"--fetch.concurrency=none"}, {"--fetch.concurrency=0"},
		{"--namespaces=Not_A_Namespace"}, {"--namespaces-denylist=a/b"}, {"--release-labels=a b"},
		{"--shard=1"}, {"--shard=-1"}, {"--total-shards=0"}, {"--shard=two", "--total-shards=4"}, {"--metrics.max-releases-per-namespace=-1"}, {"--auth-token-audiences=a"}, {"--health.listen-address="},
		{"--namespaces=a", "--namespaces-denylist=a"}, {"--colour"}, {"--log.level=loud"}, {"--metrics.allowlist=("}, {`--metrics.denylist=\Qhelm_release_info`},
	} {
		cfg, err := parseFlags(args, nil)
		if err == nil {
			t.Errorf("%v: accepted as %+v", args, cfg)
			continue
		}
		flag, value, _ := strings.Cut(args[0], "=")
		if message := err.Error(); !strings.Contains(message, flag) && !strings.Contains(message, value) || strings.Contains(message, "\n") {
			t.Errorf("%v: error %q, want one line that names the flag or its value", args, message)
		}
	}
}

func TestHelpAndVersionAreAnswered(t *testing.T) {
	for arg, want := range map[string]string{"--help": "--namespaces-denylist", "--version": "helm-state-metrics, version"} {
		var out bytes.Buffer
		cfg, err := parseFlags([]string{arg}, &out)
		if cfg != nil || err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: got %v, %v, %q", arg, cfg, err, out.String())
		}
	}
}
