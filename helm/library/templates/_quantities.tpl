{{/* A quantity of memory or of a volume (Mi, Gi, Ti) in MiB. */}}
{{- define "csb.mebibytes" -}}
{{- if hasSuffix "Ti" . -}}
{{- mul 1048576 (trimSuffix "Ti" . | int) -}}
{{- else if hasSuffix "Gi" . -}}
{{- mul 1024 (trimSuffix "Gi" . | int) -}}
{{- else if hasSuffix "Mi" . -}}
{{- trimSuffix "Mi" . | int -}}
{{- else -}}
{{- fail (printf "%s: say it in Mi or Gi" .) -}}
{{- end -}}
{{- end }}
