package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/csv"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The names of the credential files in the home directory.
const (
	serviceAccountKey = "service-account.key"
	tokenFile         = "tokens.csv"
	servingCert       = "pki/apiserver.crt"
)

// users can log in by token. Only the first has rights; tests bind roles to the others, or leave them without.
var users = []struct{ name, group, kubeconfig string }{
	{name: "admin", group: "system:masters", kubeconfig: "kubeconfig"},
	{name: "nobody", kubeconfig: "nobody.kubeconfig"},
	{name: "reader", kubeconfig: "reader.kubeconfig"},
}

// makeCredentials writes the key that signs service account tokens and the users' tokens, unless an earlier run did.
func (h *home) makeCredentials() error {
	if !exists(h.path(serviceAccountKey)) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return err
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
		if err := writeFile(h.path(serviceAccountKey), block); err != nil {
			return err
		}
	}
	if exists(h.path(tokenFile)) {
		return nil
	}
	var table bytes.Buffer
	w := csv.NewWriter(&table)
	for _, u := range users {
		_ = w.Write([]string{rand.Text(), u.name, u.name, u.group})
	}
	w.Flush()
	return writeFile(h.path(tokenFile), table.Bytes())
}

// tokens returns the users' tokens by user name.
func (h *home) tokens() (map[string]string, error) {
	table, err := os.ReadFile(h.path(tokenFile))
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(bytes.NewReader(table)).ReadAll()
	if err != nil {
		return nil, err
	}
	tokens := make(map[string]string, len(rows))
	for _, row := range rows {
		tokens[row[1]] = row[0]
	}
	return tokens, nil
}

// certificateAuthority returns the authority that signed the server's own certificate. The server appends it to that
// certificate's file and keeps it nowhere else.
func (h *home) certificateAuthority() ([]byte, error) {
	rest, err := os.ReadFile(h.path(servingCert))
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if cert.IsCA {
			return pem.EncodeToMemory(block), nil
		}
	}
	return nil, fmt.Errorf("%s holds no certificate authority", h.path(servingCert))
}

// adminConfig is the administrator's way to the server at address.
func (h *home) adminConfig(address string) (*rest.Config, error) {
	tokens, err := h.tokens()
	if err != nil {
		return nil, err
	}
	ca, err := h.certificateAuthority()
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:            "https://" + address,
		BearerToken:     tokens[users[0].name],
		TLSClientConfig: rest.TLSClientConfig{CAData: ca},
	}, nil
}

// writeKubeconfigs writes one kubeconfig per user.
func (h *home) writeKubeconfigs(s *apiServer) error {
	tokens, err := h.tokens()
	if err != nil {
		return err
	}
	for _, u := range users {
		config := clientcmdapi.NewConfig()
		config.Clusters["cluster"] = &clientcmdapi.Cluster{Server: s.config.Host, CertificateAuthorityData: s.config.CAData}
		config.AuthInfos[u.name] = &clientcmdapi.AuthInfo{Token: tokens[u.name]}
		config.Contexts["cluster"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: u.name}
		config.CurrentContext = "cluster"
		text, err := clientcmd.Write(*config)
		if err != nil {
			return err
		}
		if err := writeFile(h.path(u.kubeconfig), text); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file that only the user may read, and that others see complete or not at all.
func writeFile(path string, text []byte) error {
	// CreateTemp makes files of mode 0600.
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
