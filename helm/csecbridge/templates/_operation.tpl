{{/* (dict root me annotations egress): account and network of a pod that operates. */}}
{{- define "csb.operation" -}}
{{ include "csb.serviceAccount" (append .me .annotations) }}
{{- if (include "csb.global" .root | fromYaml).networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "csb.name" .me }}
  labels:
    {{- include "csb.labels" .me | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  podSelector:
    matchLabels:
      {{- include "csb.selector" .me | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: []
  egress:
    {{- include "csb.egress.dns" .root | nindent 4 }}
    {{- range .egress }}
    {{- include (print "csb.egress." .) $.root | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/* What leads to our own API. */}}
{{- define "csb.egress.api" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "csb.selector" (list . "api-service") | nindent 10 }}
  ports:
    - {port: 8000, protocol: TCP}
{{- end }}

{{/* Where PostgreSQL is, for whoever makes the roles. */}}
{{- define "csb.postgresHost" -}}
{{- $mode := (include "csb.global" . | fromYaml).postgres.mode -}}
{{- $name := include "csb.name" (list . "postgres-db") -}}
{{- if eq $mode "embedded" }}{{ $name }}
{{- else if eq $mode "cnpg" }}{{ $name }}-rw
{{- else }}{{ required "migrations.bootstrap.host: where is the external PostgreSQL? Or switch migrations.bootstrap.enabled off" .Values.migrations.bootstrap.host }}
{{- end -}}
{{- end }}

{{/* The Secret with the superuser's password; in mode cnpg the operator makes it. */}}
{{- define "csb.superuserSecret" -}}
{{- ternary (printf "%s-superuser" (include "csb.name" (list . "postgres-db"))) .Values.migrations.bootstrap.superuserSecret (eq (include "csb.global" . | fromYaml).postgres.mode "cnpg") -}}
{{- end }}
