{{/* (list ROOT COMPONENT): the name of a component's objects. */}}
{{- define "csb.name" -}}
{{- $root := index . 0 -}}
{{- if gt (len $root.Release.Name) 40 -}}
{{- fail "the release's name has more than 40 characters: names made from it would be too long" -}}
{{- end -}}
{{- printf "%s-%s" $root.Release.Name (index . 1) -}}
{{- end }}

{{/* (list ROOT COMPONENT): what never changes about a component, so selectors may use it. */}}
{{- define "csb.selector" -}}
app.kubernetes.io/name: csecbridge
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "csb.labels" -}}
{{- $root := index . 0 -}}
{{ include "csb.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: csecbridge
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* The labels by which NetworkPolicies know whom PostgreSQL and Redis let in. */}}
{{- define "csb.reaches" -}}
{{- range . }}
csecbridge.io/reaches-{{ . }}: "true"
{{- end }}
{{- end }}

{{/* (list ROOT IMAGE): an image of ours, by digest when one is known. */}}
{{- define "csb.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $global := include "csb.global" $root | fromYaml -}}
{{- $tag := coalesce $image.tag $global.images.tag $root.Chart.AppVersion -}}
{{- printf "%s/%s:%s" $global.images.registry $image.name $tag -}}
{{- with coalesce $image.digest (get $global.digests $image.name) }}@{{ . }}{{ end -}}
{{- end }}

{{/* An image of somebody else, by digest when there is one. */}}
{{- define "csb.foreignImage" -}}
{{- printf "%s:%s" .repository .tag -}}
{{- with .digest }}@{{ . }}{{ end -}}
{{- end }}
