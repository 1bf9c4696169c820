"""What an upgrade keeps, with Helm's own `lookup` against an API server that has what the first install made."""

import base64
import contextlib
import http.server
import json
import threading

import pytest
import yaml

import chart


KINDS = {
    "v1": ["ConfigMap", "Pod", "Secret", "Service", "ServiceAccount"],
    "apps/v1": ["StatefulSet"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
}


def discovery():
    """Path and answer of everything by which a client learns what there is."""
    groups = [{"groupVersion": group, "version": "v1"} for group in KINDS if "/" in group]
    yield "/version", {"major": "1", "minor": "33", "gitVersion": "v1.33.0"}
    yield "/api", {"kind": "APIVersions", "versions": ["v1"]}
    yield "/apis", {
        "kind": "APIGroupList", "apiVersion": "v1",
        "groups": [{"name": g["groupVersion"].split("/")[0], "versions": [g], "preferredVersion": g} for g in groups],
    }
    for group, kinds in KINDS.items():
        plural = lambda kind: kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")  # noqa: E731
        resources = [{"name": plural(k), "kind": k, "namespaced": True, "verbs": ["get"]} for k in kinds]
        path = f"/apis/{group}" if "/" in group else f"/api/{group}"
        yield path, {"kind": "APIResourceList", "groupVersion": group, "resources": resources}


class Api(http.server.BaseHTTPRequestHandler):
    """As much of an API server as `helm template --dry-run=server` asks for: discovery, and one Secret."""

    secrets = {}

    def do_GET(self):  # noqa: N802  the library's name
        path = self.path.split("?")[0]
        name = path.rpartition("/secrets/")[2]
        answers = dict(discovery())
        if path in answers:
            self.answer(200, answers[path])
        elif name in self.secrets:
            self.answer(200, self.secrets[name])
        else:
            self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def answer(self, status, tree):
        body = json.dumps(tree).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def cluster(tmp_path):
    """A kubeconfig of a server that has the given Secrets."""
    with contextlib.ExitStack() as stack:

        def start(*secrets):
            handler = type("Handler", (Api,), {"secrets": {s["metadata"]["name"]: s for s in secrets}})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            path = tmp_path / f"kubeconfig-{server.server_port}"
            path.write_text(yaml.safe_dump({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "users": [{"name": "u", "user": {}}],
            }))
            return str(path)

        yield start


def secret(which, kubeconfig):
    """The ring's Secret as Helm renders it against a cluster."""
    done = chart.helm(
        which, "template", "koorde", str(chart.CHART), "--namespace", "web", "--dry-run=server",
        "--kube-version", "1.33.0", "--disable-openapi-validation", "--kubeconfig", kubeconfig, "--show-only", "templates/node/secret.yaml",
    )
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


@pytest.mark.parametrize("which", chart.HELMS)
def test_the_rings_secret_is_made_once_and_kept(which, cluster):
    first, other = secret(which, cluster()), secret(which, cluster())
    assert first["data"] != other["data"], "each ring has a secret of its own"
    assert len(base64.b64decode(first["data"]["ring-secret"])) == 48
    # Helm writes these two when it installs; also what is left of a release that is gone is taken over by them.
    first["metadata"]["annotations"] |= {"meta.helm.sh/release-name": "koorde", "meta.helm.sh/release-namespace": "web"}
    assert secret(which, cluster(first))["data"] == first["data"]
