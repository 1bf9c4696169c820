"""Real processes to test with: nodes, an origin, moto's server, and a wire before it that records."""

import datetime
import gzip
import http.client
import http.server
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cbor2

KOORDE = os.environ["KOORDE_BINARY"]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("KOORDE_", "AWS_"))}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def eventually(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # A connection that a node has closed is no news.
    handle_error = lambda self, *_: None  # noqa: E731


class Origin:
    """Everything may be stored for an hour; `/private` may not."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            log_message = lambda *_: None  # noqa: E731

            def do_GET(self):
                body = b"x" * 1000
                self.send_response(200)
                fresh = "private" if self.path.startswith("/private") else "max-age=3600"
                self.send_header("Cache-Control", fresh)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Moto:
    """moto's server, a process of its own."""

    def __init__(self):
        self.port = free_port()
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        eventually(self.answers, "moto's server answers", 60)

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def call(self, action, tree):
        """Status and answer of a call, in JSON: moto does not speak the CBOR that SDKs speak by now."""
        scope = f"test/{datetime.date.today():%Y%m%d}/eu-west-1/monitoring/aws4_request"
        fields = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"GraniteServiceVersion20100801.{action}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        moment = lambda value: value.timestamp()  # noqa: E731
        connection.request("POST", "/", json.dumps(tree, default=moment), fields)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text or "{}")

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


def with_moments(tree):
    """Moments are numbers in JSON and have a kind of their own in CBOR; what is null is left out."""
    if isinstance(tree, list):
        return [with_moments(part) for part in tree]
    if not isinstance(tree, dict):
        return tree
    moment = lambda value: datetime.datetime.fromtimestamp(value, datetime.UTC)  # noqa: E731
    is_moment = lambda key: key.endswith(("Timestamp", "LastModified"))  # noqa: E731
    return {k: moment(v) if is_moment(k) else with_moments(v) for k, v in tree.items() if v is not None}


