{{/*
The one rule: grace >= propagation max + leave_spread + 2 + app_stop + reserve, all in seconds.
tests/chart compares the table with drainproxy/lifecycle/propagation.py.
*/}}
{{- define "drainproxy.presets" -}}
{none: 0, cluster: 15, mesh: 25, alb: 90, gce-neg: 75, agic: 120, headless-dns: 60, multicluster: 60}
{{- end -}}

{{- define "drainproxy.presetMax" -}}
{{- $max := include "drainproxy.presets" . | fromYaml -}}
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
{{- $limit := get ($options.env | default dict) "DRAINPROXY_DRAIN_TIMEOUT" | toString -}}
{{- if regexMatch "^([0-9.]+(ms|s|m|h))+$" $limit -}}
{{- $seconds := include "drainproxy.seconds" $limit | float64 -}}
{{- $kept := add (int $options.appStop) (int $options.reserve) -}}
{{- if gt (addf $seconds $kept) (float64 $grace) -}}
{{- fail (printf "DRAINPROXY_DRAIN_TIMEOUT %s is beyond the %d s that gracePeriod %d s leaves for requests (appStop %d s + reserve %d s are kept): set gracePeriod to at least %v, or DRAINPROXY_DRAIN_TIMEOUT to at most %ds" $limit (sub (int $grace) $kept) (int $grace) (int $options.appStop) (int $options.reserve) (ceil (addf $seconds $kept)) (sub (int $grace) $kept)) -}}
{{- end -}}
{{- end -}}
{{- int $grace -}}
{{- end -}}

{{/* A duration such as 1m30s in seconds. */}}
{{- define "drainproxy.seconds" -}}
{{- $seconds := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $seconds = addf $seconds (mulf (trimSuffix $unit . | float64) (get (dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0) $unit)) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}
