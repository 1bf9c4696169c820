//! `koorde inject` and `koorde uninject`, by real manifests and by made-up pods.
//!
//! `tests/inject/cases` are read, `tests/inject/injected` is what must come out: reviewed as files, made by
//! `koorde inject --settings tests/inject/settings.yaml tests/inject/cases/NAME > tests/inject/injected/NAME`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use koorde_sidecar::inject::{InjectSettings, Injected};

mod pods;

fn folder(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/inject");
    tests.join(name)
}

fn cases(name: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder(name)).expect("the folder is there");
    let mut cases: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let name = path
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(path).expect("readable"))
        })
        .collect();
    cases.sort();
    cases
}

fn koorde(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_koorde"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("koorde starts");
    let mut input = child.stdin.take().expect("piped");
    // Who does not read it ends without.
    let _ = input.write_all(stdin.as_bytes());
    drop(input);
    child.wait_with_output().expect("it ends")
}

fn inject(stdin: &str, more: &[&str]) -> Output {
    let settings = folder("settings.yaml");
    let settings = settings.to_str().expect("a path");
    koorde(
        &[&["inject", "--settings", settings, "-"], more].concat(),
        stdin,
    )
}

fn stdout(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What is left after `koorde uninject`, as JSON.
fn uninjected(text: &str) -> Vec<serde_json::Value> {
    let text = stdout(koorde(&["uninject", "--output", "json"], text));
    let objects = serde_json::Deserializer::from_str(&text).into_iter();
    objects.map(|object| object.expect("JSON")).collect()
}

#[test]
fn manifests_come_out_as_reviewed() {
    let cases = cases("cases");
    assert!(cases.len() >= 30, "{}", cases.len());
    let (mut wrong, mut report) = (Vec::new(), String::new());
    for (name, text) in &cases {
        let output = inject(text, &[]);
        report += &format!("== {name}\n{}", String::from_utf8_lossy(&output.stderr));
        let output = stdout(output);
        let expected = fs::read_to_string(folder("injected").join(name));
        // A manifest in which nothing changes comes out byte for byte.
        if output != *expected.as_ref().unwrap_or(text) {
            wrong.push(format!("{name}:\n{output}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let expected = fs::read_to_string(folder("report.txt")).expect("tests/inject/report.txt");
    assert_eq!(report, expected);
}

/// The operations themselves, which a policy of the API server's own has to come to as well.
#[test]
fn the_patch_of_a_plain_pod_is_as_reviewed() {
    let read = |name: &str| fs::read_to_string(folder(name)).unwrap_or_default();
    let pod = serde_json::from_str(&read("plain_pod.json")).expect("JSON");
    let settings =
        InjectSettings::load(Some(&folder("settings.yaml")), &[]).expect("they are right");
    let Injected::Patch(patch) = koorde_sidecar::inject::inject(&pod, &settings) else {
        panic!("it is injected");
    };
    let patch = serde_json::to_string_pretty(&patch).expect("JSON");
    assert_eq!(patch.trim(), read("plain_patch.json").trim(), "{patch}");
}

/// What `koorde uninject` may do to a value that somebody has written after us: nothing.
#[test]
fn no_proxy_that_was_changed_since_stays_as_it_was_changed() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {config.koorde.dev/http-proxy: 'true'}}\n\
               spec: {containers: [{name: a, env: [{name: NO_PROXY, value: corp}]}]}\n";
    let once = stdout(inject(pod, &["--output", "json"]));
    assert!(once.contains("corp,localhost"), "{once}");
    assert_eq!(
        uninjected(&once)[0]["spec"]["containers"][0]["env"][0]["value"],
        "corp"
    );
    let changed = once.replace("corp,localhost", "corp,new,localhost");
    let left = &uninjected(&changed)[0]["spec"]["containers"][0]["env"];
    let value = left[0]["value"].as_str().expect("it is there");
    assert!(value.starts_with("corp,new,localhost"), "{left}");
}

#[test]
fn a_second_document_behind_dots_is_not_lost_but_refused() {
    let text = "kind: Pod\nspec: {containers: [{name: a}]}\n...\nkind: Service\n";
    let output = inject(text, &[]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("another document begins after `...`"),
        "{error}"
    );
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    // At the end they are nothing.
    stdout(inject(
        "kind: Pod\nspec: {containers: [{name: a}]}\n...\n",
        &[],
    ));
}

#[test]
fn pull_secrets_do_not_hide_those_of_the_service_account() {
    let pod = |secrets: &str| {
        let spec = format!("spec: {{containers: [{{name: a}}], imagePullSecrets: {secrets}}}");
        format!("kind: Pod\n{spec}\n")
    };
    let names = |output: Output| {
        let pod: serde_json::Value = serde_json::from_str(&stdout(output)).expect("JSON");
        let names = pod["spec"]["imagePullSecrets"].as_array().cloned();
        names.map_or(0, |names| names.len())
    };
    for (secrets, more, count) in [
        ("[]", &["--output", "json"][..], 0),
        ("null", &["--output", "json"], 0),
        ("[{name: mine}]", &["--output", "json"], 2),
        ("[]", &["--output", "json", "--force-pull-secrets"], 1),
    ] {
        let output = inject(&pod(secrets), more);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            error.contains("--force-pull-secrets"),
            count == 0,
            "{secrets}: {error}"
        );
        assert_eq!(names(output), count, "{secrets} {more:?}");
    }
}

#[test]
fn there_is_no_expectation_without_its_case() {
    let cases: BTreeMap<_, _> = cases("cases").into_iter().collect();
    let injected = self::cases("injected");
    assert!(injected.len() >= 25, "{}", injected.len());
    for (name, _) in injected {
        assert!(cases.contains_key(&name), "{name}");
    }
}

#[test]
fn injecting_twice_is_injecting_once_and_uninject_gives_back_what_it_was() {
    for (name, text) in cases("cases") {
        let once = stdout(inject(&text, &[]));
        assert_eq!(stdout(inject(&once, &[])), once, "{name}");
        // The form of the file differs (comments, quotes); what it means does not.
        assert_eq!(uninjected(&once), uninjected(&text), "{name}");
    }
}

#[test]
fn other_settings_replace_the_sidecar() {
    let (_, text) = cases("cases").remove(0);
    let once = stdout(inject(&text, &[]));
    let changed = stdout(inject(&once, &["--set", "resources.memory_limit=1Gi"]));
    assert_eq!(
        changed,
        stdout(inject(&text, &["--set", "resources.memory_limit=1Gi"]))
    );
    assert_ne!(changed, once);
}

#[test]
fn what_does_not_exist_is_refused_and_nothing_is_written() {
    let cases = cases("refused");
    assert!(cases.len() >= 10, "{}", cases.len());
    for (name, text) in cases {
        let expected = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let expected = expected.expect("the message is in the first line");
        // A good pod before it is not written, either.
        let good = "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a}]}\n---\n";
        let output = inject(&format!("{good}{text}"), &[]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            error.contains(&format!("pod/typo: refused: {expected}\n")),
            "{name}: {error}"
        );
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(1), 0),
            "{name}"
        );
    }
}

