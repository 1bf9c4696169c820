{{/*
Relations between values that the schema cannot say, or says badly. Each message names both keys, what
they are, and what to do. Whoever renders the configuration calls it.
*/}}
{{- define "koorde.validate" -}}
{{- $v := .Values -}}
{{- $least := include "koorde.leastNodes" . | int -}}
{{- $leastKey := $v.autoscaling.enabled | ternary "autoscaling.minReplicas" "replicaCount" -}}

{{- range $key, $instead := dict
  "http.listen" "set ports.http and ipFamily"
  "admin.listen" "set ports.admin and ipFamily"
  "ring.listen" "set ports.grpc and ipFamily"
  "ring.advertise" "it is the pod's address"
  "ring.secret" "name a Secret by ringSecret.existingSecret; a ConfigMap is no place for it"
  "node.name" "it is the pod's name"
  "admin.token_file" "name a Secret by adminToken.existingSecret" -}}
{{- $parts := splitList "." $key -}}
{{- if hasKey (get $v.config (first $parts) | default dict) (last $parts) -}}
{{- fail (printf "config.%s is the chart's: %s" $key $instead) -}}
{{- end -}}
{{- end -}}

{{- $memory := ($v.resources.limits | default dict).memory -}}
{{- $capacity := ($v.config.store | default dict).capacity -}}
{{- if $memory -}}
{{- if $capacity -}}
{{- $limit := include "koorde.quantity" (list "resources.limits.memory" $memory) | int64 -}}
{{- $bytes := include "koorde.size" (list "config.store.capacity" $capacity) | int64 -}}
{{- if gt (mul 2 $bytes) $limit -}}
{{- fail (printf "config.store.capacity = %s: must be at most half of resources.limits.memory = %s; the other half is for bodies on their way, connections and the ring" $capacity $memory) -}}
{{- end -}}
{{- end -}}
{{- else if not $capacity -}}
{{- fail "resources.limits.memory is not set: then config.store.capacity has to be, because nothing else bounds the stored responses" -}}
{{- end -}}

{{- $drain := include "koorde.drain" . | int -}}
{{- $grace := include "koorde.grace" . | int -}}
{{- if lt $grace $drain -}}
{{- fail (printf "terminationGracePeriodSeconds = %d: must be at least %d, which is all of config.shutdown and ten seconds; a node that is killed before hands nothing over" $grace $drain) -}}
{{- end -}}

{{- if $v.autoscaling.enabled -}}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas = %v: must be at most autoscaling.maxReplicas = %v" $v.autoscaling.minReplicas $v.autoscaling.maxReplicas) -}}
{{- end -}}
{{- if not (or $v.autoscaling.cpu $v.autoscaling.requests.metric) -}}
{{- fail "autoscaling.cpu = 0 and autoscaling.requests.metric is not set: the autoscaler needs one of them" -}}
{{- end -}}
{{- if and $v.autoscaling.cpu (not ($v.resources.requests | default dict).cpu) -}}
{{- fail (printf "autoscaling.cpu = %v needs resources.requests.cpu: it is a percentage of it" $v.autoscaling.cpu) -}}
{{- end -}}
{{- end -}}

{{- if $v.pdb.enabled -}}
{{- if and (not (kindIs "invalid" $v.pdb.minAvailable)) (not (kindIs "invalid" $v.pdb.maxUnavailable)) -}}
{{- fail (printf "pdb.minAvailable = %v and pdb.maxUnavailable = %v: Kubernetes takes only one of them" $v.pdb.minAvailable $v.pdb.maxUnavailable) -}}
{{- end -}}
{{- if not (kindIs "invalid" $v.pdb.minAvailable) -}}
{{- if ge (include "koorde.count" (list $v.pdb.minAvailable $least "up") | int) $least -}}
{{- fail (printf "pdb.minAvailable = %v: must leave one of %s = %d to evict, or no host of them can ever be drained" $v.pdb.minAvailable $leastKey $least) -}}
{{- end -}}
{{- else if not (kindIs "invalid" $v.pdb.maxUnavailable) -}}
{{- if lt (include "koorde.count" (list $v.pdb.maxUnavailable $least "up") | int) 1 -}}
{{- fail (printf "pdb.maxUnavailable = %v: must let one of %s = %d go, or no host of them can ever be drained" $v.pdb.maxUnavailable $leastKey $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $key, $balancer := dict "loadBalancer" $v.loadBalancer "ingress" $v.ingress -}}
{{- $ours := or (eq $key "loadBalancer") (eq ($balancer.className | default "") "alb") -}}
{{- if and $balancer.enabled $ours (eq $balancer.scheme "internet-facing") (not $balancer.sourceRanges) -}}
{{- fail (printf "%s.scheme = internet-facing needs %s.sourceRanges: /cache?url= fetches any public URL for whoever reaches it, so this would be an open proxy (0.0.0.0/0 if you want that)" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if and $v.loadBalancer.enabled (not $v.loadBalancer.port) (not $v.loadBalancer.tls.certificateArn) -}}
{{- fail "loadBalancer.port = 0 and loadBalancer.tls.certificateArn is not set: the load balancer would have no port" -}}
{{- end -}}
{{- if and $v.loadBalancer.enabled $v.loadBalancer.tls.certificateArn (eq (int $v.loadBalancer.port) (int $v.loadBalancer.tls.port)) -}}
{{- fail (printf "loadBalancer.port = %v: must differ from loadBalancer.tls.port = %v" $v.loadBalancer.port $v.loadBalancer.tls.port) -}}
{{- end -}}
{{- if and $v.ingress.enabled $v.ingress.certificateArn (ne $v.ingress.className "alb") -}}
{{- fail (printf "ingress.certificateArn is for ingress.className = alb, which is %s: use ingress.tls" $v.ingress.className) -}}
{{- end -}}

{{- $ports := list (int $v.ports.http) (int $v.ports.admin) (int $v.ports.grpc) -}}
{{- if ne (len (uniq $ports)) 3 -}}
{{- fail (printf "ports.http = %v, ports.admin = %v and ports.grpc = %v: must differ" $v.ports.http $v.ports.admin $v.ports.grpc) -}}
{{- end -}}

{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled -}}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled: every node would be scraped twice" -}}
{{- end -}}
{{- if and $v.bench.enabled (not $v.bench.origin) -}}
{{- fail "bench.enabled needs bench.origin: a URL that the nodes may fetch, with {} for the number of the item, such as http://origin.example/{}" -}}
{{- end -}}
{{- if and (or $v.bench.enabled $v.tests.url) $v.tls.existingSecret -}}
{{- fail (printf "%s speaks to the nodes in clear, and tls.existingSecret = %s makes them speak TLS only" ($v.bench.enabled | ternary "bench.enabled" "tests.url") $v.tls.existingSecret) -}}
{{- end -}}
{{- end -}}
