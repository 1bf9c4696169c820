{{/*
The sidecar as `koorde inject` makes it, for the MutatingAdmissionPolicy, which cannot ask the binary. Tests
compare both.
*/}}

{{/* A value as CEL. Maps and lists in CEL have one type of values each; `dyn` lifts that. */}}
{{- define "koorde.cel" -}}
{{- if kindIs "map" . -}}
{ {{- $map := . -}}
{{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }}: dyn({{ include "koorde.cel" (get $map $key) }}){{ end -}}
}
{{- else if kindIs "slice" . -}}
[ {{- range $index, $item := . }}{{ if $index }}, {{ end }}dyn({{ include "koorde.cel" $item }}){{ end -}} ]
{{- else if eq (toString .) "@role@" -}}
variables.role
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{/* Bytes as the node writes a size. */}}
{{- define "koorde.bytes" -}}
{{- $bytes := int64 . -}}
{{- $text := printf "%dB" $bytes -}}
{{- range $unit := list "KiB" "MiB" "GiB" -}}
{{- $size := get (dict "KiB" 1024 "MiB" 1048576 "GiB" 1073741824) $unit | int64 -}}
{{- if and (ge $bytes $size) (eq (mod $bytes $size) 0) -}}{{- $text = printf "%d%s" (div $bytes $size) $unit -}}{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* A value of the configuration as a variable has it: a list with commas, what is in tables as JSON. */}}
{{- define "koorde.plain" -}}
{{- if kindIs "slice" . -}}
{{- $tables := false -}}
{{- $texts := list -}}
{{- range . -}}
{{- if kindIs "map" . -}}{{- $tables = true -}}{{- end -}}
{{- $texts = append $texts (include "koorde.plain" .) -}}
{{- end -}}
{{- $tables | ternary (toRawJson .) (join "," $texts) -}}
{{- else if kindIs "map" . -}}
{{- if . -}}{{- toRawJson . -}}{{- end -}}
{{- else if kindIs "float64" . -}}
{{- toRawJson . -}}
{{- else if not (kindIs "invalid" .) -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{/* Adds to a dict (first) what a tree of the configuration (second) says, by dotted names under a name (third). */}}
{{- define "koorde.flatten" -}}
{{- $flat := index . 0 -}}
{{- $name := index . 2 -}}
{{- range $key, $value := index . 1 -}}
{{- $path := printf "%s%s" $name $key -}}
{{- if and (kindIs "map" $value) (not (has $path (list "cache.ttl.negative" "origin.per_host" "upstreams"))) -}}
{{- include "koorde.flatten" (list $flat $value (printf "%s." $path)) -}}
{{- else -}}
{{- $_ := set $flat $path (include "koorde.plain" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Thousandths of a CPU. Takes (list "key" value). */}}
{{- define "koorde.cpu" -}}
{{- $text := index . 1 | toString -}}
{{- if not (regexMatch "^[0-9]+(\\.[0-9]+)?m?$" $text) -}}
{{- fail (printf "%s = %s: must be a quantity such as 500m or 2" (index . 0) $text) -}}
{{- end -}}
{{- $factor := hasSuffix "m" $text | ternary 1 1000 -}}
{{- mulf (trimSuffix "m" $text | float64) $factor | floor | int64 -}}
{{- end -}}

{{/* The sidecar's container, as JSON; its role is "@role@" where the pod decides. */}}
{{- define "koorde.inject.container" -}}
{{- $s := include "koorde.inject.settings" . | fromYaml -}}
{{- $six := eq $s.ip_family "IPv6" -}}
{{- $any := $six | ternary "[::]" "0.0.0.0" -}}
{{- $own := $six | ternary "[$(POD_IP)]" "$(POD_IP)" -}}
{{- $r := $s.resources -}}
{{- $memory := include "koorde.quantity" (list "sidecar.resources.memoryLimit" $r.memory_limit) | int64 -}}
{{- $capacity := div $memory 2 -}}
{{- with $r.cache_size -}}{{- $capacity = include "koorde.quantity" (list "sidecar.resources.cacheSize" .) | int64 -}}{{- end -}}
{{- $requests := dict "cpu" $r.cpu_request "memory" $r.memory_request -}}
{{- if gt (include "koorde.quantity" (list "sidecar.resources.memoryRequest" $r.memory_request) | int64) $memory -}}
{{- $_ := set $requests "memory" $r.memory_limit -}}
{{- end -}}
{{- $limits := dict "memory" $r.memory_limit -}}
{{- if $r.cpu_limit -}}
{{- $_ := set $limits "cpu" $r.cpu_limit -}}
{{- if gt (include "koorde.cpu" (list "sidecar.resources.cpuRequest" $r.cpu_request) | int64) (include "koorde.cpu" (list "sidecar.resources.cpuLimit" $r.cpu_limit) | int64) -}}
{{- $_ := set $requests "cpu" $r.cpu_limit -}}
{{- end -}}
{{- end -}}
{{- range $key, $of := dict "storage_request" $requests "storage_limit" $limits -}}
{{- with get $r $key -}}
{{- $_ := include "koorde.quantity" (list (printf "sidecar.resources.%s" (camelcase $key | untitle)) .) -}}
{{- $_ := set $of "ephemeral-storage" . -}}
{{- end -}}
{{- end -}}
{{- if and $r.storage_request $r.storage_limit -}}
{{- if gt (include "koorde.quantity" (list "sidecar.resources.storageRequest" $r.storage_request) | int64) (include "koorde.quantity" (list "sidecar.resources.storageLimit" $r.storage_limit) | int64) -}}
{{- $_ := set $requests "ephemeral-storage" $r.storage_limit -}}
{{- end -}}
{{- end -}}
{{- $security := dict
  "allowPrivilegeEscalation" false "capabilities" (dict "drop" (list "ALL")) "readOnlyRootFilesystem" true "runAsNonRoot" true -}}
{{- if $s.seccomp_profile -}}{{- $_ := set $security "seccompProfile" (dict "type" "RuntimeDefault") -}}{{- end -}}
{{- $config := dict
  "shutdown.delay" "0s" "shutdown.leave" "5s" "shutdown.finish" "5s" "shutdown.flush" "1s"
  "egress.own_short_names" "true"
  "fetch.max_unfinished" (include "koorde.bytes" (min (div $memory 8) 67108864)) -}}
{{- include "koorde.flatten" (list $config $s.config "") -}}

{{- $env := list -}}
{{- range list (list "POD_NAME" "metadata.name") (list "POD_NAMESPACE" "metadata.namespace") (list "POD_IP" "status.podIP") -}}
{{- $env = append $env (dict "name" (first .) "valueFrom" (dict "fieldRef" (dict "fieldPath" (last .)))) -}}
{{- end -}}
{{- $variables := list
  (list "NODE__NAME" "$(POD_NAME).$(POD_NAMESPACE)")
  (list "NODE__ROLE" (eq $s.role "auto" | ternary "@role@" $s.role))
  (list "RING__LISTEN" (printf "%s:%v" $any $s.ports.ring))
  (list "RING__ADVERTISE" (printf "%s:%v" $own $s.ports.ring)) -}}
{{- if $s.seeds -}}
{{- $variables = append $variables (list "RING__SEEDS" (join "," $s.seeds | replace "$(" "$$(")) -}}
{{- end -}}
{{- range $variables -}}{{- $env = append $env (dict "name" (printf "KOORDE_%s" (first .)) "value" (last .)) -}}{{- end -}}
{{- $env = append $env (dict "name" "KOORDE_RING__SECRET" "valueFrom" (dict "secretKeyRef" (dict "name" $s.ring_secret.name "key" $s.ring_secret.key "optional" true))) -}}
{{- $variables = list
  (list "HTTP__LISTEN" (printf "127.0.0.1:%v" $s.ports.http))
  (list "ADMIN__LISTEN" (printf "%s:%v" (eq $s.admin "pod" | ternary $any "127.0.0.1") $s.ports.admin))
  (list "STORE__CAPACITY" (include "koorde.bytes" $capacity)) -}}
{{- range keys $config | sortAlpha -}}
{{- $variables = append $variables (list (. | upper | replace "." "__") (get $config . | replace "$(" "$$(")) -}}
{{- end -}}
{{- range $variables -}}{{- $env = append $env (dict "name" (printf "KOORDE_%s" (first .)) "value" (last .)) -}}{{- end -}}

{{- $ports := list (dict "containerPort" (int $s.ports.ring) "protocol" "TCP") -}}
{{- if eq $s.admin "pod" -}}{{- $ports = append $ports (dict "containerPort" (int $s.ports.admin) "protocol" "TCP") -}}{{- end -}}
{{- dict
  "name" "koorde"
  "image" $s.image
  "imagePullPolicy" $s.pull_policy
  "args" (list "serve")
  "restartPolicy" "Always"
  "env" $env
  "ports" $ports
  "startupProbe" (dict
    "exec" (dict "command" (list "/usr/bin/koorde" "ring" "--admin" (printf "http://127.0.0.1:%v" $s.ports.admin)))
    "periodSeconds" 1 "timeoutSeconds" 2 "failureThreshold" 60)
  "resources" (dict "requests" $requests "limits" $limits)
  "securityContext" $security
  "volumeMounts" (list (dict
    "name" "koorde-no-token" "mountPath" "/var/run/secrets/kubernetes.io/serviceaccount" "readOnly" true)) | toRawJson -}}
{{- end -}}
