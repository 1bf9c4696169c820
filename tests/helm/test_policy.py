"""The admission policies of the chart, evaluated by the API server's own code (tests/helm/admission): a pod gets from
the policy what `koorde inject` gives it, and one without its sidecar does not go unnoticed."""

import json
import os
import re
import subprocess

import pytest
import yaml

import chart
from chart import documents, find, rendered
from cluster import patched

INJECT = chart.ROOT / "tests" / "inject"
ENABLED = {"koorde.dev/inject": "enabled"}


def evaluate(documents, pods, labels=ENABLED, namespace="shop", minor=0):
    """An API server, asked what it makes of pods."""
    labels = {"kubernetes.io/metadata.name": namespace, **labels}
    said = {
        "documents": documents, "pods": pods, "minor": minor, "namespace": {"metadata": {"name": namespace, "labels": labels}},
    }
    return subprocess.run(
        [os.environ["KOORDE_ADMISSION"]], input=json.dumps(said), capture_output=True, text=True, timeout=120
    )


def admitted(*arguments, **more):
    """The same, if all went well."""
    done = evaluate(*arguments, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def cases():
    """(name, pod) of every pod and pod template in the cases of `koorde inject`, but for what no API server would let
    through as it is."""
    for path in sorted((INJECT / "cases").iterdir()):
        if path.name in ("nulls.yaml", "unknown_fields.yaml"):
            continue
        for index, document in enumerate(chart.parse(path.read_text())):
            for item in document["items"] if document["kind"] == "List" else [document]:
                spec = item.get("spec", {})
                spec = spec.get("jobTemplate", {}).get("spec", spec)
                pod = item if item["kind"] == "Pod" else spec.get("template", {})
                if "containers" in pod.get("spec", {}):
                    made = {"apiVersion": "v1", "kind": "Pod", "metadata": dict(pod.get("metadata", {})), "spec": pod["spec"]}
                    made["metadata"].setdefault("name", "pod")
                    yield f"{path.name}-{index}", made


PODS = list(cases())


def settings(values):
    """What `koorde injector` would be told in place of the policy."""
    injector = {**values.get("injector", {}), "mode": "webhook"}
    (found,) = [d for d in rendered({**values, "injector": injector}, version="1.36") if "settings.yaml" in d.get("data", {})]
    return found["data"]["settings.yaml"]


def injected(pods, values, tmp_path):
    """The same pods by `koorde inject`; those that it refuses as they were."""
    path = tmp_path / "settings.yaml"
    path.write_text(settings(values))
    made = []
    for pod in pods:
        done = subprocess.run(
            [chart.KOORDE, "inject", "--settings", str(path), "--force-pull-secrets", "--output", "json", "-"],
            input=json.dumps(pod), capture_output=True, text=True, timeout=60,
        )
        made.append(json.loads(done.stdout) if done.returncode == 0 else pod)
    return made


def without_the_record(pod):
    """A pod, and the record of what was added, which is JSON in a string."""
    annotations = pod["metadata"].get("annotations", {})
    record = json.loads(annotations.pop("koorde.dev/injected", "{}"))
    for env in record.get("env", {}).values():
        env["added"] = sorted(env["added"])
    # What is empty is not written by the binary.
    return pod, {key: value for key, value in record.items() if value}


def policy_values(**more):
    values = yaml.safe_load((chart.CHART / "ci" / "injector-policy-values.yaml").read_text())
    return {**values, **more}


SETS = {
    "ci": policy_values(),
    "default": {"injector": {"enabled": True, "mode": "policy"}},
    "last": {
        "ipFamily": "IPv6", "adminToken": {"existingSecret": "admin"}, "image": {"digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
        "injector": {"enabled": True, "mode": "policy", "scope": "cluster"},
        "sidecar": {
            "position": "last", "role": "member", "admin": "pod", "ports": {"http": 4180, "ring": 4100, "admin": 4190},
            "imagePullSecrets": ["b", "a"], "seeds": ["ring.example.com:4000", "other:4000"],
            "resources": {
                "cacheSize": "64Mi", "cpuRequest": 1, "cpuLimit": "1500m", "storageRequest": "96Mi", "storageLimit": "32Mi"},
            "seccompProfile": False,
            "ringSecret": {"name": "other", "key": "k"},
            "config": {"shutdown": {"leave": "7s"}, "fetch": {"max_unfinished": "16MiB"}, "origin": {"per_host": {"a": {"rate": 1}}}},
        },
    },
}


@pytest.mark.parametrize("name", SETS)
def test_the_policy_gives_a_pod_what_koorde_inject_gives_it(name, tmp_path):
    objects = rendered(SETS[name], version="1.36")
    # What the binary does with annotations only it can; the policy leaves such pods alone.
    plain = [pod for _, pod in PODS if not any(k.startswith("config.koorde.dev/") for k in pod["metadata"].get("annotations", {}))]
    assert len(plain) >= 25
    ours = admitted(objects, plain)
    # The other one through the same types, without any policy: their fields and their defaults.
    theirs = admitted([], injected(plain, SETS[name], tmp_path))
    found = 0
    for pod, mine, other in zip(plain, ours, theirs, strict=True):
        assert without_the_record(mine["pod"]) == without_the_record(other["pod"]), pod["metadata"]["name"]
        found += any(c["name"] == "koorde" for c in mine["pod"]["spec"].get("initContainers", []))
    assert found >= 20


def test_ports_that_are_only_probed_or_told_count_in_the_policy_too(tmp_path):
    def pod(index, **container):
        return {"metadata": {"name": f"p{index}"}, "spec": {"containers": [{"name": "app", "image": "a", **container}]}}

    found = []
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        found += [{probe: {"httpGet": {"port": 4000}}}, {probe: {"tcpSocket": {"port": 4080}}}, {probe: {"grpc": {"port": 4090}}}]
    for hook in ("postStart", "preStop"):
        found += [{"lifecycle": {hook: {"httpGet": {"port": 4000}}}}, {"lifecycle": {hook: {"tcpSocket": {"port": 4000}}}}]
    found += [{"env": [{"name": "PORT", "value": "4080"}]}]
    free = [
        {"livenessProbe": {"httpGet": {"port": "web"}}}, {"livenessProbe": {"httpGet": {"port": 8080}}},
        {"readinessProbe": {"tcpSocket": {"host": "db.internal", "port": 4000}}}, {"lifecycle": {"preStop": {"exec": {}}}},
        {"env": [{"name": "PORT", "value": "tcp://10.0.0.1:4000"}]}, {"env": [{"name": "OTHER", "value": "4000"}]},
    ]
    pods = [pod(index, **container) for index, container in enumerate(found + free)]
    values = SETS["default"]
    ours, theirs = admitted(rendered(values, version="1.36"), pods), admitted([], injected(pods, values, tmp_path))
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        has = any(c["name"] == "koorde" for c in mine["pod"]["spec"].get("initContainers", []))
        assert has == (index >= len(found)), pods[index]
        assert without_the_record(mine["pod"]) == without_the_record(other["pod"]), pods[index]


def test_the_policy_gives_a_plain_pod_the_patch_that_was_reviewed():
    """`plain_patch.json` is what the binary's own tests hold it to, with `settings.yaml`."""
    values = {
        "injector": {"enabled": True, "mode": "policy"}, "sidecar": {"imagePullSecrets": ["registry"]},
        "config": {
            "egress": {"allow": ["origin.internal"]},
            "routes": [{"host": "api.example.com", "prefix": "/v1", "collapse": False}],
        },
    }
    said = yaml.safe_load((INJECT / "settings.yaml").read_text())
    told = yaml.safe_load(settings(values))
    assert {k: told[k] for k in said if k != "ring_secret"} == {k: v for k, v in said.items() if k != "ring_secret"}
    assert said["ring_secret"]["name"] == told["ring_secret"]["name"]
    pod = json.loads((INJECT / "plain_pod.json").read_text())
    reviewed = patched(pod, json.loads((INJECT / "plain_patch.json").read_text()))
    (mine,), (other,) = admitted(rendered(values, version="1.36"), [pod]), admitted([], [reviewed])
    assert without_the_record(mine["pod"]) == without_the_record(other["pod"])


def test_a_pod_that_asks_for_more_than_the_policy_can_is_left_alone_and_told():
    objects = documents("injector-policy")
    special = [pod for _, pod in PODS if any(k.startswith("config.koorde.dev/") for k in pod["metadata"].get("annotations", {}))]
    assert special
    for pod, mine in zip(special, admitted(objects, special), strict=True):
        (key,) = [k for k in list(pod["metadata"]["annotations"]) if k.startswith("config.koorde.dev/")][:1]
        assert not any(c["name"] == "koorde" for c in mine["pod"]["spec"].get("initContainers", []))
        assert any(key in m and "injector.mode = webhook only" in m for m in mine["messages"]), mine["messages"]


def test_a_pod_with_its_sidecar_does_not_match_again():
    objects = documents("injector-policy")
    (once,) = admitted(objects, [{"metadata": {"name": "a"}, "spec": {"containers": [{"name": "app"}]}}])
    assert once["matched"] == ["koorde-injector-namespace"] and once["messages"] == []
    (twice,) = admitted(objects, [once["pod"]])
    assert twice == {"pod": once["pod"], "matched": [], "messages": []}


def test_the_policy_never_adds_a_list_of_objects_of_types():
    """API servers of 1.36 panic on it, and then `failurePolicy: Ignore` does not help."""
    objects = json.loads(json.dumps(documents("injector-policy")))
    (mutation,) = find(objects, "MutatingAdmissionPolicy")["spec"]["mutations"]
    mutation["jsonPatch"]["expression"] = (
        "[JSONPatch{op: 'add', path: '/spec/initContainers', value: [Object.spec.initContainers{name: 'koorde'}]}]"
    )
    done = evaluate(objects, [POD])
    assert done.returncode != 0 and "panic: reflect.Set" in done.stderr
    policy = find(documents("injector-policy"), "MutatingAdmissionPolicy")["spec"]
    text = yaml.safe_dump(policy["mutations"])
    assert "Object." not in text
    (mutation,) = policy["mutations"]
    assert mutation["patchType"] == "JSONPatch"
    expression = mutation["jsonPatch"]["expression"]
    empty = expression.index("path: '/spec/initContainers', value: []}")
    assert empty < expression.index("path: '/spec/initContainers/0', value: {")
    assert set(re.findall(r"value: (\[.)", expression)) == {"[]"}, "a list is the value of an operation only if it is empty"


def test_an_older_kubernetes_is_told_to_use_the_webhook():
    for version in ("1.30", "1.35"):
        done = chart.template(version=version, ci="injector-policy")
        assert done.returncode != 0
        assert "injector.mode = policy needs Kubernetes 1.36 or later" in done.stderr and f"v{version}.0" in done.stderr


# Whom the webhook and both policies are asked about: all three by the same selectors.

POD = {"metadata": {"name": "a", "labels": {}}, "spec": {"containers": [{"name": "app"}]}}


@pytest.mark.parametrize("ci", ["injector", "injector-policy"])
@pytest.mark.parametrize(
    ("of_namespace", "of_pod", "matched"),
    [
        ("enabled", None, "namespace"), ("enabled", "true", "namespace"), ("enabled", "false", None),
        (None, "true", "pod"), (None, None, None), (None, "false", None),
        ("disabled", "true", None), ("disabled", None, None),
        # Means nothing on a namespace, and hinders nobody who asks by the pod.
        ("true", "true", "pod"), ("true", None, None), ("true", "false", None),
    ],
)
def test_who_gets_a_sidecar(ci, of_namespace, of_pod, matched):
    labels = {} if of_namespace is None else {"koorde.dev/inject": of_namespace}
    pod = {**POD, "metadata": {"name": "a", "labels": {} if of_pod is None else {"koorde.dev/inject": of_pod}}}
    suffix = "{}.koorde.dev" if ci == "injector" else "koorde-injector-{}"
    for namespace, may in [("shop", True), ("web", False), ("kube-system", False), ("kube-flannel", False)]:
        (said,) = admitted(documents(ci), [pod], labels, namespace)
        expected = {suffix.format(matched)} if matched and may else set()
        assert set(said["matched"]) == expected, (namespace, said)


def test_a_typo_in_the_label_is_told():
    pod = {**POD, "metadata": {"name": "a", "labels": {"koorde.dev/inject": "yes"}}}
    for labels in ({}, ENABLED):
        (said,) = admitted(documents("injector-policy"), [pod], labels)
        assert 'koorde: label koorde.dev/inject: must be "true" or "false"' in said["messages"]
        (asked,) = admitted(documents("injector"), [pod], labels)
        assert asked["matched"], "the webhook refuses it"


def test_one_namespace_is_the_releases_own():
    objects = documents("sidecars-only")
    assert admitted(objects, [POD], namespace="web")[0]["matched"] and not admitted(objects, [POD])[0]["matched"]


def test_the_charts_own_pods_never_get_one():
    for ci in ("injector", "sidecars-only", "injector-policy"):
        for document in documents(ci):
            if document["kind"] in ("StatefulSet", "Deployment", "Job"):
                template = document["spec"]["template"]
            elif document["kind"] == "Pod":
                template = document
            else:
                continue
            assert template["metadata"]["labels"]["koorde.dev/inject"] == "false", document["kind"]


# The policy that looks at what came out.


def checked(pod, ci="injector", minor=30):
    (said,) = admitted(documents(ci), [pod], minor=minor)
    return said["messages"]


def with_sidecar(**sidecar):
    return {"metadata": {"name": "a"}, "spec": {"initContainers": [{"name": "koorde", **sidecar}], "containers": [{"name": "app"}]}}


def test_a_pod_without_its_sidecar_is_noticed():
    (missing,) = checked(POD)
    assert "has none" in missing and "kubectl -n web get deployment koorde-injector" in missing
    assert checked(with_sidecar(restartPolicy="Always")) == []
    (lost,) = checked(with_sidecar())
    assert "lost its restartPolicy" in lost
    assert checked({**POD, "spec": {**POD["spec"], "hostNetwork": True}}) == []
    assert checked({**POD, "spec": {**POD["spec"], "os": {"name": "windows"}}}) == []
    assert checked({**POD, "spec": {**POD["spec"], "nodeSelector": {"kubernetes.io/os": "windows"}}}) == []


def test_what_happens_then_is_yours_to_say():
    def said(missing, version="1.33"):
        objects = rendered({"injector": {"enabled": True, "missing": missing}}, version=version)
        bindings = [d["spec"] for d in objects if d["kind"] == "ValidatingAdmissionPolicyBinding"]
        policies = [d["spec"]["failurePolicy"] for d in objects if d["kind"] == "ValidatingAdmissionPolicy"]
        return policies, [b["validationActions"] for b in bindings]

    assert said("warn") == (["Ignore"], [["Warn", "Audit"]] * 2)
    assert said("deny") == (["Fail"], [["Deny", "Audit"]] * 2)
    assert said("allow") == ([], [])
    assert said("warn", "1.29") == ([], []), "there is no such policy yet"
