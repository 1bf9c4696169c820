"""Every set of values in ci/, with both Helms, on every version of Kubernetes."""

import copy
import functools
import json
import tarfile

import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

import chart

EVERY = [
    (which, version, ci)
    for which in chart.HELMS for version in chart.VERSIONS for ci in chart.CI if chart.takes(ci, version)
]
TIDY = YamlLintConfig(
    """
extends: default
rules: {line-length: disable, document-start: disable, indentation: disable, comments-indentation: disable,
        braces: disable, comments: {min-spaces-from-content: 1}}
"""
)
# Of what is rendered only what a reader of YAML could misread, or a reader of diffs trips over.
RENDERED = YamlLintConfig("rules: {key-duplicates: enable, trailing-spaces: enable, truthy: {level: error}}")


@functools.cache
def wrong(document, version):
    """What the strict schema has against a document, given as JSON: it is the same one many times."""
    document = json.loads(document)
    if document["kind"] in chart.CUSTOM:
        return None
    try:
        chart.kubernetes.validate(document, version, strict=True)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the finding
        return f"{document['kind']} {document['metadata']['name']}: {error}"
    return None


@pytest.mark.parametrize(("which", "version", "ci"), EVERY)
def test_it_renders_to_valid_objects(which, version, ci):
    output = chart.text(which, version, ci)
    found = list(linter.run(output, RENDERED))
    assert not found, "\n".join(map(str, found))
    documents = chart.parse(output)
    assert documents
    for document in documents:
        assert wrong(json.dumps(document), version) is None
        if document["kind"] in chart.CLUSTER:
            assert "namespace" not in document["metadata"]
        elif document["metadata"]["name"].startswith(("koorde", "web-cache")) and document["kind"] != "ConfigMap":
            assert document["metadata"]["namespace"] == "web"
    names = [(d["kind"], d["metadata"]["name"]) for d in documents]
    assert len(names) == len(set(names)), names


@pytest.mark.parametrize("ci", chart.CI)
@pytest.mark.parametrize("which", chart.HELMS)
def test_it_lints_strictly(which, ci):
    values = str(chart.CHART / "ci" / f"{ci}-values.yaml")
    done = chart.helm(which, "lint", "--strict", str(chart.CHART), "--values", values, "--kube-version", "1.36.0")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("ci", chart.CI)
def test_both_helms_say_the_same(ci):
    def without_the_secret(documents):
        return [d for d in documents if d["kind"] != "Secret"]

    three, four = (without_the_secret(chart.documents(ci, which)) for which in chart.HELMS)
    key = lambda d: (d["kind"], d["metadata"]["name"])  # noqa: E731
    assert sorted(three, key=key) == sorted(four, key=key)


@pytest.mark.parametrize("ci", chart.CI)
def test_every_pod_is_restricted_and_has_no_token(ci):
    for name, spec in chart.pods(chart.documents(ci)):
        assert chart.restricted(spec) == [], name
        # The injector writes Events, and its certificates.
        assert spec["automountServiceAccountToken"] is (name == "koorde-injector"), name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"]:
            if container["name"] != "beside":
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
                assert "memory" in container["resources"]["limits"], name


def test_the_checks_of_this_file_find_something():
    stateful = chart.find(chart.documents(), "StatefulSet")
    unknown = copy.deepcopy(stateful)
    unknown["spec"]["template"]["spec"]["tolerationz"] = []
    assert "tolerationz" in wrong(json.dumps(unknown), "1.33")
    early = chart.find(chart.documents("eks-nlb", version="1.33"), "Service", "koorde")
    assert "trafficDistribution" in wrong(json.dumps(early), "1.29")
    spec = copy.deepcopy(stateful["spec"]["template"]["spec"])
    del spec["securityContext"]["runAsNonRoot"]
    spec["containers"][0]["securityContext"] = {}
    spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}})
    assert chart.restricted(spec) == [
        "volume x is a hostPath", "koorde may escalate", "koorde keeps capabilities", "koorde may be root",
    ]


