"""A cluster for kubectl: the API server of the injector's tests, and what its controllers and kubelets would have made
of the chart's objects. Pods run as processes of this machine, where a test says so."""

import base64
import hashlib
import http.client
import json
import re
import socket
import ssl
import struct
import subprocess
import urllib.parse
import urllib.request

import chart
from api_server import ApiServer

ADMIN = "token-of-the-operator"
RESOURCES = {
    "namespaces": "Namespace", "pods": "Pod", "services": "Service", "configmaps": "ConfigMap", "secrets": "Secret",
    "serviceaccounts": "ServiceAccount", "deployments": "Deployment", "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet", "cronjobs": "CronJob", "endpointslices": "EndpointSlice",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler", "poddisruptionbudgets": "PodDisruptionBudget",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration", "apiservices": "APIService",
    "mutatingadmissionpolicies": "MutatingAdmissionPolicy",
    "mutatingadmissionpolicybindings": "MutatingAdmissionPolicyBinding",
    "validatingadmissionpolicies": "ValidatingAdmissionPolicy",
    "validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding",
}


def selected(selector, labels):
    """Whether labels are what a label selector means."""
    tests = {
        "In": lambda value, values: value in values, "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, _: value is not None, "DoesNotExist": lambda value, _: value is None,
    }
    return all(tests[one["operator"]](labels.get(one["key"]), one.get("values", []))
               for one in selector.get("matchExpressions", [])) and selector.get("matchLabels", {}).items() <= labels.items()


def patched(pod, patch):
    """A pod after a JSON patch that only adds."""
    pod = json.loads(json.dumps(pod))
    for operation in patch:
        assert operation["op"] == "add"
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        at = pod
        for part in path:
            at = at[int(part) if isinstance(at, list) else part]
        if isinstance(at, list):
            at.insert(len(at) if last == "-" else int(last), operation["value"])
        else:
            at[last] = operation["value"]
    return pod


