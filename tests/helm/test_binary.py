"""The chart and the binary cannot drift apart: what is rendered runs in the real one."""

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import promql_parser
import pytest
import yaml

import chart

SIX = {"ipv6", "injector-provided"}
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("KOORDE_")}


def koorde(*arguments, env=None, timeout=120):
    return subprocess.run(
        [chart.KOORDE, *arguments], env={**CLEAN, **(env or {})}, capture_output=True, text=True, timeout=timeout
    )


def environment(documents, pod="koorde-0", ip="192.0.2.1"):
    """The variables of the node's container, as the kubelet would make them."""
    variables = {}
    for one in chart.node(documents)["env"]:
        if "value" in one:
            value = re.sub(r"\$\((\w+)\)", lambda m: variables[m[1]], one["value"])
        elif "fieldRef" in one["valueFrom"]:
            value = {"metadata.name": pod, "status.podIP": ip}[one["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            value = "secret-of-the-tests"
        variables[one["name"]] = value
    return variables


def flags(documents):
    args = chart.node(documents)["args"]
    assert args[:3] == ["serve", "--config", "/etc/koorde/koorde.yaml"], args
    return args[3:]


@pytest.fixture
def written(tmp_path):
    def write(documents):
        path = tmp_path / "koorde.yaml"
        maps = [d for d in documents if d["kind"] == "ConfigMap" and "koorde.yaml" in d.get("data", {})]
        path.write_text(maps[0]["data"]["koorde.yaml"])
        return str(path)

    return write


@pytest.mark.parametrize("ci", chart.RINGS)
def test_the_rendered_configuration_variables_and_flags_are_the_binarys(ci, written):
    documents = chart.documents(ci)
    env = environment(documents, ip="2001:db8::1" if ci in SIX else "192.0.2.1")
    done = koorde("config", "--check", written(documents), *flags(documents), env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), ci
    shown = koorde("config", "--config", written(documents), *flags(documents), "--json", env=env)
    said = {key: one["value"] for key, one in json.loads(shown.stdout).items()}
    assert said["node.name"] == "koorde-0"
    assert said["ring.advertise"] == ("[2001:db8::1]:4000" if ci in SIX else "192.0.2.1:4000")
    assert said["ring.secret"] == "(redacted)"


def test_what_the_binary_would_refuse_is_refused_by_this_check(written):
    documents = chart.rendered({"config": {"ring": {"degree": 17}}})
    done = koorde("config", "--check", written(documents), env=environment(documents))
    assert done.returncode == 2 and "ring.degree" in done.stderr


def test_the_defaults_of_the_chart_are_the_binarys():
    told = {k: v["value"] for k, v in json.loads(koorde("config", "--json").stdout).items()}
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    for port, key in [("http", "http.listen"), ("admin", "admin.listen"), ("grpc", "ring.listen")]:
        assert told[key].endswith(f":{values['ports'][port]}"), key
    # `koorde.drain` repeats them, to add them up.
    helper = (chart.CHART / "templates" / "_config.tpl").read_text()
    for step in ("delay", "leave", "finish", "flush"):
        assert f'"{step}" "{told[f"shutdown.{step}"]}"' in helper, step
    version = koorde("--version").stdout.split()[1]
    assert yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["appVersion"] == version


def test_what_is_generated_is_current():
    done = subprocess.run(
        [sys.executable, str(chart.ROOT / "helm" / "generate"), "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


# A real ring from the rendered values, on loopback.


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url, timeout=5):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def eventually(what, probe, seconds=60):
    end = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.1)


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802  the library's name
        body = b"x" * 1000
        self.send_response(500 if "fail" in self.path else 200)
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


class Ring:
    """Three nodes, started as their containers would be."""

    def __init__(self, stack, folder):
        documents = chart.documents("bench")
        config = chart.config(documents)
        config["egress"] = {"allow": ["127.0.0.1"]}
        path = folder / "koorde.yaml"
        path.write_text(yaml.safe_dump(config))
        grpc = [free_port() for _ in range(3)]
        self.nodes = []
        for index in range(3):
            http, admin = free_port(), free_port()
            env = environment(documents, pod=f"koorde-{index}", ip="127.0.0.1")
            env |= {
                "KOORDE_HTTP__LISTEN": f"127.0.0.1:{http}",
                "KOORDE_ADMIN__LISTEN": f"127.0.0.1:{admin}",
                "KOORDE_RING__LISTEN": f"127.0.0.1:{grpc[index]}",
                "KOORDE_RING__ADVERTISE": f"127.0.0.1:{grpc[index]}",
                "KOORDE_RING__SEEDS": ",".join(f"127.0.0.1:{port}" for port in grpc),
                "KOORDE_SHUTDOWN__DELAY": "0s",
            }
            with open(folder / f"{index}.log", "w") as log:
                process = subprocess.Popen(
                    [chart.KOORDE, "serve", "--config", str(path)], env={**CLEAN, **env}, stdout=log, stderr=log
                )
            stack.callback(self.end, process)
            self.nodes.append((f"http://127.0.0.1:{http}", f"http://127.0.0.1:{admin}"))
        for _, admin in self.nodes:
            eventually("a node is ready", lambda admin=admin: get(f"{admin}/readyz")[0] == 200)
            eventually("it knows all", lambda admin=admin: '"members":3' in get(f"{admin}/health")[1].replace(" ", ""))
        self.documents = documents
        server = http_server()
        stack.callback(server.shutdown)
        self.origin = f"http://127.0.0.1:{server.server_port}"

    @staticmethod
    def end(process):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()


def http_server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def ring(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        yield Ring(stack, tmp_path_factory.mktemp("ring"))


def container(documents, kind, name):
    for document in documents:
        if document["kind"] == kind:
            spec = document["spec"]
            for one in (spec["template"]["spec"] if kind == "Job" else spec)["containers"]:
                if one["name"] == name:
                    return one["args"]
    raise AssertionError(f"no container {name} in a {kind}")


def at_loopback(args, ring, **changes):
    """The arguments of a rendered container, with the addresses of this machine."""
    http, admin = ring.nodes[0]
    service = "http://koorde:8080"
    pod = "http://koorde-0.koorde-headless.web.svc.cluster.local:9090"
    assert service in args or pod in args, args
    return [{service: http, pod: admin, **changes}.get(arg, arg) for arg in args]


def test_the_rendered_bench_runs_against_the_ring(ring):
    args = container(ring.documents, "Job", "bench")
    here = at_loopback(
        args, ring,
        **{"http://origin.example.com/item?n={}": ring.origin + "/item?n={}", "5000000": "500", "10000": "50"},
    )
    assert "500" in here and "2000.5" in here
    done = koorde(*here, "--output", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["requests"] == 500 and report["errors"] == 0 and report["status_2xx"] == 500, report
    assert report["hit_rate"] > 0.5, report


def test_the_rendered_helm_test_passes_against_the_ring_and_fails_without_one(ring):
    pod = chart.find(ring.documents, "Pod", "koorde-test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    for name in ("ring", "stats", "fetch"):
        args = container(ring.documents, "Pod", name)
        done = koorde(*at_loopback(args, ring, **{"https://example.com/": ring.origin + "/page"}))
        assert done.returncode == 0, done.stderr
        nobody = f"http://127.0.0.1:{free_port()}"
        alone = [nobody if re.match("http://koorde", arg) else arg for arg in args]
        assert alone != args and koorde(*alone).returncode != 0, name


@pytest.fixture(scope="module")
def exported(ring):
    """Series of the ring after some of everything: {name: [labels, …]}."""
    http, admin = ring.nodes[0]
    for index in range(20):
        for node, _ in ring.nodes:
            assert get(f"{node}/cache?url={ring.origin}/some/{index}")[0] == 200
    get(f"{http}/cache?url=http://127.0.0.1:{free_port()}/")
    get(f"{http}/cache?url=http://169.254.169.254/")
    series = {}
    for _, admin in ring.nodes:
        status, text = get(f"{admin}/metrics/prometheus")
        assert status == 200
        for line in text.splitlines():
            match = re.match(r"([a-z_]+)(?:\{(.*)\})? ", line)
            if match:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                series.setdefault(match[1], []).append(labels)
    return series


def selectors(expression):
    """Every (metric, matchers) of an expression; fails if it is no PromQL."""
    found = []

    def walk(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, [(m.name, m.op, m.value) for m in node.matchers.matchers]))
        for attribute in ("expr", "lhs", "rhs", "vector_selector", "vs"):
            inner = getattr(node, attribute, None)
            if inner is not None and not isinstance(inner, str):
                walk(inner)
        for inner in getattr(node, "args", None) or []:
            walk(inner)

    walk(promql_parser.parse(expression))
    return found


def rules():
    groups = chart.find(chart.documents("monitoring"), "PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard():
    found = chart.find(chart.documents("monitoring"), "ConfigMap", "koorde-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(found["data"]["koorde.json"])


def expressions():
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def test_rules_and_dashboard_name_only_what_the_nodes_export(exported):
    # Given by Prometheus, not by the node.
    outside = {"namespace", "pod", "le"}
    count = 0
    for where, expression in expressions():
        found = selectors(expression)
        assert len(found) == len(re.findall(r"\bkoorde_\w+", expression)), f"{where}: not all were understood"
        for name, matchers in found:
            count += 1
            assert name in exported, f"{where}: {name} is not exported"
            known = {label for labels in exported[name] for label in labels} | outside
            for label, op, value in matchers:
                assert label in known, f"{where}: {name} has no label {label}"
                if label not in outside and "Re" not in str(op) and "Not" not in str(op):
                    values = {labels.get(label) for labels in exported[name]}
                    assert value in values, f"{where}: {name} has no {label}={value}"
        for grouped in re.findall(r"by \((\w+)\)", expression):
            assert any(grouped in labels for name, _ in found for labels in exported[name]), f"{where}: {grouped}"
    assert count > 40, count


def test_the_check_of_expressions_finds_something(exported):
    assert "koorde_gone_total" not in exported
    assert selectors('sum(rate(koorde_gone_total{a="b"}[5m])) / 2')[0][0] == "koorde_gone_total"
    with pytest.raises(Exception, match="."):
        selectors("sum(rate(koorde_x[5m])")


def test_alerts_say_what_and_how_bad():
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) >= 8
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning", "info") and rule["labels"]["team"] == "web"
        assert rule["annotations"]["summary"].endswith(".") and rule["annotations"]["description"]
        assert 'namespace="web"' in rule["expr"] and 'pod=~"koorde-[0-9]+"' in rule["expr"]


def test_monitors_scrape_a_path_that_exists(ring):
    monitor = chart.find(chart.documents("monitoring"), "ServiceMonitor")["spec"]
    service = chart.find(chart.documents("monitoring"), "Service", "koorde-headless")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    others = [d for d in chart.documents("monitoring") if d["kind"] == "Service" and d != service]
    assert others
    for other in others:
        assert not monitor["selector"]["matchLabels"].items() <= other["metadata"]["labels"].items(), "scraped twice"
    pod = chart.find(chart.documents("bench"), "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"] == pod["path"] and endpoint["port"] == pod["port"] == "admin"
    assert endpoint["port"] in [p["name"] for p in service["spec"]["ports"]]
    assert pod["port"] in [p["name"] for p in chart.node(chart.documents("bench"))["ports"]]
    assert get(ring.nodes[0][1] + endpoint["path"])[0] == 200


def test_probes_ask_paths_that_exist(ring):
    node = chart.node(ring.documents)
    for probe in ("startup", "readiness", "liveness"):
        assert get(ring.nodes[0][1] + node[f"{probe}Probe"]["httpGet"]["path"])[0] == 200
    for http, _ in ring.nodes:
        assert get(f"{http}/readyz")[0] == 200, "load balancers ask there"
