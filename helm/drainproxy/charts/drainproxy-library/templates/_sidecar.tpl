{{/* Every option with its default; what the caller gives wins. Null takes a value away. */}}
{{- define "drainproxy.options" -}}
{{- $given := . | default dict -}}
{{- $usual := dict
  "image" "drainproxy:0.1.0"
  "imagePullPolicy" "IfNotPresent"
  "mode" "native"
  "portName" "http"
  "port" 28080
  "adminPort" 29900
  "upstream" "http://127.0.0.1:8080"
  "propagation" "cluster"
  "propagationMax" nil
  "gracePeriod" nil
  "leaveSpread" 5
  "appStop" 5
  "reserve" 3
  "rbac" "slices"
  "runAsUser" 65532
  "scrapeAnnotations" false
  "env" dict
  "resources" (dict "requests" (dict "cpu" "10m" "memory" "64Mi") "limits" (dict "memory" "128Mi")) -}}
{{- range $name, $_ := $given -}}
{{- if not (hasKey $usual $name) -}}
{{- fail (printf "drainproxy has no option %q; it has %s" $name (keys $usual | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $given -}}{{- $_ := set $usual $name $value -}}{{- end -}}
{{- if not (has $usual.mode (list "native" "plain")) -}}
{{- fail (printf "mode is %q; it must be native or plain" (toString $usual.mode)) -}}
{{- end -}}
{{- if not (has $usual.rbac (list "none" "slices" "slices+pod" "slices+pod+events" "slices+pod+events+pod-cost")) -}}
{{- fail (printf "rbac is %q; it must be none, slices, slices+pod, slices+pod+events or slices+pod+events+pod-cost" (toString $usual.rbac)) -}}
{{- end -}}
{{- if not (kindIs "bool" $usual.scrapeAnnotations) -}}
{{- fail (printf "scrapeAnnotations is %q; it must be true or false" (toString $usual.scrapeAnnotations)) -}}
{{- end -}}
{{- if eq (int $usual.port) (int $usual.adminPort) -}}
{{- fail (printf "port and adminPort are both %d: traffic and probes need a port each" (int $usual.port)) -}}
{{- end -}}
{{- toYaml $usual -}}
{{- end -}}

{{/* A value as a setting is written; 16777216 comes from a values file as a float, which prints as 1.6777216e+07. */}}
{{- define "drainproxy.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{- printf "%.0f" . -}}{{- else -}}{{- toString . -}}{{- end -}}
{{- end -}}

{{/*
The sidecar, one item of a list: the last of initContainers in mode native, of containers in mode plain.
It owns the port's name: take `name: http` away from the application's port, so that Services find the sidecar.
*/}}
{{- define "drainproxy.sidecar" -}}
{{- $options := include "drainproxy.options" . | fromYaml -}}
- name: drainproxy
  image: {{ $options.image | quote }}
  imagePullPolicy: {{ $options.imagePullPolicy }}
  args: [run]
  {{- if eq $options.mode "native" }}
  restartPolicy: Always
  {{- end }}
  ports:
    - name: {{ $options.portName }}
      containerPort: {{ int $options.port }}
      protocol: TCP
    - name: drain-admin
      containerPort: {{ int $options.adminPort }}
      protocol: TCP
  env:
    - name: DRAINPROXY_LISTEN
      value: ":{{ int $options.port }}"
    - name: DRAINPROXY_UPSTREAM
      value: {{ $options.upstream | quote }}
    - name: DRAINPROXY_ADMIN
      value: ":{{ int $options.adminPort }}"
    - name: DRAINPROXY_PROPAGATION
      value: {{ $options.propagation | quote }}
    {{- if not (kindIs "invalid" $options.propagationMax) }}
    - name: DRAINPROXY_PROPAGATION_MAX
      value: "{{ int $options.propagationMax }}s"
    {{- end }}
    - name: DRAINPROXY_GRACE_PERIOD
      value: "{{ include "drainproxy.gracePeriod" . }}s"
    {{- /* Written only where they differ from the proxy's own defaults. */}}
    {{- range $name, $usual := dict "leaveSpread" 5 "appStop" 5 "reserve" 3 }}
    {{- if ne (int (get $options $name)) $usual }}
    - name: DRAINPROXY_{{ $name | snakecase | upper }}
      value: "{{ int (get $options $name) }}s"
    {{- end }}
    {{- end }}
    - name: DRAINPROXY_RBAC
      value: {{ $options.rbac | quote }}
    {{- range $name, $path := dict "HOST_IPS" "status.hostIP" "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "POD_UID" "metadata.uid" "NODE_NAME" "spec.nodeName" }}
    - name: DRAINPROXY_{{ $name }}
      valueFrom:
        fieldRef:
          apiVersion: v1
          fieldPath: {{ $path }}
    {{- end }}
    {{- range $name, $value := $options.env }}
    - name: {{ $name }}
      value: {{ include "drainproxy.text" $value | quote }}
    {{- end }}
  {{- if eq $options.mode "native" }}
  lifecycle:
    preStop:
      exec:
        command: [drainproxy, drain, --prestop]
  {{- end }}
  # Only on the listeners: a native sidecar holds back every container after it until this passes.
  startupProbe:
    httpGet:
      path: /startupz
      port: {{ int $options.adminPort }}
    periodSeconds: 1
    failureThreshold: 60
  readinessProbe:
    httpGet:
      path: /readyz
      port: {{ int $options.adminPort }}
    periodSeconds: 5
    failureThreshold: 2
    timeoutSeconds: 2
  # No CPU limit: throttling in the middle of a drain loses what the drain is for.
  resources: {{- toYaml $options.resources | nindent 4 }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    runAsNonRoot: true
    {{- if not (kindIs "invalid" $options.runAsUser) }}
    runAsUser: {{ int $options.runAsUser }}
    runAsGroup: {{ int $options.runAsUser }}
    {{- end }}
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  {{- if ne $options.rbac "none" }}
  volumeMounts:
    - name: drainproxy-token
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
  {{- end }}
{{- end -}}

{{/* The volumes beside it, and perhaps beside others: a token that no other container mounts, or nothing. */}}
{{- define "drainproxy.volumes" -}}
{{- $options := include "drainproxy.options" . | fromYaml -}}
{{- if ne $options.rbac "none" }}
- name: drainproxy-token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
{{- end }}
{{- end -}}

{{/* `lifecycle` of each application container: it is stopped when the drain is over. */}}
{{- define "drainproxy.lifecycle" -}}
{{- $options := include "drainproxy.options" . | fromYaml -}}
preStop:
  httpGet:
    path: /drain/wait
    port: {{ int $options.adminPort }}
{{- end -}}

{{/* Labels of the pod, for the PodMonitor and the alerts. */}}
{{- define "drainproxy.podLabels" -}}
drainproxy.io/injected: "true"
{{- end -}}

{{/* What leads a Prometheus that goes by annotations to the sidecar's metrics. */}}
{{- define "drainproxy.scrapeAnnotations" -}}
{{- $options := include "drainproxy.options" . | fromYaml -}}
prometheus.io/scrape: "true"
prometheus.io/port: "{{ int $options.adminPort }}"
prometheus.io/path: /metrics
{{- end -}}

{{/*
Annotations of the pod: its own, and with `scrapeAnnotations` those of the scrape, unless its own say anything of one.
Takes a dict: options, as above, and own, a map.
*/}}
{{- define "drainproxy.podAnnotations" -}}
{{- $options := include "drainproxy.options" .options | fromYaml -}}
{{- $own := .own | default dict -}}
{{- $all := deepCopy $own -}}
{{- $taken := keys $own | join "\n" | regexMatch "(?m)^prometheus[.]io/" -}}
{{- if and $options.scrapeAnnotations (not $taken) -}}
{{- $all = merge $all (include "drainproxy.scrapeAnnotations" .options | fromYaml) -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}
