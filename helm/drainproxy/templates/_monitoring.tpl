{{/*
Takes the root, an expression by workload and the name of a threshold; returns it where it is above. A workload
whose pods carry a class (drainproxy.io/alerts) has the number of its class.
*/}}
{{- define "drainproxy.over" -}}
{{- $rule := (index . 0).Values.monitoring.prometheusRule -}}
{{- $expression := index . 1 -}}
{{- $name := index . 2 -}}
{{- $number := index $rule.thresholds $name -}}
{{- $classes := list -}}
{{- range $class, $own := $rule.classes }}{{ if hasKey $own $name }}{{ $classes = append $classes $class }}{{ end }}{{ end -}}
{{- if $classes -}}
{{ $expression }} > on (cluster, namespace, workload) (
  max by (cluster, namespace, workload) (workload:drainproxy_threshold:above{alert="{{ $name }}"})
  or on (cluster, namespace, workload)
  0 * {{ $expression }} + {{ $number }}
)
{{- else -}}
{{ $expression }} > {{ $number }}
{{- end -}}
{{- end -}}

{{/* Takes the root and an expression by workload; returns it with the labels of monitoring.podLabels. One that
no scrape has seen keeps what it has: who pages must not depend on who labels. */}}
{{- define "drainproxy.labelled" -}}
{{- $names := list -}}
{{- range (index . 0).Values.monitoring.podLabels }}{{ $names = append $names (include "drainproxy.seriesLabel" .) }}{{ end -}}
{{- $on := "on (cluster, namespace, workload)" -}}
(
{{ index . 1 | trim | indent 2 }}
)
* {{ $on }} group_left ({{ join ", " $names }})
topk by (cluster, namespace, workload) (
  1, group by (cluster, namespace, workload, {{ join ", " $names }}) (last_over_time(drainproxy_build_info[1h]))
)
or {{ $on }} (
{{ index . 1 | trim | indent 2 }}
)
{{- end -}}

{{/* What Prometheus makes of a label's name. */}}
{{- define "drainproxy.seriesLabel" -}}
{{- regexReplaceAll "[^a-zA-Z0-9_]" . "_" -}}
{{- end -}}

{{/*
What scrapes pods, in the words of monitoring.kind. Takes a dict: root, name, selector, and the lists namespaces
and labels; of no namespaces all are meant.
*/}}
{{- define "drainproxy.podMonitor" -}}
{{- $monitoring := .root.Values.monitoring -}}
{{- $interval := printf "%ds" (int $monitoring.podMonitor.intervalSeconds) -}}
{{- $meta := include "drainproxy.labels" .root -}}
{{- if eq $monitoring.kind "gmp" }}
{{- $that := . }}
{{- range $namespace := .namespaces | default (list "") }}
---
apiVersion: monitoring.googleapis.com/v1
kind: {{ ternary "PodMonitoring" "ClusterPodMonitoring" (ne $namespace "") }}
metadata:
  name: {{ $that.name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{- $meta | nindent 4 }}
    {{- with $monitoring.labels }}{{- toYaml . | nindent 4 }}{{- end }}
spec:
  selector:
    matchLabels: {{- $that.selector | nindent 6 }}
  endpoints:
    - port: drain-admin
      path: /metrics
      interval: {{ $interval }}
      metricRelabeling:
        - sourceLabels: [top_level_controller_name]
          targetLabel: workload
  targetLabels:
    metadata: [{{ if not $namespace }}namespace, {{ end }}pod, container, node, top_level_controller_name]
    fromPod:
      {{- range $label := concat (list "drainproxy.io/rev" "drainproxy.io/alerts") $monitoring.podLabels }}
      - from: {{ $label }}
        to: {{ trimPrefix "drainproxy.io/" $label | include "drainproxy.seriesLabel" }}
      {{- end }}
{{- end }}
{{- else }}
{{- $victoria := eq $monitoring.kind "victoriametrics" }}
apiVersion: {{ ternary "operator.victoriametrics.com/v1beta1" "monitoring.coreos.com/v1" $victoria }}
kind: {{ ternary "VMPodScrape" "PodMonitor" $victoria }}
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- $meta | nindent 4 }}
    {{- with $monitoring.labels }}{{- toYaml . | nindent 4 }}{{- end }}
spec:
  namespaceSelector:
    {{- with .namespaces }}
    matchNames: {{- toYaml . | nindent 6 }}
    {{- else }}
    any: true
    {{- end }}
  selector:
    matchLabels: {{- .selector | nindent 6 }}
  # The operator drops pods that are over; those that terminate are still scraped, and their last counters matter most.
  podMetricsEndpoints: {{- include "drainproxy.endpoints" (dict "interval" $interval "labels" $monitoring.podLabels "relabelings" (ternary "relabelConfigs" "relabelings" $victoria)) | nindent 4 }}
{{- end }}
{{- end -}}
