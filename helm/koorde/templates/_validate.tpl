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
{{- if and $v.cloudwatch.apply.enabled (not (include "koorde.cloudwatch.exporter" .)) -}}
{{- fail "cloudwatch.apply.enabled needs config.cloudwatch.exporter: without it there is nothing to show, and the alarm Silent is raised for ever" -}}
{{- end -}}
{{- if and (or $v.bench.enabled $v.tests.url) $v.tls.existingSecret -}}
{{- fail (printf "%s speaks to the nodes in clear, and tls.existingSecret = %s makes them speak TLS only" ($v.bench.enabled | ternary "bench.enabled" "tests.url") $v.tls.existingSecret) -}}
{{- end -}}

{{- if not $v.ring.enabled -}}
{{- if not $v.injector.enabled -}}
{{- fail "ring.enabled = false and injector.enabled = false: there would be no cache at all" -}}
{{- end -}}
{{- range $key, $is := dict "autoscaling.enabled" $v.autoscaling.enabled "loadBalancer.enabled" $v.loadBalancer.enabled "ingress.enabled" $v.ingress.enabled "grpcService.enabled" $v.grpcService.enabled "bench.enabled" $v.bench.enabled "cloudwatch.apply.enabled" $v.cloudwatch.apply.enabled -}}
{{- if $is -}}
{{- fail (printf "%s is for the ring's own nodes, and ring.enabled = false" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $v.injector.enabled -}}
{{- include "koorde.validate.injector" . -}}
{{- end -}}
{{- end -}}

{{- define "koorde.validate.injector" -}}
{{- $i := .Values.injector -}}
{{- $s := .Values.sidecar -}}
{{- $kubernetes := .Capabilities.KubeVersion.Version -}}
{{- $webhook := eq $i.mode "webhook" -}}
{{- if and $webhook (eq $i.failurePolicy "Fail") (lt (int $i.replicaCount) 2) -}}
{{- fail (printf "injector.failurePolicy = Fail needs injector.replicaCount of at least 2, which is %d: with one, no pod that asks for a sidecar starts while its host is drained" (int $i.replicaCount)) -}}
{{- end -}}
{{- if and (not $webhook) (semverCompare "<1.36.0-0" $kubernetes) -}}
{{- fail (printf "injector.mode = policy needs Kubernetes 1.36 or later, which has MutatingAdmissionPolicy, and this is %s: use injector.mode = webhook (without a cluster, --kube-version says which it is)" $kubernetes) -}}
{{- end -}}
{{- if and (eq $i.missing "deny") (semverCompare "<1.30.0-0" $kubernetes) -}}
{{- fail (printf "injector.missing = deny needs Kubernetes 1.30 or later, which has ValidatingAdmissionPolicy, and this is %s" $kubernetes) -}}
{{- end -}}
{{- if and (not $webhook) $s.httpProxy -}}
{{- fail "sidecar.httpProxy = true needs injector.mode = webhook: a policy cannot merge what containers say of NO_PROXY" -}}
{{- end -}}
{{- if and (eq $i.certificates.mode "provided") (not $i.certificates.existingSecret) -}}
{{- fail "injector.certificates.mode = provided needs injector.certificates.existingSecret: the Secret of the webhook's certificate" -}}
{{- end -}}
{{- range $key, $value := dict "existingSecret" $i.certificates.existingSecret "caBundle" $i.certificates.caBundle -}}
{{- if and $value (ne $i.certificates.mode "provided") -}}
{{- fail (printf "injector.certificates.%s is for injector.certificates.mode = provided, which is %s" $key $i.certificates.mode) -}}
{{- end -}}
{{- end -}}
{{- if and $i.certificates.issuer.name (ne $i.certificates.mode "certManager") -}}
{{- fail (printf "injector.certificates.issuer.name is for injector.certificates.mode = certManager, which is %s" $i.certificates.mode) -}}
{{- end -}}
{{- if eq (int $i.ports.webhook) (int $i.ports.admin) -}}
{{- fail (printf "injector.ports.webhook = %v and injector.ports.admin = %v: must differ" $i.ports.webhook $i.ports.admin) -}}
{{- end -}}
{{- if ne (len (list (int $s.ports.http) (int $s.ports.admin) (int $s.ports.ring) | uniq)) 3 -}}
{{- fail (printf "sidecar.ports.http = %v, sidecar.ports.admin = %v and sidecar.ports.ring = %v: must differ" $s.ports.http $s.ports.admin $s.ports.ring) -}}
{{- end -}}
{{- if and (not .Values.ring.enabled) (eq $i.scope "cluster") (not $s.namespaces) (not $s.seeds) -}}
{{- fail "ring.enabled = false and injector.scope = cluster need sidecar.namespaces (or sidecar.seeds): sidecars would not find each other" -}}
{{- end -}}
{{- if and $i.excludedNamespaces (eq $i.scope "namespace") -}}
{{- fail "injector.excludedNamespaces is for injector.scope = cluster, which is namespace" -}}
{{- end -}}
{{- if and $s.namespaces (or .Values.ring.enabled (eq $i.scope "namespace")) -}}
{{- fail (printf "sidecar.namespaces is for ring.enabled = false, which is %v, and injector.scope = cluster, which is %s" .Values.ring.enabled $i.scope) -}}
{{- end -}}
{{- $limit := include "koorde.quantity" (list "sidecar.resources.memoryLimit" $s.resources.memoryLimit) | int64 -}}
{{- if lt $limit 100663296 -}}
{{- fail (printf "sidecar.resources.memoryLimit = %s: must be at least 96Mi" $s.resources.memoryLimit) -}}
{{- end -}}
{{- $_ := include "koorde.quantity" (list "sidecar.resources.memoryRequest" $s.resources.memoryRequest) -}}
{{- $_ := include "koorde.cpu" (list "sidecar.resources.cpuRequest" $s.resources.cpuRequest) -}}
{{- with $s.resources.cpuLimit -}}{{- $_ := include "koorde.cpu" (list "sidecar.resources.cpuLimit" .) -}}{{- end -}}
{{- with $s.resources.cacheSize -}}
{{- if gt (mul 2 (include "koorde.quantity" (list "sidecar.resources.cacheSize" .) | int64)) $limit -}}
{{- fail (printf "sidecar.resources.cacheSize = %s: must be at most half of sidecar.resources.memoryLimit = %s" . $s.resources.memoryLimit) -}}
{{- end -}}
{{- end -}}
{{- range $key, $instead := dict
  "node.name" "it is the pod's name and namespace"
  "node.role" "set sidecar.role"
  "ring.listen" "set sidecar.ports.ring"
  "ring.advertise" "it is the pod's address"
  "ring.seeds" "set sidecar.seeds"
  "ring.secret" "name a Secret by sidecar.ringSecret.name; a ConfigMap is no place for it"
  "http.listen" "set sidecar.ports.http"
  "http.tls" "the doors are on loopback"
  "admin.listen" "set sidecar.ports.admin and sidecar.admin"
  "store.capacity" "set sidecar.resources.cacheSize" -}}
{{- $parts := splitList "." $key -}}
{{- if hasKey (get $s.config (first $parts) | default dict) (last $parts) -}}
{{- fail (printf "sidecar.config.%s is the chart's: %s" $key $instead) -}}
{{- end -}}
{{- end -}}
{{- end -}}
