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
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

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
		"ports.http=0":                             "http",
		"ports.health=65536":                       "health",
		"shards=0":                                 "shards",
		"maxReleasesPerNamespace=-1":               "maxReleasesPerNamespace",
		"extraVolumes=cache":                       "extraVolumes",
		"extraContainers={proxy}":                  "extraContainers",
		"podDisruptionBudget.minAvailable=1":       "minAvailable",
		"auth.audience=prometheus":                 "audience",
		"auth.audiences=prometheus":                "audiences",
		"serviceMonitor.namespace=Monitoring":      "namespace",
		"serviceMonitor.sampleLimit=many":          "sampleLimit",
		"serviceMonitor.targetLabels=team":         "targetLabels",
		"tls.enabled=maybe":                        "enabled",
		"serviceMonitor.interval=fast":             "interval",
		"podMonitor.labels=no":                     "labels",
		"networkPolicy.from=null":                  "from",
		"networkPolicy.apiServer.cidrs={10.0.0.1}": "cidrs",
		// The templates check what the schema cannot check.
		"image.repository=":                           "there is no public image",
		"tls.webConfigSecretName=web":                 "need tls.enabled",
		"ports.http=8081":                             "ports.http and ports.health",
		"ports.http=8082":                             "ports.http and ports.health",
		"ports.health=8082":                           "ports.http and ports.health",
		"shards=2":                                    "Kubernetes 1.28 or later",
		"shards=2,replicas=2":                         "leave replicas at 1",
		"networkPolicy.enabled=true":                  "networkPolicy.namespaces",
		"auth.enabled=true,podMonitor.enabled=true":   "podMonitor.authorization",
		"tls.webConfig.basic_auth_users.scraper=hash": "need tls.enabled",
		"auth.enabled=true,tls.enabled=true,tls.webConfig.basic_auth_users.scraper=hash":        "basic_auth_users",
		"serviceMonitor.enabled=true,service.enabled=false":                                     "service.enabled",
		"prometheusRule.enabled=true,prometheusRule.disabled={Nothing}":                         `no rule "Nothing"`,
		"prometheusRule.enabled=true,prometheusRule.overrides.No.for=1m":                        `no rule "No"`,
		"prometheusRule.enabled=true,prometheusRule.overrides.helm_state_metrics:failed.for=1m": "only expr and labels",
		"prometheusRule.overrides.HelmReleaseFailed.alert=new":                                  "alert",
		"prometheusRule.runbookURL=runbook.md":                                                  "runbookURL",
		"prometheusRule.enabled=true,prometheusRule.disabled={helm_state_metrics:failed}":       "only alerts can be disabled",
		"dashboard.namespace=Grafana":                                                           "namespace",
		"chartVersions.exporterURLs={exporter:8080}":                                            "exporterURLs",
		"chartVersions.config.repositories=stable":                                              "repositories",
		"chartVersions.interval=daily":                                                          "interval",
		"chartVersions.config.repositories[0].password=1":                                       "password",
		"chartVersions.config.repositories[0].mirror=a":                                         "mirror",
		"chartVersions.config.rules[0].constraint=1":                                            "constraint",
		"chartVersions.config.rules[0].charts=web":                                              "charts",
		versions + ",auth.enabled=true":                                                         "allowUnauthenticated",
		versions + ",service.enabled=false":                                                     "service.enabled",
		versions + ",payload=never":                                                             "payload=lazy",
		versions + ",tls.enabled=true,tls.webConfig.basic_auth_users.scraper=hash":              "neither a password",
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
			args := []string{"template", release, shipped.Chart(), "--namespace=" + release, "--kube-version=1.25.0", "--set=image.repository=r,serviceMonitor.enabled=true"}
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

// TestProbesNeedNoCredentials expects plain HTTP on the port of the probes with every web configuration.
func TestProbesNeedNoCredentials(t *testing.T) {
	for _, values := range []string{
		"",
		"tls.enabled=true",
		"tls.enabled=true,tls.webConfig.basic_auth_users.scraper=hash",
		"tls.enabled=true,tls.webConfig.tls_server_config.client_auth_type=RequireAndVerifyClientCert",
		"tls.enabled=true,tls.webConfigSecretName=other",
		"auth.enabled=true",
	} {
		inBoth(t, func(t *testing.T, helm string) {
			container := only[appsv1.Deployment](t, expect.Value(template(helm, "--set="+values))(t), "Deployment").Spec.Template.Spec.Containers[0]
			for path, probe := range map[string]*corev1.Probe{"/livez": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
				want := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("health")}}
				expect.Equal(t, values, want, probe.ProbeHandler)
			}
		})
	}
}

