"""Values that would make something that does not work are refused, in words that help."""

import pytest

import chart

# Values, and the message as a whole.
RELATIONS = [
    ({"config": {"http": {"listen": "[::]:80"}}}, "config.http.listen is the chart's: set ports.http and ipFamily"),
    ({"config": {"admin": {"listen": "[::]:80"}}}, "config.admin.listen is the chart's: set ports.admin and ipFamily"),
    (
        {"config": {"ring": {"secret": "s3cret"}}},
        "config.ring.secret is the chart's: name a Secret by ringSecret.existingSecret; a ConfigMap is no place for it",
    ),
    ({"config": {"node": {"name": "a"}}}, "config.node.name is the chart's: it is the pod's name"),
    (
        {"config": {"admin": {"token_file": "/t"}}},
        "config.admin.token_file is the chart's: name a Secret by adminToken.existingSecret",
    ),
    (
        {"config": {"store": {"capacity": "257MiB"}}},
        "config.store.capacity = 257MiB: must be at most half of resources.limits.memory = 512Mi; the other half is "
        "for bodies on their way, connections and the ring",
    ),
    (
        {"config": {"store": {"capacity": "1.5 gb"}}, "resources": {"limits": {"memory": "2G"}}},
        "config.store.capacity = 1.5 gb: must be at most half of resources.limits.memory = 2G; the other half is "
        "for bodies on their way, connections and the ring",
    ),
    (
        {"config": {"store": {"capacity": "much"}}},
        "config.store.capacity = much: must be a size such as 256MiB, 64kB or 1024",
    ),
    (
        {"resources": {"limits": {"memory": None}}},
        "resources.limits.memory is not set: then config.store.capacity has to be, because nothing else bounds the "
        "stored responses",
    ),
    (
        {"resources": {"limits": {"memory": "500m"}}},
        "resources.limits.memory = 500m: must be a quantity such as 512Mi or 2Gi",
    ),
    (
        {"terminationGracePeriodSeconds": 74},
        "terminationGracePeriodSeconds = 74: must be at least 75, which is all of config.shutdown and ten seconds; a "
        "node that is killed before hands nothing over",
    ),
    (
        {"config": {"shutdown": {"leave": "soon"}}},
        "config.shutdown.leave = soon: must be a duration such as 15s, 1m30s or 500ms",
    ),
    (
        {"autoscaling": {"enabled": True, "minReplicas": 9, "maxReplicas": 8}},
        "autoscaling.minReplicas = 9: must be at most autoscaling.maxReplicas = 8",
    ),
    (
        {"autoscaling": {"enabled": True, "cpu": 0}},
        "autoscaling.cpu = 0 and autoscaling.requests.metric is not set: the autoscaler needs one of them",
    ),
    (
        {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
        "autoscaling.cpu = 70 needs resources.requests.cpu: it is a percentage of it",
    ),
    (
        {"pdb": {"minAvailable": 3}},
        "pdb.minAvailable = 3: must leave one of replicaCount = 3 to evict, or no host of them can ever be drained",
    ),
    (
        {"pdb": {"minAvailable": "81%"}, "autoscaling": {"enabled": True}},
        "pdb.minAvailable = 81%: must leave one of autoscaling.minReplicas = 5 to evict, or no host of them can ever "
        "be drained",
    ),
    (
        {"pdb": {"maxUnavailable": 0}},
        "pdb.maxUnavailable = 0: must let one of replicaCount = 3 go, or no host of them can ever be drained",
    ),
    (
        {"pdb": {"maxUnavailable": "0%"}},
        "pdb.maxUnavailable = 0%: must let one of replicaCount = 3 go, or no host of them can ever be drained",
    ),
    (
        {"pdb": {"maxUnavailable": 1, "minAvailable": 2}},
        "pdb.minAvailable = 2 and pdb.maxUnavailable = 1: Kubernetes takes only one of them",
    ),
    (
        {"loadBalancer": {"enabled": True, "scheme": "internet-facing"}},
        "loadBalancer.scheme = internet-facing needs loadBalancer.sourceRanges: /cache?url= fetches any public URL "
        "for whoever reaches it, so this would be an open proxy (0.0.0.0/0 if you want that)",
    ),
    (
        {"ingress": {"enabled": True, "scheme": "internet-facing"}},
        "ingress.scheme = internet-facing needs ingress.sourceRanges: /cache?url= fetches any public URL for whoever "
        "reaches it, so this would be an open proxy (0.0.0.0/0 if you want that)",
    ),
    (
        {"loadBalancer": {"enabled": True, "port": 0}},
        "loadBalancer.port = 0 and loadBalancer.tls.certificateArn is not set: the load balancer would have no port",
    ),
    (
        {"loadBalancer": {"enabled": True, "port": 443, "tls": {"certificateArn": "arn:x"}}},
        "loadBalancer.port = 443: must differ from loadBalancer.tls.port = 443",
    ),
    (
        {"ingress": {"enabled": True, "className": "nginx", "certificateArn": "arn:x"}},
        "ingress.certificateArn is for ingress.className = alb, which is nginx: use ingress.tls",
    ),
    (
        {"ports": {"admin": 8080}},
        "ports.http = 8080, ports.admin = 8080 and ports.grpc = 4000: must differ",
    ),
    (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled: every node would be scraped twice",
    ),
    (
        {"cloudwatch": {"apply": {"enabled": True}}},
        "cloudwatch.apply.enabled needs config.cloudwatch.exporter: without it there is nothing to show, and the alarm "
        "Silent is raised for ever",
    ),
    (
        {"bench": {"enabled": True}},
        "bench.enabled needs bench.origin: a URL that the nodes may fetch, with {} for the number of the item, such "
        "as http://origin.example/{}",
    ),
    (
        {"tests": {"url": "http://o/"}, "tls": {"existingSecret": "s"}},
        "tests.url speaks to the nodes in clear, and tls.existingSecret = s makes them speak TLS only",
    ),
    (
        {"ring": {"enabled": False}},
        "ring.enabled = false and injector.enabled = false: there would be no cache at all",
    ),
    (
        {"ring": {"enabled": False}, "injector": {"enabled": True, "scope": "namespace"}, "ingress": {"enabled": True}},
        "ingress.enabled is for the ring's own nodes, and ring.enabled = false",
    ),
    (
        {"ring": {"enabled": False}, "injector": {"enabled": True}},
        "ring.enabled = false and injector.scope = cluster need sidecar.namespaces (or sidecar.seeds): sidecars would "
        "not find each other",
    ),
    (
        {"injector": {"enabled": True, "failurePolicy": "Fail", "replicaCount": 1}},
        "injector.failurePolicy = Fail needs injector.replicaCount of at least 2, which is 1: with one, no pod that asks "
        "for a sidecar starts while its host is drained",
    ),
    (
        {"injector": {"enabled": True, "mode": "policy"}},
        "injector.mode = policy needs Kubernetes 1.36 or later, which has MutatingAdmissionPolicy, and this is v1.33.0: "
        "use injector.mode = webhook (without a cluster, --kube-version says which it is)",
    ),
    (
        {"injector": {"enabled": True, "certificates": {"mode": "provided"}}},
        "injector.certificates.mode = provided needs injector.certificates.existingSecret: the Secret of the webhook's "
        "certificate",
    ),
    (
        {"injector": {"enabled": True, "certificates": {"existingSecret": "s"}}},
        "injector.certificates.existingSecret is for injector.certificates.mode = provided, which is self",
    ),
    (
        {"injector": {"enabled": True, "certificates": {"issuer": {"name": "corp"}}}},
        "injector.certificates.issuer.name is for injector.certificates.mode = certManager, which is self",
    ),
    (
        {"injector": {"enabled": True, "ports": {"webhook": 9090}}},
        "injector.ports.webhook = 9090 and injector.ports.admin = 9090: must differ",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"ports": {"http": 4000}}},
        "sidecar.ports.http = 4000, sidecar.ports.admin = 4090 and sidecar.ports.ring = 4000: must differ",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"resources": {"memoryLimit": "95Mi"}}},
        "sidecar.resources.memoryLimit = 95Mi: must be at least 96Mi",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"resources": {"cacheSize": "129Mi"}}},
        "sidecar.resources.cacheSize = 129Mi: must be at most half of sidecar.resources.memoryLimit = 256Mi",
    ),
    (
        {"injector": {"enabled": True, "scope": "namespace", "excludedNamespaces": ["a"]}},
        "injector.excludedNamespaces is for injector.scope = cluster, which is namespace",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"namespaces": ["shop"]}},
        "sidecar.namespaces is for ring.enabled = false, which is true, and injector.scope = cluster, which is cluster",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"resources": {"cpuLimit": "much"}}},
        "sidecar.resources.cpuLimit = much: must be a quantity such as 500m or 2",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"config": {"ring": {"secret": "s3cret"}}}},
        "sidecar.config.ring.secret is the chart's: name a Secret by sidecar.ringSecret.name; a ConfigMap is no place for it",
    ),
    (
        {"injector": {"enabled": True}, "sidecar": {"config": {"store": {"capacity": "1GiB"}}}},
        "sidecar.config.store.capacity is the chart's: set sidecar.resources.cacheSize",
    ),
]

