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
{{- $global := mergeOverwrite (include "csb.defaults" . | fromYaml) (deepCopy (.Values.global | default dict)) -}}
{{- if and (eq $global.postgres.mode "cnpg") (not $global.trust.existingSecret) -}}
{{- $_ := set $global.trust "existingSecret" (include "csb.authorityOfTheOperator" .) -}}
{{- end -}}
{{- toYaml $global -}}
{{- end }}

{{/* The Secret that CloudNativePG makes, with whoever has signed the certificates of its cluster. */}}
{{- define "csb.authorityOfTheOperator" -}}
{{ include "csb.name" (list . "postgres-db-ca") }}
{{- end }}
