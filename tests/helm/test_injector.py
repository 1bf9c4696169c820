"""The injector in the chart: what its objects say, and the real binary run as they say."""

import base64
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess

import promql_parser
import pytest
import yaml

import chart
from api_server import ApiServer, authority
from chart import documents, find, kinds, rendered
from test_binary import eventually, free_port, get

OWN = [ci for ci in chart.WEBHOOKS if ci in ("injector", "sidecars-only")]


def only(all_of_them):
    """What the injector adds: everything with its component."""
    return [d for d in all_of_them if d["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "injector"]


def container(all_of_them):
    (found,) = find(all_of_them, "Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def flag(all_of_them, name):
    args = container(all_of_them)["args"]
    return args[args.index(name) + 1]


def settings(all_of_them):
    return find([d for d in all_of_them if "settings.yaml" in d.get("data", {})], "ConfigMap")["data"]["settings.yaml"]


# The objects.


def test_without_the_injector_nothing_of_it_is_there():
    for ci in chart.CI:
        if ci not in chart.WEBHOOKS and ci not in chart.LEAST:
            assert only(documents(ci)) == [], ci
            assert "koorde.dev/inject" not in yaml.safe_dump_all(documents(ci)), ci


def test_by_default_it_is_what_it_needs_and_nothing_else():
    found = only(rendered({"injector": {"enabled": True}}))
    assert sorted((d["kind"], d["metadata"]["name"]) for d in found) == [
        ("ClusterRole", "koorde-injector"),
        ("ClusterRoleBinding", "koorde-injector"),
        ("ConfigMap", "koorde-injector"),
        ("Deployment", "koorde-injector"),
        ("MutatingWebhookConfiguration", "koorde-injector"),
        ("NetworkPolicy", "koorde-injector"),
        ("PodDisruptionBudget", "koorde-injector"),
        ("Role", "koorde-injector"),
        ("RoleBinding", "koorde-injector"),
        ("Secret", "koorde-injector-certs"),
        ("Service", "koorde-injector"),
        ("ServiceAccount", "koorde-injector"),
        ("ValidatingAdmissionPolicy", "koorde-injector-check"),
        ("ValidatingAdmissionPolicyBinding", "koorde-injector-check-namespace"),
        ("ValidatingAdmissionPolicyBinding", "koorde-injector-check-pod"),
    ]


def test_the_policy_needs_no_server_no_rights_and_no_certificate():
    assert kinds(only(documents("injector-policy"))) == {
        "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }


def test_its_rights_are_these_and_no_others():
    events = {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}
    certs = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["koorde-injector-certs"], "verbs": ["get", "update"]}
    bundle = {
        "apiGroups": ["admissionregistration.k8s.io"], "resources": ["mutatingwebhookconfigurations"],
        "resourceNames": ["koorde-injector"], "verbs": ["patch"],
    }

    def rights(ci):
        return [[rule for d in documents(ci) if d["kind"] == kind for rule in d["rules"]] for kind in ("Role", "ClusterRole")]

    assert rights("injector") == [[certs], [bundle, events]]
    assert rights("sidecars-only") == [[certs, events], [bundle]]
    assert rights("injector-certmanager") == [[], [events]]
    assert rights("injector-provided") == [[events], []]
    for ci in chart.WEBHOOKS:
        account = find(documents(ci), "Deployment")["spec"]["template"]["spec"]["serviceAccountName"]
        for document in documents(ci):
            if document["kind"] in ("RoleBinding", "ClusterRoleBinding"):
                assert document["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "web"}]
                assert document["roleRef"]["name"] == document["metadata"]["name"]
                assert find(documents(ci), document["roleRef"]["kind"])


def test_two_replicas_on_different_hosts_and_never_none():
    all_of_them = documents("injector")
    spec = find(all_of_them, "Deployment")["spec"]
    assert spec["replicas"] == 2 and spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert find(all_of_them, "PodDisruptionBudget", "koorde-injector")["spec"]["maxUnavailable"] == 1
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spec["template"]["spec"]["priorityClassName"] == "system-cluster-critical"
    assert spec["template"]["metadata"]["annotations"]["example.com/note"] == "yes"
    assert "priorityClassName" not in find(documents("sidecars-only"), "Deployment")["spec"]["template"]["spec"]
    alone = only(rendered({"injector": {"enabled": True, "replicaCount": 1}}))
    assert "PodDisruptionBudget" not in kinds(alone)


def test_changed_settings_restart_it():
    def checksum(values):
        found = rendered({"injector": {"enabled": True}, **values})
        return find(found, "Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]

    assert checksum({}) == checksum({}) != checksum({"sidecar": {"role": "edge"}})


def test_the_webhook_fails_open_and_asks_in_two_ways():
    one, two = find(documents("injector"), "MutatingWebhookConfiguration")["webhooks"]
    assert [one["name"], two["name"]] == ["namespace.koorde.dev", "pod.koorde.dev"]
    for webhook in (one, two):
        assert webhook["failurePolicy"] == "Ignore" and webhook["timeoutSeconds"] == 3
        assert webhook["reinvocationPolicy"] == "IfNeeded" and webhook["sideEffects"] == "NoneOnDryRun"
        assert webhook["rules"] == [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "Namespaced"}]
        names = webhook["namespaceSelector"]["matchExpressions"][0]
        assert names == {
            "key": "kubernetes.io/metadata.name", "operator": "NotIn",
            "values": ["web", "kube-system", "kube-public", "kube-node-lease", "cert-manager"],
        }
    assert one["namespaceSelector"]["matchExpressions"][1] == {"key": "koorde.dev/inject", "operator": "In", "values": ["enabled"]}
    assert two["namespaceSelector"]["matchExpressions"][1] == {
        "key": "koorde.dev/inject", "operator": "NotIn", "values": ["enabled", "disabled"]}
    strict = find(documents("injector-certmanager"), "MutatingWebhookConfiguration")["webhooks"]
    assert [w["failurePolicy"] for w in strict] == ["Fail", "Fail"]
    assert [c["name"] for c in strict[0]["matchConditions"]] == ["not-of-the-control-plane", "not-of-bots"]


def test_the_api_server_finds_it():
    for ci in chart.WEBHOOKS:
        all_of_them = documents(ci)
        service = find(all_of_them, "Service", "koorde-injector")
        for webhook in find(all_of_them, "MutatingWebhookConfiguration")["webhooks"]:
            of = webhook["clientConfig"]["service"]
            assert (of["name"], of["namespace"], of["path"]) == (service["metadata"]["name"], "web", "/inject")
            (port,) = [p for p in service["spec"]["ports"] if p["port"] == of["port"]]
            assert flag(all_of_them, "--listen").endswith(f":{port['targetPort']}")


def test_the_ca_bundle_is_whose_the_certificate_is():
    def bundles(ci):
        return [w["clientConfig"].get("caBundle") for w in find(documents(ci), "MutatingWebhookConfiguration")["webhooks"]]

    assert bundles("injector") == bundles("injector-certmanager") == [None, None]
    assert find(documents("injector"), "Secret", "koorde-injector-certs").get("data") is None
    (given,) = set(bundles("injector-provided"))
    assert base64.b64decode(given).startswith(b"-----BEGIN CERTIFICATE-----\n")
    spec = find(documents("injector-provided"), "Deployment")["spec"]["template"]["spec"]
    assert {"name": "certs", "secret": {"secretName": "webhook-tls"}} in spec["volumes"]


def test_cert_manager_signs_by_an_authority_that_outlives_what_it_signs():
    all_of_them = documents("injector-certmanager")
    annotations = find(all_of_them, "MutatingWebhookConfiguration")["metadata"]["annotations"]
    leaf = find(all_of_them, "Certificate", "koorde-injector")["spec"]
    root = find(all_of_them, "Certificate", "koorde-injector-root")["spec"]
    assert annotations["cert-manager.io/inject-ca-from"] == "web/koorde-injector"
    assert leaf["dnsNames"] == ["koorde-injector.web.svc"]
    spec = find(all_of_them, "Deployment")["spec"]["template"]["spec"]
    assert {"name": "certs", "secret": {"secretName": leaf["secretName"]}} in spec["volumes"]
    issuer = find(all_of_them, "Issuer", leaf["issuerRef"]["name"])["spec"]
    assert issuer == {"ca": {"secretName": root["secretName"]}} and root["isCA"] is True
    assert find(all_of_them, "Issuer", root["issuerRef"]["name"])["spec"] == {"selfSigned": {}}
    assert int(root["duration"][:-1]) > 10 * int(leaf["duration"][:-1])
    named = rendered({"injector": {"enabled": True, "certificates": {
        "mode": "certManager", "issuer": {"name": "corp", "kind": "ClusterIssuer"}}}})
    assert "Issuer" not in kinds(named)
    assert find(named, "Certificate")["spec"]["issuerRef"] == {"name": "corp", "kind": "ClusterIssuer", "group": "cert-manager.io"}


def test_a_host_network_is_for_control_planes_that_cannot_reach_pods():
    found = rendered({"injector": {"enabled": True, "hostNetwork": True, "ports": {"webhook": 10250, "admin": 9097}}})
    spec = find(found, "Deployment")["spec"]
    pod = spec["template"]["spec"]
    assert pod["hostNetwork"] is True and pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 1
    assert flag(found, "--listen") == "0.0.0.0:10250" and flag(found, "--admin-listen") == "0.0.0.0:9097"
    assert [d["metadata"]["name"] for d in found if d["kind"] == "NetworkPolicy"] == ["koorde"]


def test_its_policy_lets_api_servers_in_and_nobody_else_to_its_metrics():
    spec = find(documents("injector"), "NetworkPolicy", "koorde-injector")["spec"]
    webhook, admin = spec["ingress"]
    assert webhook == {"ports": [{"protocol": "TCP", "port": 9443}]}, "API servers are no pods"
    assert admin["ports"] == [{"protocol": "TCP", "port": 9090}] and admin["from"]
    dns, api = spec["egress"]
    assert [p["port"] for p in dns["ports"]] == [53, 53] and [p["port"] for p in api["ports"]] == [443, 6443]


def test_its_metrics_are_scraped_on_a_path_of_their_own():
    for ci, kind, key in [("injector", "ServiceMonitor", "endpoints"), ("injector-certmanager", "PodMonitor", "podMetricsEndpoints")]:
        monitor = find(documents(ci), kind, "koorde-injector")["spec"]
        assert [e["path"] for e in monitor[key]] == ["/metrics"]
        if kind == "ServiceMonitor":
            services = [d["metadata"]["name"] for d in documents(ci) if d["kind"] == "Service"
                        and monitor["selector"]["matchLabels"].items() <= d["metadata"]["labels"].items()]
            assert services == ["koorde-injector"]


# The sidecars' ring.


def test_sidecars_meet_the_rings_nodes_or_each_other():
    def seeds(values):
        return yaml.safe_load(settings(rendered({"injector": {"enabled": True}, **values})))["seeds"]

    assert seeds({}) == ["koorde-headless.web.svc.cluster.local:4000"]
    assert seeds({"sidecar": {"seeds": ["other:4000"]}}) == ["other:4000"]
    alone = {"ring": {"enabled": False}, "sidecar": {"namespaces": ["shop", "blog"]}}
    assert seeds(alone) == [f"koorde-sidecars.{ns}.svc.cluster.local:4000" for ns in ("shop", "blog")]
    made = [d for d in rendered({"injector": {"enabled": True}, **alone}) if d["metadata"]["name"] == "koorde-sidecars"]
    assert [(d["kind"], d["metadata"]["namespace"]) for d in made] == [("Service", "shop"), ("Service", "blog")]
    service = find(documents("sidecars-only"), "Service", "koorde-sidecars")
    assert service["metadata"]["namespace"] == "web" and service["spec"]["selector"] == {"koorde.dev/sidecar": "true"}
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"] is True
    assert [p["port"] for p in service["spec"]["ports"]] == [4001]


def test_a_ring_of_sidecars_has_no_nodes_of_its_own():
    found = documents("sidecars-only")
    assert not kinds(found) & {"StatefulSet", "HorizontalPodAutoscaler", "Pod", "Job"}
    assert {d["metadata"]["labels"]["app.kubernetes.io/component"] for d in found} == {"injector", "sidecar", "node"}
    assert [d["metadata"]["name"] for d in found if d["metadata"]["labels"]["app.kubernetes.io/component"] == "node"] == [
        "koorde-ring"], "the ring's secret"


def test_no_secret_is_put_into_the_namespaces_of_others():
    for ci in chart.CI:
        assert {d["metadata"]["namespace"] for d in documents(ci) if d["kind"] == "Secret"} <= {"web"}
    everywhere = rendered({"injector": {"enabled": True}, "ring": {"enabled": False}, "sidecar": {"namespaces": ["shop"]}})
    assert {d["metadata"]["namespace"] for d in everywhere if d["kind"] == "Secret"} == {"web"}


def test_the_rings_nodes_let_sidecars_in_and_out():
    def peers(values):
        spec = find(rendered(values), "NetworkPolicy", "koorde")["spec"]
        label = {"matchLabels": {"koorde.dev/sidecar": "true"}}
        return [
            [(p["port"], peer.get("namespaceSelector")) for rule in spec[way] for p in rule.get("ports", [])
             for peer in rule.get(key, []) if peer.get("podSelector") == label]
            for way, key in (("ingress", "from"), ("egress", "to"))
        ]

    assert peers({}) == [[], []]
    assert peers({"injector": {"enabled": True}, "networkPolicy": {"sidecars": False}}) == [[], []]
    assert peers({"injector": {"enabled": True, "scope": "namespace"}, "sidecar": {"ports": {"ring": 4001}}}) == [
        [(4000, None)], [(4001, None)]]
    assert peers({"injector": {"enabled": True}}) == [[(4000, {})], [(4000, {})]]


def test_sidecars_do_with_responses_as_the_rings_nodes_do():
    said = yaml.safe_load(settings(documents("injector")))
    assert said["config"] == {
        "egress": {"allow": ["10.0.0.0/8"]}, "log": {"level": "warn"}, "origin": {"max_idle": 8}, "ring": {"degree": 8},
        "routes": [{"host": "api.example.com", "prefix": "/v1", "collapse": False}],
        "upstreams": {"private": {"servers": ["https://10.0.0.9:443"]}},
    }
    assert said["ring_secret"] == {"name": "koorde-ring", "key": "ring-secret"}
    assert yaml.safe_load(settings(documents("injector-provided")))["ring_secret"]["name"] == "ring"


def test_a_short_name_is_each_nodes_own_where_members_are_of_several_namespaces():
    def ours(values):
        return chart.config(rendered(values)).get("egress", {}).get("own_short_names")

    injector = {"injector": {"enabled": True}}
    assert ours({}) is None and ours(injector) is True
    assert ours({**injector, "config": {"egress": {"own_short_names": False, "allow": ["10.0.0.0/8"]}}}) is False


def test_apps_cannot_purge_the_ring_through_their_sidecars_where_purges_need_a_token():
    def config(values):
        return yaml.safe_load(settings(rendered({"injector": {"enabled": True}, **values})))["config"]

    token = {"adminToken": {"existingSecret": "admin"}}
    assert "admin" not in config({})
    assert config(token)["admin"] == {"purge": False}
    assert config({**token, "sidecar": {"config": {"admin": {"purge": True}}}})["admin"] == {"purge": True}


# The real binary.


def koorde(*arguments, env=None):
    return subprocess.run([chart.KOORDE, *arguments], env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("ci", chart.WEBHOOKS)
def test_the_settings_are_the_binarys(ci, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(settings(documents(ci)))
    done = koorde("inject", "--settings", str(path), "--show-settings")
    assert (done.returncode, done.stderr) == (0, "")
    told, said = json.loads(done.stdout), yaml.safe_load(path.read_text())
    assert {key: told[key] for key in said if key != "resources"} == {k: v for k, v in said.items() if k != "resources"}
    assert said["resources"].items() <= told["resources"].items()


def test_the_defaults_of_the_sidecar_are_the_binarys():
    told = json.loads(koorde("inject", "--show-settings").stdout)
    said = yaml.safe_load(settings(rendered({"injector": {"enabled": True}})))
    ours = {"seeds", "ring_secret", "resources"}
    assert {k: v for k, v in said.items() if k not in ours} == {k: told[k] for k in said if k not in ours}
    assert {**told["resources"], **said["resources"]} == told["resources"]
    assert told["image"] == container(rendered({"injector": {"enabled": True}}))["image"]


def test_the_charts_list_of_tables_among_the_settings_is_the_binarys():
    keys = json.loads(koorde("config", "--json", env={"PATH": os.environ["PATH"]}).stdout)
    tables = sorted(key for key, one in keys.items() if one["value"] == {})
    listed = ", ".join(f'"{key}"' for key in tables).replace(", ", " ")
    assert f"(list {listed})" in (chart.CHART / "templates" / "_cel.tpl").read_text()


@contextlib.contextmanager
def running(all_of_them, tmp_path, *more, certs=None):
    """The injector with the arguments and variables of its Deployment; only addresses and paths are those of here."""
    (tmp_path / "settings.yaml").write_text(settings(all_of_them))
    webhook, admin = free_port(), free_port()
    args = list(container(all_of_them)["args"])
    for name, value in [
        ("--settings", str(tmp_path / "settings.yaml")), ("--listen", f"127.0.0.1:{webhook}"),
        ("--admin-listen", f"127.0.0.1:{admin}"), *(certs or {}).items(),
    ]:
        args[args.index(name) + 1] = value
    variables = {v["name"]: v["value"] for v in container(all_of_them).get("env", [])}
    log = open(tmp_path / "log", "w+")
    process = subprocess.Popen([chart.KOORDE, *args, *more], env={"PATH": os.environ["PATH"], **variables}, stderr=log, stdout=log)
    try:
        probe = container(all_of_them)["readinessProbe"]["httpGet"]["path"]
        eventually("ready", lambda: get(f"http://127.0.0.1:{admin}{probe}")[0] == 200 or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield webhook, admin
    finally:
        process.kill()
        process.wait()
        log.close()


def review(port, ca, name, namespace="shop"):
    """What the API server would be told of a pod, over TLS as it speaks it."""
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-1", "uid": "u", "controller": True}
    pod = {"metadata": {"name": "app", "ownerReferences": [owner]}, "spec": {"containers": [{"name": "app", "image": "app"}]}}
    request = {
        "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "namespace": namespace,
        "object": pod,
    }
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    context = ssl.create_default_context(cadata=ca)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as tcp:
        with context.wrap_socket(tcp, server_hostname=name) as tls:
            connection = http.client.HTTPConnection(name)
            connection.sock = tls
            connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())["response"]
    return json.loads(base64.b64decode(answer["patch"]))


@pytest.mark.parametrize("ci", OWN)
def test_it_runs_as_rendered_with_the_rights_as_rendered(ci, tmp_path):
    all_of_them = documents(ci)
    namespace = "web" if ci == "sidecars-only" else "shop"
    server = ApiServer(tmp_path, all_of_them)
    more = ["--api-server", server.url, "--api-ca", str(server.ca), "--api-token", str(server.token)]
    try:
        with running(all_of_them, tmp_path, *more) as (webhook, admin):
            configuration = find(all_of_them, "MutatingWebhookConfiguration")
            assert set(server.ca_bundles) == {w["name"] for w in configuration["webhooks"]}
            (bundle,) = set(server.ca_bundles.values())
            of = configuration["webhooks"][0]["clientConfig"]["service"]
            patch = review(webhook, base64.b64decode(bundle).decode(), f"{of['name']}.{of['namespace']}.svc", namespace)
            (sidecar,) = [op["value"] for op in patch if op["path"] == "/spec/initContainers/0"]
            assert sidecar["image"] == container(all_of_them)["image"]
            eventually("the owner is told", lambda: server.events)
            assert server.events[0]["metadata"]["namespace"] == namespace
            assert server.events[0]["involvedObject"]["name"] == "app-1"
            eventually("the review is counted", lambda: "reviews_total" in get(f"http://127.0.0.1:{admin}/metrics")[1])
            status, metrics = get(f"http://127.0.0.1:{admin}/metrics")
            rules = rendered({"injector": {"enabled": True}, "metrics": {"rules": {"enabled": True}}})
            for rule in find(rules, "PrometheusRule", "koorde-injector")["spec"]["groups"][0]["rules"]:
                promql_parser.parse(rule["expr"])
                names = set(re.findall(r"koorde_\w+", rule["expr"]))
                assert status == 200 and names and all(name in metrics for name in names), rule
            assert get(f"http://127.0.0.1:{admin}{container(all_of_them)['livenessProbe']['httpGet']['path']}")[0] == 200
        refused = [call for call in server.calls if call[3] in (401, 403)]
        assert refused == [], (tmp_path / "log").read_text()
    finally:
        server.close()


QUICK = ["--cert-lifetime", "12s", "--authority-lifetime", "10m"]


def test_a_secret_that_somebody_empties_leaves_no_time_without_trust(tmp_path):
    """The injector makes other certificates, and until API servers have heard of it both authorities are trusted."""
    all_of_them = json.loads(json.dumps(documents("injector")))
    server = ApiServer(tmp_path, all_of_them)
    more = ["--api-server", server.url, "--api-ca", str(server.ca), "--api-token", str(server.token), *QUICK]
    try:
        with running(all_of_them, tmp_path, *more) as (webhook, _):
            def bundle():
                (one,) = set(server.ca_bundles.values())
                return base64.b64decode(one).decode()

            before, both = bundle(), []
            server.objects["Secret", "web", "koorde-injector-certs"]["data"] = {}

            def renewed():
                now = bundle()
                both.append(before in now and now != before)
                return before not in now

            assert before.count("BEGIN") == 1
            eventually("the old authority is no longer trusted", renewed)
            assert any(both), "both were trusted for a while"
            assert review(webhook, bundle(), "koorde-injector.web.svc")
    finally:
        server.close()


def test_a_secret_that_somebody_deletes_is_told_with_what_makes_it_again(tmp_path):
    all_of_them = documents("injector")
    server = ApiServer(tmp_path, json.loads(json.dumps(all_of_them)))
    more = ["--api-server", server.url, "--api-ca", str(server.ca), "--api-token", str(server.token), *QUICK]
    try:
        with running(all_of_them, tmp_path, *more):
            del server.objects["Secret", "web", "koorde-injector-certs"]
            told = "the Secret web/koorde-injector-certs was deleted, and may only be updated: helm upgrade makes it again"
            eventually("it is told", lambda: told in (tmp_path / "log").read_text())
    finally:
        server.close()


@pytest.mark.parametrize("ci", ["injector-certmanager", "injector-provided"])
def test_it_runs_with_a_certificate_that_is_there(ci, tmp_path):
    name = "koorde-injector.web.svc"
    ca, cert, key = authority(tmp_path, "webhook", f"DNS:{name}")
    with running(documents(ci), tmp_path, certs={"--cert": str(cert), "--key": str(key)}) as (webhook, _):
        assert review(webhook, ca.read_text(), name)
