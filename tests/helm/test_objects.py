"""What the objects say: each test is a promise of the chart."""

import ipaddress
import json
import os
import subprocess

import yaml

import chart
from chart import documents, find, kinds, rendered


def labels(name="koorde", component="node"):
    return {
        "app.kubernetes.io/name": "koorde",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component,
    }


def test_by_default_there_is_what_a_ring_needs_and_nothing_else():
    assert sorted((d["kind"], d["metadata"]["name"]) for d in documents()) == [
        ("ConfigMap", "koorde"),
        ("NetworkPolicy", "koorde"),
        ("Pod", "koorde-test"),
        ("PodDisruptionBudget", "koorde"),
        ("Secret", "koorde-ring"),
        ("Service", "koorde"),
        ("Service", "koorde-headless"),
        ("ServiceAccount", "koorde"),
        ("StatefulSet", "koorde"),
    ]


def test_every_selector_selects_its_own_pods_and_only_them():
    for ci in chart.CI:
        all_of_them = documents(ci)
        templates = [d["spec"]["template"]["metadata"]["labels"] for d in all_of_them
                     if d["kind"] in ("StatefulSet", "Deployment", "Job")]
        templates += [d["metadata"]["labels"] for d in all_of_them if d["kind"] == "Pod"]
        for document in all_of_them:
            spec, kind = document.get("spec", {}), document["kind"]
            if kind == "Service":
                selector = spec["selector"]
            elif kind in ("StatefulSet", "Deployment", "PodDisruptionBudget", "PodMonitor"):
                selector = spec["selector"]["matchLabels"]
            elif kind == "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
            else:
                if kind == "HorizontalPodAutoscaler":
                    target = spec["scaleTargetRef"]
                    assert find(all_of_them, target["kind"], target["name"])
                continue
            component = document["metadata"]["labels"]["app.kubernetes.io/component"]
            selected = [of["app.kubernetes.io/component"] for of in templates if selector.items() <= of.items()]
            # Pods with a sidecar are not the chart's.
            assert selected == ([] if component == "sidecar" else [component]), (ci, kind, selected)


