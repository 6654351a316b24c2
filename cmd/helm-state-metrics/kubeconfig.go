package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/prometheus/common/version"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kubeconfig finds the cluster by the usual rules: the given file, else
// $KUBECONFIG, else ~/.kube/config, else the cluster that this process runs in.
func kubeconfig(path string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	// client-go takes a missing file of $KUBECONFIG for an empty one, and would
	// end up at whatever cluster the other rules find.
	env := os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
	if path == "" && env != "" && !slices.ContainsFunc(rules.Precedence, exists) {
		return nil, fmt.Errorf("kubeconfig: no file of $%s=%s exists", clientcmd.RecommendedConfigPathEnvVar, env)
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("kubeconfig: no cluster found; name one by --kubeconfig, $KUBECONFIG or ~/.kube/config, or run inside it")
	}
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	cfg.UserAgent = "helm-state-metrics/" + version.Version
	return cfg, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
