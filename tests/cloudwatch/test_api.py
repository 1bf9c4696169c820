"""PutMetricData: what was counted is what CloudWatch has, whatever happens on the way."""

import contextlib
import datetime
import socket
import threading
import time

import pytest

from cluster import CREDENTIALS, Moto, Node, Origin, Wire, eventually

NODES, REQUESTS = 5, 10_000
QUICK = {"cloudwatch.exporter": "api", "cloudwatch.interval": "1s", "cloudwatch.flush": "2s", "cloudwatch.timeout": "10s"}


@pytest.fixture
def stage():
    with contextlib.ExitStack() as stack:
        moto = Moto()
        stack.callback(moto.stop)
        wire = Wire(moto)

        def start(name, seeds=(), env=None, **settings):
            given = {k.replace("__", "."): v for k, v in settings.items()}
            node = Node(name, seeds, {**QUICK, "cloudwatch.endpoint": wire.url, **given}, env)
            stack.callback(node.kill)
            return node

        yield wire, start, Origin()


def told(moto, name, statistic, dimensions):
    """What GetMetricData says, all periods together."""
    now = datetime.datetime.now(datetime.UTC)
    metric = {
        "Namespace": "Koorde", "MetricName": name,
        "Dimensions": [{"Name": k, "Value": v} for k, v in dimensions.items()],
    }
    status, answer = moto.call("GetMetricData", {
        "MetricDataQueries": [{"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": statistic}}],
        "StartTime": now - datetime.timedelta(hours=1), "EndTime": now + datetime.timedelta(minutes=5),
    })
    assert status == 200, answer
    return sum(answer["MetricDataResults"][0]["Values"])


def buckets(series, name):
    """Upper bound to how many are at most that, over all labels."""
    found = {}
    for key, value in series.items():
        if key.startswith(f"{name}_bucket"):
            le = float(key.split('le="')[1].split('"')[0])
            found[le] = found.get(le, 0) + value
    return found


def at_most(values, bound):
    return sum(count for value, count in values.items() if value <= bound)


def percentile(values, part):
    rank, seen = part * sum(values.values()), 0
    for value, count in sorted(values.items()):
        seen += count
        if seen >= rank:
            return value
    raise AssertionError("no values")


