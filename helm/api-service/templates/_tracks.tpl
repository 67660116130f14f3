{{/*
Two versions may stand side by side, each on a track of its own: `stable` is always there, `next` while
rollout.next names an image. Both have the same component, so one account, one NetworkPolicy, one
PodDisruptionBudget and one spreading hold for both; the label of the track tells them apart.
*/}}
{{- define "csb.api.tracks" -}}
{{- $rollout := .Values.rollout -}}
{{- $stands := or $rollout.next.tag $rollout.next.digest -}}
{{- if and $stands (eq $rollout.strategy "rolling") -}}
{{- fail "api-service: rollout.next stands beside what serves, so rollout.strategy must be blue-green or canary" -}}
{{- end -}}
{{- if and (not $stands) (or (ne $rollout.serving "stable") (gt (int $rollout.weight) 0)) -}}
{{- fail "api-service: rollout.serving and rollout.weight lead callers to rollout.next, which names no image" -}}
{{- end -}}
{{- if and (ne $rollout.serving "stable") (ne $rollout.strategy "blue-green") -}}
{{- fail "api-service: rollout.serving moves all callers at once, which is blue-green; a canary has rollout.weight" -}}
{{- end -}}
{{- if and (gt (int $rollout.weight) 0) (ne $rollout.strategy "canary") -}}
{{- fail "api-service: rollout.weight is a canary's; blue-green has rollout.serving" -}}
{{- end -}}
{{- if and (eq $rollout.strategy "canary") (not .Values.httpRoute.enabled) -}}
{{- fail "api-service: a canary's share is a weight of the HTTPRoute: httpRoute.enabled, or take blue-green" -}}
{{- end -}}
{{- if and $stands (not (or .Values.image.tag .Values.image.digest)) -}}
{{- fail "api-service: rollout.next stands beside what serves, so image.tag (or digest) must say what serves: else the chart's own version replaces it" -}}
{{- end -}}
{{- $pinned := get (include "csb.global" . | fromYaml).digests .Values.image.name -}}
{{- if and $stands $pinned (not $rollout.next.digest) -}}
{{- fail "api-service: rollout.next.digest is empty, but global.digests pins this image: next would be what serves" -}}
{{- end -}}
tracks: [stable{{ if $stands }}, next{{ end }}]
{{- end }}

{{/* (list ROOT TRACK): what the objects of a track are called. */}}
{{- define "csb.api.name" -}}
{{- $component := ternary "api-service" "api-service-next" (eq (index . 1) "stable") -}}
{{- include "csb.name" (list (index . 0) $component) -}}
{{- end }}

{{- define "csb.api.selector" -}}
{{ include "csb.selector" (list (index . 0) "api-service") }}
csecbridge.io/track: {{ index . 1 }}
{{- end }}

{{- define "csb.api.labels" -}}
{{ include "csb.labels" (list (index . 0) "api-service") }}
csecbridge.io/track: {{ index . 1 }}
{{- end }}

{{/* (list ROOT TRACK): its settings. They are all that a pod is restarted for, so no label stands here. */}}
{{- define "csb.api.settings" -}}
{{- $values := (index . 0).Values -}}
CSB_SERVICE: api-service
CSB_BIND: 0.0.0.0:8000
CSB_METRICS_BIND: 0.0.0.0:9090
CSB_API_PROCESSES: {{ $values.processes | quote }}
CSB_POOL_MAX: {{ $values.poolMax | quote }}
{{- $own := ternary dict $values.rollout.next.env (eq (index . 1) "stable") }}
{{- range $name, $value := merge dict $own $values.env }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* (list ROOT TRACK): the image of a track, as YAML; of `next`, what its tag and its digest say and no default. */}}
{{- define "csb.api.image" -}}
{{- $values := (index . 0).Values -}}
{{- if eq (index . 1) "stable" -}}
{{- toYaml $values.image -}}
{{- else -}}
{{- toYaml (dict "name" $values.image.name "tag" $values.rollout.next.tag "digest" $values.rollout.next.digest) -}}
{{- end -}}
{{- end }}

{{/* (list ROOT TRACK): how many pods a track has, or begins with where an autoscaler decides. */}}
{{- define "csb.api.replicas" -}}
{{- $values := (index . 0).Values -}}
{{- $own := ternary 0 $values.rollout.next.replicas (eq (index . 1) "stable") -}}
{{- $usual := ternary $values.autoscaling.minReplicas $values.replicas $values.autoscaling.enabled -}}
{{- coalesce (int $own) $usual -}}
{{- end }}

{{/* VALUES of this chart: the pods that there can be at most, both tracks together; charts above count connections by it. */}}
{{- define "csb.api.mostPods" -}}
{{- $most := ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled | int -}}
{{- $next := .rollout.next -}}
{{- if or $next.tag $next.digest -}}
{{- add $most (ternary $most (coalesce (int $next.replicas) $most) .autoscaling.enabled) -}}
{{- else -}}
{{- $most -}}
{{- end -}}
{{- end }}
