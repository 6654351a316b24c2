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
{{ include "helm-state-metrics.versionLabels" . }}
{{- end -}}

{{- define "helm-state-metrics.versionLabels" -}}
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

{{/* The pods of a StatefulSet have a label with its name and 11 more characters: 63 at most. */}}
{{- define "helm-state-metrics.workloadName" -}}
{{- include "helm-state-metrics.fullname" . | trunc (ternary 52 63 (gt (int .Values.shards) 1)) | trimSuffix "-" -}}
{{- end -}}

{{/* The Service of shards has another name, because clusterIP is immutable. */}}
{{- define "helm-state-metrics.serviceName" -}}
{{- include "helm-state-metrics.workloadName" . }}{{ if gt (int .Values.shards) 1 }}-shards{{ end }}
{{- end -}}

{{/* Objects of helm-chart-versions, whose pods must not be selected as the exporter's. */}}
{{- define "helm-state-metrics.chartVersionsName" -}}
{{- include "helm-state-metrics.fullname" . | trunc 48 | trimSuffix "-" -}}-chart-versions
{{- end -}}

{{/* Not empty if helm-chart-versions has a web configuration, with credentials or TLS. */}}
{{- define "helm-state-metrics.chartVersionsWebConfig" -}}
{{- range .Values.chartVersions.extraArgs }}{{ if hasPrefix "--web.config.file" . }}{{ . }}{{ end }}{{ end -}}
{{- end -}}

{{- define "helm-state-metrics.chartVersionsSelector" -}}
app.kubernetes.io/name: helm-chart-versions
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "helm-state-metrics.chartVersionsLabels" -}}
{{ include "helm-state-metrics.chartVersionsSelector" . }}
{{ include "helm-state-metrics.versionLabels" . }}
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

{{/* The peers that a NetworkPolicy lets scrape. */}}
{{- define "helm-state-metrics.scrapers" -}}
{{- range .Values.networkPolicy.namespaces }}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ . | quote }}
{{- end }}
{{- with .Values.networkPolicy.from }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The groups of files/rules.yaml with overrides merged and disabled alerts removed. */}}
{{- define "helm-state-metrics.ruleGroups" -}}
{{- $values := .Values.prometheusRule -}}
{{- $alerts := list -}}
{{- $records := list -}}
{{- $groups := list -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
  {{- $rules := list -}}
  {{- range .rules -}}
    {{- if .alert -}}
      {{- $alerts = append $alerts .alert -}}
      {{- $_ := set .annotations "runbook_url" (printf "%s#%s" $values.runbookURL (lower .alert)) -}}
    {{- else -}}
      {{- $records = append $records .record -}}
      {{- range keys (omit (get $values.overrides .record | default dict) "expr" "labels") -}}
        {{- fail (printf "prometheusRule.overrides: a recording rule has only expr and labels, not %s" .) -}}
      {{- end -}}
    {{- end -}}
    {{- if not (has .alert $values.disabled) -}}
      {{- $rules = append $rules (mergeOverwrite . (get $values.overrides (.alert | default .record) | default dict)) -}}
    {{- end -}}
  {{- end -}}
  {{- $groups = append $groups (set . "rules" $rules) -}}
{{- end -}}
{{- range $values.disabled -}}
  {{- if has . $records -}}
    {{- fail (printf "prometheusRule.disabled: alerts and dashboards need the recording rule %q; only alerts can be disabled" .) -}}
  {{- end -}}
{{- end -}}
{{- range concat (keys $values.overrides) $values.disabled -}}
  {{- if not (has . (concat $alerts $records)) -}}
    {{- fail (printf "prometheusRule: there is no rule %q; the rules are %s" . (join ", " (concat $alerts $records))) -}}
  {{- end -}}
{{- end -}}
{{- toYaml $groups -}}
{{- end -}}
