//go:build unix

package main

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestRelayCountsWhatPasses(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const answer = "the answer"
	go func() {
		conn, err := server.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.ReadFull(conn, make([]byte, 4))
		_, _ = io.WriteString(conn, answer)
	}()

	direct, through := filepath.Join(t.TempDir(), "direct"), filepath.Join(t.TempDir(), "through")
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["only"] = &clientcmdapi.Cluster{Server: "https://" + server.Addr().String()}
	if err := clientcmd.WriteToFile(*cfg, direct); err != nil {
		t.Fatal(err)
	}
	relay, err := openRelay(t.Context(), direct, through)
	if err != nil {
		t.Fatal(err)
	}
	defer relay.close()
	led, err := clientcmd.LoadFromFile(through)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(led.Clusters["only"].Server, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != answer {
		t.Fatalf("%q came back (%v), want %q", got, err, answer)
	}
	if sent, received := relay.sent.Load(), relay.received.Load(); sent != 4 || received != int64(len(answer)) {
		t.Errorf("the relay counted %d bytes sent and %d received, want 4 and %d", sent, received, len(answer))
	}
}
