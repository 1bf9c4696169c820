"""A real Prometheus: it scrapes five nodes, loads the chart's rules, answers the dashboard's queries."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cloudwatch"))

from cluster import Node, Origin, eventually, free_port  # noqa: E402  the folder beside has the processes

NODES = 5
# Within seconds, what a second a scrape makes: enough points for a rate.
INTERVAL, RATE = "1s", "20s"


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    """The chart's rules as a file for Prometheus."""
    command = [
        os.environ["KOORDE_HELM3"], "template", "koorde", str(ROOT / "helm" / "koorde"), "--namespace", "web",
        "--kube-version", "1.33.0", "--set", "metrics.rules.enabled=true,injector.enabled=true",
        "--show-only", "templates/node/rules.yaml", "--show-only", "templates/injector/rules.yaml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    groups = [group for document in yaml.safe_load_all(done.stdout) for group in document["spec"]["groups"]]
    path = tmp_path_factory.mktemp("rules") / "koorde.yaml"
    path.write_text(yaml.safe_dump({"groups": groups}))
    return path


class Prometheus:
    def __init__(self, folder, rules, nodes, path):
        self.port = free_port()
        targets = [
            {"targets": [f"127.0.0.1:{node.admin}"], "labels": {"namespace": "web", "pod": node.name}} for node in nodes
        ]
        settings = {
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "koorde", "metrics_path": path, "static_configs": targets}],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"],
        )
        eventually(self.answers, "Prometheus answers", 60)

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def answers(self):
        try:
            return self.get("/api/v1/status/buildinfo")
        except OSError:
            return False

    def query(self, expression):
        """Labels and number of each series that a query gives."""
        return [(r["metric"], float(r["value"][1])) for r in self.get("/api/v1/query", query=expression)["result"]]

    def up(self):
        return [value for _, value in self.query("up")]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def nodes():
    with contextlib.ExitStack() as stack:
        nodes = []
        for index in range(NODES):
            seeds = [f"127.0.0.1:{nodes[0].ring}"] if nodes else []
            nodes.append(Node(f"koorde-{index}", seeds))
            stack.callback(nodes[-1].kill)
        eventually(lambda: all(node.members() == NODES for node in nodes), "all know all")
        yield nodes


@contextlib.contextmanager
def traffic(nodes, origin):
    """Hits and misses on all nodes, until the end."""
    end, failed = threading.Event(), []

    def load(node):
        number = 0
        while not end.is_set():
            try:
                node.load([f"{origin.url}/{(number + n) % 400}" for n in range(20)])
            except AssertionError as error:
                failed.append(error)
            number += 17
            end.wait(0.2)

    jobs = [threading.Thread(target=load, args=(node,)) for node in nodes]
    for job in jobs:
        job.start()
    try:
        yield
    finally:
        end.set()
        for job in jobs:
            job.join()
    assert failed == []


def queries():
    """Title and query of everything on the Grafana dashboard."""
    tree = json.loads((ROOT / "helm" / "koorde" / "dashboards" / "koorde.json").read_text())
    panels = list(tree["panels"])
    while panels:
        panel = panels.pop()
        panels += panel.get("panels", [])
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$namespace", "web").replace("$release", "koorde")
            yield panel["title"], expression.replace("$__rate_interval", RATE)


def test_it_scrapes_five_nodes_loads_the_rules_and_answers_the_dashboard(nodes, rules, tmp_path):
    prometheus = Prometheus(tmp_path, rules, nodes, "/metrics/prometheus")
    try:
        with traffic(nodes, Origin()):
            eventually(lambda: prometheus.up() == [1.0] * NODES, "all are up")
            groups = prometheus.get("/api/v1/rules")["groups"]
            loaded = [rule for group in groups for rule in group["rules"]]
            assert len(loaded) == sum(len(g["rules"]) for g in yaml.safe_load(rules.read_text())["groups"]) >= 11
            asked = list(queries())
            assert len(asked) >= 20
            silent = lambda: [(t, q) for t, q in asked if not prometheus.query(q)]  # noqa: E731
            eventually(lambda: not silent(), f"data for {silent()}", 90)
            # With traffic, all of these are numbers that say something.
            for title, expression in asked:
                values = [value for _, value in prometheus.query(expression)]
                assert all(value == value for value in values), (title, expression, values)
            hits = next(q for t, q in asked if t == "Hits")
            eventually(lambda: 0.3 < prometheus.query(hits)[0][1] <= 1.0, f"hits: {prometheus.query(hits)}", 60)
            eventually(lambda: all(r["health"] == "ok" for g in prometheus.get("/api/v1/rules")["groups"] for r in g["rules"]),
                       "all rules can be evaluated")
        firing = {a["labels"]["alertname"] for a in prometheus.get("/api/v1/alerts")["alerts"] if a["state"] == "firing"}
        assert firing == set()
        series = prometheus.query('max(scrape_samples_scraped{job="koorde"})')
        took = prometheus.query('min(scrape_duration_seconds{job="koorde"})')
        print(f"{series[0][1]:.0f} series, {took[0][1] * 1000:.1f} ms the fastest scrape")
        assert series[0][1] <= 400
    finally:
        prometheus.stop()


