package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
)

// stress lets many scrapers scrape as fast as they can while many releases change, and reports latencies and memory.
func stress(ctx context.Context, o options, e *engine) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address, err := serve(ctx, e.handler)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "%d scrapers during %d changes per second for %s …\n", o.scrapers, o.changes, o.stressed)
	limited, done := context.WithTimeout(ctx, o.stressed)
	defer done()
	before := heapInUse()
	var (
		work      sync.WaitGroup
		mu        sync.Mutex
		latencies []time.Duration
		failures  []error
		changes   int
		peak      = before
	)
	work.Go(func() { changes = e.churn(limited, o.changes) })
	for range o.scrapers {
		work.Go(func() {
			for limited.Err() == nil {
				took, err := scrape(limited, address)
				mu.Lock()
				switch {
				case err == nil:
					latencies = append(latencies, took)
				case limited.Err() == nil:
					failures = append(failures, err)
				}
				peak = max(peak, heapInUse())
				mu.Unlock()
			}
		})
	}
	work.Wait()
	if err := errors.Join(failures...); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	slices.Sort(latencies)
	at := func(p float64) time.Duration {
		return latencies[int(p*float64(len(latencies)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf(`
## Many scrapers, many changes

%d scrapers asked one after the other without a pause for %s, on the same cores, and inflated each answer to its checksum, while %d
changes were made (%d per second wanted).

| | |
|---|---|
| scrapes | %d |
| errors | 0 |
| time to the last byte, median | %s |
| time to the last byte, p99 | %s |
| heap in use before, at most | %d MB, %d MB |
`, o.scrapers, o.stressed, changes, o.changes, len(latencies), at(0.5), at(0.99), before>>20, peak>>20), nil
}

// scrape returns how long it took to read a compressed answer up to its checksum.
func scrape(ctx context.Context, address string) (time.Duration, error) {
	start := time.Now()
	body, err := get(ctx, address, "gzip")
	if err != nil {
		return 0, err
	}
	defer body.Close()
	text, err := gzip.NewReader(body)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, text)
	return time.Since(start), err
}

func heapInUse() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapInuse
}
