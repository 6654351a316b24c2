package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/rest"
	basecompatibility "k8s.io/component-base/compatibility"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// stopTimeout bounds the API server's shutdown: it waits for requests in flight, and clients' watches never end.
const stopTimeout = 5 * time.Second

// apiServer is a kube-apiserver that runs in this process.
type apiServer struct {
	config *rest.Config // of the administrator
	cancel context.CancelFunc
	done   chan struct{} // closed when the server has returned
	err    error         // why it returned, never nil; written before done is closed
}

// startAPIServer starts a kube-apiserver on etcd at etcdURL. It returns before the server answers: see waitReady.
func startAPIServer(h *home, etcdURL string, extraFlags []string) (*apiServer, error) {
	if err := h.makeCredentials(); err != nil {
		return nil, err
	}
	// The socket is opened here and handed over: to choose a free port and let the server bind it later would race
	// with every other process that does the same.
	listener, err := h.listen()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &apiServer{cancel: cancel, done: make(chan struct{})}
	opts, err := h.completeOptions(ctx, listener, etcdURL, extraFlags)
	if err == nil {
		s.config, err = h.adminConfig(listener.Addr().String())
	}
	if err != nil {
		cancel()
		_ = listener.Close()
		return nil, err
	}
	go func() {
		defer close(s.done)
		if s.err = app.Run(ctx, opts); s.err == nil {
			s.err = errors.New("it stopped")
		}
	}()
	return s, nil
}

// completeOptions turns flags into options as the kube-apiserver command itself does, which leaves no way for a
// listener of one's own.
func (h *home) completeOptions(ctx context.Context, listener net.Listener, etcdURL string, extraFlags []string) (options.CompletedOptions, error) {
	none := options.CompletedOptions{}
	opts := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	flags.Usage = func() {} // Some hundred flags would bury the error.
	for _, set := range opts.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := flags.Parse(append(h.fixedFlags(port, etcdURL), extraFlags...)); err != nil {
		return none, err
	}
	if rest := flags.Args(); len(rest) > 0 {
		return none, fmt.Errorf("unexpected argument %q", rest[0])
	}
	opts.SecureServing.Listener = listener

	registry := opts.GenericServerRunOptions.ComponentGlobalsRegistry
	if err := registry.Set(); err != nil {
		return none, err
	}
	if err := logsapi.ValidateAndApply(opts.Logs, registry.FeatureGateFor(basecompatibility.DefaultKubeComponent)); err != nil {
		return none, err
	}
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	completed, err := opts.Complete(ctx)
	if err != nil {
		return none, err
	}
	return completed, utilerrors.NewAggregate(completed.Validate())
}

// fixedFlags are the API server's flags. Those given by the user come after them and win.
func (h *home) fixedFlags(port int, etcdURL string) []string {
	return []string{
		"--etcd-servers=" + etcdURL,
		"--bind-address=127.0.0.1",
		// Validation wants the number although the listener already has it.
		"--secure-port=" + strconv.Itoa(port),
		// A machine may have no address but the loopback, which is refused as an endpoint of the kubernetes service.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--cert-dir=" + h.path("pki"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + h.path(serviceAccountKey),
		"--service-account-signing-key-file=" + h.path(serviceAccountKey),
		"--token-auth-file=" + h.path(tokenFile),
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		// Nobody creates the default service accounts that this plugin wants pods to have.
		"--disable-admission-plugins=ServiceAccount",
		// Without it shutdown waits up to a minute for connections that hold a watch, with it two seconds.
		"--shutdown-send-retry-after=true",
	}
}

// listen opens the server's socket, on the port of an earlier run in this home if it is still free, so that clients
// which outlive a restart find the server again.
func (h *home) listen() (net.Listener, error) {
	last, _ := os.ReadFile(h.path("port"))
	port := strings.TrimSpace(string(last))
	if port == "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil && port != "0" {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, err
	}
	port = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(h.path("port"), []byte(port+"\n"), 0o600); err != nil {
		_ = listener.Close()
		return nil, err
	}
	return listener, nil
}

// stop ends the server and waits until it has let go of etcd, or for as long as is reasonable.
func (s *apiServer) stop() {
	s.cancel()
	select {
	case <-s.done:
	case <-time.After(stopTimeout):
	}
}
