// Package cluster writes what tests need to reach a control plane, and Helm's records in it.
package cluster

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// What Helm's records have in common.
const (
	RecordType = "helm.sh/release.v1" // of Secrets
	PayloadKey = "release"            // of the data
	Owner      = "owner=helm"         // a label selector
)

// RecordName returns the name of the object in which Helm keeps a revision of a release.
func RecordName(release string, revision int) string {
	return fmt.Sprintf("sh.helm.release.v1.%s.v%d", release, revision)
}

// Secret returns a record as Helm writes it.
func Secret(release string, revision int, status string, payload []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:   RecordName(release, revision),
			Labels: map[string]string{"name": release, "owner": "helm", "status": status, "version": strconv.Itoa(revision)},
		},
		Type: RecordType,
		Data: map[string][]byte{PayloadKey: payload},
	}
}

// WriteKubeconfig writes a kubeconfig with one server, whose certificate ca signed, and one user.
func WriteKubeconfig(path, server string, ca []byte, user clientcmdapi.AuthInfo) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos["user"] = &user
	config.Contexts["context"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: "user"}
	config.CurrentContext = "context"
	return clientcmd.WriteToFile(*config, path)
}
