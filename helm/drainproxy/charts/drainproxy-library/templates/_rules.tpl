{{/*
A Role's rules for a tier. tests/chart compares them with drainproxy/kube/permissions.py.
`pods get` lets every container with this ServiceAccount's token read pod specs, `pods patch` change images
and labels of every pod of the namespace: off unless asked for.
*/}}
{{- define "drainproxy.rules" -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- if has . (list "slices+pod" "slices+pod+events" "slices+pod+events+pod-cost") }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
{{- end }}
{{- if has . (list "slices+pod+events" "slices+pod+events+pod-cost") }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- if eq . "slices+pod+events+pod-cost" }}
- apiGroups: [""]
  resources: [pods]
  verbs: [patch]
{{- end }}
{{- end -}}
