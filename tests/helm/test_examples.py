"""examples/eks: the scripts against programs that only record how they are called. Nothing of this has run on AWS."""

import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import subprocess

import pytest
import yaml
from yamllint import linter

import chart
from test_render import TIDY

EKS = chart.ROOT / "examples" / "eks"

# Stands for aws, eksctl, kubectl and helm: writes its arguments down, and remembers what there would be.
STUB = r"""#!/usr/bin/env bash
printf '%s' "${0##*/}" >>"$STATE/calls"; printf ' %q' "${@//$'\n'/ }" >>"$STATE/calls"; echo >>"$STATE/calls"
call="${0##*/} $*"
gone() { echo "An error occurred ($1) when calling" >&2; exit 254; }
[[ -e $STATE/expired && $call == aws* ]] && gone ExpiredToken
case $call in
  "eksctl create cluster"*) touch "$STATE/cluster"; cp "${@: -1}" "$STATE/cluster.yaml" ;;
  "eksctl delete cluster"*) rm "$STATE/cluster" ;;
  "aws eks describe-cluster"*)
    [[ -e $STATE/cluster ]] || gone ResourceNotFoundException
    case $call in *vpcId*) echo vpc-1 ;; *issuer*) echo https://oidc.example/id/1 ;; *) echo ACTIVE ;; esac ;;
  "aws sts get-caller-identity"*) echo 111122223333 ;;
  "aws iam get-role-policy"*) [[ -e $STATE/policy ]] || gone NoSuchEntity ;;
  "aws iam get-role"*) [[ -e $STATE/role ]] || gone NoSuchEntity ;;
  "aws iam create-role"*) touch "$STATE/role" ;;
  "aws iam put-role-policy"*) touch "$STATE/policy" ;;
  "aws iam delete-role-policy"*) rm "$STATE/policy" ;;
  "aws iam delete-role"*) [[ ! -e $STATE/policy ]] && rm "$STATE/role" ;;
  "aws eks list-pod-identity-associations"*) if [[ -e $STATE/association ]]; then echo a-1; else echo None; fi ;;
  "aws eks create-pod-identity-association"*) touch "$STATE/association" ;;
  "aws eks delete-pod-identity-association"*) rm "$STATE/association" ;;
  *" get namespace "*) [[ -e $STATE/namespace ]] || { echo "Error from server (NotFound): namespaces" >&2; exit 1; } ;;
  *" create namespace "*) touch "$STATE/namespace" ;;
  *" delete namespace "*) rm -f "$STATE/namespace" ;;
  *" get service/"* | *" get ingress/"*) echo "Error from server (NotFound): gone" >&2; exit 1 ;;
  *" get service "* | *" get ingress "*) echo lb.example.com ;;
esac
"""


