package manifests_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/helm-state-metrics/helm-state-metrics/test/support/expect"
	"github.com/helm-state-metrics/helm-state-metrics/test/support/shipped"
)

func inBoth(t *testing.T, test func(t *testing.T, helm string)) {
	t.Helper()
	for _, helm := range []string{"helm3", "helm4"} {
		t.Run("by "+helm, func(t *testing.T) { test(t, helm) })
	}
}

func TestLint(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		if _, err := run(helm, "lint", "--strict", "--kube-version=1.25.0", shipped.Chart()); err != nil {
			t.Error(err)
		}
	})
}

// TestBadValues expects errors that name the bad value.
func TestBadValues(t *testing.T) {
	for value, reason := range map[string]string{
		"replica=2":                                "replica",
		"replicas=-1":                              "replicas",
		"replicas=two":                             "replicas",
		"image.tagg=1":                             "tagg",
		"image.digest=latest":                      "digest",
		"image.pullPolicy=Sometimes":               "pullPolicy",
		"storage={disks}":                          "storage",
		"storage={secrets,secrets}":                "storage",
		"storage=null":                             "storage",
		"namespaces={Team}":                        "namespaces",
		"namespaces=team-a":                        "namespaces",
		"payload=always":                           "payload",
		"extraArgs={verbose}":                      "extraArgs",
		"resources.limit.memory=1Gi":               "limit",
		"podLabels.a=1":                            "podLabels",
		"service.port=0":                           "port",
		"tls.enabled=maybe":                        "enabled",
		"serviceMonitor.interval=fast":             "interval",
		"podMonitor.labels=no":                     "labels",
		"networkPolicy.from=null":                  "from",
		"networkPolicy.apiServer.cidrs={10.0.0.1}": "cidrs",
		// The templates check what the schema cannot check.
		"serviceMonitor.enabled=true,service.enabled=false":                               "service.enabled",
		"prometheusRule.enabled=true,prometheusRule.disabled={Nothing}":                   `no rule "Nothing"`,
		"prometheusRule.enabled=true,prometheusRule.overrides.No.for=1m":                  `no rule "No"`,
		"prometheusRule.overrides.HelmReleaseFailed.alert=new":                            "alert",
		"prometheusRule.runbookURL=runbook.md":                                            "runbookURL",
		"prometheusRule.enabled=true,prometheusRule.disabled={helm_state_metrics:failed}": "only alerts can be disabled",
	} {
		t.Run(value, func(t *testing.T) {
			inBoth(t, func(t *testing.T, helm string) {
				if _, err := template(helm, "--set="+value); err == nil {
					t.Error("it is accepted")
				} else if _, reasons, _ := strings.Cut(err.Error(), "exit status"); !strings.Contains(reasons, reason) {
					t.Errorf("the error does not name %s: %v", reason, err)
				}
			})
		})
	}
}

// TestRulesAreOverridden changes some rules of the file and disables one.
func TestRulesAreOverridden(t *testing.T) {
	original := rules(t, expect.Value(template("helm4", "--set=prometheusRule.enabled=true"))(t))
	alert, record, gone := "HelmReleaseFailed", "helm_state_metrics:pending_after_seconds", "HelmReleaseChartDeprecated"
	inBoth(t, func(t *testing.T, helm string) {
		got := rules(t, expect.Value(template(helm, "--set=prometheusRule.enabled=true",
			"--set=prometheusRule.overrides."+alert+".for=31m",
			"--set=prometheusRule.overrides."+alert+".labels.severity=critical",
			"--set=prometheusRule.overrides."+record+".expr=1800",
			"--set=prometheusRule.disabled={"+gone+"}"))(t))
		want := make(map[string]map[string]any)
		for name, rule := range original {
			want[name] = (&unstructured.Unstructured{Object: rule}).DeepCopy().Object
		}
		want[alert]["for"] = "31m"
		want[alert]["labels"] = map[string]any{"severity": "critical"}
		want[record]["expr"] = float64(1800)
		delete(want, gone)
		if len(want) != len(original)-1 {
			t.Fatalf("there is no rule %s to leave out", gone)
		}
		expect.Equal(t, "the rules differ", want, got)
	})
}

// TestRunbookURL sets another runbook for all alerts and yet another one for one of them.
func TestRunbookURL(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		all := rules(t, expect.Value(template(helm, "--set=prometheusRule.enabled=true", "--set=prometheusRule.runbookURL=https://wiki/helm",
			"--set=prometheusRule.overrides.HelmReleaseFailed.annotations.runbook_url=https://wiki/failed"))(t))
		for name, rule := range all {
			if rule["alert"] == nil {
				continue
			}
			want := "https://wiki/helm#" + strings.ToLower(name)
			if name == "HelmReleaseFailed" {
				want = "https://wiki/failed"
			}
			expect.Equal(t, "runbook of "+name, any(want), rule["annotations"].(map[string]any)["runbook_url"])
		}
	})
}

