{{/*
A PodMonitor's endpoints. Takes a dict: interval, labels of pods to carry on, and what relabelings are called.
`workload` is what the pod belongs to, as people call it; `alerts` the class by which its alerts have thresholds.
*/}}
{{- define "drainproxy.endpoints" -}}
- port: drain-admin
  path: /metrics
  interval: {{ .interval }}
  {{ .relabelings }}:
    - sourceLabels: [__meta_kubernetes_pod_controller_name]
      targetLabel: workload
    - sourceLabels: [__meta_kubernetes_pod_controller_kind, __meta_kubernetes_pod_controller_name]
      regex: ReplicaSet;(.+)-[a-z0-9]+
      targetLabel: workload
      replacement: $1
    {{- range $label := concat (list "drainproxy.io/rev" "drainproxy.io/alerts") .labels }}
    - sourceLabels: [__meta_kubernetes_pod_label_{{ regexReplaceAll "[^a-zA-Z0-9_]" $label "_" }}]
      targetLabel: {{ regexReplaceAll "[^a-zA-Z0-9_]" (trimPrefix "drainproxy.io/" $label) "_" }}
    {{- end }}
{{- end -}}
