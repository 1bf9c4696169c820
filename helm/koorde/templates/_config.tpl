{{/* The node's configuration: what the user says, and what only the chart can know. */}}

{{- define "koorde.config" -}}
{{- include "koorde.validate" . -}}
{{- $any := eq .Values.ipFamily "IPv6" | ternary "[::]" "0.0.0.0" -}}
{{- $config := deepCopy .Values.config -}}
{{- $ring := deepCopy ($config.ring | default dict) -}}
{{- $seed := printf "%s:%v" (include "koorde.domain" .) .Values.ports.grpc -}}
{{- $_ := set $ring "seeds" (prepend ($ring.seeds | default list) $seed) -}}
{{- $_ := set $ring "listen" (printf "%s:%v" $any .Values.ports.grpc) -}}
{{- $_ := set $config "ring" $ring -}}
{{- $http := deepCopy ($config.http | default dict) -}}
{{- $_ := set $http "listen" (printf "%s:%v" $any .Values.ports.http) -}}
{{- if .Values.tls.existingSecret -}}
{{- $tls := deepCopy ($http.tls | default dict) -}}
{{- $_ := set $tls "cert" "/etc/koorde/tls/tls.crt" -}}
{{- $_ := set $tls "key" "/etc/koorde/tls/tls.key" -}}
{{- $_ := set $http "tls" $tls -}}
{{- end -}}
{{- $_ := set $config "http" $http -}}
{{- $admin := deepCopy ($config.admin | default dict) -}}
{{- $_ := set $admin "listen" (printf "%s:%v" $any .Values.ports.admin) -}}
{{- if .Values.adminToken.existingSecret -}}
{{- $_ := set $admin "token_file" "/etc/koorde/admin/token" -}}
{{- end -}}
{{- $_ := set $config "admin" $admin -}}
{{- $store := deepCopy ($config.store | default dict) -}}
{{- if not $store.capacity -}}
{{- $limit := include "koorde.quantity" (list "resources.limits.memory" .Values.resources.limits.memory) | int64 -}}
{{- $_ := set $store "capacity" (printf "%dB" (div $limit 2)) -}}
{{- end -}}
{{- $_ := set $config "store" $store -}}
{{- /* As the sidecars: each would send the others what it does not fetch for them. */}}
{{- $egress := deepCopy ($config.egress | default dict) -}}
{{- if and .Values.injector.enabled (not (hasKey $egress "own_short_names")) -}}
{{- $_ := set $egress "own_short_names" true -}}
{{- $_ := set $config "egress" $egress -}}
{{- end -}}
{{- if include "koorde.cloudwatch.exporter" . -}}
{{- $cloudwatch := deepCopy $config.cloudwatch -}}
{{- $_ := set $cloudwatch "cluster" (include "koorde.cloudwatch.cluster" .) -}}
{{- $_ := set $config "cloudwatch" $cloudwatch -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* How metrics get to CloudWatch; nothing if they do not. */}}
{{- define "koorde.cloudwatch.exporter" -}}
{{- $exporter := (.Values.config.cloudwatch | default dict).exporter | default "none" -}}
{{- if ne $exporter "none" -}}{{- $exporter -}}{{- end -}}
{{- end -}}

{{/* The dimension `Cluster`: two releases in one account and region are two clusters. */}}
{{- define "koorde.cloudwatch.cluster" -}}
{{- (.Values.config.cloudwatch | default dict).cluster | default (printf "%s/%s" .Release.Namespace (include "koorde.fullname" .)) -}}
{{- end -}}

{{- define "koorde.cloudwatch.serviceAccount" -}}
{{- $account := .Values.cloudwatch.apply.serviceAccount -}}
{{- if $account.create -}}
{{- default (printf "%s-cloudwatch" (include "koorde.fullname" .)) $account.name -}}
{{- else -}}
{{- default "default" $account.name -}}
{{- end -}}
{{- end -}}

{{/* Seconds that an orderly end takes at most, and ten more for the runtime. */}}
{{- define "koorde.drain" -}}
{{- $said := .Values.config.shutdown | default dict -}}
{{- $seconds := 10 -}}
{{- range $key, $default := dict "delay" "5s" "leave" "15s" "finish" "30s" "flush" "5s" -}}
{{- $value := hasKey $said $key | ternary (get $said $key) $default -}}
{{- $seconds = add $seconds (include "koorde.seconds" (list (printf "config.shutdown.%s" $key) $value)) -}}
{{- end -}}
{{- $seconds -}}
{{- end -}}

{{- define "koorde.grace" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- include "koorde.drain" . -}}
{{- else -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* Nodes that are there at least. */}}
{{- define "koorde.leastNodes" -}}
{{- .Values.autoscaling.enabled | ternary .Values.autoscaling.minReplicas .Values.replicaCount -}}
{{- end -}}

{{/* Ports of origins that the configuration names, and those the user allows; a JSON list. */}}
{{- define "koorde.originPorts" -}}
{{- $ports := list -}}
{{- if .Values.networkPolicy.originPorts -}}
{{- range .Values.networkPolicy.originPorts -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- $urls := list -}}
{{- range .Values.config.upstreams -}}{{- $urls = concat $urls (.servers | default list) -}}{{- end -}}
{{- with .Values.config.telemetry -}}{{- with .otlp_endpoint -}}{{- $urls = append $urls . -}}{{- end -}}{{- end -}}
{{- if eq (include "koorde.cloudwatch.exporter" .) "api" -}}
{{- $urls = append $urls (.Values.config.cloudwatch.endpoint | default "https://monitoring:443") -}}
{{- end -}}
{{- range $urls -}}
{{- $port := regexFind ":[0-9]+(/|$)" . | trimPrefix ":" | trimSuffix "/" -}}
{{- if $port -}}{{- $ports = append $ports (int $port) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* Whether the configuration names origins or a collector that may be in the cluster. */}}
{{- define "koorde.reachesInwards" -}}
{{- $egress := .Values.config.egress | default dict -}}
{{- $telemetry := .Values.config.telemetry | default dict -}}
{{- $cloudwatch := .Values.config.cloudwatch | default dict -}}
{{- if or $egress.allow .Values.config.upstreams $telemetry.otlp_endpoint $cloudwatch.endpoint -}}yes{{- end -}}
{{- end -}}

{{/* What the HTTP listener speaks. */}}
{{- define "koorde.scheme" -}}
{{- if .Values.tls.existingSecret -}}https{{- else -}}http{{- end -}}
{{- end -}}
