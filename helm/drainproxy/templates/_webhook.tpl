{{/* The webhook's arguments: where it listens, and what every pod gets that has no annotation of its own. */}}
{{- define "drainproxy.webhookOptions" -}}
{{- $sidecar := .Values.sidecar -}}
- webhook
- --listen=:{{ int .Values.webhook.port }}
- --admin=:{{ int $sidecar.adminPort }}
- --cert=/etc/drainproxy/tls/tls.crt
- --key=/etc/drainproxy/tls/tls.key
{{- if .Values.webhook.events }}
- --credentials=/var/run/secrets/kubernetes.io/serviceaccount
{{- end }}
- --image={{ include "drainproxy.image" (dict "image" dict "root" .) }}
{{- range $name, $image := .Values.revisions }}
- --revision={{ $name }}={{ include "drainproxy.image" (dict "image" $image "root" $) }}
{{- end }}
- --set=image-pull-policy={{ .Values.image.pullPolicy }}
- --kubernetes={{ include "drainproxy.kubernetes" . }}
{{- with include "drainproxy.redirectImage" . }}
- --redirect-image={{ . }}
{{- end }}
- --set=mode={{ include "drainproxy.mode" . }}
- --set=port={{ int $sidecar.port }}
- --set=admin-port={{ int $sidecar.adminPort }}
- --set=rbac={{ $sidecar.rbac }}
- --set=run-as-user={{ if kindIs "invalid" $sidecar.runAsUser }}null{{ else }}{{ int $sidecar.runAsUser }}{{ end }}
- --set=cpu-request={{ $sidecar.resources.requests.cpu }}
{{- with $sidecar.resources.limits.cpu }}
- --set=cpu-limit={{ . }}
{{- end }}
- --set=memory-request={{ $sidecar.resources.requests.memory }}
- --set=memory-limit={{ $sidecar.resources.limits.memory }}
{{- /* Whoever chooses a part of the sum lets the grace period be raised: what is usual is not chosen. */}}
{{- if ne $sidecar.propagation "cluster" }}
- --set=propagation={{ $sidecar.propagation }}
{{- end }}
{{- if not (kindIs "invalid" $sidecar.propagationMax) }}
- --set=propagation-max={{ int $sidecar.propagationMax }}s
{{- end }}
{{- if not (kindIs "invalid" $sidecar.gracePeriod) }}
- --set=grace=raise
{{- end }}
{{- range $name, $usual := dict "leaveSpread" 5 "appStop" 5 "reserve" 3 }}
{{- if ne (int (get $sidecar $name)) $usual }}
- --set={{ $name | kebabcase }}={{ int (get $sidecar $name) }}s
{{- end }}
{{- end }}
{{- if ne $sidecar.mesh "auto" }}
- --set=mesh={{ $sidecar.mesh }}
{{- end }}
{{- if $sidecar.scrapeAnnotations }}
- --set=scrape-annotations=true
{{- end }}
{{- range $name, $value := $sidecar.env }}
- {{ printf "--set=%s=%s" ($name | trimPrefix "DRAINPROXY_" | lower | replace "_" "-") (include "drainproxy.text" $value) | quote }}
{{- end }}
{{- end -}}
