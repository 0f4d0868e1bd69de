{{- define "drainproxy.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "drainproxy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "drainproxy.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "drainproxy.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "drainproxy.selectorLabels" -}}
app.kubernetes.io/name: {{ include "drainproxy.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "drainproxy.labels" -}}
{{ include "drainproxy.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: drainproxy
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Namespaces where pods are looked at, as a namespaceSelector. Takes `root`, and `labelled` for those with the label. */}}
{{- define "drainproxy.namespaceSelector" -}}
{{- $given := .root.Values.injection.namespaceSelector | default dict -}}
{{- $labels := $given.matchLabels | default dict -}}
{{- if .labelled -}}{{- $labels = merge (dict "drainproxy.io/inject" "true") $labels -}}{{- end -}}
{{- with $labels }}
matchLabels: {{- toYaml . | nindent 2 }}
{{- end }}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values: {{- include "drainproxy.excluded" .root | nindent 6 }}
  {{- with $given.matchExpressions }}{{ toYaml . | nindent 2 }}{{- end }}
{{- end -}}

{{/* Pods that are looked at, as an objectSelector. Takes `root` and `usual`, what is asked of every pod. */}}
{{- define "drainproxy.objectSelector" -}}
{{- $given := .root.Values.injection.objectSelector | default dict -}}
{{- with merge (.usual.matchLabels | default dict) ($given.matchLabels | default dict) }}
matchLabels: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (.usual.matchExpressions | default list) ($given.matchExpressions | default list) }}
matchExpressions: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The names by which the API server asks the webhook, as the items of a list. */}}
{{- define "drainproxy.webhookHosts" -}}
- {{ include "drainproxy.webhookName" . }}.{{ .Release.Namespace }}.svc
{{- with .Values.webhook.url }}
- {{ regexReplaceAll "^https://([^/:]+).*$" . "$1" }}
{{- end }}
{{- end -}}

{{- define "drainproxy.webhookAccount" -}}
{{- .Values.webhook.serviceAccount.name | default (ternary (include "drainproxy.webhookName" .) "default" .Values.webhook.events) -}}
{{- end -}}

{{- define "drainproxy.webhookName" -}}
{{- include "drainproxy.fullname" . }}-webhook
{{- end -}}

{{/* An image's full name. Takes (dict "image" MAP "root" .): what MAP leaves out is .Values.image's. */}}
{{- define "drainproxy.image" -}}
{{- $usual := .root.Values.image -}}
{{- $repository := .image.repository | default $usual.repository -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else if .image.tag -}}
{{- printf "%s:%s" $repository .image.tag -}}
{{- else if $usual.digest -}}
{{- printf "%s@%s" $repository $usual.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository ($usual.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Whose init container leads packets to the sidecar; empty where none may. */}}
{{- define "drainproxy.redirectImage" -}}
{{- if eq .Values.capture.redirect "allowed" -}}
{{- if .Values.capture.image -}}
{{- .Values.capture.image -}}
{{- else if .Values.image.digest -}}
{{- fail "capture.redirect: image.digest names no image of the target redirect; set capture.image" -}}
{{- else -}}
{{- include "drainproxy.image" (dict "image" dict "root" .) }}-redirect
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The cluster's version, without what its vendor adds. */}}
{{- define "drainproxy.kubernetes" -}}
{{- .Values.injection.kubeVersion | default .Capabilities.KubeVersion.Version | trimPrefix "v" | regexFind "^[0-9]+[.][0-9]+" -}}
{{- end -}}

{{/* auto, native or plain: before 1.33 no Service finds the name of a port in a native sidecar (kubernetes #128850). */}}
{{- define "drainproxy.mode" -}}
{{- semverCompare "<1.33-0" (printf "%s.0" (include "drainproxy.kubernetes" .)) | and (eq .Values.sidecar.mode "native") | ternary "plain" .Values.sidecar.mode -}}
{{- end -}}

{{/* webhook, policy or none. */}}
{{- define "drainproxy.injection" -}}
{{- $version := .Values.injection.kubeVersion | default .Capabilities.KubeVersion.Version | trimPrefix "v" -}}
{{- $policies := or (semverCompare ">=1.36-0" $version) (and (not .Values.injection.kubeVersion) (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")) -}}
{{- /* Never by the cluster's version: an upgrade would change what becomes of pods. */ -}}
{{- $mode := .Values.injection.mode -}}
{{- if eq $mode "auto" -}}{{- $mode = ternary "webhook" "policy" .Values.webhook.enabled -}}{{- end -}}
{{- if and (eq $mode "policy") (not $policies) -}}
{{- fail (printf "injection.mode policy needs Kubernetes 1.36 (MutatingAdmissionPolicy v1); this is %s: use webhook, with webhook.enabled" $version) -}}
{{- end -}}
{{- if and (eq $mode "policy") (has .Values.sidecar.mesh (list "istio" "linkerd")) -}}
{{- fail (printf "sidecar.mesh %s needs the webhook: the policy leaves pods beside a mesh alone" .Values.sidecar.mesh) -}}
{{- end -}}
{{- if and (eq $mode "webhook") (not .Values.webhook.enabled) -}}
{{- fail "injection.mode webhook and webhook.enabled false contradict one another: use policy, or auto" -}}
{{- end -}}
{{- $mode -}}
{{- end -}}

{{/* The options of the library's templates, from .Values.sidecar. */}}
{{- define "drainproxy.sidecarOptions" -}}
{{- $options := deepCopy .Values.sidecar -}}
{{- $_ := set $options "image" (include "drainproxy.image" (dict "image" dict "root" .)) -}}
{{- $_ := set $options "imagePullPolicy" .Values.image.pullPolicy -}}
{{- /* Where it matters the webhook decides; a policy runs in 1.36 and newer. */ -}}
{{- if eq $options.mode "auto" }}{{- $_ := set $options "mode" "native" }}{{- end -}}
{{- if not $options.resources.limits.cpu }}{{- $_ := unset $options.resources.limits "cpu" }}{{- end -}}
{{- toYaml (omit $options "mesh") -}}
{{- end -}}

{{- define "drainproxy.certificateSecret" -}}
{{- if eq .Values.certificates.source "secret" -}}
{{- required "certificates.source secret needs certificates.secretName" .Values.certificates.secretName -}}
{{- else -}}
{{- include "drainproxy.webhookName" . }}-tls
{{- end -}}
{{- end -}}

{{/* Namespaces where nothing is injected, as the items of a list. */}}
{{- define "drainproxy.excluded" -}}
{{- append .Values.injection.excludedNamespaces .Release.Namespace | uniq | toYaml -}}
{{- end -}}
