{{/* A ServiceMonitor or PodMonitor of the exporter, or of helm-chart-versions. */}}
{{- define "helm-state-metrics.monitor" -}}
apiVersion: monitoring.coreos.com/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  namespace: {{ .values.namespace | default .root.Release.Namespace }}
  labels:
    {{- .labels | nindent 4 }}
    {{- with .values.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  # Sets the label job to {{ get (fromYaml .selector) "app.kubernetes.io/name" }} for every release name.
  jobLabel: app.kubernetes.io/name
  {{- with .values.targetLabels }}
  {{ if eq $.kind "PodMonitor" }}podTargetLabels{{ else }}targetLabels{{ end }}: {{ toJson . }}
  {{- end }}
  {{- with .sampleLimit }}
  sampleLimit: {{ int . }}
  {{- end }}
  {{- if .values.namespace }}
  namespaceSelector:
    matchNames: [{{ .root.Release.Namespace }}]
  {{- end }}
  selector:
    matchLabels:
      {{- .selector | nindent 6 }}
  {{ if eq .kind "PodMonitor" }}podMetricsEndpoints{{ else }}endpoints{{ end }}:
    - {{ .endpoint | indent 6 | trim }}
{{- end -}}

{{/* How the exporter is scraped. */}}
{{- define "helm-state-metrics.endpoint" -}}
port: http
path: /metrics
scheme: {{ include "helm-state-metrics.scheme" .root }}
# Keeps the label namespace of the releases.
honorLabels: true
{{- with .values.interval }}
interval: {{ . }}
{{- end }}
{{- with .values.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- if .root.Values.tls.enabled }}
tlsConfig:
  {{- if .root.Values.tls.clientConfig }}
  {{- toYaml .root.Values.tls.clientConfig | nindent 2 }}
  {{- else }}
  ca:
    secret:
      name: {{ .root.Values.tls.secretName }}
      key: ca.crt
  serverName: {{ include "helm-state-metrics.fullname" .root }}.{{ .root.Release.Namespace }}.svc
  {{- end }}
{{- end }}
{{- with .values.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .values.authorization }}
authorization:
  {{- toYaml .values.authorization | nindent 2 }}
{{- else if .root.Values.auth.enabled }}
# The token of the Prometheus pod.
bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
{{- end }}
{{- with .values.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