// TestPorts changes both ports, each in one place.
func TestPorts(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set=ports.http=9100,ports.health=9101,networkPolicy.enabled=true,networkPolicy.namespaces={monitoring}"))(t)
		container := only[appsv1.Deployment](t, text, "Deployment").Spec.Template.Spec.Containers[0]
		expect.Equal(t, "the flags differ", []string{"--storage=secrets", "--web.listen-address=:9100", "--health.listen-address=:9101"}, container.Args)
		expect.Equal(t, "the ports differ", []corev1.ContainerPort{{Name: "http", ContainerPort: 9100}, {Name: "health", ContainerPort: 9101}}, container.Ports)
		policy := only[networkingv1.NetworkPolicy](t, text, "NetworkPolicy")
		expect.Equal(t, "the port that is open differs", intstr.FromInt32(9100), *policy.Spec.Ingress[0].Ports[0].Port)
		expect.Equal(t, "the Service differs", intstr.FromString("http"), only[corev1.Service](t, text, "Service").Spec.Ports[0].TargetPort)
	})
}

// TestChartVersions expects the flags and files of helm-chart-versions.
func TestChartVersions(t *testing.T) {
	const config, state = "--config=/etc/helm-chart-versions/repositories.yaml", "--state.file=/var/lib/helm-chart-versions/state"
	for values, want := range map[string][]string{
		"": {"--exporter.url=http://" + name + ":8080/metrics"},
		"service.port=80,ports.http=9100,chartVersions.interval=1h,chartVersions.extraArgs={--log.level=debug}": {
			"--exporter.url=http://" + name + ":80/metrics", "--interval=1h", "--log.level=debug",
		},
		"shards=2,ports.http=9100": {
			"--exporter.url=http://" + name + "-0." + name + "-shards:9100/metrics", "--exporter.url=http://" + name + "-1." + name + "-shards:9100/metrics",
		},
		"shards=2,tls.enabled=true": {
			"--exporter.url=https://" + name + "-0." + name + "-shards." + name + ".svc:8080/metrics",
			"--exporter.url=https://" + name + "-1." + name + "-shards." + name + ".svc:8080/metrics",
			"--exporter.ca-file=/etc/helm-chart-versions/exporter/ca.crt",
		},
		"tls.enabled=true,auth.enabled=true,chartVersions.registrySecretName=registry": {
			"--exporter.url=https://" + name + "." + name + ".svc:8080/metrics", "--exporter.ca-file=/etc/helm-chart-versions/exporter/ca.crt",
			"--exporter.bearer-token-file=/etc/helm-chart-versions/exporter/token", "--registry.config=/etc/helm-chart-versions/registry/config.json",
		},
		// Another exporter would get the token, too.
		"tls.enabled=true,auth.enabled=true,service.enabled=false,payload=never,chartVersions.exporterURLs={https://a/metrics,cluster=b\\,https://b/metrics}": {
			"--exporter.url=https://a/metrics", "--exporter.url=cluster=b,https://b/metrics",
		},
	} {
		inBoth(t, func(t *testing.T, helm string) {
			pod := chartVersions(t, expect.Value(template(helm, "--kube-version=1.28.0", "--set="+versions+","+open+","+values))(t)).Spec.Template.Spec
			container := pod.Containers[0]
			expect.Equal(t, values+": the flags differ", append([]string{config, state}, want...), container.Args)
			expect.Equal(t, "the program differs", []string{"/helm-chart-versions"}, container.Command)
			for _, flag := range container.Args[2:] {
				if file, ok := strings.CutPrefix(flag[strings.Index(flag, "=")+1:], container.VolumeMounts[0].MountPath+"/"); ok && !provides(pod.Volumes[0], file) {
					t.Errorf("%s: the volume has no %s", values, file)
				}
			}
		})
	}
}