// TestRulesServeAllInstallations expects that of two installations only one that asks for them has rules, and that these
// rules would be the same in the other one, which therefore needs none.
func TestRulesServeAllInstallations(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		render := func(release string, values ...string) map[string]map[string]any {
			args := []string{"template", release, shipped.Chart(), "--namespace=" + release, "--kube-version=1.25.0", "--set=serviceMonitor.enabled=true"}
			return rules(t, expect.Value(run(helm, append(args, sets(values)...)...))(t))
		}
		const enabled = "prometheusRule.enabled=true"
		platform := render("platform", enabled)
		if len(platform) == 0 {
			t.Fatal("the first installation has no rules")
		}
		expect.Equal(t, "rules of the second installation", map[string]map[string]any{}, render("team", "namespaces={team}"))
		expect.Equal(t, "rules depend on the installation", platform, render("team", "namespaces={team}", enabled))
	})
}

// TestNamespaceOfTheRules puts the rules where the operator looks for them.
func TestNamespaceOfTheRules(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set=prometheusRule.enabled=true,prometheusRule.namespace=monitoring"))(t)
		found := slices.ContainsFunc(parse(t, text), func(o unstructured.Unstructured) bool {
			return o.GetKind() == "PrometheusRule" && o.GetNamespace() == "monitoring"
		})
		if !found {
			t.Error("there is no PrometheusRule in the namespace")
		}
	})
}

// rules returns the rules of all PrometheusRules by name.
func rules(t *testing.T, text string) map[string]map[string]any {
	t.Helper()
	found := make(map[string]map[string]any)
	for _, o := range parse(t, text) {
		if o.GetKind() != "PrometheusRule" {
			continue
		}
		groups, _, err := unstructured.NestedSlice(o.Object, "spec", "groups")
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range groups {
			for _, entry := range group.(map[string]any)["rules"].([]any) {
				rule := entry.(map[string]any)
				for _, kind := range []string{"alert", "record"} {
					if name, ok := rule[kind]; ok {
						found[name.(string)] = rule
					}
				}
			}
		}
	}
	return found
}

// TestProbesOfAServerThatAuthenticates expects probes that need neither a password nor a certificate.
func TestProbesOfAServerThatAuthenticates(t *testing.T) {
	for values, want := range map[string]string{
		"tls.enabled=true": "httpGet",
		"tls.enabled=true,tls.webConfig.basic_auth_users.scraper=hash":                                       "tcpSocket",
		"tls.enabled=true,tls.webConfig.tls_server_config.client_auth_type=RequireAndVerifyClientCert":       "tcpSocket",
		"tls.enabled=false,tls.webConfig.basic_auth_users.scraper=hash,tls.webConfig.tls_server_config=null": "httpGet",
	} {
		inBoth(t, func(t *testing.T, helm string) {
			found := false
			for _, o := range parse(t, expect.Value(template(helm, "--set="+values))(t)) {
				if o.GetKind() != "Deployment" {
					continue
				}
				found = true
				container := into[appsv1.Deployment](t, o).Spec.Template.Spec.Containers[0]
				for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe} {
					if (probe.TCPSocket != nil) != (want == "tcpSocket") || (probe.HTTPGet != nil) != (want == "httpGet") {
						t.Errorf("%s: the probe is %v, want %s", values, probe.ProbeHandler, want)
					}
				}
			}
			if !found {
				t.Error("there is no Deployment")
			}
		})
	}
}

// TestNamesThatYAMLReadsAsOtherTypes names a namespace "no".
func TestNamesThatYAMLReadsAsOtherTypes(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set-string=namespaces={no,123},serviceAccount.name=on"))(t)
		var got []string
		for _, o := range parse(t, text) {
			if o.GetKind() == "Role" || o.GetKind() == "ServiceAccount" {
				got = append(got, o.GetNamespace()+"/"+o.GetName())
			}
		}
		slices.Sort(got)
		expect.Equal(t, "the names differ", []string{"123/" + name, name + "/on", "no/" + name}, got)
	})
}

// TestDependency renders a chart that depends on this one. This one then also gets values of the other.
func TestDependency(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		parent := t.TempDir()
		for file, text := range map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n" +
				"- {name: helm-state-metrics, version: 0.1.0, condition: helm-state-metrics.enabled}\n",
			"values.yaml": "global: {registry: example}\nhelm-state-metrics: {enabled: true, payload: never}\n",
		} {
			expect.NoError(t, os.WriteFile(filepath.Join(parent, file), []byte(text), 0o600))
		}
		expect.NoError(t, os.CopyFS(filepath.Join(parent, "charts", name), os.DirFS(shipped.Chart())))
		text := expect.Value(run(helm, "template", "monitoring", parent, "--kube-version=1.25.0"))(t)
		if want := "name: monitoring-helm-state-metrics\n"; !strings.Contains(text, want) || !strings.Contains(text, "--payload=never") {
			t.Errorf("the exporter is not as the parent wants it:\n%s", text)
		}
	})
}

// TestImage sets the image by tag and by digest.
func TestImage(t *testing.T) {
	for values, want := range map[string]string{
		"":                                     "helm-state-metrics:0.1.0",
		"image.tag=v9":                         "helm-state-metrics:v9",
		"image.repository=example.test/h":      "example.test/h:0.1.0",
		"image.tag=v9,image.digest=sha256:abc": "helm-state-metrics@sha256:abc",
	} {
		inBoth(t, func(t *testing.T, helm string) {
			if text := expect.Value(template(helm, "--set="+values))(t); !strings.Contains(text, fmt.Sprintf("image: %q\n", want)) {
				t.Errorf("%s: there is no image %q in:\n%s", values, want, text)
			}
		})
	}
}
