package metrics

import (
	"hash/crc32"
	"testing"

	"pgregory.net/rapid"
)

func TestCRCsCombineLikeTheBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 300)).Draw(t, "parts")
		var whole []byte
		var got uint32
		for _, part := range parts {
			whole = append(whole, part...)
			got = combine(got, crc32.ChecksumIEEE(part), past(len(part)))
		}
		if want := crc32.ChecksumIEEE(whole); got != want {
			t.Fatalf("got %08x over %d bytes, want %08x", got, len(whole), want)
		}
	})
}
