{{/*
A Role's rules for a tier. tests/chart compares them with drainproxy/kube/permissions.py.
`pods get` lets every container with this ServiceAccount's token read pod specs: off unless asked for.
*/}}
{{- define "drainproxy.rules" -}}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- if has . (list "slices+pod" "slices+pod+events") }}
- apiGroups: [""]
  resources: [pods]
  verbs: [get]
{{- end }}
{{- if eq . "slices+pod+events" }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end -}}
