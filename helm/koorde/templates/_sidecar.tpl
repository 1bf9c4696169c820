{{/* What injected sidecars are made from. */}}

{{/* Namespaces of the pods that are meant, as matchExpressions. */}}
{{- define "koorde.namespaces" -}}
{{- $name := "kubernetes.io/metadata.name" -}}
{{- if eq .Values.injector.scope "namespace" -}}
- {key: {{ $name }}, operator: In, values: [{{ .Release.Namespace | quote }}]}
{{- else -}}
{{- $not := concat (list .Release.Namespace "kube-system" "kube-public" "kube-node-lease") .Values.injector.excludedNamespaces | uniq -}}
- {key: {{ $name }}, operator: NotIn, values: {{ toJson $not }}}
{{- end -}}
{{- end -}}

{{/*
The two ways to ask for a sidecar, which are two entries because a namespace's selector and a pod's must both
match: the namespace is labelled, and the pod does not say no; the namespace says neither yes nor no (what means
nothing there, such as "true", is no `no`), and the pod says something. Takes (list . "namespace"|"pod").
*/}}
{{- define "koorde.asked" -}}
namespaceSelector:
  matchExpressions:
    {{- include "koorde.namespaces" (index . 0) | nindent 4 }}
    {{- if eq (index . 1) "namespace" }}
    - {key: koorde.dev/inject, operator: In, values: [enabled]}
    {{- else }}
    - {key: koorde.dev/inject, operator: NotIn, values: [enabled, disabled]}
    {{- end }}
objectSelector:
  matchExpressions:
    {{- if eq (index . 1) "pod" }}
    - {key: koorde.dev/inject, operator: Exists}
    {{- end }}
    # What is neither true nor false is a typo, which is told.
    - {key: koorde.dev/inject, operator: NotIn, values: ["false"]}
{{- end -}}

{{- define "koorde.sidecars.headless" -}}
{{ include "koorde.fullname" . }}-sidecars
{{- end -}}

{{/* Namespaces with a headless Service for sidecars; a JSON list. */}}
{{- define "koorde.sidecars.namespaces" -}}
{{- $namespaces := list -}}
{{- if and .Values.injector.enabled (not .Values.ring.enabled) (not .Values.sidecar.seeds) -}}
{{- $namespaces = .Values.sidecar.namespaces -}}
{{- if eq .Values.injector.scope "namespace" -}}{{- $namespaces = list .Release.Namespace -}}{{- end -}}
{{- end -}}
{{- $namespaces | toJson -}}
{{- end -}}

{{/* Pods with a sidecar, as a peer of a NetworkPolicy; nothing if the ring's nodes do not know them. */}}
{{- define "koorde.sidecars.peer" -}}
{{- if and .Values.injector.enabled .Values.networkPolicy.sidecars -}}
- podSelector:
    matchLabels:
      koorde.dev/sidecar: "true"
  {{- if eq .Values.injector.scope "cluster" }}
  namespaceSelector: {}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* What `koorde injector` reads, as YAML. */}}
{{- define "koorde.inject.settings" -}}
{{- include "koorde.validate" . -}}
{{- $s := .Values.sidecar -}}
{{- $seeds := $s.seeds -}}
{{- if not $seeds -}}
{{- if .Values.ring.enabled -}}
{{- $seeds = list (printf "%s:%v" (include "koorde.domain" .) .Values.ports.grpc) -}}
{{- else -}}
{{- range include "koorde.sidecars.namespaces" . | fromJsonArray -}}
{{- $seeds = append $seeds (printf "%s.%s.svc.%s:%v" (include "koorde.sidecars.headless" $) . $.Values.clusterDomain $s.ports.ring) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $resources := dict "cpu_request" (toString $s.resources.cpuRequest) "memory_request" $s.resources.memoryRequest "memory_limit" $s.resources.memoryLimit
  "storage_request" $s.resources.storageRequest "storage_limit" $s.resources.storageLimit -}}
{{- with $s.resources.cpuLimit -}}{{- $_ := set $resources "cpu_limit" (toString .) -}}{{- end -}}
{{- with $s.resources.cacheSize -}}{{- $_ := set $resources "cache_size" . -}}{{- end -}}
{{- $config := dict -}}
{{- range list "cache" "egress" "purge" "routes" "upstreams" -}}
{{- if hasKey $.Values.config . -}}{{- $_ := set $config . (deepCopy (get $.Values.config .)) -}}{{- end -}}
{{- end -}}
{{- range $section, $not := dict "origin" "ca_file" "ring" "seeds" -}}
{{- with omit (get $.Values.config $section | default dict) $not -}}{{- $_ := set $config $section (deepCopy .) -}}{{- end -}}
{{- end -}}
{{- with get $config "upstreams" -}}
{{- $upstreams := dict -}}
{{- range $name, $upstream := . -}}{{- $_ := set $upstreams $name (omit $upstream "ca_file") -}}{{- end -}}
{{- $_ := set $config "upstreams" $upstreams -}}
{{- end -}}
{{- /* Any app of the cluster reaches its own sidecar, and would purge for everybody without the token. */}}
{{- if .Values.adminToken.existingSecret -}}{{- $_ := set $config "admin" (dict "purge" false) -}}{{- end -}}
{{- $config = mergeOverwrite $config (deepCopy $s.config) -}}
{{- $secret := dict
  "name" ($s.ringSecret.name | default .Values.ringSecret.existingSecret | default (printf "%s-ring" (include "koorde.fullname" .)))
  "key" ($s.ringSecret.key | default .Values.ringSecret.key) -}}
{{- dict
  "image" (include "koorde.image" .)
  "pull_policy" .Values.image.pullPolicy
  "image_pull_secrets" (sortAlpha $s.imagePullSecrets | uniq)
  "seeds" $seeds
  "ring_secret" $secret
  "ip_family" .Values.ipFamily
  "ports" (dict "http" (int $s.ports.http) "admin" (int $s.ports.admin) "ring" (int $s.ports.ring))
  "admin" $s.admin
  "role" $s.role
  "position" $s.position
  "http_proxy" $s.httpProxy
  "seccomp_profile" $s.seccompProfile
  "resources" $resources
  "config" $config | toYaml -}}
{{- end -}}

{{- define "koorde.injector" -}}
{{ include "koorde.fullname" . }}-injector
{{- end -}}

{{- define "koorde.injector.labels" -}}
{{ include "koorde.selector" . }}
app.kubernetes.io/component: injector
{{- end -}}

{{- define "koorde.injector.serviceAccount" -}}
{{- $account := .Values.injector.serviceAccount -}}
{{- $account.name | default ($account.create | ternary (include "koorde.injector" .) "default") -}}
{{- end -}}

{{/* Whether there is a webhook, or a policy in its place. */}}
{{- define "koorde.webhook" -}}
{{- if and .Values.injector.enabled (eq .Values.injector.mode "webhook") -}}yes{{- end -}}
{{- end -}}
{{- define "koorde.policy" -}}
{{- if and .Values.injector.enabled (eq .Values.injector.mode "policy") -}}yes{{- end -}}
{{- end -}}

{{/* The metadata of an object that is in no namespace: as koorde.metadata. */}}
{{- define "koorde.clusterMetadata" -}}
{{- regexReplaceAll "(?m)^namespace: .*\n" (include "koorde.metadata" .) "" -}}
{{- end -}}

{{/* A label for the chart's own pods: none of them gets a sidecar. */}}
{{- define "koorde.notInjected" -}}
{{- if .Values.injector.enabled -}}koorde.dev/inject: "false"{{- end -}}
{{- end -}}