#[test]
fn exit_codes_tell_what_could_not_be_done_from_what_was_not_understood() {
    for (arguments, stdin, code, message) in [
        (&["inject", "--set", "seeds=1"][..], "", 2, "seeds"),
        (&["inject", "--nonsense"], "", 2, "--nonsense"),
        (&["inject", "/nowhere/at.all"], "", 1, "/nowhere/at.all"),
        (
            &["inject"],
            "a: [b",
            1,
            "document 1, which begins at line 1",
        ),
        (
            &["inject"],
            "a: b\n---\nc: d\nc: e\n",
            1,
            "document 2, which begins at line 2: line",
        ),
        (&["inject"], "a: !!binary aGk=", 1, "is not understood"),
        (&["uninject"], "a: *nobody", 1, "document 1"),
        (&["inject"], "kind: ConfigMap", 0, "there is no pod"),
    ] {
        let output = koorde(arguments, stdin);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.contains(message), "{arguments:?}: {error}");
    }
}

/// As `kubectl get deploy -o json | koorde inject - | kubectl apply -f -` does it.
#[test]
fn a_list_in_json_keeps_what_kubectl_needs() {
    let text = fs::read_to_string(folder("cases/list.yaml")).expect("readable");
    let list = stdout(koorde(&["uninject", "--output", "json"], &text));
    let injected = stdout(inject(&list, &[]));
    let (mut before, mut after): (serde_json::Value, serde_json::Value) = (
        serde_json::from_str(&list).expect("JSON"),
        serde_json::from_str(&injected).expect("JSON"),
    );
    let template = &mut after["items"][1]["spec"]["template"];
    assert_eq!(template["spec"]["initContainers"][0]["name"], "koorde");
    let template = template.take();
    before["items"][1]["spec"]["template"].take();
    // Service, status, resourceVersion, last-applied-configuration.
    assert_eq!(before, after);
    assert!(
        after["items"][1]["metadata"]["resourceVersion"] == "4711",
        "{template}"
    );
    // And YAML made of it is the same objects.
    let yaml = stdout(inject(&list, &["--output", "yaml"]));
    assert_eq!(uninjected(&yaml), uninjected(&injected));
}