class Cluster(ApiServer):
    """What kubectl needs of a cluster. `denied` are resources that nobody may list."""

    def __init__(self, directory, documents, version="v1.33.2"):
        super().__init__(directory, json.loads(json.dumps(documents)))
        self.version_, self.denied = version, set()
        self.processes, self.services, self.pods_made = {}, {}, 0
        for name in ("default", "kube-system", "web", "shop"):
            self.add("Namespace", None, name, labels={"kubernetes.io/metadata.name": name})
        self.add("APIService", None, "v1beta1.metrics.k8s.io", status={"conditions": [{"type": "Available", "status": "True"}]})
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "me", "user": {"token": ADMIN}}],
        }))
        self.settle()

    def add(self, kind, namespace, name, labels=None, **more):
        metadata = {"name": name, "labels": dict(labels or {})}
        if namespace:
            metadata["namespace"] = namespace
        made = {"kind": kind, "metadata": metadata, **more}
        self.objects[kind, namespace, name] = made
        return made

    def get(self, kind, name, namespace="web"):
        return self.objects[kind, namespace, name]

    def of(self, kind):
        return [one for (found, _, _), one in self.objects.items() if found == kind]

    # What controllers do.

    def settle(self):
        """Makes the pods of all workloads, all of them ready, and says so wherever it is said."""
        for workload in self.of("StatefulSet") + self.of("Deployment"):
            name, namespace = workload["metadata"]["name"], workload["metadata"]["namespace"]
            count = workload["spec"].get("replicas", 3)
            workload["spec"]["replicas"] = count
            workload["status"] = {"readyReplicas": count, "updatedReplicas": count, "replicas": count}
            for index in range(count):
                pod = f"{name}-{index}" if workload["kind"] == "StatefulSet" else f"{name}-5d8f-{index}"
                template = json.loads(json.dumps(workload["spec"]["template"]))
                self.run(namespace, pod, template, owner=(workload["kind"], name))
        self.publish()
        for budget in self.of("PodDisruptionBudget"):
            count = len([p for p in self.of("Pod") if selected(budget["spec"]["selector"], p["metadata"]["labels"])])
            budget["status"] = {"expectedPods": count, "currentHealthy": count, "desiredHealthy": count - 1, "disruptionsAllowed": 1}

    def run(self, namespace, name, template, owner=None):
        """A pod that runs, under the webhooks and policies of nobody."""
        self.pods_made += 1
        pod = self.add("Pod", namespace, name, template.get("metadata", {}).get("labels"), spec=template["spec"])
        pod["metadata"]["annotations"] = template.get("metadata", {}).get("annotations", {})
        if owner:
            kind, of = owner
            if kind == "Deployment":
                kind, of = "ReplicaSet", f"{of}-5d8f"
                pod["metadata"]["labels"]["pod-template-hash"] = "5d8f"
            pod["metadata"]["ownerReferences"] = [{"kind": kind, "name": of, "controller": True}]
        pod["status"] = {
            "phase": "Running", "podIP": f"10.0.0.{self.pods_made}", "conditions": [{"type": "Ready", "status": "True"}],
        }
        return pod

    def publish(self):
        for service in self.of("Service"):
            namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
            pods = [p for p in self.of("Pod") if p["metadata"]["namespace"] == namespace
                    and service["spec"]["selector"].items() <= p["metadata"]["labels"].items()]
            self.add("EndpointSlice", namespace, f"{name}-x", {"kubernetes.io/service-name": name}, endpoints=[
                {"addresses": [p["status"]["podIP"]], "conditions": {"ready": True}} for p in pods])

    # What is served.

    def call(self, method, path, headers, body):
        if headers.get("Authorization") != f"Bearer {ADMIN}":
            return super().call(method, path, headers, body)
        path, _, query = path.partition("?")
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        query.pop("timeout", None)
        found = self.discovery(path)
        if found is not None:
            return 200, found
        if "accessreviews" in path:
            return 201, self.access(json.loads(body))
        proxied = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/:]+):\d+/proxy(/.*)", path)
        if proxied:
            admin = self.processes.get((proxied[1], proxied[2]))
            if admin is None:
                return 503, {"kind": "Status", "status": "Failure", "message": "nobody is there", "code": 503}
            with urllib.request.urlopen(admin + proxied[3], timeout=10) as answer:
                return 200, json.loads(answer.read())
        match = re.fullmatch(r"/(?:api|apis/([^/]+))/(v\w+)(?:/namespaces/([^/]+))?/([^/]+)(?:/([^/]+))?", path)
        namespace, resource, name = match[3], match[4], match[5]
        kind = RESOURCES[resource]
        if resource in self.denied:
            message = f'{resource} is forbidden: User "me" cannot list resource "{resource}"'
            return 403, {"kind": "Status", "status": "Failure", "reason": "Forbidden", "message": message, "code": 403}
        if method == "POST":
            assert resource == "pods" and query == {"dryRun": "All"}, "a check changes nothing"
            return 201, self.admit(namespace, json.loads(body))
        if name:
            one = self.objects.get((kind, namespace, name))
            message = f'{resource} "{name}" not found'
            missing = {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": message, "code": 404}
            return (404, missing) if one is None else (200, {"apiVersion": "v1", **one})
        labels = [one.partition("=")[::2] for one in query.get("labelSelector", "").split(",") if one]

        def fits(one):
            has = one["metadata"].get("labels", {})
            return namespace in (None, one["metadata"].get("namespace")) and all(
                key in has and value in ("", has[key]) for key, value in labels)

        items = [{k: v for k, v in one.items() if k != "kind"} for one in self.of(kind) if fits(one)]
        # Two to a page, so that pages are asked for.
        begin = int(query.get("continue") or 0)
        metadata = {"continue": str(begin + 2)} if begin + 2 < len(items) and "limit" in query else {}
        page = items[begin:begin + 2] if "limit" in query else items
        return 200, {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": page}

    def discovery(self, path):
        if path == "/version":
            return {"major": "1", "minor": self.version_.split(".")[1], "gitVersion": self.version_}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
        if path == "/api/v1":
            names = ("namespaces", "pods", "secrets")
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
                {"name": name, "singularName": name[:-1], "namespaced": name != "namespaces", "kind": RESOURCES[name],
                 "verbs": ["get", "list"]} for name in names]}
        return None

    def access(self, review):
        asked = review["spec"]["resourceAttributes"]
        if review["kind"] == "SelfSubjectAccessReview":
            allowed = asked["resource"] not in self.denied
        else:
            account = review["spec"]["user"].rpartition(":")[2]
            subjects = [s["name"] for d in self.of("RoleBinding") + self.of("ClusterRoleBinding") for s in d["subjects"]]
            rules = [(d["metadata"].get("namespace"), rule) for d in self.of("Role") + self.of("ClusterRole") for rule in d["rules"]]
            self.rules = rules
            allowed = account in subjects and self.may(
                asked["verb"], asked["group"], asked["resource"], asked["namespace"], asked["name"])
        return {**review, "status": {"allowed": allowed}}

    def admit(self, namespace, pod):
        """A new pod, as the webhooks want it; those that do not answer are ignored."""
        of_namespace = self.objects["Namespace", None, namespace]["metadata"]["labels"]
        for configuration in self.of("MutatingWebhookConfiguration"):
            for webhook in configuration["webhooks"]:
                labels = pod["metadata"].get("labels", {})
                if selected(webhook["namespaceSelector"], of_namespace) and selected(webhook["objectSelector"], labels):
                    try:
                        pod = patched(pod, self.review(webhook["clientConfig"], namespace, pod))
                    except (OSError, KeyError):
                        pass
        return pod

    def review(self, client, namespace, pod):
        service = client["service"]
        port = self.services[service["namespace"], service["name"]]
        name = f"{service['name']}.{service['namespace']}.svc"
        request = {
            "uid": "1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "dryRun": True,
            "namespace": namespace, "object": pod,
        }
        body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
        context = ssl.create_default_context(cadata=base64.b64decode(client["caBundle"]).decode())
        with socket.create_connection(("127.0.0.1", port), timeout=3) as tcp:
            with context.wrap_socket(tcp, server_hostname=name) as tls:
                connection = http.client.HTTPConnection(name)
                connection.sock = tls
                connection.request("POST", service["path"], body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())["response"]
        return json.loads(base64.b64decode(answer["patch"])) if "patch" in answer else []

    def upgrade(self, handler):
        """`kubectl exec` over a WebSocket (v5.channel.k8s.io): the command of a container, run here."""
        url = urllib.parse.urlparse(handler.path)
        match = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/exec", url.path)
        query = urllib.parse.parse_qs(url.query)
        program, *arguments = query["command"]
        assert (program, query["container"]) == ("/usr/bin/koorde", ["koorde"])
        admin = self.processes.get((match[1], match[2]), "http://127.0.0.1:1")
        command = [chart.KOORDE, *[admin if one.startswith("http://127.0.0.1:") else one for one in arguments]]
        done = subprocess.run(command, capture_output=True, timeout=60)
        key = handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        handler.send_response(101)
        handler.send_header("Upgrade", "websocket")
        handler.send_header("Connection", "Upgrade")
        handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        handler.send_header("Sec-WebSocket-Protocol", handler.headers["Sec-WebSocket-Protocol"].split(",")[0].strip())
        handler.end_headers()
        status = {"metadata": {}, "status": "Success"}
        if done.returncode:
            causes = [{"reason": "ExitCode", "message": str(done.returncode)}]
            message = f"command terminated with non-zero exit code: exit status {done.returncode}"
            status = {"status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": {"causes": causes}}

        def frame(code, payload):
            size = len(payload)
            head = bytes([size]) if size < 126 else struct.pack("!BH", 126, size) if size < 65536 else struct.pack("!BQ", 127, size)
            handler.wfile.write(bytes([0x80 | code]) + head + payload)

        frame(2, b"\x01" + done.stdout)
        frame(2, b"\x02" + done.stderr)
        frame(2, b"\x03" + json.dumps(status).encode())
        frame(8, struct.pack("!H", 1000))
        handler.wfile.flush()
        handler.close_connection = True
        handler.connection.settimeout(5)
        try:
            while handler.rfile.read(1):
                pass
        except OSError:
            pass