def test_ten_thousand_requests_through_throttling_an_outage_and_sigterm_are_told_once_each(stage):
    wire, start, origin = stage
    nodes = [start("koorde-0", cloudwatch__pod_dimension="true")]
    for index in range(1, NODES):
        seeds = [f"127.0.0.1:{nodes[0].ring}"]
        nodes.append(start(f"koorde-{index}", seeds, cloudwatch__pod_dimension="true"))
    eventually(lambda: all(node.members() == NODES for node in nodes), "all know all")
    eventually(lambda: len(wire.accepted) >= NODES, "all have called")

    def load(first, count):
        """`count` requests on all nodes at once, each node as many."""
        each = count // NODES
        jobs = [
            threading.Thread(target=node.load, args=([f"{origin.url}/{(first + n) % 500}" for n in range(each)],))
            for node in nodes
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()

    load(0, REQUESTS // 4)
    wire.throttles = True
    load(100, REQUESTS // 4)
    eventually(lambda: wire.throttled >= NODES, "all were throttled")
    wire.throttles = False
    load(200, REQUESTS // 4)
    wire.down()
    load(300, REQUESTS // 8)
    before = len(wire.accepted)
    time.sleep(6)
    assert len(wire.accepted) == before
    assert all(node.is_ready() for node in nodes)
    wire.up()
    load(400, REQUESTS // 8)
    # What the last moments counted is told on the way out.
    series = [node.series() for node in nodes]
    ended = [node.stop() for node in nodes]
    assert max(ended) < 15, ended

    cluster = {"Cluster": "koorde"}
    sent = {"Requests": REQUESTS}
    for name, labels in [("Hits", ["hit"]), ("Misses", ["miss", "validated"]), ("Errors", ["error"]), ("StaleHits", ["stale"])]:
        keys = tuple(f'koorde_cache_requests_total{{result="{label}"' for label in labels)
        sent[name] = sum(v for one in series for k, v in one.items() if k.startswith(keys))
    sent["OriginRequests"] = sum(one["koorde_origin_requests_total"] for one in series)
    sent["ResponseBytes"] = REQUESTS * 1000
    assert sent["Hits"] + sent["Misses"] == REQUESTS and sent["OriginRequests"] >= 500
    uncertain = [one['koorde_telemetry_exports_total{exporter="cloudwatch",outcome="unknown"}'] for one in series]
    assert uncertain == [0] * NODES, [node.logged("CloudWatch cannot be told") for node in nodes]
    for name, expected in sent.items():
        on_the_wire = sum(value * count for value, count in wire.values(name).items())
        assert on_the_wire == 2 * expected, name
        assert told(wire.moto, name, "Sum", cluster) == expected, name
        pods = [told(wire.moto, name, "Sum", {**cluster, "Pod": node.name}) for node in nodes]
        assert sum(pods) == expected, name
    assert told(wire.moto, "RequestDuration", "SampleCount", cluster) == REQUESTS
    assert [told(wire.moto, "Requests", "Sum", {**cluster, "Pod": node.name}) for node in nodes] == [REQUESTS // NODES] * NODES
    assert told(wire.moto, "RingMembers", "SampleCount", cluster) > 0

    # On the wire: each value stands for those within 1.5 % of it. The bounds of Prometheus's buckets are
    # exact, so what is told must agree with them but for what lies within 1.5 % of a bound.
    for name, prometheus in [
        ("RequestDuration", "koorde_request_duration_seconds"),
        ("PeerDuration", "koorde_peer_rpc_duration_seconds"),
        ("OriginDuration", "koorde_origin_request_duration_seconds"),
    ]:
        # Both sets of dimensions have all.
        values = {value: count / 2 for value, count in wire.values(name).items()}
        exact = {}
        for one in series:
            for le, count in buckets(one, prometheus).items():
                exact[le] = exact.get(le, 0) + count
        assert len(exact) >= 6 and len(values) > 20, (name, len(values))
        for le, count in exact.items():
            # A call to a peer may still have been made after the scrape.
            late = sum(values.values()) - exact[float("inf")]
            assert 0 <= late <= (0 if name == "RequestDuration" else 200), (name, late)
            assert at_most(values, le / 1.015) - late <= count <= at_most(values, le * 1.015), (name, le)
        total = sum(v for one in series for k, v in one.items() if k.startswith(f"{prometheus}_sum"))
        if name == "RequestDuration":
            assert sum(v * n for v, n in values.items()) == pytest.approx(total, rel=0.015)
        for part in (0.5, 0.9, 0.99):
            value = percentile(values, part)
            below, upto = at_most(values, value * (1 - 1e-9)), at_most(values, value)
            assert below < part * sum(values.values()) <= upto

    assert all(size <= 1_000_000 and len(tree["MetricData"]) <= 1000 for size, tree in wire.accepted)
    assert all(tree["Namespace"] == "Koorde" for _, tree in wire.accepted)
    assert wire.gzipped > 0, "what is large is compressed"
    print(f"{len(wire.accepted)} calls, {wire.throttled} throttled, {wire.gzipped} compressed")


def test_an_endpoint_that_never_answers_changes_one_metric_and_one_line_of_the_log(stage):
    _, start, origin = stage
    hole = socket.create_server(("127.0.0.1", 0), backlog=128)
    endpoint = f"http://127.0.0.1:{hole.getsockname()[1]}"
    urls = [f"{origin.url}/{n % 50}" for n in range(3000)]
    quiet = start("quiet", cloudwatch__exporter="none")
    node = start("holed", cloudwatch__endpoint=endpoint, cloudwatch__timeout="500ms")
    assert node.start_took < quiet.start_took + 1.0, (node.start_took, quiet.start_took)
    for one in (quiet, node):
        one.load(urls[:500])
    before = node.resident()
    took = {one.name: sorted(one.load(urls)) for one in (quiet, node)}
    failed = 'koorde_telemetry_exports_total{exporter="cloudwatch",outcome="unknown"}'
    eventually(lambda: node.series()[failed] >= 3, "it was tried")
    assert len(node.logged("CloudWatch cannot be told")) == 1
    assert node.series()['koorde_telemetry_exports_total{exporter="cloudwatch",outcome="ok"}'] == 0
    assert node.is_ready() and node.resident() < before + 20_000_000
    p99 = {name: times[int(len(times) * 0.99)] for name, times in took.items()}
    # One machine, two runs one after the other: a bound that only waiting for the endpoint would pass.
    assert p99["holed"] < p99["quiet"] + 0.1, p99
    # The last flush has `shutdown.flush`, 5 s.
    assert node.stop() < 8
    hole.close()


def test_without_credentials_a_node_starts_serves_and_ends(stage):
    wire, start, origin = stage
    node = start("bare", env={"AWS_EC2_METADATA_DISABLED": "true"})
    node.load([f"{origin.url}/{n}" for n in range(20)])
    failed = 'koorde_telemetry_exports_total{exporter="cloudwatch",outcome="error"}'
    eventually(lambda: node.series()[failed] >= 2, "it was tried")
    assert len(node.logged("CloudWatch cannot be told")) == 1
    assert b"credential" in node.logged("CloudWatch cannot be told")[0].lower()
    assert node.stop() < 10 and wire.accepted == []


@pytest.mark.parametrize("status", [502, 504])
def test_what_a_gateway_lost_the_answer_to_is_not_sent_again(stage, status):
    wire, start, origin = stage
    node = start("gateway")
    node.load([f"{origin.url}/{n}" for n in range(20)])
    wire.gateway = status
    unknown = 'koorde_telemetry_exports_total{exporter="cloudwatch",outcome="unknown"}'
    failed = 'koorde_telemetry_exports_total{exporter="cloudwatch",outcome="error"}'
    eventually(lambda: node.series()[unknown] >= 2, "it was tried")
    assert node.series()[failed] == 0 and node.series()[unknown] <= wire.lost
    wire.gateway = None
    node.stop()
    assert sum(value * count for value, count in wire.values("Requests").items()) < 20


def test_intervals_of_seconds_are_kept_as_seconds(stage):
    wire, start, _ = stage
    node = start("fine")
    eventually(lambda: list(wire.data("Requests")), "it was told")
    assert {datum["StorageResolution"] for datum in wire.data("Requests")} == {1}
    node.stop()


def test_a_call_under_way_at_the_end_is_counted_and_holds_nobody(stage):
    _, start, _ = stage
    hole = socket.create_server(("127.0.0.1", 0), backlog=128)
    node = start("ends", cloudwatch__endpoint=f"http://127.0.0.1:{hole.getsockname()[1]}", cloudwatch__flush="60s", shutdown__flush="1s")
    # SIGTERM sends what is left: to nobody, for as long as it may.
    assert node.stop() < 4
    assert not node.logged("were not sent in time") and node.logged("CloudWatch cannot be told")
    hole.close()


def test_a_region_that_is_found_later_is_used(stage, tmp_path):
    wire, start, origin = stage
    config = tmp_path / "config"
    config.write_text("")
    env = {**CREDENTIALS, "AWS_CONFIG_FILE": str(config)}
    node = start("nowhere", env=env, cloudwatch__region=None)
    node.load([f"{origin.url}/{n}" for n in range(20)])
    eventually(lambda: node.logged("no region was found"), "it was tried")
    config.write_text("[default]\nregion = eu-west-1\n")
    eventually(lambda: wire.accepted, "it was told")
    node.stop()
    assert sum(value * count for value, count in wire.values("Requests").items()) == 20
