{{- define "helm-state-metrics.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "helm-state-metrics.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "helm-state-metrics.labels" -}}
{{ include "helm-state-metrics.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "helm-state-metrics.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "helm-state-metrics.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* The name of what is in the whole cluster or in watched namespaces: it differs between two installations. */}}
{{- define "helm-state-metrics.clusterName" -}}
{{- list .Release.Namespace (include "helm-state-metrics.fullname" .) | uniq | join ":" -}}
{{- end -}}

{{/* The Service of shards has another name, because clusterIP is immutable. */}}
{{- define "helm-state-metrics.serviceName" -}}
{{- include "helm-state-metrics.fullname" . }}{{ if gt (int .Values.shards) 1 }}-shards{{ end }}
{{- end -}}

{{- define "helm-state-metrics.image" -}}
{{- with .Values.image -}}
{{- if not .repository -}}
{{- fail "image.repository is empty, because there is no public image. Build one and push it (make image IMAGE=REGISTRY/helm-state-metrics; docker push REGISTRY/helm-state-metrics:TAG), and install with --set=image.repository=REGISTRY/helm-state-metrics. For an image that is loaded into kind: --set=image.repository=helm-state-metrics" -}}
{{- end -}}
{{- .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "helm-state-metrics.scheme" -}}
{{- ternary "https" "http" .Values.tls.enabled -}}
{{- end -}}

{{/* The minimal permissions of the exporter. */}}
{{- define "helm-state-metrics.policyRules" -}}
- apiGroups: [""]
  resources: {{ .Values.storage | toJson }}
  verbs: {{ if eq .Values.payload "never" }}[list, watch]{{ else }}[list, watch, get]{{ end }}
{{- end -}}

{{- define "helm-state-metrics.subjects" -}}
- kind: ServiceAccount
  name: {{ include "helm-state-metrics.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* The groups of files/rules.yaml with overrides merged and disabled rules removed. */}}
{{- define "helm-state-metrics.ruleGroups" -}}
{{- $names := list -}}
{{- $groups := list -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
  {{- $rules := list -}}
  {{- range .rules -}}
    {{- $name := .alert | default .record -}}
    {{- $names = append $names $name -}}
    {{- if not (has $name $.Values.prometheusRule.disabled) -}}
      {{- $rules = append $rules (mergeOverwrite . (get $.Values.prometheusRule.overrides $name | default dict)) -}}
    {{- end -}}
  {{- end -}}
  {{- if $rules -}}
    {{- $groups = append $groups (set . "rules" $rules) -}}
  {{- end -}}
{{- end -}}
{{- range concat (keys .Values.prometheusRule.overrides) .Values.prometheusRule.disabled -}}
  {{- if not (has . $names) -}}
    {{- fail (printf "prometheusRule: there is no rule %q; the rules are %s" . (join ", " $names)) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
