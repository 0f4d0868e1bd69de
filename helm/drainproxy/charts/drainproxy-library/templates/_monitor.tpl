{{/* A PodMonitor's endpoints. Takes the interval. `workload` is what the pod belongs to, as people call it. */}}
{{- define "drainproxy.endpoints" -}}
- port: drain-admin
  path: /metrics
  interval: {{ . }}
  relabelings:
    - sourceLabels: [__meta_kubernetes_pod_controller_name]
      targetLabel: workload
    - sourceLabels: [__meta_kubernetes_pod_controller_kind, __meta_kubernetes_pod_controller_name]
      regex: ReplicaSet;(.+)-[a-z0-9]+
      targetLabel: workload
      replacement: $1
    - sourceLabels: [__meta_kubernetes_pod_label_drainproxy_io_rev]
      targetLabel: rev
{{- end -}}
