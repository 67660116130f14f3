{{/* A quantity of memory (Mi or Gi) in MiB. */}}
{{- define "csb.mebibytes" -}}
{{- if hasSuffix "Gi" . -}}
{{- mul 1024 (trimSuffix "Gi" . | int) -}}
{{- else if hasSuffix "Mi" . -}}
{{- trimSuffix "Mi" . | int -}}
{{- else -}}
{{- fail (printf "%s: say it in Mi or Gi" .) -}}
{{- end -}}
{{- end }}