def test_without_a_path_of_its_own_it_is_given_what_it_asks_for(nodes, rules, tmp_path):
    """/metrics is JSON for curl, and text for whoever asks for text."""
    prometheus = Prometheus(tmp_path, rules, nodes[:1], "/metrics")
    try:
        eventually(lambda: prometheus.up() == [1.0], "it is up")
        eventually(lambda: prometheus.query("koorde_ring_members") != [], "it has data")
        assert prometheus.query("koorde_ring_members")[0][1] == NODES
    finally:
        prometheus.stop()


def promtool(*arguments):
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def test_promtool_takes_what_nodes_say(nodes):
    text = nodes[0].get("/metrics/prometheus")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 3) and "error while linting" not in done.stderr, done.stderr
    # What it has against names that are not ours to choose, or that say what they mean.
    against = [line for line in done.stderr.splitlines() if line]
    assert against == [], against


def test_promtool_takes_the_rules(rules):
    done = promtool("check", "rules", rules)
    assert done.returncode == 0, done.stdout + done.stderr


NODE = 'namespace="web",pod="koorde-{}"'
INJECTOR = 'namespace="web",pod="koorde-injector-5d8-abc"'


def series(name, values, node=0, more=""):
    of = NODE.format(node) if node is not None else INJECTOR
    return {"series": f"{name}{{{of}{',' if more else ''}{more}}}", "values": values}


ERRORS, DOOR = 'listener="http",route="/cache",status="5xx"', 'listener="http",route="/cache",status="2xx"'

# What happens, when it is looked at, and which alerts are raised by then.
STORIES = [
    ("nobody is scraped", [], "11m", {"KoordeGone", "KoordeInjectorGone"}),
    ("nobody is scraped yet", [], "4m", set()),
    (
        "one answer in ten is 5xx",
        [series("koorde_http_requests_total", "0+54x40", more=DOOR), series("koorde_http_requests_total", "0+6x40", more=ERRORS)],
        "15m", {"KoordeErrors"},
    ),
    (
        "one answer in ten is 5xx, of one in a minute",
        [series("koorde_http_requests_total", "0+9x40", more=DOOR), series("koorde_http_requests_total", "0+1x40", more=ERRORS)],
        "15m", set(),
    ),
    (
        "probes are told that a node is not ready",
        [series("koorde_http_requests_total", "0+600x40", more=DOOR),
         series("koorde_http_requests_total", "0+600x40", more='listener="admin",route="/readyz",status="5xx"')],
        "15m", set(),
    ),
    (
        "an origin fails",
        [series("koorde_origin_requests_total", "0+60x40"),
         series("koorde_origin_errors_total", "0+6x40", more='upstream="other",error_type="timeout"')],
        "20m", {"KoordeOriginErrors"},
    ),
    (
        "an origin is refused by the guard, which is no failure of it",
        [series("koorde_origin_requests_total", "0+60x40"),
         series("koorde_origin_errors_total", "0+60x40", more='upstream="other",error_type="denied"')],
        "20m", set(),
    ),
    (
        "two halves of a ring",
        [series("koorde_ring_members", "2x40", n) for n in (0, 1)] + [series("koorde_ring_members", "3x40", n) for n in (2, 3, 4)],
        "10m", {"KoordeRingSplit"},
    ),
    ("a ring that is whole", [series("koorde_ring_members", "3x40", n) for n in range(3)], "10m", set()),
    (
        "a node that has not heard of a purge",
        [series("koorde_purge_generation", "7x40", 0), series("koorde_purge_generation", "8x40", 1)],
        "10m", {"KoordePurgesDiffer"},
    ),
    (
        "purges that never end, each heard by one node a sample later",
        [series("koorde_purge_generation", "1+1x40", 0), series("koorde_purge_generation", "0+1x40", 1)],
        "16m", set(),
    ),
    (
        "the first review of an injector fails",
        [series("koorde_injector_reviews_total", "0x9 1x40", None, 'outcome="failed",reason=""'),
         series("koorde_injector_cert_not_after_seconds", "9999999999x60", None)],
        "16m", {"KoordeInjectorFails"},
    ),
    (
        "a certificate that nobody renews",
        [series("koorde_injector_cert_not_after_seconds", "3600x60", None)],
        "20m", {"KoordeInjectorCertificateEnds"},
    ),
]


@pytest.mark.parametrize(("told", "input_series", "at", "raised"), STORIES, ids=[story[0] for story in STORIES])
def test_the_rules_raise_what_should_be_raised(rules, tmp_path, told, input_series, at, raised):
    groups = yaml.safe_load(rules.read_text())["groups"]
    known = [rule for group in groups for rule in group["rules"]]
    names = [rule["alert"] for rule in known]
    assert raised <= set(names)
    # Somebody is there, unless the story is that nobody is.
    here = [] if not input_series else [series("koorde_build_info", "1x60", n) for n in range(5)]
    if here and not any("injector" in s["series"] for s in input_series):
        here.append(series("koorde_injector_cert_not_after_seconds", "9999999999x60", None))
    # promtool wants labels and annotations of what is raised; so a rule is asked by ALERTS.
    expression = 'count by (alertname) (ALERTS{alertstate="firing"})'
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(raised)]
    test = {
        "rule_files": [str(rules)], "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m", "input_series": here + input_series,
            "promql_expr_test": [{"expr": expression, "eval_time": at, "exp_samples": samples}],
        }],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr
