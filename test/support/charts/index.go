package charts

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// WriteIndex writes an index of about a size in bytes, as large repositories have it, and returns how many versions it has.
func WriteIndex(w io.Writer, size int) (versions int) {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("a the chart deploys scalable highly available cluster of database nodes with monitoring, backups and TLS on Kubernetes: see README - for # details")
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(words[random.IntN(len(words))] + " ")
		}
		return strings.TrimSpace(b.String())
	}
	written := 0
	write := func(format string, args ...any) {
		n, _ := fmt.Fprintf(w, format, args...)
		written += n
	}
	write("apiVersion: v1\nentries:\n")
	for chart := 0; written < size; chart++ {
		name := fmt.Sprintf("%s-%d", words[chart%10], chart)
		write("  %s:\n", strings.Trim(name, ",:"))
		for minor := 120; minor > 0 && written < size; minor-- {
			versions++
			version := fmt.Sprintf("%d.%d.%d", 1+minor/40, minor%40, random.IntN(10))
			write("  - annotations:\n      artifacthub.io/changes: |\n")
			for range 1 + random.IntN(6) {
				write("        - kind: changed\n          description: %q\n", text(8))
			}
			write("      category: Database\n    apiVersion: v2\n    appVersion: %d.%d\n    created: \"2024-05-0%dT12:00:00.%09dZ\"\n",
				minor, random.IntN(10), 1+random.IntN(9), random.IntN(1e9))
			write("    dependencies:\n    - name: common\n      repository: oci://registry.example.com/charts\n      tags:\n      - common\n      version: 2.x.x\n")
			write("    description: %q\n    digest: %016x%016x%016x%016x\n", text(20), random.Uint64(), random.Uint64(), random.Uint64(), random.Uint64())
			write("    home: https://example.com\n    icon: https://example.com/img/%s.svg\n    keywords:\n    - database\n    - %s\n", name, words[random.IntN(4)])
			write("    maintainers:\n    - email: a@example.com\n      name: \"A: B\"\n    name: %s\n    sources:\n    - https://github.com/example/%s\n", name, name)
			write("    type: application\n    urls:\n    - https://charts.example.com/%s-%s.tgz\n    version: %s\n", name, version, version)
		}
	}
	write("generated: \"2024-05-01T12:00:00.123456789Z\"\n")
	return versions
}