// provides says whether a projected volume has a file.
func provides(volume corev1.Volume, file string) bool {
	return slices.ContainsFunc(volume.Projected.Sources, func(source corev1.VolumeProjection) bool {
		if source.ServiceAccountToken != nil {
			return source.ServiceAccountToken.Path == file
		}
		return slices.ContainsFunc(source.Secret.Items, func(item corev1.KeyToPath) bool { return item.Path == file })
	})
}

// chartVersions returns the Deployment of helm-chart-versions.
func chartVersions(t *testing.T, text string) appsv1.Deployment {
	t.Helper()
	objects := parse(t, text)
	at := slices.IndexFunc(objects, func(o unstructured.Unstructured) bool { return key(o) == "Deployment "+name+"/"+name+"-chart-versions" })
	if at < 0 {
		t.Fatal("there is no Deployment of helm-chart-versions")
	}
	return into[appsv1.Deployment](t, objects[at])
}

// TestChartVersionsAreOfOneKind expects that nothing selects the pods of the exporter and those of helm-chart-versions.
func TestChartVersionsAreOfOneKind(t *testing.T) {
	text := expect.Value(template("helm4", "--set=serviceMonitor.enabled=true,podMonitor.enabled=true,replicas=2,"+policy+","+versions))(t)
	companion := chartVersions(t, text).Spec.Template.Labels
	exporter := map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name}
	for _, o := range parse(t, text) {
		for _, field := range []string{"selector", "podSelector"} {
			value, found, _ := unstructured.NestedMap(o.Object, "spec", field)
			if !found {
				continue
			}
			if matches, ok := value["matchLabels"].(map[string]any); ok {
				value = matches
			}
			selector := make(labels.Set)
			for label, wanted := range value {
				selector[label], _ = wanted.(string)
			}
			if o.GetKind() == "NetworkPolicy" && o.GetName() == name {
				selector["app.kubernetes.io/name"] = name // from its matchExpressions
			}
			ours, theirs := selector.AsSelector().Matches(labels.Set(companion)), selector.AsSelector().Matches(labels.Set(exporter))
			if want := strings.HasSuffix(o.GetName(), "-chart-versions"); ours != want || theirs == want {
				t.Errorf("%s selects helm-chart-versions: %t, and the exporter: %t", key(o), ours, theirs)
			}
		}
	}
}

// TestWhoReadsChartVersions expects that a protected exporter is not read from port 8083 unless the user accepts it.
func TestWhoReadsChartVersions(t *testing.T) {
	for _, values := range []string{open, policy, "chartVersions.extraArgs={--web.config.file=/web.yml}"} {
		inBoth(t, func(t *testing.T, helm string) {
			expect.Value(template(helm, "--set=auth.enabled=true,"+versions+","+values))(t)
		})
	}
}

// TestMonitorOfChartVersions expects nothing that is about the series, the certificate or the credentials of the exporter.
func TestMonitorOfChartVersions(t *testing.T) {
	endpoints := map[string]string{"serviceMonitor": "endpoints", "podMonitor": "podMetricsEndpoints"}
	for monitor, endpoint := range endpoints {
		values := filepath.Join(t.TempDir(), "values.yaml")
		expect.NoError(t, os.WriteFile(values, []byte(monitor+`:
  enabled: true
  namespace: monitoring
  interval: 30s
  scrapeTimeout: 20s
  sampleLimit: 9
  targetLabels: [team]
  basicAuth: {username: {name: exporter, key: name}}
  relabelings: [{action: keep, regex: "9"}]
  metricRelabelings: [{action: keep, regex: helm_release_info}]
tls: {enabled: true}
chartVersions:
  enabled: true
  monitor:
    scheme: https
    interval: 1m
    metricRelabelings: [{action: labeldrop, regex: chart}]
`), 0o600))
		inBoth(t, func(t *testing.T, helm string) {
			text := expect.Value(template(helm, "--values="+values, "--show-only=templates/chart-versions/monitors.yaml"))(t)
			spec := parse(t, text)[0].Object["spec"].(map[string]any)
			expect.Equal(t, "the endpoint differs", any([]any{map[string]any{
				"port": "http", "path": "/metrics", "scheme": "https", "honorLabels": true, "interval": "1m", "scrapeTimeout": "20s",
				"metricRelabelings": []any{map[string]any{"action": "labeldrop", "regex": "chart"}},
			}}), spec[endpoint])
			expect.Equal(t, "there is a limit", nil, spec["sampleLimit"])
		})
	}
}

