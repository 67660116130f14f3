{{/* (list ROOT NAME): a worker's values over the defaults, as YAML. */}}
{{- define "csb.worker" -}}
{{- $root := index . 0 -}}
{{- mergeOverwrite (deepCopy $root.Values.defaults) (deepCopy (index $root.Values.workers (index . 1))) | toYaml -}}
{{- end }}

{{/* (list NAME WORKER): ends the rendering when a number contradicts another. */}}
{{- define "csb.worker.check" -}}
{{- $name := index . 0 -}}
{{- $w := index . 1 -}}
{{- /* Of the grace, 5 s are kept to record what was given up (csb_core.worker.main); 5 s are margin. */}}
{{- if lt (int $w.graceSeconds) (int (add $w.longestSeconds 10)) -}}
{{- fail (printf "workers.%s: graceSeconds is %d; it must exceed longestSeconds (%d) by 10" $name (int $w.graceSeconds) (int $w.longestSeconds)) -}}
{{- end -}}
{{- /* gunicorn waits 10 s longer than the grace (csb_core.worker.gunicorn_conf); 5 s are margin. */}}
{{- if lt (int $w.gracePeriodSeconds) (int (add $w.graceSeconds 15)) -}}
{{- fail (printf "workers.%s: gracePeriodSeconds is %d; it must exceed graceSeconds (%d) by 15" $name (int $w.gracePeriodSeconds) (int $w.graceSeconds)) -}}
{{- end -}}
{{- if and $w.autoscaling.enabled (gt (int $w.autoscaling.minReplicas) (int $w.autoscaling.maxReplicas)) -}}
{{- fail (printf "workers.%s: autoscaling.minReplicas is above maxReplicas" $name) -}}
{{- end -}}
{{- with $w.jails -}}
{{- /* The whole container is killed when its limit is reached: what runs stays below four fifths of it. */}}
{{- $needed := add (mul $w.processes $w.slots .megabytesOfOne) (mul $w.processes .pool 3) 200 -}}
{{- $limit := include "csb.mebibytes" $w.resources.limits.memory | int -}}
{{- if lt (mul 4 $limit) (mul 5 $needed) -}}
{{- fail (printf "workers.%s: resources.limits.memory is %s, but %d slots of %d MiB and what stands ready need %d Mi" $name $w.resources.limits.memory (int (mul $w.processes $w.slots)) (int .megabytesOfOne) (int (div (add (mul 5 $needed) 3) 4))) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* WORKER: its settings. They are all that a pod is restarted for, so no label stands here. */}}
{{- define "csb.worker.settings" -}}
CSB_SERVICE: {{ .service }}
CSB_BIND: 0.0.0.0:8001
CSB_METRICS_BIND: 0.0.0.0:9091
CSB_PROCESSES: {{ .processes | quote }}
CSB_SLOTS: {{ .slots | quote }}
CSB_POOL_MAX: {{ .poolMax | quote }}
CSB_GRACE_SECONDS: {{ .graceSeconds | quote }}
{{- with .jails }}
CSB_SANDBOX_TIER: {{ .tier }}
CSB_SANDBOX_FLOOR: {{ .tier }}
CSB_SANDBOX_POOL: {{ .pool | quote }}
{{- if eq .tier "landlock" }}
CSB_SANDBOX_SCRATCH: /jails
{{- end }}
CSB_SANDBOX_MAX_TIMEOUT_SECONDS: {{ $.longestSeconds | quote }}
{{- end }}
{{- range $variable, $value := .env }}
{{ $variable }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{/*
(list ROOT NAME WORKER): the versions that stand side by side, each with its replicas and its image. Both take from the
same queue, so `next` gets of the work what its slots are of all slots; no caller is led anywhere.
*/}}
{{- define "csb.worker.tracks" -}}
{{- $w := index . 2 -}}
{{- $tracks := dict "stable" (dict "replicas" $w.replicas "image" $w.image) -}}
{{- if or $w.next.tag $w.next.digest -}}
{{- if not (or $w.image.tag $w.image.digest) -}}
{{- fail (printf "workers.%s: next stands beside what works, so image.tag (or digest) must say what works: else the chart's own version replaces it" (index . 1)) -}}
{{- end -}}
{{- $pinned := get (include "csb.global" (index . 0) | fromYaml).digests $w.image.name -}}
{{- if and $pinned (not $w.next.digest) -}}
{{- fail (printf "workers.%s: next.digest is empty, but global.digests pins this image: next would be what works already" (index . 1)) -}}
{{- end -}}
{{- $image := dict "name" $w.image.name "tag" $w.next.tag "digest" $w.next.digest -}}
{{- $_ := set $tracks "next" (dict "replicas" $w.next.replicas "image" $image) -}}
{{- end -}}
{{- toYaml $tracks -}}
{{- end }}

{{/* (list ROOT NAME WORKER): what the pod says of itself; jails of the tier `namespaces` add three settings. */}}
{{- define "csb.worker.pod" -}}
{{- $me := list (index . 0) (print "worker-" (index . 1)) -}}
{{- $jails := (index . 2).jails | default dict -}}
{{- $pod := include "csb.pod" (append $me 10001) | fromYaml -}}
{{- if eq ($jails.tier | default "") "namespaces" -}}
{{- $_ := set $pod "hostUsers" false -}}
{{- $profile := dict "type" "Localhost" "localhostProfile" $jails.seccompProfile -}}
{{- $_ := set $pod.securityContext "seccompProfile" $profile -}}
{{- with $jails.appArmorProfile -}}
{{- $_ := set $pod.securityContext "appArmorProfile" (dict "type" "Localhost" "localhostProfile" .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $pod -}}
{{- end }}
