package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/process"
)

const (
	smallPayload = "34KB"
	largePayload = "470KB"
	// rounds is how often each benchmark runs. The median counts.
	rounds = 3
)

// decoding compares reading the head of a payload with unmarshalling the whole payload.
type decoding struct {
	Small, Large comparison
}

type comparison struct {
	Head           float64 // ns
	Unmarshal      float64 // ns
	HeadBytes      float64 // allocated
	UnmarshalBytes float64
}

func (c comparison) ratio() float64 { return c.Unmarshal / c.Head }

func benchmark(ctx context.Context) (decoding, error) {
	pattern := fmt.Sprintf("^Benchmark(Decode|Unmarshal)$/^(%s|%s)$", smallPayload, largePayload)
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench="+pattern, "-benchmem", "-count="+strconv.Itoa(rounds), "./internal/decode")
	cmd.Dir = process.Root()
	process.Detach(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return decoding{}, fmt.Errorf("go test -bench: %w\n%s", err, out)
	}
	return parseBenchmarks(string(out))
}

// parseBenchmarks reads the output of go test, which has lines such as
//
//	BenchmarkDecode/34KB-2   10000   104217 ns/op   34172 payload-bytes   808 B/op   21 allocs/op
func parseBenchmarks(text string) (decoding, error) {
	results := make(map[string][]float64) // by benchmark and unit
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if at := strings.LastIndexByte(name, '-'); at > 0 { // GOMAXPROCS follows.
			name = name[:at]
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return decoding{}, fmt.Errorf("benchmark result %q: %w", line, err)
			}
			key := name + " " + fields[i+1]
			results[key] = append(results[key], value)
		}
	}
	var missing []string
	median := func(name, payload, unit string) float64 {
		values := results["Benchmark"+name+"/"+payload+" "+unit]
		if len(values) == 0 {
			missing = append(missing, name+"/"+payload+" "+unit)
			return 0
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	compare := func(payload string) comparison {
		return comparison{
			Head: median("Decode", payload, "ns/op"), HeadBytes: median("Decode", payload, "B/op"),
			Unmarshal: median("Unmarshal", payload, "ns/op"), UnmarshalBytes: median("Unmarshal", payload, "B/op"),
		}
	}
	d := decoding{Small: compare(smallPayload), Large: compare(largePayload)}
	if len(missing) > 0 {
		return d, fmt.Errorf("go test -bench printed no result for %s", strings.Join(missing, ", "))
	}
	return d, nil
}
