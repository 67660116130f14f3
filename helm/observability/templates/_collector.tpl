{{/* ROOT: whose containers are read. */}}
{{- define "csb.collector.reads" -}}
{{- .Values.collector.reads | default .Release.Namespace -}}
{{- end }}

{{/* ROOT: the port of Elasticsearch, from its URL; refuses what is no https. */}}
{{- define "csb.elasticsearch.port" -}}
{{- $url := urlParse .Values.elasticsearch.url -}}
{{- if ne $url.scheme "https" -}}
{{- fail "observability: elasticsearch.url is https://..., since documents and a password go there" -}}
{{- end -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default "443" -}}
{{- end }}

{{/* ROOT: what the collector is told; Elasticsearch's address in the form that Fluentd reads. */}}
{{- define "csb.collector.env" -}}
- {name: CSB_LOGS_ENVIRONMENT, value: {{ .Values.environment }}}
- {name: CSB_LOGS_NAMESPACE, value: {{ include "csb.collector.reads" . }}}
- {name: CSB_LOGS_ELASTICSEARCH, value: {{ .Values.elasticsearch.url | trimSuffix "/" | quote }}}
- {name: CSB_LOGS_BUFFER, value: {{ printf "%dm" (include "csb.mebibytes" .Values.collector.bufferSize | int) | quote }}}
- name: CSB_LOGS_USER
  valueFrom:
    secretKeyRef: {name: {{ .Values.elasticsearch.existingSecret }}, key: username}
- name: CSB_LOGS_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.elasticsearch.existingSecret }}, key: password}
- name: K8S_NODE_NAME
  valueFrom:
    fieldRef: {fieldPath: spec.nodeName}
# The image's own start, with our configuration and our plugin.
- {name: FLUENTD_CONF, value: csb/fluent.conf}
- {name: FLUENTD_OPT, value: "-p /fluentd/etc/csb"}
{{- end }}
