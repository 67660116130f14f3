{{/* (list ROOT COMPONENT [ANNOTATIONS]): an account without rights, whose token is mounted nowhere. */}}
{{- define "csb.serviceAccount" -}}
{{- $root := index . 0 -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "csb.name" (list $root (index . 1)) }}
  labels:
    {{- include "csb.labels" (list $root (index . 1)) | nindent 4 }}
  {{- if gt (len .) 2 }}
  {{- with index . 2 }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}

{{/* (list ROOT COMPONENT USER): what every pod says of itself: Pod Security "restricted". */}}
{{- define "csb.pod" -}}
{{- $root := index . 0 -}}
{{- $images := (include "csb.global" $root | fromYaml).images -}}
serviceAccountName: {{ include "csb.name" (list $root (index . 1)) }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 2 }}
  runAsGroup: {{ index . 2 }}
  fsGroup: {{ index . 2 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{/* What every container says of itself. */}}
{{- define "csb.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* (list ROOT COMPONENT): replicas stand on different nodes and in different zones where there are any. */}}
{{- define "csb.spread" -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- topologyKey: {{ . }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- include "csb.selector" $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* Where a pod may be put. */}}
{{- define "csb.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* (list SECRET VARIABLE): a variable from an existing Secret, where it has the same name. */}}
{{- define "csb.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 0 }}
      key: {{ index . 1 }}
{{- end }}

{{/* ROOT: whom a pod that reaches the stores trusts; libpq reads these two, rediss:// names the file in its URL. */}}
{{- define "csb.trustVariables" -}}
{{- $global := include "csb.global" . | fromYaml -}}
{{- /* The small PostgreSQL speaks no TLS. */}}
{{- if and $global.trust.existingSecret (ne $global.postgres.mode "embedded") -}}
- {name: PGSSLMODE, value: verify-full}
- {name: PGSSLROOTCERT, value: /etc/csb/trust/ca.crt}
{{- end }}
{{- end }}

{{- define "csb.trustMount" -}}
{{- if (include "csb.global" . | fromYaml).trust.existingSecret -}}
- {name: trust, mountPath: /etc/csb/trust, readOnly: true}
{{- end }}
{{- end }}

{{- define "csb.trust" -}}
{{- with (include "csb.global" . | fromYaml).trust.existingSecret -}}
- name: trust
  secret:
    secretName: {{ . }}
    # Of CloudNativePG's the key of its authority stays out.
    items:
      - {key: ca.crt, path: ca.crt}
{{- end }}
{{- end }}

{{/* A directory in memory for what a process writes: heartbeats of gunicorn, numbers of its metrics. */}}
{{- define "csb.scratch" -}}
- name: scratch
  emptyDir:
    medium: Memory
    sizeLimit: 64Mi
{{- end }}

{{- define "csb.scratchMount" -}}
- name: scratch
  mountPath: /tmp
{{- end }}

{{/* (dict root image secret): waits until the schema is one that this image works with, as the service's own role. */}}
{{- define "csb.waitForSchema" -}}
- name: wait-for-schema
  image: {{ include "csb.image" (list .root .image) }}
  imagePullPolicy: {{ (include "csb.global" .root | fromYaml).images.pullPolicy }}
  command: [csbctl, --actor, wait-for-schema, schema, wait, --timeout, "600"]
  env:
    {{- include "csb.secretVariable" (list .secret "CSB_DATABASE_URL") | nindent 4 }}
    {{- include "csb.trustVariables" .root | nindent 4 }}
  {{- include "csb.container" . | nindent 2 }}
  resources:
    requests: {cpu: 10m, memory: 64Mi}
    limits: {memory: 128Mi}
  volumeMounts:
    {{- include "csb.scratchMount" . | nindent 4 }}
    {{- include "csb.trustMount" .root | nindent 4 }}
{{- end }}

{{/* (list ROOT COMPONENT): one pod at a time may be evicted; a sick one always. */}}
{{- define "csb.disruption" -}}
{{- $root := index . 0 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "csb.name" . }}
  labels:
    {{- include "csb.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "csb.selector" . | nindent 6 }}
{{- end }}
