{{/* (list ROOT SECRET): where the database is, and as whom PostgreSQL's programs log in; the Secret tells no
     name when it is the superuser's. */}}
{{- define "csb.backup.database" -}}
{{- $root := index . 0 -}}
{{- $bootstrap := $root.Values.migrations.bootstrap -}}
{{- $reader := index . 1 -}}
- {name: PGHOST, value: {{ include "csb.postgresHost" $root | quote }}}
- {name: PGPORT, value: {{ (include "csb.global" $root | fromYaml).postgres.port | quote }}}
- {name: PGDATABASE, value: {{ $bootstrap.database | quote }}}
- name: PGUSER
  {{- if $reader }}
  valueFrom:
    secretKeyRef: {name: {{ $reader }}, key: username}
  {{- else }}
  value: {{ $bootstrap.superuser | quote }}
  {{- end }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ coalesce $reader (include "csb.superuserSecret" $root) }}, key: password}
{{ include "csb.trustVariables" $root }}
{{- end }}

{{/* ROOT: where backups are kept, for shelf.py. */}}
{{- define "csb.backup.shelf" -}}
{{- $b := .Values.backup -}}
- {name: BACKUP_SHELF, value: {{ coalesce $b.bucket.url "/shelf" | quote }}}
- {name: BACKUP_KEEP, value: {{ $b.keep | quote }}}
{{- if $b.bucket.url }}
{{- range $name, $value := $b.bucket.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- if $b.bucket.existingSecret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
{{ include "csb.secretVariable" (list $b.bucket.existingSecret .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* (dict root image name command env): one step of a backup or of a restore. */}}
{{- define "csb.backup.step" -}}
{{- $root := .root -}}
- name: {{ .name }}
  image: {{ .image }}
  imagePullPolicy: {{ (include "csb.global" $root | fromYaml).images.pullPolicy }}
  command: {{ .command | toJson }}
  env:
    {{- .env | nindent 4 }}
  {{- include "csb.container" $root | nindent 2 }}
  resources:
    {{- toYaml $root.Values.backup.resources | nindent 4 }}
  volumeMounts:
    - {name: programs, mountPath: /etc/backup, readOnly: true}
    - {name: work, mountPath: /work}
    {{- if not $root.Values.backup.bucket.url }}
    - {name: shelf, mountPath: /shelf}
    {{- end }}
    {{- include "csb.scratchMount" $root | nindent 4 }}
    {{- include "csb.trustMount" $root | nindent 4 }}
{{- end }}

{{/* ROOT: what these steps share. A volume of the pod's own holds the dump, and the server it is tried in. */}}
{{- define "csb.backup.volumes" -}}
{{- $b := .Values.backup -}}
- name: programs
  configMap:
    name: {{ include "csb.name" (list . "backup") }}
- name: work
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $b.work.className }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ $b.work.size }}}
{{- if not $b.bucket.url }}
- name: shelf
  persistentVolumeClaim:
    claimName: {{ include "csb.name" (list . "backup") }}
{{- end }}
{{ include "csb.scratch" . }}
{{ include "csb.trust" . }}
{{- end }}

{{/* ROOT: what leads to the bucket. */}}
{{- define "csb.egress.bucket" -}}
{{- with .Values.backup.bucket -}}
- to:
    {{- if .egressTo }}
    {{- toYaml .egressTo | nindent 4 }}
    {{- else }}
    {{- fail "backup.bucket.egressTo: say where the bucket is (NetworkPolicy peers)" }}
    {{- end }}
  ports:
    - {port: {{ .port }}, protocol: TCP}
{{- end }}
{{- end }}
