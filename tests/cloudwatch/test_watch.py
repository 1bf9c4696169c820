"""Dashboard and alarms: put, read back, put again, deleted; and the same for CloudFormation and Terraform."""

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import hcl2
import pytest

from cluster import CLEAN, CREDENTIALS, KOORDE, Moto, Wire

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "eks"
CLUSTER, PREFIX, TOPIC = "web/koorde", "koorde-web-koorde", "arn:aws:sns:eu-west-1:111122223333:oncall"


def koorde(*arguments, env=CREDENTIALS):
    return subprocess.run(
        [KOORDE, "cloudwatch", *arguments], env={**CLEAN, **env}, capture_output=True, text=True, timeout=60
    )


def printed(what, *arguments):
    done = koorde(what, "--cluster", CLUSTER, *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def stage():
    with contextlib.ExitStack() as stack:
        moto = Moto()
        stack.callback(moto.stop)
        wire = Wire(moto)

        def run(what, *arguments):
            """Exit code, and outcome by name."""
            way = ("--region", "eu-west-1", "--endpoint", wire.url, "--json")
            done = koorde(what, "--cluster", CLUSTER, *way, *arguments)
            if done.returncode:
                return done.returncode, done.stderr
            return 0, {change["name"]: change["outcome"] for change in json.loads(done.stdout)}

        yield wire, run


def same(there, wanted):
    """`there` has all that is wanted, whatever else it has."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(same(there.get(k), v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(same, there, wanted))
    return there == wanted


def test_the_dashboard_is_put_once_read_back_equal_put_right_and_deleted(stage):
    wire, run = stage
    wanted = json.loads(printed("dashboard", "--region", "eu-west-1")["DashboardBody"])
    assert run("dashboard", "--apply") == (0, {PREFIX: "made"})
    status, there = wire.moto.call("GetDashboard", {"DashboardName": PREFIX})
    assert status == 200 and json.loads(there["DashboardBody"]) == wanted
    puts = lambda: [tree for operation, tree in wire.calls if operation == "PutDashboard"]  # noqa: E731
    assert run("dashboard", "--apply") == (0, {PREFIX: "unchanged"}) and len(puts()) == 1
    wire.moto.call("PutDashboard", {"DashboardName": PREFIX, "DashboardBody": '{"widgets": []}'})
    assert run("dashboard", "--apply") == (0, {PREFIX: "changed"}) and len(puts()) == 2
    assert run("dashboard", "--delete") == (0, {PREFIX: "deleted"})
    assert run("dashboard", "--delete") == (0, {PREFIX: "absent"})
    assert wire.moto.call("GetDashboard", {"DashboardName": PREFIX})[0] != 200


def test_alarms_are_put_once_read_back_equal_put_right_and_deleted(stage):
    wire, run = stage
    wanted = printed("alarms", "--sns", TOPIC)
    names = [a["AlarmName"] for a in wanted["MetricAlarms"] + wanted["CompositeAlarms"]]
    assert len(names) == len(set(names)) >= 15
    assert run("alarms", "--sns", TOPIC, "--apply") == (0, dict.fromkeys(names, "made"))
    _, there = wire.moto.call("DescribeAlarms", {"AlarmNames": names})
    by_name = {alarm["AlarmName"]: alarm for alarm in there["MetricAlarms"]}
    for alarm in wanted["MetricAlarms"]:
        assert same(by_name[alarm["AlarmName"]], alarm), (by_name[alarm["AlarmName"]], alarm)
    # A composite can name only what is there.
    order = [tree["AlarmName"] for operation, tree in wire.calls if operation.startswith("Put")]
    assert order == names
    assert list(wire.composites.values()) == wanted["CompositeAlarms"]

    puts = lambda: sum(operation.startswith("Put") for operation, _ in wire.calls)  # noqa: E731
    before = puts()
    assert run("alarms", "--sns", TOPIC, "--apply") == (0, dict.fromkeys(names, "unchanged"))
    assert puts() == before
    # Somebody turned a threshold, and somebody else wants to be told.
    slow = f"{PREFIX}-Slow"
    outcomes = {**dict.fromkeys(names, "unchanged"), slow: "changed"}
    assert run("alarms", "--sns", TOPIC, "--latency", "2.5", "--apply") == (0, outcomes)
    outcomes = {**dict.fromkeys(names, "unchanged"), **dict.fromkeys([f"{PREFIX}-Page", f"{PREFIX}-Look"], "changed")}
    assert run("alarms", "--sns", TOPIC, "--sns", f"{TOPIC}-2", "--latency", "2.5", "--apply") == (0, outcomes)

    code, outcomes = run("alarms", "--delete")
    assert (code, outcomes) == (0, dict.fromkeys(names, "deleted"))
    assert run("alarms", "--delete") == (0, dict.fromkeys(names, "absent"))
    _, there = wire.moto.call("DescribeAlarms", {})
    assert there["MetricAlarms"] == [] and wire.composites == {}


def test_what_may_not_be_done_is_told_by_call_and_name(stage):
    wire, run = stage
    wire.denied.add("PutMetricAlarm")
    code, told = run("alarms", "--apply")
    assert code == 1 and f"PutMetricAlarm {PREFIX}-Silent" in told and "AccessDenied" in told, told
    wire.down()
    code, told = run("dashboard", "--apply")
    assert code == 1 and "GetDashboard" in told, told


def test_without_a_region_nothing_is_called():
    env = {**CREDENTIALS, "HOME": "/nonexistent"}
    for arguments in (["--apply"], []):
        done = koorde("dashboard", "--cluster", CLUSTER, *arguments, env=env)
        assert done.returncode == 2 and "--region" in done.stderr, done.stderr


def test_names_that_would_break_out_of_an_expression_are_refused():
    for cluster in ('a"b', "a'b", "a b", "${x}", "", "x" * 201, ":a"):
        done = koorde("alarms", "--cluster", cluster)
        assert done.returncode == 2 and "--cluster" in done.stderr, cluster


# The same as templates. What they say with their parameters filled in is what the API is told.


def filled(tree, parameters):
    """A template of CloudFormation with its parameters in their places."""
    if isinstance(tree, list):
        return [filled(part, parameters) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if set(tree) == {"Ref"}:
        return parameters[tree["Ref"]]
    if set(tree) == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda found: parameters[found[1]], tree["Fn::Sub"])
    if set(tree) == {"Fn::If"}:
        return filled(tree["Fn::If"][1 if parameters["Topic"] else 2], parameters)
    return {key: filled(part, parameters) for key, part in tree.items()}


def in_snake_case(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.replace("OK", "Ok")).lower()


def test_the_template_of_cloudformation_says_what_the_api_is_told():
    parameters = {"Cluster": CLUSTER, "Name": PREFIX, "Topic": TOPIC, "AWS::Region": "eu-west-1"}
    made = filled(printed("alarms", "--output", "cloudformation")["Resources"], parameters)
    wanted = printed("alarms", "--sns", TOPIC)
    for kind, key in (("Alarm", "MetricAlarms"), ("CompositeAlarm", "CompositeAlarms")):
        found = {r["Properties"]["AlarmName"]: r["Properties"] for r in made.values() if r["Type"] == f"AWS::CloudWatch::{kind}"}
        assert found == {alarm["AlarmName"]: alarm for alarm in wanted[key]}
    for name, resource in made.items():
        rule = resource["Properties"].get("AlarmRule", "") + f'"{resource["Properties"].get("ActionsSuppressor", "")}"'
        needs = {part for part in made if f'"{PREFIX}-{part}"' in rule}
        assert needs <= set(resource.get("DependsOn", [])), name
    made = filled(printed("dashboard", "--output", "cloudformation")["Resources"], parameters)["Dashboard"]["Properties"]
    wanted = printed("dashboard", "--region", "eu-west-1")
    assert made["DashboardName"] == wanted["DashboardName"]
    assert json.loads(made["DashboardBody"]) == json.loads(wanted["DashboardBody"])


def test_the_module_of_terraform_says_what_the_api_is_told():
    variables = {"cluster": CLUSTER, "name": PREFIX, "region": "eu-west-1"}
    tell = '${var.sns_topic_arn == "" ? [] : [var.sns_topic_arn]}'

    def evaluated(tree):
        if isinstance(tree, dict):
            return {key: evaluated(part) for key, part in tree.items()}
        if isinstance(tree, list):
            return [evaluated(part) for part in tree]
        if tree == tell:
            return [TOPIC]
        return re.sub(r"\$\{var\.(\w+)\}", lambda found: variables[found[1]], tree) if isinstance(tree, str) else tree

    module = printed("alarms", "--output", "terraform")
    made, wanted = evaluated(module["resource"]), printed("alarms", "--sns", TOPIC)
    found = {alarm["alarm_name"]: alarm for alarm in made["aws_cloudwatch_metric_alarm"].values()}
    assert list(sorted(found)) == sorted(alarm["AlarmName"] for alarm in wanted["MetricAlarms"])
    for alarm in wanted["MetricAlarms"]:
        mine = found[alarm["AlarmName"]]
        for key, value in alarm.items():
            if key != "Metrics":
                assert mine[in_snake_case(key)] == value, (alarm["AlarmName"], key)
        for query, of in zip(mine["metric_query"], alarm["Metrics"], strict=True):
            assert (query["id"], query["return_data"], query.get("expression")) == (of["Id"], of["ReturnData"], of.get("Expression"))
            if stat := of.get("MetricStat"):
                metric = stat["Metric"]
                assert query["metric"] == {
                    "namespace": metric["Namespace"], "metric_name": metric["MetricName"], "period": stat["Period"],
                    "stat": stat["Stat"], "dimensions": {d["Name"]: d["Value"] for d in metric["Dimensions"]},
                }
    found = {alarm["alarm_name"]: alarm for alarm in made["aws_cloudwatch_composite_alarm"].values()}
    for alarm in wanted["CompositeAlarms"]:
        mine = found[alarm["AlarmName"]]
        for key in ("AlarmDescription", "AlarmRule", "ActionsEnabled", "AlarmActions", "OKActions"):
            assert mine[in_snake_case(key)] == alarm[key], key
        suppressor = mine.get("actions_suppressor", {}).get("alarm")
        assert suppressor == alarm.get("ActionsSuppressor")
    made = evaluated(printed("dashboard", "--output", "terraform")["resource"])["aws_cloudwatch_dashboard"]["koorde"]
    wanted = printed("dashboard", "--region", "eu-west-1")
    assert made["dashboard_name"] == wanted["DashboardName"]
    assert json.loads(made["dashboard_body"]) == json.loads(wanted["DashboardBody"])


def test_templates_of_cloudformation_are_what_its_linter_takes():
    files = sorted(map(str, EXAMPLES.glob("cloudwatch/cloudformation/*.json")))
    assert len(files) == 2
    lint = [str(Path(sys.executable).with_name("cfn-lint"))]
    done = subprocess.run([*lint, *files], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_linter_finds_something(tmp_path):
    template = json.loads((EXAMPLES / "cloudwatch/cloudformation/alarms.json").read_text())
    template["Resources"]["Slow"]["Properties"]["TreatMissingDatas"] = "ignore"
    (tmp_path / "wrong.json").write_text(json.dumps(template))
    lint = str(Path(sys.executable).with_name("cfn-lint"))
    done = subprocess.run([lint, str(tmp_path / "wrong.json")], capture_output=True, text=True, timeout=120)
    assert "TreatMissingDatas" in done.stdout, done.stdout


def texts(tree):
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, (dict, list)):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from texts(part)


def test_every_expression_of_the_terraform_modules_is_one_and_names_a_variable_that_is_there():
    files = sorted(EXAMPLES.glob("cloudwatch/terraform/*/main.tf.json"))
    assert len(files) == 2
    for file in files:
        module = json.loads(file.read_text())
        assert set(module) == {"//", "terraform", "variable", "resource"}
        seen = set()
        for text in texts(module):
            for expression in re.findall(r"\$\{((?:[^{}\"]|\"[^\"]*\")*)\}", text):
                hcl2.loads(f"x = {expression}\n")
                seen |= set(re.findall(r"var\.(\w+)", expression))
        assert seen == set(module["variable"]), file


def test_policies_name_what_the_command_calls_and_no_more(stage):
    wire, run = stage
    for what in ("dashboard", "alarms"):
        run(what, "--apply")
        run(what, "--delete")
    called = {f"cloudwatch:{operation}" for operation, _ in wire.calls}
    policy = json.loads((EXAMPLES / "iam/koorde-watch-policy.json").read_text())
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert called == allowed
    own = [s["Resource"] for s in policy["Statement"] if s["Sid"].startswith("Own")]
    assert all(resource.endswith((":dashboard/koorde-*", ":alarm:koorde-*")) for resource in own)
    publish = json.loads((EXAMPLES / "iam/koorde-policy.json").read_text())["Statement"]
    assert [s["Action"] for s in publish] == ["cloudwatch:PutMetricData"]
    assert publish[0]["Condition"] == {"StringEquals": {"cloudwatch:namespace": "Koorde"}}