class Cloud:
    def __init__(self, folder):
        self.folder = folder
        (folder / "bin").mkdir()
        for program in ("aws", "eksctl", "kubectl", "helm"):
            stub = folder / "bin" / program
            stub.write_text(STUB)
            stub.chmod(0o755)

    def run(self, script, *arguments, cwd="/"):
        """Runs a script without a terminal: how it ended, and the calls it made."""
        calls = self.folder / "calls"
        calls.write_text("")
        env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "STATE": str(self.folder), "HOME": "/dev/null"}
        done = subprocess.run(
            [str(EKS / script), "--region", "eu-central-1", *arguments],
            env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
        return done, calls.read_text().splitlines()

    def has(self, what):
        return (self.folder / what).exists()


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


def changes(calls):
    """The calls that change something."""
    asking = r"(describe|get|list)-|kubectl .* get |update-kubeconfig|helm .* test "
    return [call for call in calls if not re.search(asking, call)]


def install(calls):
    (found,) = [c for c in calls if re.match(r"helm .* upgrade --install koorde ", c)]
    return shlex.split(found)


def test_deploy_makes_everything_once(cloud):
    done, calls = cloud.run("deploy.sh", "--identity", "pod-identity", "--expose", "both")
    assert done.returncode == 0, done.stderr
    assert [" ".join(c.split()[:3]) if c.startswith(("aws", "eksctl")) else c.split()[0] for c in changes(calls)] == [
        "eksctl create cluster",
        "helm", "helm",
        "kubectl", "kubectl",
        "aws iam create-role", "aws iam put-role-policy", "aws eks create-pod-identity-association",
        "helm",
    ]
    assert "NLB: http://lb.example.com/cache" in done.stdout and "ALB: http://lb.example.com/cache" in done.stdout
    done, calls = cloud.run("deploy.sh", "--identity", "pod-identity", "--expose", "both")
    assert done.returncode == 0, done.stderr
    again = "\n".join(changes(calls))
    assert not re.search("create (cluster|namespace)|create-role|create-pod-identity", again), again
    assert "helm --kube-context koorde upgrade --install koorde" in again


def test_the_cluster_is_the_one_that_was_named(cloud):
    done, calls = cloud.run("deploy.sh", "--name", "web", "--expose", "none", "--no-autoscaler")
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load((cloud.folder / "cluster.yaml").read_text())
    assert made["metadata"] == {"name": "web", "region": "eu-central-1", "version": "1.35"}
    assert "@" not in (cloud.folder / "cluster.yaml").read_text()
    for call in calls:
        if call.startswith("helm"):
            assert call.startswith("helm --kube-context web "), call
        if call.startswith("kubectl"):
            assert call.startswith("kubectl --context web "), call
    assert not [c for c in calls if "aws-load-balancer-controller" in c or "cluster-autoscaler" in c]


def test_the_trust_is_of_one_service_account(cloud):
    _, calls = cloud.run("deploy.sh", "--identity", "irsa", "--namespace", "shop")
    (role,) = [shlex.split(c) for c in calls if c.startswith("aws iam create-role")]
    (statement,) = json.loads(role[role.index("--assume-role-policy-document") + 1])["Statement"]
    provider = "oidc.example/id/1"
    assert statement["Principal"] == {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{provider}"}
    assert statement["Condition"]["StringEquals"] == {
        f"{provider}:sub": "system:serviceaccount:shop:koorde", f"{provider}:aud": "sts.amazonaws.com"}
    (policy,) = [shlex.split(c) for c in calls if c.startswith("aws iam put-role-policy")]
    (statement,) = json.loads(policy[policy.index("--policy-document") + 1])["Statement"]
    assert statement["Action"] == "cloudwatch:PutMetricData" and statement["Condition"]


@pytest.mark.parametrize("expose", ["none", "nlb", "alb", "both"])
@pytest.mark.parametrize("identity", ["none", "irsa", "pod-identity"])
def test_what_deploy_gives_to_helm_renders(cloud, tmp_path, expose, identity):
    more = tmp_path / "more.yaml"
    more.write_text("replicaCount: 7\n")
    done, calls = cloud.run("deploy.sh", "--expose", expose, "--identity", identity, "--values", str(more))
    assert done.returncode == 0, done.stderr
    given = install(calls)
    release, folder, *rest = given[given.index("--install") + 1:]
    rest = rest[:rest.index("--wait")]
    assert os.path.realpath(folder) == str(chart.CHART) and str(more) in rest
    for which in chart.HELMS:
        done = chart.helm(which, "template", release, folder, *rest, "--kube-version", "1.33.0")
        assert done.returncode == 0, done.stderr
    documents = chart.parse(done.stdout)
    kinds = chart.kinds(documents)
    services = {d["metadata"]["name"] for d in documents if d["kind"] == "Service"}
    assert ("Ingress" in kinds, "koorde-nlb" in services) == (expose in ("alb", "both"), expose in ("nlb", "both"))
    account = chart.find(documents, "ServiceAccount")["metadata"]
    role = account.get("annotations", {}).get("eks.amazonaws.com/role-arn")
    assert role == ("arn:aws:iam::111122223333:role/koorde-koorde" if identity == "irsa" else None)
    autoscaler = chart.find(documents, "HorizontalPodAutoscaler")["spec"]
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (5, 50)


def test_destroy_takes_the_release_before_the_cluster_and_may_be_run_again(cloud):
    cloud.run("deploy.sh", "--identity", "pod-identity")
    done, calls = cloud.run("destroy.sh", "--yes")
    assert done.returncode == 0, done.stderr
    order = ["uninstall koorde", "delete namespace", "delete-pod-identity-association", "delete-role-policy",
             "delete-role ", "eksctl delete cluster"]
    at = [next(i for i, c in enumerate(calls) if what in c) for what in order]
    assert at == sorted(at)
    assert not any(cloud.has(what) for what in ("cluster", "role", "policy", "association", "namespace"))
    done, calls = cloud.run("destroy.sh", "--yes")
    assert (done.returncode, changes(calls)) == (0, []), done.stderr


def test_destroy_can_leave_the_cluster(cloud):
    cloud.run("deploy.sh")
    done, calls = cloud.run("destroy.sh", "--yes", "--keep-cluster")
    assert done.returncode == 0 and cloud.has("cluster") and not cloud.has("namespace")
    assert not [c for c in calls if c.startswith("eksctl")]


def test_without_a_terminal_destroy_asks_for_yes_and_does_nothing(cloud):
    cloud.run("deploy.sh")
    done, calls = cloud.run("destroy.sh")
    assert (done.returncode, calls) == (2, [])
    assert done.stderr == "destroy.sh: --yes is needed where there is no terminal to ask at\n"


def at_a_terminal(cloud, script, answer):
    """Runs a script at a terminal and answers its question: the calls it made."""
    master, terminal = pty.openpty()
    env = {"PATH": f"{cloud.folder}/bin:/usr/bin:/bin", "STATE": str(cloud.folder), "HOME": "/dev/null"}
    (cloud.folder / "calls").write_text("")
    os.write(master, f"{answer}\n".encode())
    process = subprocess.Popen(
        [str(EKS / script), "--region", "eu-central-1"], env=env, stdin=terminal, stderr=terminal, stdout=subprocess.DEVNULL
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends whose other side is closed
        while chunk := os.read(master, 4096):
            shown += chunk
    os.close(master)
    return process.wait(60), shown.decode(), (cloud.folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("script", ["deploy.sh", "destroy.sh"])
def test_at_a_terminal_it_asks_first(cloud, script):
    if script == "destroy.sh":
        cloud.run("deploy.sh")
    status, shown, calls = at_a_terminal(cloud, script, "n")
    assert status == 1 and "Go on? [y/N]" in shown and "Nothing was done." in shown and changes(calls) == []
    status, shown, calls = at_a_terminal(cloud, script, "y")
    assert status == 0 and changes(calls), shown


@pytest.mark.parametrize("script", ["deploy.sh", "destroy.sh"])
def test_a_dry_run_shows_every_command_and_runs_none(cloud, script):
    done, calls = cloud.run(script, "--dry-run")
    assert (done.returncode, calls) == (0, []), done.stderr
    shown = [line[2:] for line in done.stderr.splitlines() if line.startswith("+ ")]
    if script == "destroy.sh":
        cloud.run("deploy.sh")
        (cloud.folder / "association").touch()
    really, calls = cloud.run(script, *(["--yes"] if script == "destroy.sh" else []))
    assert really.returncode == 0
    programs = lambda lines: [" ".join(line.split()[:5]) for line in lines]  # noqa: E731
    for call in programs(changes(calls)):
        if "pod-identity-association" not in call and "eksctl create" not in call:
            assert call in programs(shown), call
    assert any("eksctl" in line for line in shown)


@pytest.mark.parametrize("script", ["deploy.sh", "destroy.sh"])
def test_with_the_wrong_credentials_nothing_is_thought_to_be_gone(cloud, script):
    cloud.run("deploy.sh")
    (cloud.folder / "expired").touch()
    done, calls = cloud.run(script, "--yes")
    assert done.returncode == 2 and "ExpiredToken" in done.stderr
    assert changes(calls) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expose", "elb"], "--expose elb: must be one of none nlb alb both"),
        (["--identity"], "--identity needs a value"),
        (["--values", "/dev/null/x"], "--values /dev/null/x: cannot be read"),
        (["--namespace", "Shop"], "--namespace Shop: must be a name of a namespace"),
        (["--forse"], "--forse: is no option"),
        (["--region", ""], "--region is not given, and neither AWS_REGION nor AWS_DEFAULT_REGION is set"),
    ],
)
def test_options_that_make_no_sense_are_refused(cloud, arguments, message):
    done, calls = cloud.run("deploy.sh", *arguments)
    assert (done.returncode, calls) == (2, [])
    assert done.stderr.endswith(f"deploy.sh: {message}\n"), done.stderr


def test_scripts_are_clean():
    scripts = [EKS / "deploy.sh", EKS / "destroy.sh", EKS / "common.sh", chart.ROOT / "tests" / "helm" / "run"]
    done = subprocess.run(["shellcheck", "-x", *map(str, scripts)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_policies_are_json_and_the_rest_is_tidy_yaml():
    for path in EKS.glob("iam/*.json"):
        assert json.loads(path.read_text())["Version"] == "2012-10-17", path.name
    for path in [*EKS.glob("*.yaml"), *EKS.glob("kustomize/*.yaml")]:
        found = list(linter.run(path.read_text(), TIDY))
        assert not found, f"{path.name}: " + "\n".join(map(str, found))


def test_kustomize_takes_the_rendered_chart(tmp_path):
    folder = tmp_path / "examples" / "eks" / "kustomize"
    shutil.copytree(EKS / "kustomize", folder)
    text = (folder / "kustomization.yaml").read_text()
    command = re.search(r"#   (helm template .*?) > rendered.yaml", text, re.S)[1].replace("\\\n#", "")
    _, *arguments = shlex.split(command)
    arguments = [str(EKS / "kustomize" / a) if a.startswith("../") else a for a in arguments]
    done = chart.helm("Helm 4", *arguments, "--kube-version", "1.33.0")
    assert done.returncode == 0, done.stderr
    (folder / "rendered.yaml").write_text(done.stdout)
    (folder / "ring-secret").write_text("s" * 48)
    kustomize = shlex.split(os.environ["KOORDE_KUSTOMIZE"])
    done = subprocess.run([*kustomize, str(folder)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    documents = chart.parse(done.stdout)
    assert {d["metadata"].get("namespace") for d in documents if d["kind"] != "Namespace"} == {"koorde-cache"}
    assert "Pod" not in chart.kinds(documents)
    env = {e["name"]: e for e in chart.node(documents)["env"]}
    secret = chart.find(documents, "Secret", env["KOORDE_RING__SECRET"]["valueFrom"]["secretKeyRef"]["name"])
    assert env["KOORDE_RING__SECRET"]["valueFrom"]["secretKeyRef"]["key"] in secret["data"]


SEED = [
    "namespace.yaml", "configmap.yaml", "statefulset.yaml", "service-headless.yaml", "service-cache.yaml",
    "service-grpc.yaml", "ingress-alb.yaml", "hpa.yaml", "pdb.yaml", "networkpolicy.yaml", "workload-job.yaml",
    "kustomization.yaml", "deploy-eks.sh", "destroy-eks.sh", "README.md", "QUICKSTART.md",
]


def rows(text, after):
    """The rows of the table behind a heading."""
    lines = text.split(f"## {after}\n")[1].splitlines()
    table = [line for line in lines[: next((i for i, l in enumerate(lines) if l.startswith("## ")), None)]
             if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_every_manifest_of_before_has_a_successor_that_exists():
    found = {row[0].strip("`"): row[1] for row in rows((EKS / "README.md").read_text(), "What became of each manifest")}
    assert list(found) == SEED
    for before, now in found.items():
        paths = re.findall(r"`([^`]+/[^`]+)`", now)
        assert paths, before
        for path in paths:
            assert (chart.ROOT / path).exists(), f"{before}: {path} is not there"


def test_the_costs_add_up():
    """Each row's figure is what its formula gives, and the sum is the sum."""
    text = (EKS / "README.md").read_text()
    total, stated = 0.0, None
    for what, formula, dollars in rows(text, "What it costs"):
        figure = float(dollars.strip("*"))
        if "Sum" in what:
            stated = figure
            continue
        result = eval(formula.replace("×", "*"), {"__builtins__": {}})  # noqa: S307  our own file: digits and operators
        assert re.fullmatch(r"[\d.×+ ()]+", formula) and abs(result - figure) < 0.01, what
        total += figure
    assert stated is not None and abs(total - stated) < 0.01


def test_quickstart_and_readme_name_only_what_exists():
    options = set(re.findall(r"^ {2}(--[a-z-]+)", (EKS / "deploy.sh").read_text() + (EKS / "destroy.sh").read_text(), re.M))
    for document in ("QUICKSTART.md", "README.md"):
        text = (EKS / document).read_text()
        for script, line in re.findall(r"(deploy|destroy)\.sh ([^`\n]*)", text):
            for option in re.findall(r"--[a-z-]+", line):
                assert option in options | {"--region"}, f"{document}: {script}.sh {option}"
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (EKS / target).exists(), f"{document}: {target}"
        for key in re.findall(r"--set '?([a-zA-Z.]+)=", text):
            values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
            for part in key.split("."):
                assert part in values or key.startswith("config."), f"{document}: {key}"
                values = values.get(part) or {}
