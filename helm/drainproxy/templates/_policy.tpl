{{- /* What the MutatingAdmissionPolicy asks of a pod, and what the ValidatingAdmissionPolicy says where it has not. */ -}}

{{- /* Whether a container, c, is ours already. */ -}}
{{- define "drainproxy.celOurs" -}}
(c.name == "drainproxy" || c.?command.orValue([]).exists(w, w.endsWith("drainproxy")) || c.?args.orValue([]).exists(w, w.endsWith("drainproxy")) || c.?env.orValue([]).exists(e, e.name.startsWith("DRAINPROXY_")))
{{- end -}}

{{- /* Whether the sidecar is still to come. Takes where the pod is: object, or a workload's object.spec.template. */ -}}
{{- define "drainproxy.celNotInjected" -}}
!{{ . }}.spec.?initContainers.orValue([]).exists(c, c.?restartPolicy.orValue("") == "Always" && {{ include "drainproxy.celOurs" . }})
&& !{{ . }}.spec.containers.exists(c, {{ include "drainproxy.celOurs" . }})
{{- end -}}

{{- /* Whether the annotation k, one of ours, is one that the policy can follow. Takes pod and mode. */ -}}
{{- define "drainproxy.celFollowed" -}}
{{- $value := printf "%s.metadata.annotations[k]" .pod -}}
(k == "drainproxy.io/ports" && {{ $value }} == "http")
|| (k == "drainproxy.io/capture" && {{ $value }} in ["auto", "name"])
|| (k == "drainproxy.io/mode" && {{ $value }} in {{ ternary (list "plain") (list "auto" "native") (eq .mode "plain") | toJson }})
|| (k == "drainproxy.io/scrape-annotations" && {{ $value }} in ["true", "false"])
|| (k == "drainproxy.io/grace" && {{ $value }} in ["raise", "keep"])
|| (k == "drainproxy.io/propagation" && {{ $value }} in {{ include "drainproxy.presets" . | fromYaml | keys | sortAlpha | toJson }})
|| (k in ["drainproxy.io/leave-spread", "drainproxy.io/app-stop", "drainproxy.io/reserve"] && {{ $value }}.matches("^[0-9]{1,4}s$"))
{{- end -}}

{{- /*
The conditions, a list: name, expression, and the sentence for who meets the contrary. Takes pod, as above, mode,
traffic, admin, mesh and revisions.
*/ -}}
{{- define "drainproxy.celConditions" -}}
{{- $pod := .pod -}}
{{- $http := `p.?name.orValue("") == "http"` -}}
- name: has-labels
  expression: has({{ $pod }}.metadata.labels)
  message: '"its pods have no labels"'
- name: not-a-mirror
  expression: '!("kubernetes.io/config.mirror" in {{ $pod }}.metadata.?annotations.orValue({}))'
  message: '"mirror pods are the kubelet''s"'
- name: not-host-network
  expression: '!{{ $pod }}.spec.?hostNetwork.orValue(false)'
  message: '"hostNetwork: its ports would be ports of the node"'
- name: linux
  expression: {{ $pod }}.spec.?os.?name.orValue("") != "windows"
  message: '"it runs on Linux only"'
{{- if eq .mode "plain" }}
- name: not-run-to-completion
  expression: {{ $pod }}.spec.?restartPolicy.orValue("Always") == "Always"
  message: '"a plain sidecar would keep the pod from completing"'
{{- end }}
# What the mutations below have numbers for.
- name: fits
  expression: >-
    {{ $pod }}.spec.containers.size() <= 32 && {{ $pod }}.spec.containers.all(c, c.?ports.orValue([]).size() <= 8)
  message: '"a policy looks at 32 containers with 8 ports each, and the webhook at all"'
- name: annotations
  expression: >-
    {{ $pod }}.metadata.?annotations.orValue({}).all(k, !k.startsWith("drainproxy.io/")
    || {{ include "drainproxy.celFollowed" . | nindent 4 | trim }})
  message: >-
    {{ $pod }}.metadata.annotations.filter(k, k.startsWith("drainproxy.io/")
    && !({{ include "drainproxy.celFollowed" . | nindent 4 | trim }})).join(", ")
    + ": followed by the webhook (injection.mode webhook), or not with this value"
- name: one-port
  expression: >-
    {{ $pod }}.spec.containers.filter(c, c.?ports.orValue([]).exists(p, {{ $http }})).size() == 1
    && {{ $pod }}.spec.containers.all(c, c.?ports.orValue([]).all(p, p.?name.orValue("") != "http"
    || (p.?protocol.orValue("TCP") == "TCP" && p.?hostPort.orValue(0) == 0)))
  message: '"one container must have one TCP port of the name http, without a hostPort; the webhook takes others"'