// TestNetworkPolicyOfChartVersions expects the same scrapers as for the exporter, which helm-chart-versions itself may scrape.
func TestNetworkPolicyOfChartVersions(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set=ports.http=9100,"+policy+","+versions+
			",chartVersions.networkPolicy.repositories[0].ports[0].port=3128"))(t)
		policies := make(map[string]networkingv1.NetworkPolicySpec)
		for _, o := range parse(t, text) {
			if o.GetKind() == "NetworkPolicy" {
				policies[o.GetName()] = into[networkingv1.NetworkPolicy](t, o).Spec
			}
		}
		exporter, companion := policies[name], policies[name+"-chart-versions"]
		expect.Equal(t, "who may scrape the exporter", append(companion.Ingress[0].From, networkingv1.NetworkPolicyPeer{PodSelector: &companion.PodSelector}),
			exporter.Ingress[0].From)
		var ports []int
		for _, rule := range slices.Concat(companion.Ingress[0].Ports, companion.Egress[1].Ports, companion.Egress[2].Ports) {
			ports = append(ports, rule.Port.IntValue())
		}
		expect.Equal(t, "the ports differ", []int{8083, 9100, 3128}, ports)
		expect.Equal(t, "the exporter's pods differ", map[string]string{"app.kubernetes.io/name": name, "app.kubernetes.io/instance": name},
			companion.Egress[1].To[0].PodSelector.MatchLabels)
		expect.Equal(t, "the number of rules differs", 3, len(companion.Egress))
	})
}

// TestStateOfChartVersions keeps the state on a volume of the user, and the configuration in a Secret of the user.
func TestStateOfChartVersions(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set="+versions+",chartVersions.configSecretName=mine,chartVersions.stateVolume.persistentVolumeClaim.claimName=state"))(t)
		pod := chartVersions(t, text).Spec.Template.Spec
		expect.Equal(t, "the Secret differs", "mine", pod.Volumes[0].Projected.Sources[0].Secret.Name)
		want := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "state"}}
		expect.Equal(t, "the volume differs", want, pod.Volumes[1].VolumeSource)
		if strings.Contains(text, "kind: Secret\n") {
			t.Error("there is another Secret")
		}
	})
}

// TestExistingWebConfig mounts a Secret of the user, and creates none.
func TestExistingWebConfig(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set=tls.enabled=true,tls.webConfigSecretName=passwords"))(t)
		for _, o := range parse(t, text) {
			if o.GetKind() == "Secret" {
				t.Errorf("there is a %s", key(o))
			}
		}
		var secrets []string
		for _, source := range only[appsv1.Deployment](t, text, "Deployment").Spec.Template.Spec.Volumes[1].Projected.Sources {
			secrets = append(secrets, source.Secret.Name)
		}
		expect.Equal(t, "the Secrets differ", []string{"passwords", "helm-state-metrics-tls"}, secrets)
	})
}

// TestRoleRefs expects another name of a RoleBinding for each kind of role, because roleRef is immutable. The names are
// those of installed releases.
func TestRoleRefs(t *testing.T) {
	for values, want := range map[string][2]string{
		"":                       {name + "-cluster-role", "ClusterRole"},
		"rbac.clusterRole=false": {name, "Role"},
	} {
		inBoth(t, func(t *testing.T, helm string) {
			text := expect.Value(template(helm, "--set=namespaces={team-a}", "--set="+values))(t)
			binding := only[rbacv1.RoleBinding](t, text, "RoleBinding")
			expect.Equal(t, "the RoleBinding differs", want, [2]string{binding.Name, binding.RoleRef.Kind})
			expect.Equal(t, "the role differs", name, binding.RoleRef.Name)
		})
	}
}