# The same on another Kubernetes than 1.33.
RELATIONS_BY_VERSION = [
    (
        "1.29", {"injector": {"enabled": True, "missing": "deny"}},
        "injector.missing = deny needs Kubernetes 1.30 or later, which has ValidatingAdmissionPolicy, and this is v1.29.0",
    ),
    (
        "1.36", {"injector": {"enabled": True, "mode": "policy"}, "sidecar": {"httpProxy": True}},
        "sidecar.httpProxy = true needs injector.mode = webhook: a policy cannot merge what containers say of NO_PROXY",
    ),
]

# Values, and what the schema's message must name.
SCHEMA = [
    ({"sidecar": {"ports": {"http": 80}}}, ["ports", "http"]),
    ({"replicas": 3}, ["replicas"]),
    ({"config": {"store": {"capcity": "1GiB"}}}, ["store", "capcity"]),
    ({"config": {"stores": {}}}, ["stores"]),
    ({"image": {"pullPolicy": "Sometimes"}}, ["pullPolicy", "IfNotPresent"]),
    ({"image": {"digest": "latest"}}, ["digest"]),
    ({"loadBalancer": {"scheme": "public"}}, ["scheme", "internet-facing"]),
    ({"loadBalancer": {"sourceRanges": ["everyone"]}}, ["sourceRanges"]),
    ({"ports": {"http": 80}}, ["http", "minimum"]),
    ({"replicaCount": -1}, ["replicaCount"]),
    ({"autoscaling": {"memory": 80}}, ["autoscaling", "memory"]),
    ({"pdb": {"minAvailable": "most"}}, ["minAvailable"]),
    ({"service": {"type": "LoadBalancer"}}, ["service", "type"]),
    ({"bench": {"origin": "http://o/"}}, ["origin"]),
    ({"bench": {"zipf": 11}}, ["zipf"]),
    ({"ringSecret": {"secret": "in the values"}}, ["ringSecret", "secret"]),
    ({"fullnameOverride": "x" * 53}, ["fullnameOverride"]),
    ({"networkPolicy": {"originPorts": [0]}}, ["originPorts"]),
    ({"injector": {"mode": "sidecar"}}, ["mode", "webhook", "policy"]),
    ({"injector": {"replicas": 2}}, ["injector", "replicas"]),
    ({"injector": {"timeoutSeconds": 31}}, ["timeoutSeconds", "maximum"]),
    ({"injector": {"certificates": {"mode": "helm"}}}, ["certificates", "self"]),
    ({"injector": {"excludedNamespaces": ["Web"]}}, ["excludedNamespaces"]),
    ({"sidecar": {"role": "owner"}}, ["role", "edge"]),
    ({"sidecar": {"seeds": ["nowhere"]}}, ["seeds"]),
    ({"sidecar": {"ports": {"ring": 40000}}}, ["ring", "maximum"]),
    ({"sidecar": {"config": {"store": {"capcity": "1GiB"}}}}, ["store", "capcity"]),
]


