{{/* A volume, as the operator wants it. */}}
{{- define "csb.postgres.storage" -}}
size: {{ .size }}
{{- with .className }}
storageClass: {{ . }}
{{- end }}
{{- end }}

{{/* (list ROOT COMPONENT LABELS): Prometheus reads the numbers of the operator's pods, which have no Service for that. */}}
{{- define "csb.podMonitor" -}}
{{- $root := index . 0 -}}
{{- $monitoring := (include "csb.global" $root | fromYaml).monitoring -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
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
      {{- toYaml (index . 2) | nindent 6 }}
  podMetricsEndpoints:
    - port: metrics
      interval: {{ $monitoring.interval }}
{{- end }}

{{/* ROOT: what leads to the cluster's API, whose address only the site knows. */}}
{{- define "csb.postgres.egress.api" -}}
- ports:
    {{- range .Values.cnpg.egress.clusterApiPorts }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  {{- with .Values.cnpg.egress.clusterApiTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
