{{/* The pod of a Deployment, of a StatefulSet, and of the test. */}}
{{- define "helm-state-metrics.podSpec" -}}
{{- $sharded := gt (int .Values.shards) 1 -}}
serviceAccountName: {{ include "helm-state-metrics.serviceAccountName" . | quote }}
{{ include "helm-state-metrics.podSettings" . }}
containers:
  - name: helm-state-metrics
    image: {{ include "helm-state-metrics.image" . | quote }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      {{- range .Values.storage }}
      - --storage={{ . }}
      {{- end }}
      {{- range .Values.namespaces }}
      - --namespaces={{ . }}
      {{- end }}
      {{- range .Values.namespacesDenylist }}
      - --namespaces-denylist={{ . }}
      {{- end }}
      {{- if eq .Values.payload "never" }}
      - --payload=never
      {{- end }}
      {{- range .Values.releaseLabels }}
      - --release-labels={{ . }}
      {{- end }}
      {{- with .Values.maxReleasesPerNamespace }}
      - --metrics.max-releases-per-namespace={{ int . }}
      {{- end }}
      {{- if $sharded }}
      - --shard=$(POD_INDEX)
      - --total-shards=$(TOTAL_SHARDS)
      {{- end }}
      {{- if ne (int .Values.ports.http) 8080 }}
      - --web.listen-address=:{{ .Values.ports.http }}
      {{- end }}
      {{- if ne (int .Values.ports.health) 8081 }}
      - --health.listen-address=:{{ .Values.ports.health }}
      {{- end }}
      {{- if .Values.tls.enabled }}
      - --web.config.file=/etc/helm-state-metrics/web.yml
      {{- end }}
      {{- if .Values.auth.enabled }}
      - --auth-filter
      {{- range .Values.auth.audiences }}
      - --auth-token-audiences={{ . }}
      {{- end }}
      {{- end }}
      {{- with .Values.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: http
        containerPort: {{ .Values.ports.http }}
      - name: health
        containerPort: {{ .Values.ports.health }}
    # No startup probe: the exporter listens immediately.
    livenessProbe:
      httpGet:
        path: /livez
        port: health
      timeoutSeconds: 5
    # Ready when the initial list is complete and each payload has been tried once.
    readinessProbe:
      httpGet:
        path: /readyz
        port: health
      periodSeconds: 5
      timeoutSeconds: 5
    {{- if or $sharded .Values.env }}
    env:
      {{- if $sharded }}
      - name: TOTAL_SHARDS
        value: {{ .Values.shards | quote }}
      - name: POD_INDEX
        valueFrom:
          fieldRef:
            fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
      {{- end }}
      {{- with .Values.env }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- end }}
    {{- with .Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with .Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
      - name: kube-api-access
        mountPath: /var/run/secrets/kubernetes.io/serviceaccount
        readOnly: true
      {{- if .Values.tls.enabled }}
      - name: web
        mountPath: /etc/helm-state-metrics
        readOnly: true
      {{- end }}
      {{- with .Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  # What the kubelet would mount into every container of the pod, not only into the exporter's.
  - name: kube-api-access
    projected:
      sources:
        - serviceAccountToken:
            path: token
            expirationSeconds: 3607
        - configMap:
            name: kube-root-ca.crt
            items:
              - key: ca.crt
                path: ca.crt
        - downwardAPI:
            items:
              - path: namespace
                fieldRef:
                  fieldPath: metadata.namespace
  {{- if .Values.tls.enabled }}
  - name: web
    projected:
      sources:
        - secret:
            name: {{ .Values.tls.webConfigSecretName | default (printf "%s-web-config" (include "helm-state-metrics.fullname" .)) }}
        - secret:
            name: {{ .Values.tls.secretName }}
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml .Values.topologySpreadConstraints | nindent 2 }}
{{- else if gt (max .Values.replicas .Values.shards) 1 }}
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "helm-state-metrics.selector" $ | nindent 8 }}
    {{- if and (not $sharded) (semverCompare ">=1.27.0-0" $.Capabilities.KubeVersion.Version) }}
    # Do not count the pods that a rollout replaces.
    matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What all pods have in common. */}}
{{- define "helm-state-metrics.podSettings" -}}
automountServiceAccountToken: false
enableServiceLinks: false
# On SIGTERM the programs wait up to 10 seconds for scrapes in progress.
terminationGracePeriodSeconds: 15
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}