@pytest.mark.parametrize("which", chart.HELMS)
@pytest.mark.parametrize(("values", "message"), RELATIONS, ids=[m[:50] for _, m in RELATIONS])
def test_a_relation_that_does_not_hold_names_both_keys(which, values, message):
    done = chart.template(which, values=values)
    assert done.returncode != 0
    assert f": {message}\n" in done.stderr, done.stderr


@pytest.mark.parametrize(("version", "values", "message"), RELATIONS_BY_VERSION, ids=[m[:50] for *_, m in RELATIONS_BY_VERSION])
def test_a_relation_to_the_version_of_kubernetes_is_held(version, values, message):
    done = chart.template(version=version, values=values)
    assert done.returncode != 0
    assert f": {message}\n" in done.stderr, done.stderr


@pytest.mark.parametrize("which", chart.HELMS)
@pytest.mark.parametrize(("values", "named"), SCHEMA, ids=["-".join(n) for _, n in SCHEMA])
def test_the_schema_names_what_it_refuses(which, values, named):
    done = chart.template(which, values=values)
    assert done.returncode != 0
    missing = [word for word in named if word not in done.stderr]
    assert not missing, done.stderr


@pytest.mark.parametrize("which", chart.HELMS)
def test_an_old_kubernetes_is_refused(which):
    done = chart.template(which, "1.28")
    assert done.returncode != 0
    assert "1.29.0" in done.stderr, done.stderr


def test_what_is_just_within_the_bounds_is_taken():
    for values in [
        {"config": {"store": {"capacity": "256MiB"}}},
        {"terminationGracePeriodSeconds": 75},
        {"pdb": {"minAvailable": 2}},
        {"pdb": {"minAvailable": "80%"}, "autoscaling": {"enabled": True}},
        {"pdb": {"maxUnavailable": "1%"}},
        {"pdb": {"enabled": False, "maxUnavailable": 0}},
        {"resources": {"limits": {"memory": None}}, "config": {"store": {"capacity": "64MiB"}}},
        {"injector": {"enabled": True, "failurePolicy": "Fail", "replicaCount": 2}},
        {"injector": {"enabled": True}, "sidecar": {"resources": {"cacheSize": "128Mi"}}},
        {"injector": {"enabled": True}, "sidecar": {"resources": {"memoryLimit": "96Mi"}}},
    ]:
        chart.rendered(values)
