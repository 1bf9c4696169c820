"""`koorde check` through a real kubectl against an API server of the tests, whose pods are real processes."""

import base64
import contextlib
import json
import os
import subprocess
import time

import pytest
import chart
from chart import find, rendered
from cluster import Cluster
from test_binary import eventually, ring  # noqa: F401  the fixture
from test_injector import running, settings

KUBECTL = os.environ["KOORDE_KUBECTL"]
INJECT = {"injector": {"enabled": True}}


@contextlib.contextmanager
def cluster(all_of_them, tmp_path, ring=None, **more):  # noqa: F811
    server = Cluster(tmp_path, all_of_them, **more)
    for index, (_, admin) in enumerate(ring.nodes if ring else []):
        server.processes["web", f"koorde-{index}"] = admin
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def injecting(server, tmp_path):
    """The same with its injector, which has made its certificate and is called by the API server."""
    all_of_them = list(server.objects.values())
    more = ["--api-server", server.url, "--api-ca", str(server.ca), "--api-token", str(server.token)]
    with running(all_of_them, tmp_path, *more) as (webhook, _):
        eventually("it is trusted", lambda: len(server.ca_bundles) == 2)
        server.services["web", "koorde-injector"] = webhook
        yield


def check(server, *arguments, kubectl=KUBECTL):
    environment = {"PATH": os.environ["PATH"], "HOME": str(server.kubeconfig.parent), "KUBECONFIG": str(server.kubeconfig)}
    return subprocess.run(
        [chart.KOORDE, "check", "--kubectl", kubectl, *arguments], env=environment, capture_output=True, text=True, timeout=300
    )


def found(server, *arguments):
    """What is not ✓, by level and text; and how it ended."""
    done = check(server, "--output", "json", *arguments)
    assert done.returncode in (0, 1), done.stderr
    said = json.loads(done.stdout)
    assert (done.returncode == 1) == (said["failed"] > 0)
    return [one for one in said["checks"] if one["level"] != "ok"], said


def workload(server, name, pods=None, **metadata):
    """A Deployment of an app, with one pod that runs."""
    template = {"metadata": {"labels": {"app": name}, **(pods or {})}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}
    template["metadata"]["labels"] = {"app": name, **template["metadata"]["labels"]}
    made = server.add("Deployment", "shop", name, spec={"replicas": 1, "template": template})
    made["metadata"].update(metadata)
    server.run("shop", f"{name}-5d8f-0", template, owner=("Deployment", name))
    return made


def test_a_release_that_is_well_is_all_ticks(ring, tmp_path):  # noqa: F811
    with cluster(rendered(INJECT), tmp_path, ring) as server, injecting(server, tmp_path):
        done = check(server)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "!" not in done.stdout and "×" not in done.stdout, done.stdout
        for line in (
            "it is v1.33.2", "statefulset/koorde: 3 of 3 are ready", "service/koorde-headless leads to 3 pods",
            "failurePolicy Ignore, 3 s at most", "the injector may do what it has to",
            "a pod of namespace default, made in a dry run, gets its sidecar", "the certificate is for koorde-injector.web.svc",
            "caBundle has the authority", "one ring of 3 members, and 3 nodes agree about it",
        ):
            assert line in done.stdout, f"{line} in\n{done.stdout}"
        # No key of the injector's went through here.
        (secret,) = [one for one in server.of("Secret") if one["metadata"]["name"] == "koorde-injector-certs"]
        assert secret["data"]["tls.key"]


def test_what_is_wrong_with_the_webhook_is_told_with_the_command_that_mends_it(tmp_path):
    with cluster(rendered(INJECT), tmp_path) as server, injecting(server, tmp_path):
        # Somebody has applied a rendering with a bundle of its own, and taken a right away.
        other = server.ca.read_bytes()
        for webhook in find(list(server.objects.values()), "MutatingWebhookConfiguration")["webhooks"]:
            webhook["clientConfig"]["caBundle"] = base64.b64encode(other).decode()
        server.get("ClusterRole", "koorde-injector", None)["rules"][0]["verbs"] = ["get"]
        wrong, _ = found(server)
        texts = {one["text"]: one for one in wrong}
        bundle = texts["mutatingwebhookconfiguration/koorde-injector: caBundle does not have the authority of the certificate"]
        assert bundle["commands"] == ["kubectl -n web rollout restart deployment/koorde-injector"]
        (rights,) = [one for text, one in texts.items() if "may not do all" in text]
        assert rights["details"] == [
            "system:serviceaccount:web:koorde-injector may not patch "
            "mutatingwebhookconfigurations.admissionregistration.k8s.io/koorde-injector"]
        (trial,) = [one for text, one in texts.items() if "comes without a sidecar" in text]
        assert trial["level"] == "failed" and "EKS" in trial["hint"]


