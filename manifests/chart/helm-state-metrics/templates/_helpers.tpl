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

{{- define "helm-state-metrics.image" -}}
{{- with .Values.image -}}
{{- .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "helm-state-metrics.scheme" -}}
{{- ternary "HTTPS" "HTTP" .Values.tls.enabled -}}
{{- end -}}

{{/* A probe of .path. The kubelet cannot send a password or client certificate, so use tcpSocket if one is required. */}}
{{- define "helm-state-metrics.probe" -}}
{{- $config := .root.Values.tls.webConfig -}}
{{- if and .root.Values.tls.enabled (or $config.basic_auth_users (dig "tls_server_config" "client_auth_type" "" $config)) -}}
tcpSocket:
  port: http
{{- else -}}
httpGet:
  path: {{ .path }}
  port: http
  scheme: {{ include "helm-state-metrics.scheme" .root }}
{{- end -}}
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

{{/* The endpoint of a ServiceMonitor or PodMonitor with the values .monitor. */}}
{{- define "helm-state-metrics.endpoint" -}}
- port: http
  path: /metrics
  scheme: {{ include "helm-state-metrics.scheme" .root | lower }}
  # Keeps the label namespace of the releases.
  honorLabels: true
  {{- with .monitor.interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .monitor.scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with .root.Values.tls }}
  {{- if .enabled }}
  tlsConfig:
    {{- if .clientConfig }}
    {{- toYaml .clientConfig | nindent 4 }}
    {{- else }}
    ca:
      secret:
        name: {{ .secretName }}
        key: ca.crt
    serverName: {{ include "helm-state-metrics.fullname" $.root }}.{{ $.root.Release.Namespace }}.svc
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with .monitor.basicAuth }}
  basicAuth:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .monitor.relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .monitor.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
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