/// The container's variables, references resolved as the kubelet does it, start a node whose doors are on
/// loopback, and which tells peers the pod's address.
#[test]
fn the_sidecar_starts_with_the_variables_that_it_is_given() {
    let pod = serde_json::json!({
        "kind": "Pod",
        "metadata": {"annotations": {"config.koorde.dev/upstream-allow": "127.0.0.1"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "app"}]},
    });
    let settings = [
        "--set",
        "seeds=[]",
        "--set",
        "config.log.format=json",
        "--output",
        "json",
    ];
    let pod: serde_json::Value =
        serde_json::from_str(&stdout(inject(&pod.to_string(), &settings))).expect("JSON");
    let sidecar = &pod["spec"]["initContainers"][0];
    let known = [
        ("POD_NAME", "job-x7"),
        ("POD_NAMESPACE", "web"),
        ("POD_IP", "127.0.0.1"),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_koorde"));
    command
        .arg("serve")
        .env_clear()
        .env("KOORDE_SERVICE_HOST", "192.0.2.1");
    for variable in sidecar["env"].as_array().expect("a list") {
        let name = variable["name"].as_str().expect("a name");
        let mut value = variable["value"]
            .as_str()
            .unwrap_or("a secret of the ring")
            .to_owned();
        for (field, known) in known {
            value = value.replace(&format!("$({field})"), known);
        }
        // Where it listens, but for the port: this is no pod of its own.
        if let (true, Some((host, _))) = (name.ends_with("__LISTEN"), value.rsplit_once(':')) {
            value = format!("{host}:0");
        }
        command.env(name, value);
    }
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("koorde starts");
    let log = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let started = log
        .lines()
        .map(|line| line.expect("readable"))
        .find(|line| line.contains("\"Started.\""));
    let started: serde_json::Value =
        serde_json::from_str(&started.expect("it starts")).expect("JSON");
    let probe = &sidecar["startupProbe"]["exec"]["command"];
    assert_eq!(probe[0], "/usr/bin/koorde");
    assert_eq!(probe[3], "http://127.0.0.1:4090");
    let admin = started["admin"].as_str().expect("an address").to_owned();
    let probed = |admin: &str| koorde(&["ring", "--admin", admin], "").status.code();
    assert_eq!([&probe[1], &probe[2]], ["ring", "--admin"]);
    let while_it_runs = probed(&admin);
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!([while_it_runs, probed(&admin)], [Some(0), Some(1)]);
    assert_eq!(started["node"], "job-x7.web");
    let is_on = |key: &str, host: &str| {
        started[key]
            .as_str()
            .is_some_and(|address| address.starts_with(host))
    };
    assert!(
        is_on("http", "127.0.0.1:")
            && is_on("admin", "127.0.0.1:")
            && is_on("peer", "127.0.0.1:4000"),
        "{started}"
    );
    assert_eq!(
        sidecar["env"][4],
        serde_json::json!({"name": "KOORDE_NODE__ROLE", "value": "edge"})
    );
}

#[test]
fn a_dry_run_reports_and_writes_nothing() {
    let output = koorde(
        &[
            "inject",
            "--dry-run",
            folder("cases").to_str().expect("a path"),
        ],
        "",
    );
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(0), 0),
        "{error}"
    );
    assert!(error.contains("deployment/web: injected\n"), "{error}");
    assert!(
        error.contains("daemonset/node-exporter: skipped: it uses its host's network\n"),
        "{error}"
    );
}

#[test]
fn an_alias_that_would_fill_the_memory_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = level - 1;
        let aliases = vec![format!("*a{below}"); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let output = koorde(&["inject"], &bomb);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("values in one document"), "{error}");
    let deep = "[".repeat(100_000);
    assert_eq!(koorde(&["inject"], &deep).status.code(), Some(1));
}

#[test]
fn a_folder_becomes_one_stream_of_yaml() {
    let output = koorde(
        &[
            "inject",
            "--output",
            "yaml",
            folder("cases").to_str().expect("a path"),
        ],
        "",
    );
    let text = stdout(output);
    // Read again, whole: separators are where they belong.
    let names: Vec<_> = uninjected(&text)
        .iter()
        .map(|object| object["kind"].clone())
        .collect();
    assert!(
        names.len() > 35 && !names.contains(&serde_json::Value::Null),
        "{names:?}"
    );
}
