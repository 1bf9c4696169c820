"""What `koorde inject` writes: objects that Kubernetes takes, pods that `restricted` admits, and configuration
that the binary reads."""

import os
import subprocess

import pytest

import chart

INJECT = chart.ROOT / "tests" / "inject"
# Kinds of others, and fields that do not exist on purpose.
NOT_KUBERNETES = {"rollout.yaml", "knative.yaml", "unknown_fields.yaml"}
# `volumeMounts:` with nothing behind it: clients drop what is null before they send it.
NULLS = {"nulls.yaml"}
CASES = sorted(path.name for path in (INJECT / "injected").iterdir())


def koorde(*arguments, stdin=None, env=None):
    return subprocess.run(
        [chart.KOORDE, *arguments], input=stdin, env=env, capture_output=True, text=True, timeout=60
    )


def injected(name):
    done = koorde("inject", "--settings", str(INJECT / "settings.yaml"), str(INJECT / "cases" / name))
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(name):
    for document in chart.parse(injected(name)):
        yield from document["items"] if document["kind"] == "List" else [document]


def templates(name):
    """The specs of pods with a sidecar."""
    for document in objects(name):
        spec = document.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        pod = spec if document["kind"] == "Pod" else spec.get("template", {}).get("spec", {})
        if any(c["name"] == "koorde" for c in pod.get("initContainers") or []):
            yield pod


@pytest.mark.parametrize("version", ["1.29", "1.33", "1.36"])
@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_KUBERNETES | NULLS])
def test_it_is_valid(name, version):
    for document in objects(name):
        chart.kubernetes.validate(document, version, strict=True)


@pytest.mark.parametrize("name", CASES)
def test_the_sidecar_itself_is_restricted(name):
    found = 0
    for pod in templates(name):
        sidecar = next(c for c in pod["initContainers"] if c["name"] == "koorde")
        assert chart.restricted({"containers": [sidecar]}) == []
        assert sidecar["resources"]["requests"].keys() == {"cpu", "memory", "ephemeral-storage"} and sidecar["resources"]["limits"]["memory"]
        found += 1
    assert found


def test_a_restricted_pod_stays_one():
    (pod,) = templates("restricted.yaml")
    assert chart.restricted(pod) == []


@pytest.mark.parametrize("name", CASES)
def test_the_binary_reads_the_sidecars_variables(name, tmp_path):
    empty = tmp_path / "koorde.yaml"
    empty.write_text("")
    for pod in templates(name):
        sidecar = next(c for c in pod["initContainers"] if c["name"] == "koorde")
        assert sidecar["args"] == ["serve"]
        fields = {"POD_NAME": "web-0", "POD_NAMESPACE": "web", "POD_IP": "192.0.2.7"}
        env = {"PATH": os.environ["PATH"], "KOORDE_SERVICE_HOST": "192.0.2.1", **fields}
        for variable in sidecar["env"]:
            value = variable.get("value", fields.get(variable["name"], "a-ring-secret-of-some-length"))
            for field, known in fields.items():
                value = value.replace(f"$({field})", known)
            env[variable["name"]] = value
        done = koorde("config", "--check", str(empty), env=env)
        assert done.returncode == 0, done.stderr
