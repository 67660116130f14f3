{{/* ROOT: what leads to the cluster's names. */}}
{{- define "csb.egress.dns" -}}
- to:
    {{- toYaml (include "csb.global" . | fromYaml).networkPolicy.dnsTo | nindent 4 }}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* ROOT: what leads to PostgreSQL, wherever it is. */}}
{{- define "csb.egress.postgres" -}}
{{- $postgres := (include "csb.global" . | fromYaml).postgres -}}
- to:
    {{- if eq $postgres.mode "embedded" }}
    - podSelector:
        matchLabels:
          {{- include "csb.selector" (list . "postgres-db") | nindent 10 }}
    {{- else if eq $postgres.mode "cnpg" }}
    - podSelector:
        matchLabels:
          cnpg.io/cluster: {{ include "csb.name" (list . "postgres-db") }}
    - podSelector:
        matchLabels:
          cnpg.io/poolerName: {{ include "csb.name" (list . "postgres-db-pooler") }}
    {{- else if $postgres.egressTo }}
    {{- toYaml $postgres.egressTo | nindent 4 }}
    {{- else }}
    {{- fail "global.postgres.egressTo: say where the external PostgreSQL is (NetworkPolicy peers), or switch global.networkPolicy.enabled off" }}
    {{- end }}
  ports:
    - {port: {{ $postgres.port }}, protocol: TCP}
{{- end }}

{{/* ROOT: what leads to Redis, wherever it is. */}}
{{- define "csb.egress.redis" -}}
{{- $redis := (include "csb.global" . | fromYaml).redis -}}
- to:
    {{- if eq $redis.mode "embedded" }}
    - podSelector:
        matchLabels:
          {{- include "csb.selector" (list . "redis") | nindent 10 }}
    {{- else if $redis.egressTo }}
    {{- toYaml $redis.egressTo | nindent 4 }}
    {{- else }}
    {{- fail "global.redis.egressTo: say where the external Redis is (NetworkPolicy peers), or switch global.networkPolicy.enabled off" }}
    {{- end }}
  ports:
    - {port: {{ $redis.port }}, protocol: TCP}
{{- end }}

{{/* (list ROOT PORT): Prometheus reads the numbers. */}}
{{- define "csb.ingress.metrics" -}}
- from:
    {{- toYaml (include "csb.global" (index . 0) | fromYaml).networkPolicy.metricsFrom | nindent 4 }}
  ports:
    - {port: {{ index . 1 }}, protocol: TCP}
{{- end }}

{{/* (list ROOT LABEL): the pods of this release that may reach PostgreSQL, or Redis. */}}
{{- define "csb.ingress.clients" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
      csecbridge.io/reaches-{{ index . 1 }}: "true"
{{- end }}
