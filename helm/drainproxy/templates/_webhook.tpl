{{/* The webhook's settings, as the items of `env`. */}}
{{- define "drainproxy.webhookOptions" -}}
{{- $options := include "drainproxy.sidecarOptions" . | fromYaml -}}
- name: DRAINPROXY_ADMIN
  value: ":{{ int $options.adminPort }}"
{{- end -}}