// TestLongNames expects room for what a StatefulSet appends to its name in a label of its pods.
func TestLongNames(t *testing.T) {
	for _, release := range []string{strings.Repeat("r", 53), strings.Repeat("r", 43), name + "-" + strings.Repeat("r", 32) + "-r"} {
		inBoth(t, func(t *testing.T, helm string) {
			text := expect.Value(run(helm, "template", release, shipped.Chart(), "--kube-version=1.28.0", "--set=image.repository=r,shards=2"))(t)
			set, service := only[appsv1.StatefulSet](t, text, "StatefulSet"), only[corev1.Service](t, text, "Service")
			if len(set.Name) > 52 || strings.HasSuffix(set.Name, "-") {
				t.Errorf("the name of the StatefulSet is %s", set.Name)
			}
			expect.Equal(t, "the Service of the StatefulSet differs", service.Name, set.Spec.ServiceName)
			if problems := validation.IsDNS1035Label(service.Name); problems != nil {
				t.Errorf("the name of the Service is %s: %v", service.Name, problems)
			}
		})
	}
}

// TestTokenIsForTheExporterAlone expects that no other container gets the token, which can read every Secret.
func TestTokenIsForTheExporterAlone(t *testing.T) {
	no := false
	for values, kind := range map[string]string{"shards=1": "Deployment", "shards=2": "StatefulSet", "tls.enabled=true": "Deployment"} {
		inBoth(t, func(t *testing.T, helm string) {
			got := map[string]string{}
			for _, o := range parse(t, expect.Value(template(helm, "--kube-version=1.29.0", "--set="+values+",extraContainers[0].name=proxy"))(t)) {
				spec, found, _ := unstructured.NestedMap(o.Object, "spec", "template", "spec")
				if o.GetKind() == "Pod" {
					spec, found, _ = unstructured.NestedMap(o.Object, "spec")
				}
				if !found {
					continue
				}
				pod := into[corev1.PodSpec](t, unstructured.Unstructured{Object: spec})
				expect.Equal(t, "the kubelet mounts a token", &no, pod.AutomountServiceAccountToken)
				for _, container := range slices.Concat(pod.InitContainers, pod.Containers) {
					id := o.GetKind() + " " + container.Name
					got[id] = ""
					for _, mount := range container.VolumeMounts {
						volume := pod.Volumes[slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })]
						if slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.ServiceAccountToken != nil }) {
							got[id] = mount.MountPath
						}
					}
				}
			}
			const path = "/var/run/secrets/kubernetes.io/serviceaccount"
			want := map[string]string{kind + " " + name: path, kind + " proxy": "", "Pod " + name: path, "Pod ready": ""}
			expect.Equal(t, "where containers have the token differs", want, got)
		})
	}
}

// TestOnePodHasNoBudget expects that nodes with a single replica can be drained.
func TestOnePodHasNoBudget(t *testing.T) {
	for values, want := range map[string]bool{
		"": false, "replicas=0": false, "replicas=2": true, "shards=2": true, "replicas=2,podDisruptionBudget.enabled=false": false,
	} {
		inBoth(t, func(t *testing.T, helm string) {
			text := expect.Value(template(helm, "--set="+values, "--kube-version=1.28.0"))(t)
			if got := strings.Contains(text, "kind: PodDisruptionBudget\n"); got != want {
				t.Errorf("%s: whether there is a PodDisruptionBudget: %t, want %t", values, got, want)
			}
		})
	}
}

// TestInstallationsDoNotCollide renders the same name in two namespaces, which both watch a third one.
func TestInstallationsDoNotCollide(t *testing.T) {
	differ := func(t *testing.T, first, second string) {
		t.Helper()
		others := parse(t, second)
		for _, o := range parse(t, first) {
			if slices.ContainsFunc(others, func(other unstructured.Unstructured) bool { return key(other) == key(o) }) {
				t.Errorf("both have a %s", key(o))
			}
		}
	}
	for _, value := range []string{"auth.enabled=true,auth.tenantView=true", "namespaces={team-a}", "namespaces={team-a},rbac.clusterRole=false"} {
		inBoth(t, func(t *testing.T, helm string) {
			differ(t, expect.Value(template(helm, "--set="+value))(t), expect.Value(template(helm, "--set="+value, "--namespace=other"))(t))
		})
	}
	t.Run("by kustomize", func(t *testing.T) {
		text := shipped.Kustomization("base", "cluster-wide", "auth", "tenant-view")
		other := shipped.WriteKustomizations(t, map[string]string{".": "namespace: other\nnameSuffix: -other\n" + text})
		differ(t, expect.Value(build(t, "base", "cluster-wide", "auth", "tenant-view"))(t), expect.Value(run("kubectl", "kustomize", other))(t))
	})
}

