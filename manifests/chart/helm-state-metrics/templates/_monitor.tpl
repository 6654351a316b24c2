{{/* A ServiceMonitor or PodMonitor of the exporter, or of helm-chart-versions, which is scraped without credentials. */}}
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
  # Sets the label job to {{ ternary .root.Chart.Name "helm-chart-versions" .exporter }} for every release name.
  jobLabel: app.kubernetes.io/name
  {{- with .values.targetLabels }}
  {{ if eq $.kind "PodMonitor" }}podTargetLabels{{ else }}targetLabels{{ end }}: {{ toJson . }}
  {{- end }}
  {{- with .values.sampleLimit }}
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
    - port: http
      path: /metrics
      scheme: {{ ternary (include "helm-state-metrics.scheme" .root) "http" .exporter }}
      # Keeps the label namespace of the releases.
      honorLabels: true
      {{- with .values.interval }}
      interval: {{ . }}
      {{- end }}
      {{- with .values.scrapeTimeout }}
      scrapeTimeout: {{ . }}
      {{- end }}
      {{- if and .exporter .root.Values.tls.enabled }}
      tlsConfig:
        {{- if .root.Values.tls.clientConfig }}
        {{- toYaml .root.Values.tls.clientConfig | nindent 8 }}
        {{- else }}
        ca:
          secret:
            name: {{ .root.Values.tls.secretName }}
            key: ca.crt
        serverName: {{ include "helm-state-metrics.fullname" .root }}.{{ .root.Release.Namespace }}.svc
        {{- end }}
      {{- end }}
      {{- if .exporter }}
      {{- with .values.basicAuth }}
      basicAuth:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if .values.authorization }}
      authorization:
        {{- toYaml .values.authorization | nindent 8 }}
      {{- else if .root.Values.auth.enabled }}
      # The token of the Prometheus pod.
      bearerTokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token
      {{- end }}
      {{- end }}
      {{- with .values.relabelings }}
      relabelings:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .values.metricRelabelings }}
      metricRelabelings:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end -}}
