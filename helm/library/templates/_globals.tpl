{{/* What all charts share. csecbridge/values.yaml explains each; a test keeps the two alike. */}}
{{- define "csb.defaults" -}}
images:
  registry: ghcr.io/csecbridge/csecbridge
  tag: ""
  pullPolicy: IfNotPresent
  pullSecrets: []
digests: {}
postgres:
  mode: embedded
  port: 5432
  maxConnections: 200
  egressTo: []
redis:
  mode: embedded
  port: 6379
  egressTo: []
trust:
  existingSecret: ""
networkPolicy:
  enabled: true
  dnsTo:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
      podSelector:
        matchLabels:
          k8s-app: kube-dns
  metricsFrom:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: monitoring
  autoscalerFrom:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: keda
monitoring:
  enabled: false
  interval: 15s
  labels: {}
{{- end }}

{{/* The globals with their defaults, as YAML: `include "csb.global" . | fromYaml`. */}}
{{- define "csb.global" -}}
{{- $defaults := include "csb.defaults" . | fromYaml -}}
{{- mergeOverwrite $defaults (deepCopy (.Values.global | default dict)) | toYaml -}}
{{- end }}