// TestTestPod checks that `helm test` does what the exporter does, and that its pod is no target of scrapes.
func TestTestPod(t *testing.T) {
	for _, values := range []string{"", "shards=2", "tls.enabled=true,storage={configmaps}"} {
		inBoth(t, func(t *testing.T, helm string) {
			text := expect.Value(template(helm, "--set="+values, "--kube-version=1.29.0"))(t)
			pod := only[corev1.Pod](t, text, "Pod")
			var exporter corev1.PodTemplateSpec
			if values == "shards=2" {
				exporter = only[appsv1.StatefulSet](t, text, "StatefulSet").Spec.Template
				exporter.Spec.TopologySpreadConstraints = nil
			} else {
				exporter = only[appsv1.Deployment](t, text, "Deployment").Spec.Template
			}
			if labels.SelectorFromSet(exporter.Labels).Matches(labels.Set(pod.Labels)) {
				t.Errorf("its labels are those of the exporter: %v", pod.Labels)
			}
			always, deadline, spec := corev1.ContainerRestartPolicyAlways, int64(240), exporter.Spec.DeepCopy()
			sidecar := spec.Containers[0]
			sidecar.RestartPolicy, sidecar.LivenessProbe = &always, nil
			sidecar.StartupProbe, sidecar.ReadinessProbe = sidecar.ReadinessProbe, nil
			sidecar.StartupProbe.FailureThreshold = 60
			spec.InitContainers, spec.Containers = []corev1.Container{sidecar}, pod.Spec.Containers
			spec.RestartPolicy, spec.ActiveDeadlineSeconds = corev1.RestartPolicyNever, &deadline
			expect.Equal(t, "the pod differs from the exporter's", *spec, pod.Spec)
			expect.Equal(t, "the container that ends the pod differs", []string{"--version"}, pod.Spec.Containers[0].Args)
		})
	}
}

// TestLabelsOfTheTestPod expects those of the exporter's pods that policies may require, but none that has it scraped.
func TestLabelsOfTheTestPod(t *testing.T) {
	values := filepath.Join(t.TempDir(), "values.yaml")
	expect.NoError(t, os.WriteFile(values, []byte(`
podLabels: {team: shop, app.kubernetes.io/name: other}
podAnnotations: {sidecar.istio.io/inject: "false", prometheus.io/scrape: "true", helm.sh/hook: none}
`), 0o600))
	inBoth(t, func(t *testing.T, helm string) {
		pod := only[corev1.Pod](t, expect.Value(template(helm, "--values="+values, "--kube-version=1.29.0"))(t), "Pod")
		expect.Equal(t, "the labels differ", map[string]string{
			"team": "shop", "app.kubernetes.io/name": name + "-test", "app.kubernetes.io/instance": name, appsv1.PodIndexLabel: "0",
		}, pod.Labels)
		expect.Equal(t, "the annotations differ", map[string]string{
			"sidecar.istio.io/inject": "false", "helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
		}, pod.Annotations)
	})
}

