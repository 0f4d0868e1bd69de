{{/*
The one rule: grace >= propagation max + leave_spread + 2 + app_stop + reserve, all in seconds.
tests/chart compares the table with drainproxy/lifecycle/propagation.py.
*/}}
{{- define "drainproxy.presetMax" -}}
{{- $max := dict "none" 0 "cluster" 15 "mesh" 25 "alb" 90 "gce-neg" 75 "agic" 120 "headless-dns" 60 "multicluster" 60 -}}
{{- if not (hasKey $max .) -}}
{{- fail (printf "propagation is %q; it must be one of %s" (toString .) (keys $max | sortAlpha | join ", ")) -}}
{{- end -}}
{{- get $max . -}}
{{- end -}}

{{/* Seconds that a sidecar's settings need. Takes the complete options. */}}
{{- define "drainproxy.needed" -}}
{{- $max := .propagationMax -}}
{{- if kindIs "invalid" $max -}}{{- $max = include "drainproxy.presetMax" .propagation -}}{{- end -}}
{{- add (int $max) (int .leaveSpread) 2 (int .appStop) (int .reserve) -}}
{{- end -}}

{{/* terminationGracePeriodSeconds: what was asked for, checked, or what is needed. Takes options or {}. */}}
{{- define "drainproxy.gracePeriod" -}}
{{- $options := include "drainproxy.options" . | fromYaml -}}
{{- $needed := include "drainproxy.needed" $options | int -}}
{{- $grace := $options.gracePeriod -}}
{{- if kindIs "invalid" $grace -}}{{- $grace = max 30 $needed -}}{{- end -}}
{{- if lt (int $grace) $needed -}}
{{- $max := $options.propagationMax -}}
{{- if kindIs "invalid" $max -}}{{- $max = include "drainproxy.presetMax" $options.propagation -}}{{- end -}}
{{- fail (printf "gracePeriod %d s is too short: propagation max %d s (preset %s) + leaveSpread %d s + 2 s + appStop %d s + reserve %d s = %d s; set gracePeriod to at least %d, or propagationMax to at most %d" (int $grace) (int $max) $options.propagation (int $options.leaveSpread) (int $options.appStop) (int $options.reserve) $needed $needed (max 0 (sub (int $grace) (sub $needed (int $max))))) -}}
{{- end -}}
{{- int $grace -}}
{{- end -}}
