{{/*
ROOT: the Secrets that this release reads, as the values name them, each with its keys, and whether something reads it
before the release is there. Those that CloudNativePG makes are left out, and what lies in another namespace. Without keys all that the store has is taken: what a worker is lent beyond ours.
*/}}
{{- define "csb.secrets" -}}
{{- $global := include "csb.global" . | fromYaml -}}
{{- $m := .Values.migrations -}}
{{- $hook := eq $m.mode "hook" -}}
{{- $read := list (dict "name" (index .Values "api-service").existingSecret "keys" (list "CSB_DATABASE_URL" "CSB_REDIS_URL")) -}}
{{- range $w := .Values.worker.workers -}}
{{- $w = mergeOverwrite (deepCopy $.Values.worker.defaults) (deepCopy $w) -}}
{{- if $w.enabled -}}
{{- $read = append $read (dict "name" $w.existingSecret "keys" (list "CSB_DATABASE_URL" "CSB_REDIS_URL")) -}}
{{- range $w.envFromSecrets -}}
{{- $read = append $read (dict "name" . "keys" list) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $read = append $read (dict "name" $m.existingSecret "keys" (list "CSB_MIGRATOR_DATABASE_URL") "early" $hook) -}}
{{- if $m.bootstrap.enabled -}}
{{- $roles := list "CSB_MIGRATOR_PASSWORD" "CSB_API_USER_PASSWORD" "CSB_AWS_USER_PASSWORD" "CSB_SANDBOX_USER_PASSWORD" "CSB_ADMIN_USER_PASSWORD" -}}
{{- if .Values.backup.enabled -}}
{{- $roles = append $roles "CSB_BACKUP_USER_PASSWORD" -}}
{{- end -}}
{{- $read = append $read (dict "name" $m.bootstrap.existingSecret "keys" $roles "early" $hook) -}}
{{- if ne $global.postgres.mode "cnpg" -}}
{{- $read = append $read (dict "name" $m.bootstrap.superuserSecret "keys" (list "password") "early" $hook) -}}
{{- end -}}
{{- end -}}
{{- if or .Values.maintenance.enabled .Values.console.enabled -}}
{{- $read = append $read (dict "name" .Values.maintenance.existingSecret "keys" (list "CSB_ADMIN_DATABASE_URL" "CSB_REDIS_URL")) -}}
{{- end -}}
{{- if eq $global.postgres.mode "embedded" -}}
{{- $read = append $read (dict "name" (index .Values "postgres-db").existingSecret "keys" (list "password")) -}}
{{- end -}}
{{- if eq $global.redis.mode "embedded" -}}
{{- $read = append $read (dict "name" .Values.redis.existingSecret "keys" (list "users.acl" "password")) -}}
{{- end -}}
{{- if eq $global.postgres.mode "cnpg" -}}
{{- with (index .Values "postgres-db").cnpg.backup -}}
{{- if and .enabled .existingSecret -}}
{{- $read = append $read (dict "name" .existingSecret "keys" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.backup -}}
{{- if .enabled -}}
{{- $read = append $read (dict "name" .existingSecret "keys" (list "username" "password")) -}}
{{- if ne $global.postgres.mode "cnpg" -}}
{{- $read = append $read (dict "name" $m.bootstrap.superuserSecret "keys" (list "password")) -}}
{{- end -}}
{{- with .bucket.existingSecret -}}
{{- $read = append $read (dict "name" . "keys" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $ofTheOperator := and (eq $global.postgres.mode "cnpg") (eq $global.trust.existingSecret (include "csb.authorityOfTheOperator" .)) -}}
{{- if and $global.trust.existingSecret (not $ofTheOperator) -}}
{{- $read = append $read (dict "name" $global.trust.existingSecret "keys" (list "ca.crt") "early" $hook) -}}
{{- end -}}
{{- with .Values.observability -}}
{{- if and .enabled .search.enabled .elasticsearch.url -}}
{{- $read = append $read (dict "name" .search.existingSecret "keys" (list "username" "password" "ca.crt") "early" true) -}}
{{- end -}}
{{- end -}}
{{- with .Values.smoke.existingSecret -}}
{{- $read = append $read (dict "name" . "keys" (list "CSB_TOKEN")) -}}
{{- end -}}
{{- $found := dict -}}
{{- range $read -}}
{{- $known := get $found .name | default (dict "keys" list "early" false) -}}
{{- $_ := set $found .name (dict "keys" (concat $known.keys .keys | uniq) "early" (or $known.early (default false .early))) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}
