"""OpenTelemetry's own collector: it takes traces and metrics of two nodes and passes them on as JSON."""

import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cloudwatch"))

from cluster import Node, Origin, Server, eventually, free_port  # noqa: E402  the folder beside has the processes

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT, INTERNAL = 2, 3, 1


class Backend:
    """Where the collector passes everything on to."""

    def __init__(self):
        self.exports = {"/v1/traces": [], "/v1/metrics": []}
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            log_message = lambda *_: None  # noqa: E731

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                backend.exports[self.path].append(json.loads(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        """Each span, with the node that it is of."""
        return [
            (attributes(of["resource"])["service.instance.id"], span)
            for export in self.exports["/v1/traces"]
            for of in export["resourceSpans"]
            for scope in of["scopeSpans"]
            for span in scope["spans"]
        ]

    def metrics(self, node):
        """What a node has told, each time: metrics by name."""
        return [
            {metric["name"]: metric for scope in of["scopeMetrics"] for metric in scope["metrics"]}
            for export in self.exports["/v1/metrics"]
            for of in export["resourceMetrics"]
            if attributes(of["resource"])["service.instance.id"] == node
        ]


def attributes(of):
    return {one["key"]: next(iter(one["value"].values())) for one in of.get("attributes", ())}


class Collector:
    def __init__(self, folder, backend):
        self.ports = {"grpc": free_port(), "http/protobuf": free_port()}
        receiver = {
            "grpc": {"endpoint": f"127.0.0.1:{self.ports['grpc']}"},
            "http": {"endpoint": f"127.0.0.1:{self.ports['http/protobuf']}"},
        }
        pipeline = {"receivers": ["otlp"], "exporters": ["otlp_http"]}
        settings = {
            "receivers": {"otlp": {"protocols": receiver}},
            "exporters": {"otlp_http": {"endpoint": backend.url, "encoding": "json"}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}},
                "pipelines": {"traces": pipeline, "metrics": pipeline},
            },
        }
        # JSON is YAML.
        (folder / "collector.yaml").write_text(json.dumps(settings))
        command = [os.environ["KOORDE_COLLECTOR"], f"--config={folder}/collector.yaml"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        eventually(lambda: b"Everything is ready" in b"".join(self.log), "the collector is ready", 60)

    def endpoint(self, protocol):
        return f"http://127.0.0.1:{self.ports[protocol]}"

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def backend():
    backend = Backend()
    yield backend
    backend.server.shutdown()


@pytest.fixture
def collector(tmp_path, backend):
    collector = Collector(tmp_path, backend)
    yield collector
    collector.stop()


def ask(node, url):
    quoted = urllib.parse.quote(url, safe="")
    request = urllib.request.Request(
        f"http://127.0.0.1:{node.http}/cache?url={quoted}", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_traces_and_metrics_of_two_nodes_reach_the_collector(protocol, collector, backend):
    origin, nodes = Origin(), []
    settings = {
        "telemetry.otlp_endpoint": collector.endpoint(protocol),
        "telemetry.otlp_protocol": protocol,
        "telemetry.metrics_interval": "1s",
        "telemetry.sample_ratio": "0",
    }
    try:
        for index in range(2):
            seeds = [f"127.0.0.1:{nodes[0].ring}"] if nodes else []
            nodes.append(Node(f"koorde-{index}", seeds, settings))
        eventually(lambda: all(node.members() == 2 for node in nodes), "both know both")
        # One that has joined later would ask the first, from which it took the key over, before the origin.
        owner = lambda url: json.loads(nodes[0].get(f"/debug/explain?url={url}")[1])["owners"][0]  # noqa: E731
        url = next(url for url in (f"{origin.url}/{n}" for n in range(64)) if owner(url) == "koorde-0")
        asked = nodes[1]
        # Once through the owner to the origin; from then on it is there.
        for _ in range(4):
            assert len(ask(asked, url)) == 1000
        series = asked.series()
        eventually(lambda: len(backend.metrics(asked.name)) >= 2, "metrics come again and again")
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()
    eventually(lambda: any(span["name"] == "GET" for _, span in backend.spans()), "the last spans are there")

    spans = {span["spanId"]: (node, span) for node, span in backend.spans()}
    # From the origin's up to the client's. Only the first of the four requests had to go there.
    chain, above = [], next(id for id, (_, span) in spans.items() if span["name"] == "GET")
    while above in spans:
        node, span = spans[above]
        assert span["traceId"] == TRACE
        chain.append((node, span["name"], span["kind"]))
        above = span["parentSpanId"]
    assert above == PARENT
    far, near = "koorde-0", asked.name
    assert chain == [
        (far, "GET", CLIENT), (far, "koorde.fill", INTERNAL), (far, "koorde.peer.serve", SERVER),
        (near, "koorde.peer.get", CLIENT), (near, "koorde.fill", INTERNAL), (near, "GET /cache", SERVER),
    ]

    last = backend.metrics(asked.name)[-1]
    requests = {
        tuple(attributes(point).items()): int(point["asInt"])
        for point in last["koorde.cache.requests"]["sum"]["dataPoints"]
    }
    told = {
        f'koorde_cache_requests_total{{{",".join(f"{k}={json.dumps(v)}" for k, v in labels)}}}': count
        for labels, count in requests.items()
    }
    assert told == {name: value for name, value in series.items() if name.startswith("koorde_cache_requests_total")}
    assert sum(told.values()) == 4
    assert last["koorde.cache.requests"]["unit"] == "1" and last["koorde.cache.requests"]["sum"]["isMonotonic"]
    seconds = last["koorde.request.duration"]
    points = seconds["histogram"]["dataPoints"]
    assert seconds["unit"] == "s" and sum(int(point["count"]) for point in points) == 4
    for point in points:
        assert sum(map(int, point["bucketCounts"])) == int(point["count"])
        assert len(point["bucketCounts"]) == len(point["explicitBounds"]) + 1
    failed = 'koorde_telemetry_exports_total{exporter="otlp_metrics",outcome="error"}'
    assert series[failed] == 0


def test_who_waits_for_a_fill_links_to_it(collector, backend):
    """Of requests for one cold key one leads a fill, on each node that is asked; the others have a link to it."""
    asked, go = [], threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        log_message = lambda *_: None  # noqa: E731

        def do_GET(self):
            asked.append(self.path)
            go.wait(30)
            self.send_response(200)
            self.send_header("Cache-Control", "max-age=60")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"body")

    origin = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    node = Node("koorde-0", settings={"telemetry.otlp_endpoint": collector.endpoint("grpc")})
    try:
        url = f"http://127.0.0.1:{origin.server_port}/cold"
        jobs = [threading.Thread(target=ask, args=(node, url)) for _ in range(8)]
        for job in jobs:
            job.start()
        eventually(lambda: node.series()["koorde_requests_inflight"] == 8, "all wait")
        go.set()
        for job in jobs:
            job.join(30)
        node.stop()
    finally:
        node.kill()
        origin.shutdown()
    assert asked == ["/cold"]
    eventually(lambda: len(backend.spans()) == 10, "eight requests, one fill, one to the origin")
    spans = [span for _, span in backend.spans()]
    fill = next(span for span in spans if span["name"] == "koorde.fill")
    requests = [span for span in spans if span["name"] == "GET /cache"]
    links = {
        span["spanId"]: [(link["traceId"], link["spanId"]) for link in span.get("links", ())] for span in requests
    }
    assert links.pop(fill["parentSpanId"]) == [], "who leads waits for nobody"
    assert list(links.values()) == [[(TRACE, fill["spanId"])]] * 7
