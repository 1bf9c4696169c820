"""The embedded metric format: on standard output, and to an agent that listens."""

import json
import socket
import threading

import pytest

from cluster import Node, Origin, eventually

REQUESTS = 500


def documents(lines):
    """Every document; each is one line of JSON that has what it says it has."""
    for line in lines:
        tree = json.loads(line)
        (directive,) = tree["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "Koorde" and directive["Dimensions"] == [["Cluster"]]
        assert tree["Cluster"] == "koorde" and len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert metric["Name"] in tree
        yield tree


def check(lines):
    requests = samples = 0
    for tree in documents(lines):
        requests += tree.get("Requests", 0)
        duration = tree.get("RequestDuration")
        if duration:
            assert len(duration["Values"]) == len(duration["Counts"]) <= 100
            assert sum(duration["Counts"]) == duration["Count"]
            samples += duration["Count"]
    assert (requests, samples) == (REQUESTS, REQUESTS)


def run(**settings):
    origin = Origin()
    given = {"cloudwatch.interval": "1s", **{k.replace("__", "."): v for k, v in settings.items()}}
    node = Node("koorde-0", (), given, env={})
    try:
        node.load([f"{origin.url}/{n % 50}" for n in range(REQUESTS // 2)])
        exported = 'koorde_telemetry_exports_total{exporter="cloudwatch",outcome="ok"}'
        eventually(lambda: node.series()[exported] >= 2, "it told something")
        node.load([f"{origin.url}/{n % 50}" for n in range(REQUESTS // 2)])
        node.stop()
    finally:
        node.kill()
    return node


def test_standard_output_has_a_document_a_line_and_nothing_else():
    node = run(cloudwatch__exporter="emf-stdout")
    assert len(node.out) >= 3
    check(node.out)


def agent(kind):
    """A socket that takes what is sent, and the lines that came."""
    lines = []
    if kind == "udp":
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))

        def take():
            while True:
                lines.append(server.recv(65536))
    else:
        server = socket.create_server(("127.0.0.1", 0))

        def take():
            first = True
            while True:
                connection, _ = server.accept()
                with connection, connection.makefile("rb") as file:
                    for line in file:
                        lines.append(line)
                        if first:
                            # An agent that is restarted: the node connects again.
                            first = False
                            break

    threading.Thread(target=take, daemon=True).start()
    return server, f"{kind}://127.0.0.1:{server.getsockname()[1]}", lines


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_an_agent_is_told_everything_even_if_it_is_restarted(kind):
    _server, address, lines = agent(kind)
    run(cloudwatch__exporter="emf-agent", cloudwatch__agent=address)
    eventually(lambda: sum(tree.get("Requests", 0) for tree in documents(lines)) >= REQUESTS, "all came", 10)
    check(lines)


def test_an_agent_that_is_not_there_yet_is_told_what_happened_before():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    origin, lines = Origin(), []
    given = {"cloudwatch.exporter": "emf-agent", "cloudwatch.interval": "1s", "cloudwatch.agent": f"tcp://127.0.0.1:{port}"}
    node = Node("koorde-0", (), given, env={})
    try:
        node.load([f"{origin.url}/{n % 50}" for n in range(REQUESTS)])
        failed = 'koorde_telemetry_exports_total{exporter="cloudwatch",outcome="error"}'
        eventually(lambda: node.series()[failed] >= 1, "it was tried")
        server = socket.create_server(("127.0.0.1", port))

        def take():
            while True:
                connection, _ = server.accept()
                with connection, connection.makefile("rb") as file:
                    lines.extend(file)

        threading.Thread(target=take, daemon=True).start()
        node.stop()
    finally:
        node.kill()
    eventually(lambda: sum(tree.get("Requests", 0) for tree in documents(lines)) >= REQUESTS, "all came", 10)
    check(lines)
