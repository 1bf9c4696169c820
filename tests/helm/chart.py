"""Rendering the chart, and what every test asks of what comes out."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import kubernetes_validate.utils as kubernetes
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "koorde"
HELMS = {"Helm 3": os.environ["KOORDE_HELM3"], "Helm 4": os.environ["KOORDE_HELM4"]}
VERSIONS = ["1.29", "1.31", "1.33", "1.36"]
CI = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
# Those that no older Kubernetes takes, and those without nodes of the ring's own.
LEAST = {"injector-policy": "1.36"}
RINGS = [ci for ci in CI if ci != "sidecars-only"]
# Those with the webhook.
WEBHOOKS = [ci for ci in CI if ci.startswith(("injector", "sidecars")) and ci not in LEAST]
KOORDE = os.environ["KOORDE_BINARY"]

# Helm writes there what it learns about clusters and charts.
HOME = tempfile.mkdtemp(prefix="koorde-helm-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

# Kinds of the Prometheus Operator and of cert-manager: Kubernetes' own schemas do not know them.
CUSTOM = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate", "Issuer"}
# Kinds of objects that are in no namespace.
CLUSTER = {
    "ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration", "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}

# The library reads its files at every call; they don't change.
kubernetes.schema_contents = functools.cache(kubernetes.schema_contents)
kubernetes.all_versions = functools.cache(kubernetes.all_versions)


def helm(which, *arguments, values=None):
    """Runs Helm, without a cluster and without the user's own settings."""
    home = {"HOME": HOME, "KUBECONFIG": "/dev/null", "PATH": os.environ["PATH"]}
    command = [HELMS[which], *arguments]
    if values is not None:
        command += ["--values", "-"]
    return subprocess.run(
        command, input=None if values is None else json.dumps(values), env=home, capture_output=True, text=True, timeout=120
    )


def template(which="Helm 3", version="1.33", *, ci=None, values=None, name="koorde", extra=()):
    """`helm template` as it ends: its output, or its error."""
    files = [] if ci is None else ["--values", str(CHART / "ci" / f"{ci}-values.yaml")]
    return helm(
        which, "template", name, str(CHART), "--namespace", "web", "--kube-version", f"{version}.0",
        *files, *extra, values=values,
    )


@functools.cache
def text(which, version, ci):
    done = template(which, version, ci=ci)
    assert done.returncode == 0, done.stderr
    return done.stdout


def parse(output):
    return [document for document in yaml.safe_load_all(output) if document is not None]


def takes(ci, version):
    """Whether a set of values is for a version of Kubernetes."""
    return [int(part) for part in version.split(".")] >= [int(part) for part in LEAST.get(ci, "1.0").split(".")]


def documents(ci="default", which="Helm 3", version=None):
    return parse(text(which, version or LEAST.get(ci, "1.33"), ci))


def rendered(values, **more):
    done = template(values=values, **more)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def find(documents, kind, name=None):
    """The only object of a kind (and a name)."""
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert len(found) == 1, f"{kind} {name}: {[d['metadata']['name'] for d in found]}"
    return found[0]


def kinds(documents):
    return {d["kind"] for d in documents}


def pods(documents):
    """(object's name, pod's spec) of everything that becomes a pod."""
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], spec
        elif document["kind"] in ("StatefulSet", "Job", "Deployment"):
            yield document["metadata"]["name"], spec["template"]["spec"]


def node(documents):
    """The container `koorde` of the StatefulSet."""
    containers = find(documents, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return next(c for c in containers if c["name"] == "koorde")


def config(documents):
    """The node's configuration, parsed."""
    maps = [d for d in documents if d["kind"] == "ConfigMap" and "koorde.yaml" in d.get("data", {})]
    assert len(maps) == 1
    return yaml.safe_load(maps[0]["data"]["koorde.yaml"])


def restricted(spec):
    """What Pod Security's profile `restricted` has against a pod; empty if nothing."""
    against = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in spec.get("volumes", []):
        against += [f"volume {volume['name']} is a {kind}" for kind in set(volume) - {"name"} - allowed]
    of_pod = spec.get("securityContext", {})
    for container in spec.get("initContainers", []) + spec["containers"]:
        of_it, name = container.get("securityContext", {}), container["name"]
        effective = {**of_pod, **of_it}
        capabilities = of_it.get("capabilities", {})
        wrong = {
            "may escalate": of_it.get("allowPrivilegeEscalation") is not False,
            "is privileged": bool(of_it.get("privileged")),
            "keeps capabilities": "ALL" not in capabilities.get("drop", []),
            "adds capabilities": bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}),
            "may be root": effective.get("runAsNonRoot") is not True,
            "is root": effective.get("runAsUser") == 0,
            "has no seccomp profile": effective.get("seccompProfile", {}).get("type")
            not in ("RuntimeDefault", "Localhost"),
            "has a host port": any("hostPort" in port for port in container.get("ports", [])),
        }
        against += [f"{name} {what}" for what, is_so in wrong.items() if is_so]
    return against
