package metrics_test

import (
	"bytes"
	"io"
	"os/exec"
	"testing"

	stdgzip "compress/gzip"

	"github.com/klauspost/compress/gzip"

	"github.com/helm-state-metrics/helm-state-metrics/internal/metrics"
	"github.com/helm-state-metrics/helm-state-metrics/test/fleet"
)

// TestEveryGzipReaderReadsAScrape gives a scrape of many segments to readers that share no code. Each reads to
// the very end and checks size and CRC.
func TestEveryGzipReaderReadsAScrape(t *testing.T) {
	store, _ := filled(fleet.Of(1_000))
	h := metrics.NewHandler(store, telemetry(store))
	fetch(h, "gzip")
	for i := range 100 {
		store.Set(fleet.Member(i*7, 50)) // so that old and new segments follow each other
	}
	zipped := scrape(h, map[string]string{"Accept-Encoding": "gzip"}).Body.Bytes()
	r, err := stdgzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	want, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("Go: %v", err)
	}
	if len(want) < 1_000_000 {
		t.Fatalf("only %d bytes of text", len(want))
	}
	other, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(other); err != nil || !bytes.Equal(got, want) {
		t.Errorf("klauspost: %d bytes, err %v", len(got), err)
	}
	for name, command := range map[string][]string{
		"GNU gzip": {"gzip", "-dc"},
		// wbits 31 is gzip, whose trailer zlib checks before it says eof.
		"zlib": {"python3", "-c", "import sys, zlib; d = zlib.decompressobj(31); sys.stdout.buffer.write(d.decompress(sys.stdin.buffer.read())); sys.exit(not d.eof or len(d.unused_data))"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("%s is not installed", command[0])
			}
			cmd := exec.Command(command[0], command[1:]...)
			cmd.Stdin = bytes.NewReader(zipped)
			if got, err := cmd.Output(); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, err %v", len(got), err)
			}
			cmd = exec.Command(command[0], command[1:]...)
			damaged := bytes.Clone(zipped)
			damaged[len(damaged)-8] ^= 1 // the CRC
			cmd.Stdin = bytes.NewReader(damaged)
			if cmd.Run() == nil {
				t.Error("does not check the CRC")
			}
		})
	}
}
