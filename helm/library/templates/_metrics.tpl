{{/* (list ROOT COMPONENT): Prometheus reads /metrics of a component's Service. */}}
{{- define "csb.serviceMonitor" -}}
{{- $monitoring := (include "csb.global" (index . 0) | fromYaml).monitoring -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "csb.name" . }}
  labels:
    {{- include "csb.labels" . | nindent 4 }}
    {{- with $monitoring.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "csb.selector" . | nindent 6 }}
  # Two versions may stand side by side: their numbers are told apart by this.
  podTargetLabels: [csecbridge.io/track]
  endpoints:
    - port: metrics
      interval: {{ $monitoring.interval }}
{{- end }}