# Other ports that say HTTP are taken over by the webhook, and half of a pod is not.
- name: no-other-http
  expression: >-
    {{ $pod }}.spec.containers.all(c, c.?ports.orValue([]).all(p, p.?name.orValue("") in ["", "http"]
    || p.?protocol.orValue("TCP") != "TCP"
    || p.name.matches("(^|-)(https|m?tls|grpcs|ssl|wss)|^web-?secure|^webhook")
    || (!p.name.matches("^(http|grpc|h2c|web|api)")
    {{- range list "livenessProbe" "readinessProbe" "startupProbe" }}
    && !(c.?{{ . }}.?httpGet.?port.orValue(0) in [dyn(p.name), dyn(p.containerPort)])
    {{- end }})))
  message: '"other ports say HTTP too: the webhook takes several"'
- name: no-clash
  expression: >-
    {{ $pod }}.spec.containers.all(c, c.?ports.orValue([]).all(p, p.containerPort != {{ .traffic }} && p.containerPort != {{ .admin }}))
    && {{ $pod }}.spec.?initContainers.orValue([]).all(c, c.?restartPolicy.orValue("") != "Always"
    || c.?ports.orValue([]).all(p, p.containerPort != {{ .traffic }} && p.containerPort != {{ .admin }}))
  message: '"port {{ .traffic }} or {{ .admin }} is taken"'
- name: clear-text
  expression: >-
    {{ $pod }}.spec.containers.all(c, true
    {{- range list "livenessProbe" "readinessProbe" "startupProbe" }}
    && (c.?{{ . }}.?httpGet.?scheme.orValue("HTTP") != "HTTPS" || c.?{{ . }}.?httpGet.?port.orValue(0) != "http")
    {{- end }})
  message: '"port http speaks TLS: a probe says so"'
# How long a mesh's proxy lasts is judged by the webhook.
- name: no-mesh
  expression: >-
    {{ $pod }}.spec.containers.all(c, c.name != "istio-proxy" && c.name != "linkerd-proxy")
    && {{ $pod }}.spec.?initContainers.orValue([]).all(c, c.name != "istio-proxy" && c.name != "linkerd-proxy")
    {{- if ne .mesh "none" }}
    && {{ $pod }}.metadata.?labels[?"sidecar.istio.io/inject"].orValue("") != "true"
    && {{ $pod }}.metadata.?labels[?"istio.io/rev"].orValue("") == ""
    && {{ $pod }}.metadata.?annotations[?"sidecar.istio.io/inject"].orValue("") != "true"
    && !({{ $pod }}.metadata.?annotations[?"linkerd.io/inject"].orValue("") in ["enabled", "ingress"])
    {{- end }}
  message: '"a mesh stands beside it, whose drain the webhook judges"'
{{- if ne .mesh "none" }}
- name: no-mesh-of-the-namespace
  expression: >-
    ("false" in [{{ $pod }}.metadata.?labels[?"sidecar.istio.io/inject"].orValue(""), {{ $pod }}.metadata.?annotations[?"sidecar.istio.io/inject"].orValue("")]
    || (namespaceObject.metadata.?labels[?"istio-injection"].orValue("") != "enabled" && namespaceObject.metadata.?labels[?"istio.io/rev"].orValue("") == ""))
    && ({{ $pod }}.metadata.?annotations[?"linkerd.io/inject"].orValue("") == "disabled"
    || !(namespaceObject.metadata.?annotations[?"linkerd.io/inject"].orValue("") in ["enabled", "ingress"]))
  message: '"its namespace puts a mesh beside it, whose drain the webhook judges"'
{{- end }}
- name: no-wishes-of-the-namespace
  expression: >-
    namespaceObject.metadata.?annotations.orValue({}).all(k, !k.startsWith("drainproxy.io/"))
    && ({{ $pod }}.metadata.?labels[?"drainproxy.io/rev"].hasValue()
    || !namespaceObject.metadata.?labels[?"drainproxy.io/rev"].hasValue())
  message: '"its namespace has annotations or a revision of drainproxy.io, which the webhook follows"'
- name: known-revision
  expression: {{ $pod }}.metadata.?labels[?"drainproxy.io/rev"].orValue("") in {{ toJson .revisions }}
  message: '"its label drainproxy.io/rev is no revision"'
{{- end -}}