def test_the_ring_is_judged_by_what_its_nodes_say(ring, tmp_path):  # noqa: F811
    with cluster(rendered({}), tmp_path, ring) as server:
        assert found(server)[0] == []
        # A fourth pod that runs and is in nobody's ring.
        template = server.get("StatefulSet", "koorde")["spec"]["template"]
        server.run("web", "koorde-3", template, owner=("StatefulSet", "koorde"))
        wrong, _ = found(server)
        texts = [one["text"] for one in wrong]
        assert "service/koorde-headless does not know all of its pods" in texts
        assert "nodes cannot be asked for their ring" in texts and "pods run that nobody has in the ring" in texts
        (mute,) = [one for one in wrong if one["text"].startswith("nodes cannot")]
        assert mute["details"][0].startswith("pod/koorde-3: koorde: no node answers at http://127.0.0.1:1")
        (lost,) = [one for one in wrong if one["text"].startswith("pods run")]
        assert lost["details"] == ["pod/koorde-3"]
        assert lost["commands"] == ["kubectl -n web exec koorde-0 -c koorde -- /usr/bin/koorde ring"]


def test_labels_and_pods_without_their_sidecar_are_told(tmp_path):
    with cluster(rendered(INJECT), tmp_path) as server:
        server.get("Namespace", "shop", None)["metadata"]["labels"]["koorde.dev/inject"] = "true"
        workload(server, "outside", labels={"koorde.dev/inject": "true"})
        workload(server, "older", {"labels": {"koorde.dev/inject": "true"}})
        workload(server, "host", {"labels": {"koorde.dev/inject": "true"}})
        server.get("Pod", "host-5d8f-0", "shop")["spec"]["hostNetwork"] = True
        workload(server, "quiet", {"annotations": {"config.koorde.dev/role": "edge"}, "labels": {}})
        wrong, _ = found(server)
        of = {category: [one for one in wrong if one["category"] == category] for category in ("labels", "sidecars")}
        assert [one["text"].split(":")[0] for one in of["labels"]] == [
            "namespace/shop", "deployment/outside in shop", "deployment/quiet in shop"]
        assert of["labels"][0]["commands"] == ["kubectl label namespace shop koorde.dev/inject=enabled --overwrite"]
        older, host = of["sidecars"]
        assert older["details"] == ["pod/older-5d8f-0 in shop"]
        assert older["commands"] == ["kubectl -n shop rollout restart deployment/older"]
        assert host["details"] == ["pod/host-5d8f-0 in shop"] and "it uses its host's network" in host["hint"]