class Wire:
    """What nodes call: decodes the SDK's CBOR, records it, hands it on to moto; throttles, goes away, comes back."""

    def __init__(self, moto):
        self.moto, self.port = moto, free_port()
        self.accepted, self.throttled, self.gzipped = [], 0, 0
        self.throttles, self.lock, self.server = False, threading.Lock(), None
        self.calls, self.composites, self.denied = [], {}, set()
        self.gateway, self.lost = None, 0
        self.up()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def up(self):
        wire = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            log_message = lambda *_: None  # noqa: E731

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, fields, answer = wire.answer(self.path, dict(self.headers), body)
                self.send_response(status)
                for name, value in fields:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def down(self):
        """Nobody listens any more."""
        self.server.shutdown()
        # Whoever has connected by now is answered: what was sent and not answered is nobody's fault here.
        self.server.timeout = 0
        while select.select([self.server.socket], [], [], 0)[0]:
            self.server.handle_request()
        self.server.server_close()

    def answer(self, path, fields, body):
        before, operation = path.rsplit("/", 1)
        assert before == "/service/GraniteServiceVersion20100801/operation", path
        is_gzip = fields.get("Content-Encoding", fields.get("content-encoding")) == "gzip"
        tree = cbor2.loads(gzip.decompress(body) if is_gzip else body)
        kind = [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")]
        if self.gateway:
            # Somebody between: CloudWatch has it, and its answer was lost.
            self.lost += 1
            return self.gateway, [("Content-Type", "text/html")], b"<h1>Bad gateway</h1>"
        if self.throttles:
            self.throttled += 1
            error = {"__type": "com.amazonaws.cloudwatch#ThrottlingException", "message": "Rate exceeded"}
            return 400, kind, cbor2.dumps(error)
        assert "AWS4-HMAC-SHA256 Credential=test/" in fields.get("authorization", fields.get("Authorization", ""))
        if operation != "PutMetricData":
            status, answer = self.watch(operation, tree)
            return status, kind, cbor2.dumps(answer, timezone=datetime.UTC, datetime_as_timestamp=True)
        status, answer = self.moto.call("PutMetricData", tree)
        assert status == 200, answer
        with self.lock:
            self.gzipped += is_gzip
            self.accepted.append((len(body), tree))
        return 200, kind, cbor2.dumps({})

    def watch(self, operation, tree):
        """Calls about dashboards and alarms. moto has no PutCompositeAlarm: alarms of alarms are kept here."""
        with self.lock:
            self.calls.append((operation, tree))
        if operation in self.denied:
            return 403, {"__type": "com.amazonaws.cloudwatch#AccessDenied", "message": f"not allowed: {operation}"}
        if operation == "PutCompositeAlarm":
            self.composites[tree["AlarmName"]] = tree
            return 200, {}
        if operation == "DeleteAlarms":
            composites = [name for name in tree["AlarmNames"] if name in self.composites]
            # As the API has it: one a call, and none that another one names.
            others = [c for c in self.composites.values() if c["AlarmName"] not in composites]
            named = [n for n in tree["AlarmNames"] for o in others if f'"{n}"' in o["AlarmRule"] or n == o.get("ActionsSuppressor")]
            if len(composites) > 1 or named:
                return 400, {"__type": "com.amazonaws.cloudwatch#ValidationError", "message": f"{composites} {named}"}
            for name in composites:
                del self.composites[name]
            tree = {"AlarmNames": [name for name in tree["AlarmNames"] if name not in composites]}
            if not tree["AlarmNames"]:
                return 200, {}
        status, answer = self.moto.call(operation, tree)
        if operation == "DescribeAlarms" and status == 200:
            answer["CompositeAlarms"] = [c for name, c in self.composites.items() if name in tree["AlarmNames"]]
        return status, with_moments(answer)

    def data(self, name):
        """Every datum of a metric that was accepted."""
        for _, tree in self.accepted:
            for datum in tree["MetricData"]:
                if datum["MetricName"] == name:
                    yield datum

    def values(self, name):
        """Value to count, over all that was accepted."""
        counts = {}
        for datum in self.data(name):
            assert len(datum["Values"]) == len(datum["Counts"]) <= 150
            for value, count in zip(datum["Values"], datum["Counts"], strict=True):
                counts[value] = counts.get(value, 0) + count
        return counts


class Node:
    def __init__(self, name, seeds=(), settings=None, env=None):
        self.name = name
        self.http, self.admin, self.ring = free_port(), free_port(), free_port()
        given = {
            "node.name": name,
            "http.listen": f"127.0.0.1:{self.http}",
            "admin.listen": f"127.0.0.1:{self.admin}",
            "ring.listen": f"127.0.0.1:{self.ring}",
            "ring.seeds": ",".join(seeds),
            "egress.allow": "127.0.0.1",
            "log.format": "json",
            "shutdown.delay": "0s",
            "cloudwatch.region": "eu-west-1",
            **(settings or {}),
        }
        flags = [part for key, value in given.items() if value is not None for part in (f"--{key}", value)]
        began = time.monotonic()
        self.process = subprocess.Popen(
            [KOORDE, "serve", *flags], env={**CLEAN, **(CREDENTIALS if env is None else env)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.out, self.err = [], []
        self.readers = [
            threading.Thread(target=lambda s=s, to=to: to.extend(s), daemon=True)
            for s, to in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self.readers:
            reader.start()
        eventually(self.is_ready, f"{name} is ready: {b''.join(self.err).decode()}")
        self.start_took = time.monotonic() - began

    def get(self, path, port=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.admin, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self):
        try:
            return self.get("/readyz", timeout=2)[0] == 200
        except OSError:
            return False

    def members(self):
        return json.loads(self.get("/metrics/json")[1])["routing"]["members"]

    def series(self):
        """Name with labels to number, as Prometheus sees it."""
        text = self.get("/metrics/prometheus")[1]
        lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in lines}

    def load(self, urls):
        """Asks for each through one connection; seconds that each took."""
        connection, took = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30), []
        for url in urls:
            began = time.monotonic()
            connection.request("GET", f"/cache?url={url}")
            answer = connection.getresponse()
            assert answer.status == 200 and len(answer.read()) == 1000
            took.append(time.monotonic() - began)
        connection.close()
        return took

    def resident(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def logged(self, words):
        return [line for line in self.err if words.encode() in line]

    def stop(self):
        """SIGTERM, and its end; seconds that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, b"".join(self.err).decode()
        for reader in self.readers:
            reader.join(10)
        return time.monotonic() - began

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