def test_a_long_release_name_still_gives_names_that_kubernetes_takes():
    values = {
        "bench": {"enabled": True, "origin": "http://o/{}"}, "metrics": {"dashboard": {"enabled": True}},
        "injector": {"enabled": True, "certificates": {"mode": "certManager"}},
    }
    for document in chart.rendered(values, name="a" * 53):
        name = document["metadata"]["name"]
        longest = {"StatefulSet": 52, "Job": 63, "Service": 63}.get(document["kind"], 253)
        assert len(name) <= longest, name
        for value in document["metadata"]["labels"].values():
            assert len(value) <= 63, value


def test_values_and_metadata_are_tidy_yaml():
    for path in [chart.CHART / "values.yaml", chart.CHART / "Chart.yaml", *chart.CHART.glob("ci/*.yaml")]:
        found = list(linter.run(path.read_text(), TIDY))
        assert not found, f"{path.name}: " + "\n".join(map(str, found))


def test_the_charts_metadata_is_what_it_says(tmp_path):
    metadata = yaml.safe_load((chart.CHART / "Chart.yaml").read_text())
    assert metadata["kubeVersion"] == ">=1.29.0-0"
    (image,) = yaml.safe_load(metadata["annotations"]["artifacthub.io/images"])
    assert image["image"] == f"ghcr.io/koorde/koorde:{metadata['appVersion']}"
    assert chart.node(chart.documents())["image"] == image["image"]
    for key in ("links", "changes"):
        assert yaml.safe_load(metadata["annotations"][f"artifacthub.io/{key}"])
    assert (chart.CHART / "LICENSE").read_text() == (chart.ROOT / "LICENSE").read_text()
    done = chart.helm("Helm 4", "package", str(chart.CHART), "--destination", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / f"koorde-{metadata['version']}.tgz") as package:
        names = package.getnames()
    assert "koorde/values.schema.json" in names and "koorde/dashboards/koorde.json" in names
    assert not [name for name in names if "/ci/" in name]


@pytest.mark.parametrize("which", chart.HELMS)
def test_names_that_look_like_numbers_or_words_of_yaml_stay_names(which):
    values = {
        "fullnameOverride": "null", "nameOverride": "7", "commonLabels": {"on": "yes"}, "commonAnnotations": {"n": "1e3"},
        "ringSecret": {"existingSecret": "42", "key": "1"}, "adminToken": {"existingSecret": "0x1", "key": "off"},
        "tls": {"existingSecret": "010"}, "imagePullSecrets": ["12"], "priorityClassName": "on", "schedulerName": "1.5",
        "serviceAccount": {"name": "true"}, "autoscaling": {"enabled": True, "requests": {"metric": "1"}},
        "loadBalancer": {"enabled": True, "class": "1"}, "ingress": {"enabled": True, "className": "2"},
        "metrics": {kind: {"enabled": True} for kind in ("podMonitor", "rules", "dashboard")},
        "image": {"tag": "1.10"},
        "injector": {
            "enabled": True, "excludedNamespaces": ["7"], "priorityClassName": "off", "serviceAccount": {"name": "010"},
            "certificates": {"mode": "provided", "existingSecret": "0x2"},
        },
        "sidecar": {"imagePullSecrets": ["1e3"], "resources": {"cpuRequest": 1}},
    }
    done = chart.template(which, values=values, name="1e3", extra=["--namespace", "42"])
    assert done.returncode == 0, done.stderr
    for document in chart.parse(done.stdout):
        assert wrong(json.dumps(document), "1.33") is None
        assert document["metadata"].get("namespace") == (None if document["kind"] in chart.CLUSTER else "42")
        assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "1e3"
    assert chart.node(chart.parse(done.stdout))["image"].endswith(":1.10")