def injected(server, name, tmp_path, *more):
    """A workload's pod with the sidecar that the release's settings make."""
    workload(server, name, {"labels": {"koorde.dev/inject": "true"}})
    path = tmp_path / "of-the-release.yaml"
    path.write_text(settings(list(server.objects.values())))
    pod = server.get("Pod", f"{name}-5d8f-0", "shop")
    done = subprocess.run(
        [chart.KOORDE, "inject", "--settings", str(path), *more, "-o", "json", "-"], input=json.dumps(pod),
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    server.objects["Pod", "shop", f"{name}-5d8f-0"] = json.loads(done.stdout)


def test_sidecars_that_are_old_or_of_another_ring_have_their_restart_lines(tmp_path):
    with cluster(rendered(INJECT), tmp_path) as server:
        injected(server, "good", tmp_path)
        injected(server, "old", tmp_path, "--set", "image=ghcr.io/koorde/koorde:0.0.9")
        injected(server, "other", tmp_path, "--set", "seeds=[other.example.com:4000]")
        wrong, _ = found(server)
        told = {one["text"]: one for one in wrong if one["category"] == "sidecars"}
        old = told["1 sidecar of another version than the injector's"]
        assert old["details"] == ["pod/old-5d8f-0 in shop: ghcr.io/koorde/koorde:0.0.9"]
        assert old["commands"] == ["kubectl -n shop rollout restart deployment/old"]
        other = told["1 sidecar of another ring than the injector's"]
        assert other["commands"] == ["kubectl -n shop rollout restart deployment/other"]
        (secret,) = [one for text, one in told.items() if text.startswith("secret/koorde-ring is not in namespace shop")]
        assert "where 3 sidecars need it" in secret["text"]
        (command,) = secret["commands"]
        assert command == (
            "kubectl -n shop create secret generic koorde-ring --from-literal=ring-secret="
            "\"$(kubectl -n web get secret koorde-ring -o jsonpath='{.data.ring-secret}' | base64 -d)\"")
        server.add("Secret", "shop", "koorde-ring")
        assert not any("is not in namespace" in one["text"] for one in found(server)[0])


def test_objects_of_the_users_own_that_pods_mount_are_found(tmp_path):
    mine = {"extraVolumes": [{"name": "mine", "configMap": {"name": "mine"}}]}
    with cluster(rendered(mine), tmp_path) as server:
        missing = [one for one in found(server)[0] if "refers to what is not there" in one["text"]]
        assert missing[0]["level"] == "failed" and missing[0]["details"] == ["configmap/mine"]
        server.add("ConfigMap", "web", "mine")
        assert not any("refers to what is not there" in one["text"] for one in found(server)[0])


def test_what_may_not_be_seen_is_no_failure_and_told(tmp_path):
    with cluster(rendered({}), tmp_path) as server:
        server.denied = {"cronjobs", "poddisruptionbudgets"}
        wrong, _ = found(server)
        texts = [one["text"] for one in wrong if one["category"] == "kubernetes"]
        assert len(texts) == 2 and all("cannot be looked at" in text and "forbidden" in text for text in texts), texts


def test_without_a_release_or_a_cluster_it_fails_and_says_what_to_do(tmp_path):
    with cluster([], tmp_path, version="v1.28.9") as server:
        wrong, said = found(server)
        assert [one["level"] for one in wrong] == ["failed", "failed"] and said["failed"] == 2
        assert "native sidecars need 1.29" in wrong[0]["text"] and "koorde check --pre" in wrong[1]["commands"]
        server.close()
        done = check(server)
        assert done.returncode == 1 and "× the API server cannot be asked" in done.stdout, done.stdout
        assert "kubectl cluster-info" in done.stdout
        done = check(server, kubectl=str(tmp_path / "nowhere"))
        assert done.returncode == 1 and "--kubectl names another" in done.stdout, done.stdout


def test_before_the_install_it_tells_what_the_cluster_lacks(tmp_path):
    with cluster([], tmp_path, version="v1.29.3") as server:
        done = check(server, "--pre")
        assert done.returncode == 0 and "you may make what the chart makes" in done.stdout, done.stdout
        server.denied = {"clusterroles"}
        del server.objects["APIService", None, "v1beta1.metrics.k8s.io"]
        done = check(server, "--pre", "--namespace", "web")
        assert done.returncode == 1
        for line in ("create clusterroles.rbac.authorization.k8s.io", "there is no metrics-server", "before 1.30"):
            assert line in done.stdout, done.stdout


def test_it_waits_until_nothing_fails(tmp_path):
    with cluster(rendered({}), tmp_path) as server:
        status = server.get("StatefulSet", "koorde")["status"]
        status["readyReplicas"] = 0
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(server.kubeconfig)}
        process = subprocess.Popen(
            [chart.KOORDE, "check", "--wait", "2m", "--kubectl", KUBECTL], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        try:
            assert "looking again" in process.stderr.readline()
            status["readyReplicas"] = 3
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0 and "3 of 3 are ready" in out
        finally:
            process.kill()


@pytest.mark.parametrize("ci", ["default", "injector", "injector-policy"])
def test_the_notes_name_it(ci):
    values = ["--values", str(chart.CHART / "ci" / f"{ci}-values.yaml")]
    done = chart.helm("Helm 4", "install", "koorde", str(chart.CHART), "--namespace", "web", "--dry-run=client", *values)
    assert done.returncode == 0, done.stderr
    assert "koorde check --namespace web" in done.stdout
