package decode_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/helm-state-metrics/helm-state-metrics/internal/decode"
	"github.com/helm-state-metrics/helm-state-metrics/internal/release"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/payload"
)

// TestNothingOfAPayloadStaysInMemory looks for what was in payloads in a dump of the heap. Go collects the decoder's
// buffers after two garbage collections without use.
func TestNothingOfAPayloadStaysInMemory(t *testing.T) {
	planted := func(what string) string { return fmt.Sprintf("planted in %s %x", what, 0xee7f19c3) }
	places := []string{"notes", "values", "config", "manifest", "templates", "files", "hooks"}
	d := &decode.Decoder{}
	var heads []release.Head
	done := make(chan error)
	go func() { // whose stack is gone afterwards
		var err error
		for _, size := range []int{3000, 30_000, 300_000} { // decoded from either prefix, and as a whole
			r := generate(uint64(size)).release(size, size/4)
			file := func(what string) []*payload.File {
				return []*payload.File{{Name: planted(what), Data: []byte(planted(what))}}
			}
			r.Info.Notes += planted("notes")
			r.Info.Description = planted("the description")
			r.Chart.Values = map[string]any{"a": planted("values")}
			r.Chart.Templates, r.Chart.Files = file("templates"), file("files")
			r.Config, r.Manifest, r.Hooks = map[string]any{"a": planted("config")}, planted("manifest"), []any{planted("hooks")}
			for range 20 {
				var head release.Head
				if head, err = d.Head(bytes.NewReader(stored(t, r))); err != nil {
					break
				}
				heads = append(heads, head)
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC()
	path := filepath.Join(t.TempDir(), "heap")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	debug.WriteHeapDump(file.Fd())
	_ = file.Close()
	dump, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(dump, []byte(planted("the description"))); got != len(heads) || got == 0 {
		t.Errorf("of %d descriptions, which are kept, %d are in the dump", len(heads), got)
	}
	for _, place := range places {
		if got := bytes.Count(dump, []byte(planted(place))); got > 0 {
			t.Errorf("what was in the %s is in memory %d times", place, got)
		}
	}
	runtime.KeepAlive(d)
	runtime.KeepAlive(heads)
}