// TestNotes expects what holds for an installation, and nothing else.
func TestNotes(t *testing.T) {
	const (
		pages, shards, password, certificate = "port-forward deployment/" + name + " 8082", "pod/" + name + "-0 8082", "the password of scraper", "a client certificate"
		secret, token, warning, egress       = "web.yml in the Secret passwords", "bearer token", "unencrypted", "does not limit where"
		behind, nothing, readable            = "port-forward deployment/" + name + "-chart-versions 8083", "No repository is configured", "WARNING: port 8083"
		scrape, account, closed              = "://" + name + "-chart-versions.default.svc:8083/metrics", "default:" + name + "-chart-versions", "443 only"
	)
	all := []string{pages, shards, password, certificate, secret, token, warning, egress, behind, nothing, readable, scrape, account, closed}
	const tls = "tls.enabled=true,"
	for values, want := range map[string][]string{
		"":                 {pages},
		"shards=2":         {shards},
		"tls.enabled=true": {pages},
		tls + "tls.webConfig.basic_auth_users.scraper=hash":                                 {pages, password},
		tls + "tls.webConfig.tls_server_config.client_auth_type=RequireAndVerifyClientCert": {pages, certificate},
		tls + "tls.webConfigSecretName=passwords":                                           {pages, secret},
		tls + "auth.enabled=true":                                                           {pages, token},
		"auth.enabled=true":                                                                 {pages, token, warning},
		policy:                                                                              {pages, egress},
		policy + ",networkPolicy.apiServer.cidrs={192.0.2.7/32}":                            {pages},
		versions: {pages, behind, nothing, scrape},
		versions + ",serviceMonitor.enabled=true":                                        {pages, behind, nothing},
		tls + versions + ",chartVersions.configSecretName=a":                             {pages, behind, readable, scrape},
		tls + versions + "," + policy:                                                    {pages, egress, behind, nothing, scrape},
		tls + versions + ",chartVersions.extraArgs={--web.config.file=/web.yml}":         {pages, behind, nothing, scrape},
		tls + versions + ",auth.enabled=true,rbac.create=false," + policy:                {pages, token, egress, behind, nothing, scrape, account},
		versions + "," + policy + ",chartVersions.exporterURLs={https://a:8080/metrics}": {pages, egress, behind, nothing, scrape, closed},
	} {
		t.Run(values, func(t *testing.T) {
			// Helm 3 needs a cluster for this.
			text := expect.Value(run("helm4", "install", name, shipped.Chart(), "--dry-run=client", "--set=image.repository=r", "--set="+values))(t)
			_, notes, found := strings.Cut(text, "\nNOTES:\n")
			if !found {
				t.Fatal("there are no notes")
			}
			for _, text := range all {
				if got := strings.Contains(notes, text); got != slices.Contains(want, text) {
					t.Errorf("whether the notes contain %q: %t\n%s", text, got, notes)
				}
			}
		})
	}
}

// only returns the only object of a kind.
func only[T any](t *testing.T, text, kind string) T {
	t.Helper()
	objects := slices.DeleteFunc(parse(t, text), func(o unstructured.Unstructured) bool { return o.GetKind() != kind })
	if len(objects) != 1 {
		t.Fatalf("there are %d objects of kind %s", len(objects), kind)
	}
	return into[T](t, objects[0])
}

// TestNamesThatYAMLReadsAsOtherTypes names a namespace "no".
func TestNamesThatYAMLReadsAsOtherTypes(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--set-string=namespaces={no,123},serviceAccount.name=on"))(t)
		var got []string
		for _, o := range parse(t, text) {
			if o.GetKind() == "RoleBinding" || o.GetKind() == "ServiceAccount" {
				got = append(got, o.GetNamespace()+"/"+o.GetName())
			}
		}
		slices.Sort(got)
		expect.Equal(t, "the names differ", []string{"123/" + name + "-cluster-role", name + "/on", "no/" + name + "-cluster-role"}, got)
	})
}

// TestDependency renders a chart that depends on this one. This one then also gets values of the other.
func TestDependency(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		parent := t.TempDir()
		for file, text := range map[string]string{
			"Chart.yaml": "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n" +
				"- {name: helm-state-metrics, version: 0.1.0, condition: helm-state-metrics.enabled}\n",
			"values.yaml": "global: {registry: example}\nhelm-state-metrics: {enabled: true, payload: never, image: {repository: r}}\n",
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

// TestDashboardElsewhere puts the dashboards into Grafana's namespace, with links to another runbook.
func TestDashboardElsewhere(t *testing.T) {
	inBoth(t, func(t *testing.T, helm string) {
		text := expect.Value(template(helm, "--show-only=templates/dashboard.yaml", "--set=dashboard.enabled=true",
			"--set=dashboard.namespace=grafana,prometheusRule.runbookURL=https://wiki.example.test/runbook"))(t)
		o := parse(t, text)[0]
		data, _, _ := unstructured.NestedStringMap(o.Object, "data")
		if o.GetNamespace() != "grafana" || len(data) != 2 || strings.Contains(text, "/docs/runbook.md#") ||
			!strings.Contains(text, "https://wiki.example.test/runbook#") {
			t.Errorf("the ConfigMap in %s has %d dashboards, or links to another runbook", o.GetNamespace(), len(data))
		}
	})
}