def test_the_stateful_set_starts_all_at_once_and_names_nodes_by_pods():
    stateful = find(documents(), "StatefulSet")
    assert stateful["spec"]["podManagementPolicy"] == "Parallel"
    assert stateful["spec"]["serviceName"] == "koorde-headless"
    assert stateful["spec"]["replicas"] == 3
    env = {e["name"]: e for e in chart.node(documents())["env"]}
    assert env["KOORDE_NODE__NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert env["KOORDE_RING__ADVERTISE"]["value"] == "$(POD_IP):4000"
    assert env["POD_IP"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    names = [e["name"] for e in chart.node(documents())["env"]]
    assert names.index("POD_IP") < names.index("KOORDE_RING__ADVERTISE"), "it would not be substituted"


def test_nodes_find_each_other_before_they_are_ready():
    headless = find(documents(), "Service", "koorde-headless")["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"] is True
    assert chart.config(documents())["ring"]["seeds"] == ["koorde-headless.web.svc.cluster.local:4000"]
    assert "publishNotReadyAddresses" not in find(documents(), "Service", "koorde")["spec"]
    seeds = chart.config(documents("everything"))["ring"]["seeds"]
    assert seeds == ["web-cache-headless.web.svc.cluster.local:4000", "other.example.com:4000"]


def test_target_ports_are_numbers():
    for ci in chart.CI:
        for service in (d for d in documents(ci) if d["kind"] == "Service"):
            for port in service["spec"]["ports"]:
                assert isinstance(port["targetPort"], int), (ci, port)


def test_probes_ask_the_admin_port_and_only_readiness_asks_for_readiness():
    node = chart.node(documents())
    paths = {probe: node[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert paths == {
        "startup": {"path": "/livez", "port": 9090},
        "readiness": {"path": "/readyz", "port": 9090},
        "liveness": {"path": "/livez", "port": 9090},
    }


def test_the_grace_period_is_longer_than_the_way_out():
    def grace(values):
        return find(rendered(values), "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]

    assert grace({}) == 15 + 15 + 30 + 5 + 10
    assert grace({"config": {"shutdown": {"delay": "0s", "leave": "1500ms", "finish": "1m 30s", "flush": "0s"}}}) == 102
    assert grace({"terminationGracePeriodSeconds": 120}) == 120


def test_the_store_has_half_of_the_memory_limit():
    for limit, capacity in [("512Mi", 256 << 20), ("1.5Gi", 768 << 20), ("2G", 10**9)]:
        documents = rendered({"resources": {"limits": {"memory": limit}}})
        assert chart.config(documents)["store"]["capacity"] == f"{capacity}B"
        assert chart.node(documents)["resources"]["limits"]["memory"] == limit
    assert chart.config(chart.documents("autoscaling"))["store"]["capacity"] == "2GiB"


def test_the_secret_of_the_ring_is_in_a_secret_only():
    secret = find(documents(), "Secret")
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert len(secret["data"]["ring-secret"]) == 64
    for document in documents():
        if document["kind"] != "Secret":
            assert secret["data"]["ring-secret"] not in yaml.safe_dump(document)
    env = {e["name"]: e for e in chart.node(documents())["env"]}
    assert env["KOORDE_RING__SECRET"]["valueFrom"]["secretKeyRef"] == {"name": "koorde-ring", "key": "ring-secret"}
    assert "secret" not in chart.config(documents())["ring"]


def test_existing_secrets_are_used_and_none_is_made():
    secured = documents("secured")
    assert "Secret" not in kinds(secured)
    env = {e["name"]: e for e in chart.node(secured)["env"]}
    assert env["KOORDE_RING__SECRET"]["valueFrom"]["secretKeyRef"] == {"name": "ring", "key": "value"}
    config = chart.config(secured)
    assert config["admin"]["token_file"] == "/etc/koorde/admin/token"
    assert config["http"]["tls"] == {"cert": "/etc/koorde/tls/tls.crt", "key": "/etc/koorde/tls/tls.key"}
    mounts = {m["mountPath"]: m["name"] for m in chart.node(secured)["volumeMounts"]}
    volumes = {v["name"]: v for v in find(secured, "StatefulSet")["spec"]["template"]["spec"]["volumes"]}
    assert volumes[mounts["/etc/koorde/admin"]]["secret"] == {
        "secretName": "admin", "items": [{"key": "token", "path": "token"}]}
    assert volumes[mounts["/etc/koorde/tls"]]["secret"] == {"secretName": "cache-tls"}
    assert chart.node(secured)["image"].startswith("ghcr.io/koorde/koorde@sha256:0123")
    nlb = find(secured, "Service", "koorde-nlb")["metadata"]["annotations"]
    assert nlb["service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol"] == "https"


def test_a_change_of_the_configuration_restarts_the_pods_and_a_new_chart_does_not():
    def template(values):
        return find(rendered(values), "StatefulSet")["spec"]["template"]["metadata"]

    assert template({}) == template({})
    assert template({"config": {"node": {"weight": 50}}}) != template({})
    assert "helm.sh/chart" not in template({})["labels"]


def test_with_an_autoscaler_nobody_else_says_how_many_nodes():
    scaled = documents("autoscaling")
    assert "replicas" not in find(scaled, "StatefulSet")["spec"]
    spec = find(scaled, "HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (5, 50)
    cpu, requests = spec["metrics"]
    assert cpu["type"] == "ContainerResource"
    assert cpu["containerResource"]["container"] == "koorde" and cpu["containerResource"]["name"] == "cpu"
    assert requests["pods"]["metric"]["name"] == "koorde_http_requests_per_second"
    assert requests["pods"]["target"] == {"type": "AverageValue", "averageValue": "1000"}
    assert "memory" not in yaml.safe_dump(spec["metrics"])


def test_scaling_in_takes_one_pod_in_the_time_of_a_drain():
    scaled = documents("autoscaling")
    grace = find(scaled, "StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    down = find(scaled, "HorizontalPodAutoscaler")["spec"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": grace}] and grace == 20 + 15 + 90 + 5 + 10
    assert down["selectPolicy"] == "Min" and down["stabilizationWindowSeconds"] == 300


def test_a_budget_lets_one_node_go_unless_something_else_is_said():
    def budget(ci):
        return {k: v for k, v in find(documents(ci), "PodDisruptionBudget")["spec"].items() if k != "selector"}

    assert budget("default") == {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    assert budget("autoscaling") == {"minAvailable": 3, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    assert budget("everything") == {"maxUnavailable": "25%", "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    assert "PodDisruptionBudget" not in kinds(documents("single"))


def test_the_network_load_balancer_is_internal_unless_networks_are_named():
    p = "service.beta.kubernetes.io/aws-load-balancer-"
    nlb = find(documents("eks-both"), "Service", "koorde-nlb")
    assert nlb["metadata"]["annotations"][p + "scheme"] == "internal"
    assert nlb["spec"]["loadBalancerClass"] == "eks.amazonaws.com/nlb"
    assert [(x["port"], x["targetPort"]) for x in nlb["spec"]["ports"]] == [(80, 8080)]
    public = find(documents("eks-nlb"), "Service", "koorde-nlb")
    annotations = public["metadata"]["annotations"]
    assert public["spec"]["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    assert public["spec"]["allocateLoadBalancerNodePorts"] is False
    assert annotations[p + "scheme"] == "internet-facing"
    assert annotations[p + "nlb-target-type"] == "ip"
    assert annotations[p + "healthcheck-path"] == "/readyz" and annotations[p + "healthcheck-port"] == "8080"
    assert "deregistration_delay.timeout_seconds=30" in annotations[p + "target-group-attributes"]
    assert annotations[p + "ssl-ports"] == "443"
    assert [x["port"] for x in public["spec"]["ports"]] == [80, 443]
    deprecated = {"internal", "cross-zone-load-balancing-enabled", "type"}
    assert not {p + name for name in deprecated} & set(annotations)


def test_only_the_cache_is_behind_a_load_balancer():
    for ci in chart.CI:
        for service in (d for d in documents(ci) if d["kind"] == "Service"):
            if service["spec"].get("type") == "LoadBalancer":
                assert {x["targetPort"] for x in service["spec"]["ports"]} == {8080}, ci


def test_the_application_load_balancer_speaks_tls_and_redirects():
    p = "alb.ingress.kubernetes.io/"
    ingress = find(documents("eks-alb"), "Ingress")
    annotations = ingress["metadata"]["annotations"]
    assert ingress["spec"]["ingressClassName"] == "alb"
    assert annotations[p + "listen-ports"] == '[{"HTTP":80},{"HTTPS":443}]'
    assert annotations[p + "ssl-redirect"] == "443"
    assert annotations[p + "target-type"] == "ip" and annotations[p + "healthcheck-path"] == "/readyz"
    assert annotations[p + "inbound-cidrs"] == "203.0.113.0/24,198.51.100.0/24"
    rule = ingress["spec"]["rules"][0]
    assert rule["host"] == "cache.example.com"
    backend = rule["http"]["paths"][0]["backend"]["service"]
    service = find(documents("eks-alb"), "Service", backend["name"])
    assert backend["port"]["number"] in [x["port"] for x in service["spec"]["ports"]]
    plain = find(documents("eks-both"), "Ingress")
    assert plain["metadata"]["annotations"][p + "listen-ports"] == '[{"HTTP":80}]'
    assert "host" not in plain["spec"]["rules"][0]
    nginx = find(documents("nginx-tls"), "Ingress")
    assert "annotations" not in nginx["metadata"] and nginx["spec"]["tls"][0]["secretName"] == "cache-tls"


def test_locality_is_said_as_each_kubernetes_understands_it():
    def said(version):
        return find(documents("eks-nlb", version=version), "Service", "koorde")["spec"].get("trafficDistribution")

    assert [said(v) for v in chart.VERSIONS] == [None, "PreferClose", "PreferClose", "PreferSameZone"]


def test_roles_come_by_annotation_and_no_pod_has_the_clusters_token():
    account = find(documents("eks-alb"), "ServiceAccount")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn:aws:iam::111122223333:role/koorde"
    assert account["automountServiceAccountToken"] is False
    none = rendered({"serviceAccount": {"create": False, "name": "given"}})
    assert "ServiceAccount" not in kinds(none)
    assert find(none, "StatefulSet")["spec"]["template"]["spec"]["serviceAccountName"] == "given"


def test_ipv6_listens_and_is_told_in_brackets():
    six = documents("ipv6")
    config = chart.config(six)
    assert [config[s]["listen"] for s in ("http", "admin", "ring")] == ["[::]:8080", "[::]:9090", "[::]:4000"]
    env = {e["name"]: e for e in chart.node(six)["env"]}
    assert env["KOORDE_RING__ADVERTISE"]["value"] == "[$(POD_IP)]:4000"
    assert config["ring"]["seeds"] == ["koorde-headless.web.svc.corp.example:4000"]


def test_nodes_are_spread_over_zones_and_hosts():
    spread = find(documents(), "StatefulSet")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [s["topologyKey"] for s in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert {s["whenUnsatisfiable"] for s in spread} == {"ScheduleAnyway"}
    more = find(documents("everything"), "StatefulSet")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert [s["topologyKey"] for s in more][-1] == "rack" and more[0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert "topologySpreadConstraints" not in find(documents("single"), "StatefulSet")["spec"]["template"]["spec"]


def test_the_usual_knobs_reach_the_pod():
    all_of_them = documents("everything")
    template = find(all_of_them, "StatefulSet")["spec"]["template"]
    spec, node = template["spec"], chart.node(all_of_them)
    assert spec["imagePullSecrets"] == [{"name": "shared"}, {"name": "own"}]
    assert node["image"] == "registry.example.com/koorde/koorde:0.1.0"
    assert spec["priorityClassName"] == "high" and spec["schedulerName"] == "custom"
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "arm64"} and spec["tolerations"][0]["key"] == "spot"
    assert template["metadata"]["labels"]["tier"] == "cache" and template["metadata"]["labels"]["team"] == "web"
    assert template["metadata"]["annotations"]["example.com/note"] == "yes"
    assert node["args"] == ["serve", "--config", "/etc/koorde/koorde.yaml", "--http.max_body", "2GiB"]
    assert {"name": "ca", "mountPath": "/etc/koorde/ca", "readOnly": True} in node["volumeMounts"]
    assert spec["initContainers"][0]["image"] == node["image"]
    assert spec["containers"][1]["args"] == ["sleep", "120"]
    assert find(all_of_them, "ConfigMap", "web-cache-more") and find(all_of_them, "ConfigMap", "koorde-text")
    for document in all_of_them:
        if document["metadata"]["name"] not in ("web-cache-more", "koorde-text"):
            assert document["metadata"]["labels"]["team"] == "web"
            assert document["metadata"]["annotations"]["owner"] == "web@example.com"


def test_the_bench_is_another_job_when_its_values_change():
    def job(**bench):
        values = {"bench": {"enabled": True, "origin": "http://o/{}", **bench}}
        return find(rendered(values), "Job")["metadata"]["name"]

    assert job() == job() != job(requests=7)


# CloudWatch.


def test_two_releases_are_two_clusters_in_cloudwatch_and_the_one_that_was_named_stays():
    told = {"config": {"cloudwatch": {"exporter": "api"}}}
    assert chart.config(rendered(told))["cloudwatch"] == {"exporter": "api", "cluster": "web/koorde"}
    assert chart.config(rendered(told, name="other"))["cloudwatch"]["cluster"] == "web/other-koorde"
    assert chart.config(documents("cloudwatch-agent"))["cloudwatch"]["cluster"] == "shop"
    # Who tells it nothing is not restarted for it.
    assert "cloudwatch" not in chart.config(documents())


def test_a_job_puts_dashboard_and_alarms_after_each_install_and_upgrade_under_its_own_account():
    all_of_them = documents("cloudwatch")
    job = find(all_of_them, "Job", "koorde-cloudwatch")
    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "post-install,post-upgrade"
    assert "before-hook-creation" in annotations["helm.sh/hook-delete-policy"]
    spec = job["spec"]["template"]["spec"]
    account = find(all_of_them, "ServiceAccount", "koorde-cloudwatch")
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/koorde-watch"}
    # It is there before the hook is.
    assert "helm.sh/hook" not in account["metadata"]["annotations"]
    assert account["automountServiceAccountToken"] is spec["automountServiceAccountToken"] is False
    assert find(all_of_them, "StatefulSet")["spec"]["template"]["spec"]["serviceAccountName"] == "koorde"
    whose = ["--cluster", "web/koorde", "--namespace", "Koorde", "--apply", "--region", "eu-west-1"]
    assert {c["name"]: c["args"] for c in spec["containers"]} == {
        "alarms": ["cloudwatch", "alarms", *whose, "--latency", "1", "--hit-ratio", "10", "--memory", "536870912B",
                   "--flush", "600",
                   "--sns", "arn:aws:sns:eu-west-1:111122223333:oncall"],
        "dashboard": ["cloudwatch", "dashboard", *whose],
    }


def test_the_binary_takes_the_jobs_arguments():
    for ci in ("cloudwatch", "cloudwatch-agent"):
        job = find(documents(ci), "Job", "koorde-cloudwatch")
        for container in job["spec"]["template"]["spec"]["containers"]:
            arguments = [a for a in container["args"] if a != "--apply"]
            env = {"PATH": os.environ["PATH"], "AWS_REGION": "eu-west-1"}
            done = subprocess.run([chart.KOORDE, *arguments], env=env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0 and json.loads(done.stdout), done.stderr


def test_the_job_may_have_an_account_that_is_there_already():
    all_of_them = documents("cloudwatch-agent")
    assert find(all_of_them, "Job", "koorde-cloudwatch")["spec"]["template"]["spec"]["serviceAccountName"] == "deployer"
    assert {d["metadata"]["name"] for d in all_of_them if d["kind"] == "ServiceAccount"} == {"koorde"}


# Network policies, evaluated.

POD = {"namespace": "web", "labels": labels()}
STRANGER = {"namespace": "other", "labels": {"app": "x"}}


def matches(selector, of):
    return all(of.get(k) == v for k, v in (selector or {}).get("matchLabels", {}).items())


def is_peer(peer, other, home="web"):
    """Whether an entry of `from` or `to` means a pod, or an address (a string)."""
    if isinstance(other, str):
        if "ipBlock" not in peer:
            return False
        address, block = ipaddress.ip_address(other), peer["ipBlock"]
        inside = lambda cidr: address in ipaddress.ip_network(cidr)  # noqa: E731
        return inside(block["cidr"]) and not any(inside(cidr) for cidr in block.get("except", []))
    if "ipBlock" in peer:
        return False
    namespace = {"kubernetes.io/metadata.name": other["namespace"]}
    here = matches(peer["namespaceSelector"], namespace) if "namespaceSelector" in peer else other["namespace"] == home
    return here and matches(peer.get("podSelector"), other["labels"])


def lets(ci, direction, other, port, protocol="TCP"):
    """Whether the nodes' policy lets a connection through."""
    spec = find(documents(ci), "NetworkPolicy", "web-cache" if ci == "everything" else "koorde")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    key = {"Ingress": "from", "Egress": "to"}[direction]
    for rule in spec[direction.lower()]:
        ports = [(p["protocol"], p["port"]) for p in rule.get("ports", [])]
        peers = rule.get(key)
        if (not ports or (protocol, port) in ports) and (not peers or any(is_peer(p, other) for p in peers)):
            return True
    return False


def test_only_nodes_reach_the_ring_and_only_monitoring_the_admin_port():
    prometheus = {"namespace": "monitoring", "labels": {"app": "prometheus"}}
    tester = {"namespace": "web", "labels": labels(component="test")}
    for other, http, admin, grpc in [
        (POD, True, True, True),
        (tester, True, True, False),
        (prometheus, True, True, False),
        (STRANGER, True, False, False),
        ({"namespace": "web", "labels": {"app": "x"}}, True, False, False),
        ({"namespace": "other", "labels": labels()}, True, False, False),
        ("203.0.113.9", False, False, False),
    ]:
        assert [lets("default", "Ingress", other, p) for p in (8080, 9090, 4000)] == [http, admin, grpc], other


def test_load_balancers_reach_the_cache_only():
    for ci in ("eks-nlb", "eks-alb"):
        assert [lets(ci, "Ingress", "10.0.0.7", p) for p in (8080, 9090, 4000)] == [True, False, False]


def test_clients_and_peers_can_be_named():
    assert not lets("secured", "Ingress", STRANGER, 8080)
    assert lets("secured", "Ingress", {"namespace": "web", "labels": {}}, 8080)
    app = {"namespace": "other", "labels": {"koorde.dev/ring": "koorde"}}
    assert lets("everything", "Ingress", app, 4000) and lets("everything", "Egress", app, 4000)


def test_origins_and_names_are_reached_and_metadata_never():
    for address in ("93.184.215.14", "10.1.2.3", "2606:2800:21f:cb07::1"):
        assert [lets("default", "Egress", address, p) for p in (80, 443, 8000)] == [True, True, False], address
    assert lets("default", "Egress", "169.254.20.10", 53, "UDP") and lets("default", "Egress", "10.96.0.10", 53)
    for address in ("169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fe80::1"):
        for ci in ("default", "secured", "everything"):
            assert not any(lets(ci, "Egress", address, p) for p in (80, 443, 8000)), (ci, address)
    assert lets("eks-both", "Egress", "169.254.170.23", 80) and lets("eks-both", "Egress", "fd00:ec2::23", 80)
    assert not lets("eks-both", "Egress", "169.254.169.254", 80)


def test_ports_that_the_configuration_names_are_reached():
    assert all(lets("everything", "Egress", "10.0.0.1", p) for p in (80, 443, 8000, 8001, 8443))
    assert lets("monitoring", "Egress", "10.0.0.1", 4318) and not lets("monitoring", "Egress", "10.0.0.1", 4317)
    assert lets("secured", "Egress", "10.0.0.1", 12345)


def test_origins_in_the_cluster_are_reached_on_their_own_port_once_they_are_allowed():
    app = {"namespace": "shop", "labels": {"app": "api"}}
    assert lets("everything", "Egress", app, 8123) and lets("monitoring", "Egress", app, 4317)
    assert not lets("default", "Egress", app, 8123)


def test_cloudwatch_and_its_agent_are_reached():
    agent = {"namespace": "amazon-cloudwatch", "labels": {"app": "agent"}}
    for other in (agent, "10.0.3.7"):
        assert lets("cloudwatch-agent", "Egress", other, 25888, "UDP"), other
        assert not lets("cloudwatch-agent", "Egress", other, 25888, "TCP"), other
        assert not lets("default", "Egress", other, 25888, "UDP"), other
    assert not lets("cloudwatch-agent", "Egress", "169.254.169.254", 25888, "UDP")
    # The API, though origins have other ports.
    assert lets("cloudwatch", "Egress", "203.0.113.9", 443) and not lets("cloudwatch", "Egress", "203.0.113.9", 80)


def test_the_notes_say_what_to_do_next():
    done = chart.helm(
        "Helm 4", "install", "koorde", str(chart.CHART), "--namespace", "web", "--dry-run=client",
        "--values", str(chart.CHART / "ci" / "eks-both-values.yaml"),
    )
    notes = done.stdout.split("NOTES:")[-1]
    for line in ["helm -n web test koorde --logs", "get service koorde-nlb", "get ingress koorde",
                 "pod-readiness-gate-inject=enabled", "/cache?url=https://example.com/", "koorde-ring"]:
        assert line in notes, done.stdout[-2000:] + done.stderr
    assert "koorde.dev/inject" not in notes


def test_the_notes_say_how_to_get_a_sidecar_and_where_the_secret_goes():
    def notes(ci):
        done = chart.helm(
            "Helm 4", "install", "koorde", str(chart.CHART), "--namespace", "web", "--dry-run=client",
            "--values", str(chart.CHART / "ci" / f"{ci}-values.yaml"),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split("NOTES:")[-1]

    for line in ["rollout status deployment/koorde-injector", "create secret generic koorde-ring --from-literal=ring-secret=",
                 "-n web get secret koorde-ring -o jsonpath='{.data.ring-secret}'", '"koorde.dev/inject":"true"',
                 "label namespace APP_NAMESPACE koorde.dev/inject=enabled", "port 9443"]:
        assert line in notes("injector"), line
    alone = notes("sidecars-only")
    assert "a ring of sidecars only" in alone and "statefulset" not in alone and "create secret" not in alone
    assert "label namespace web koorde.dev/inject=enabled" in alone
