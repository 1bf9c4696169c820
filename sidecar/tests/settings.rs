//! Four places, one configuration: who wins, and what is said about what is wrong.

use std::{fs, path::PathBuf};

use koorde_sidecar::settings::{
    Loaded, Settings, SettingsError, Source, load_from, markdown_table,
};
use libkoorde::config::ByteSize;

/// A file that is gone after the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).expect("the target directory is writable");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn load(
    file: Option<&File>,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded, SettingsError> {
    load_from(
        file.map(|file| file.0.as_path()),
        &pairs(variables),
        &pairs(flags),
    )
}

fn error(file: Option<&File>, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    load(file, variables, flags)
        .expect_err("it is wrong")
        .to_string()
}

#[test]
fn later_places_win_and_each_key_knows_its_own() {
    let file = File::new(
        "wins.toml",
        "[store]\ncapacity = \"1MiB\"\nhot_percent = 5\n[http]\nmax_streams = 7\n",
    );
    let variables = [
        ("KOORDE_STORE__CAPACITY", "2MiB"),
        ("KOORDE_STORE__HOT_PERCENT", "6"),
    ];
    let loaded = load(Some(&file), &variables, &[("store.capacity", "3MiB")]).expect("all is well");
    let settings = &loaded.settings;
    assert_eq!(settings.store.capacity, ByteSize::mib(3));
    assert_eq!(
        (settings.store.hot_percent, settings.http.max_streams),
        (6, 7)
    );
    assert_eq!(
        loaded.source("store.capacity"),
        Source::Flag("--store.capacity".into())
    );
    let variable = Source::Environment("KOORDE_STORE__HOT_PERCENT".into());
    assert_eq!(loaded.source("store.hot_percent"), variable);
    assert_eq!(
        loaded.source("http.max_streams"),
        Source::File(file.0.clone())
    );
    assert_eq!(loaded.source("http.listen"), Source::Default);
}

#[test]
fn without_anything_the_defaults_work_and_the_name_is_the_hosts() {
    let loaded = load(None, &[], &[]).expect("defaults work");
    assert!(!loaded.settings.node.name.is_empty());
    let named = Settings {
        node: loaded.settings.node.clone(),
        ..Settings::default()
    };
    assert_eq!(loaded.settings, named);
}

#[test]
fn lists_are_separated_by_commas_or_written_as_json() {
    for text in ["a:1,b:2", " a:1 , b:2 ,", "[\"a:1\", \"b:2\"]"] {
        let loaded = load(None, &[("KOORDE_RING__SEEDS", text)], &[]).expect("a list");
        assert_eq!(loaded.settings.ring.seeds, ["a:1", "b:2"], "{text}");
    }
    let loaded = load(None, &[("KOORDE_RING__SEEDS", "")], &[]).expect("a list of nothing");
    assert!(loaded.settings.ring.seeds.is_empty());
}

#[test]
fn a_value_is_read_as_what_its_key_needs() {
    let variables = [
        ("KOORDE_NODE__NAME", "123"),
        ("KOORDE_CACHE__STRIP_UNKEYED", "false"),
        ("KOORDE_HTTP__TLS__CERT", ""),
        ("KOORDE_TELEMETRY__SAMPLE_RATIO", "1"),
        ("KOORDE_SHUTDOWN__DELAY", "250ms"),
        ("KOORDE_NODE__ROLE", "edge"),
        ("KOORDE_RING__ADVERTISE", "10.1.2.3:4000"),
        ("KOORDE_STORE__CAPACITY", "4194304"),
    ];
    let settings = load(None, &variables, &[]).expect("all is well").settings;
    assert_eq!(settings.node.name, "123");
    assert!(!settings.cache.strip_unkeyed && settings.http.tls.cert.is_none());
    assert_eq!(settings.telemetry.sample_ratio, 1.0);
    assert_eq!(settings.shutdown.delay.as_millis(), 250);
    assert_eq!(settings.store.capacity, ByteSize::mib(4));
    assert_eq!(
        settings.ring.advertise.map(|a| a.to_string()).as_deref(),
        Some("10.1.2.3:4000")
    );
}

#[test]
fn yaml_is_read_and_an_empty_section_says_nothing() {
    let text = "egress:\nring:\n  seeds: [\"a:1\"]\nstore: {capacity: 2MiB}\n";
    let file = File::new("empty.yaml", text);
    let settings = load(Some(&file), &[], &[]).expect("all is well").settings;
    assert_eq!(
        (settings.ring.seeds.len(), settings.store.capacity),
        (1, ByteSize::mib(2))
    );
    for (name, text) in [("none.yaml", "# nothing\n"), ("none.toml", "")] {
        let file = File::new(name, text);
        assert!(load(Some(&file), &[], &[]).is_ok(), "{name}");
    }
}

#[test]
fn an_unknown_key_is_refused_by_name_and_source_wherever_it_is() {
    let file = File::new("unknown.toml", "[store]\ncapcity = \"1MiB\"\n");
    let message = error(Some(&file), &[], &[]);
    assert!(
        message.starts_with("store.capcity (file ") && message.contains("store has capacity,"),
        "{message}"
    );
    let message = error(None, &[("KOORDE_STROE__CAPACITY", "1")], &[]);
    assert!(
        message.contains("stroe.capacity (environment KOORDE_STROE__CAPACITY)"),
        "{message}"
    );
    assert!(
        message.contains("the sections are admin, cache, cloudwatch, egress"),
        "{message}"
    );
    let message = error(None, &[], &[("capacity", "1")]);
    assert!(
        message.contains("capacity (flag --capacity) is no setting"),
        "{message}"
    );
    let file = File::new("scalar.yaml", "store: 5\n");
    assert!(error(Some(&file), &[], &[]).starts_with("store (file "));
}

#[test]
fn a_wrong_value_is_refused_with_its_key_its_value_and_its_source() {
    let file = File::new(
        "wrong.toml",
        "[store]\ncapacity = \"much\"\n[node]\nweight = \"heavy\"\n",
    );
    for (message, parts) in [
        (
            error(Some(&file), &[], &[]),
            ["node.weight = heavy", "(file ", ""],
        ),
        (
            error(None, &[("KOORDE_STORE__CAPACITY", "much")], &[]),
            [
                "store.capacity = much",
                "(environment KOORDE_STORE__CAPACITY)",
                "256MiB",
            ],
        ),
        (
            error(None, &[], &[("fetch.timeout", "1 fortnight")]),
            ["fetch.timeout = 1 fortnight", "(flag --fetch.timeout)", ""],
        ),
        (
            error(None, &[], &[("node.weight", "heavy")]),
            [
                "node.weight = heavy",
                "(flag --node.weight)",
                "must be a number",
            ],
        ),
        (
            error(None, &[("KOORDE_STORE__HOT_PERCENT", "21")], &[]),
            [
                "store.hot_percent = 21",
                "(environment KOORDE_STORE__HOT_PERCENT)",
                "must be 0 to 20",
            ],
        ),
        (
            error(None, &[], &[("http.tls.cert", "a.pem")]),
            [
                "http.tls.cert = a.pem",
                "(flag --http.tls.cert)",
                "given with http.tls.key",
            ],
        ),
        (
            error(None, &[], &[("telemetry.otlp_endpoint", "a:4317")]),
            ["telemetry.otlp_endpoint = a:4317", "", "http://"],
        ),
        (
            error(None, &[], &[("telemetry.otlp_protocol", "http/json")]),
            ["telemetry.otlp_protocol = http/json", "", "http/protobuf"],
        ),
        (
            error(None, &[], &[("telemetry.metrics_exporter", "statsd")]),
            ["telemetry.metrics_exporter = statsd", "", "none"],
        ),
        (
            error(None, &[], &[("telemetry.metrics_interval", "10ms")]),
            ["telemetry.metrics_interval = 10ms", "", "1 s to 3600 s"],
        ),
        (
            error(None, &[], &[("telemetry.otlp_headers", "hunter2")]),
            ["telemetry.otlp_headers = (redacted)", "", "name=value"],
        ),
        (
            error(None, &[], &[("log.level", "a=b=c")]),
            ["log.level = a=b=c", "", ""],
        ),
        (
            error(None, &[], &[("node.role", "boss")]),
            ["node.role = boss", "", "member"],
        ),
    ] {
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

#[test]
fn tables_are_read_from_toml_yaml_and_one_line() {
    let toml = "[[routes]]\nhost = \"a.example\"\nupstream = \"api\"\n[[routes]]\nprefix = \"/x\"\n\
        [upstreams.api]\nservers = [\"http://10.0.0.1:80\"]\nfail_timeout = \"3s\"\n";
    let yaml = "routes:\n- {host: a.example, upstream: api}\n- prefix: /x\n\
        upstreams:\n  api:\n    servers: [\"http://10.0.0.1:80\"]\n    fail_timeout: 3s\n";
    let (toml, yaml) = (
        File::new("tables.toml", toml),
        File::new("tables.yaml", yaml),
    );
    let routes = "[{host = \"a.example\", upstream = \"api\"}, {prefix = \"/x\"}]";
    let upstreams = "{api = {servers = [\"http://10.0.0.1:80\"], fail_timeout = \"3s\"}}";
    let json = (
        "[{\"host\": \"a.example\", \"upstream\": \"api\"}, {\"prefix\": \"/x\"}]",
        "{\"api\": {\"servers\": [\"http://10.0.0.1:80\"], \"fail_timeout\": \"3s\"}}",
    );
    let variables = [("KOORDE_ROUTES", routes), ("KOORDE_UPSTREAMS", upstreams)];
    let flags = [("routes", json.0), ("upstreams", json.1)];
    for (place, loaded) in [
        ("toml", load(Some(&toml), &[], &[])),
        ("yaml", load(Some(&yaml), &[], &[])),
        ("environment", load(None, &variables, &[])),
        ("flags", load(None, &[], &flags)),
    ] {
        let settings = loaded.unwrap_or_else(|e| panic!("{place}: {e}")).settings;
        let [one, two] = &settings.routes[..] else {
            panic!("{place}: {:?}", settings.routes);
        };
        assert_eq!(one.host.as_deref(), Some("a.example"), "{place}");
        assert_eq!(
            (one.upstream.as_deref(), one.prefix.as_str()),
            (Some("api"), "/")
        );
        assert_eq!((two.prefix.as_str(), two.collapse), ("/x", true), "{place}");
        let api = &settings.upstreams["api"];
        assert_eq!(api.servers, ["http://10.0.0.1:80"], "{place}");
        assert_eq!(
            (api.fail_timeout.as_secs(), api.max_fails),
            (3, 3),
            "{place}"
        );
    }
}

#[test]
fn what_is_wrong_inside_a_table_is_named_with_its_place() {
    let file = File::new("inside.toml", "[[routes]]\n[[routes]]\nprefx = \"/x\"\n");
    let up = File::new("up.yaml", "upstreams: {api: {server: [\"http://a\"]}}");
    for (message, parts) in [
        (
            error(Some(&file), &[], &[]),
            [
                "routes.1.prefx (file ",
                "is no setting; routes.1 has host, prefix",
            ],
        ),
        (
            error(Some(&up), &[], &[]),
            [
                "upstreams.api.server (file ",
                "upstreams.api has servers, host",
            ],
        ),
        (
            error(None, &[("KOORDE_ROUTES", "[{prefix = \"x\"}]")], &[]),
            [
                "routes.0.prefix = x (environment KOORDE_ROUTES)",
                "must be a path",
            ],
        ),
        (
            error(None, &[("KOORDE_ROUTES", "[{collapse = \"maybe\"}]")], &[]),
            [
                "routes.0.collapse = maybe (environment KOORDE_ROUTES)",
                "bool",
            ],
        ),
        (
            error(None, &[], &[("routes", "[{upstream = \"none\"}]")]),
            [
                "routes.0.upstream = none (flag --routes)",
                "must be a key of upstreams",
            ],
        ),
        (
            error(
                None,
                &[],
                &[("upstreams", "{api = {servers = [\"ftp://a\"]}}")],
            ),
            [
                "upstreams.api.servers = ftp://a (flag --upstreams)",
                "must be http://host:port",
            ],
        ),
        (
            error(None, &[], &[("routes", "a.example")]),
            ["routes = a.example (flag --routes)", "TOML or JSON"],
        ),
        (
            error(None, &[], &[("routes", "{}")]),
            ["routes = ", "sequence"],
        ),
        (
            error(None, &[("KOORDE_UPSTREAMS__API__SERVERS", "http://a")], &[]),
            [
                "upstreams.api.servers (environment",
                "upstreams is given as a whole",
            ],
        ),
    ] {
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_secret_is_never_shown() {
    let flags = [("ring.secret", "hunter2")];
    let loaded = load(None, &[], &flags).expect("all is well");
    assert_eq!(loaded.settings.ring.secret, "hunter2");
    let shown = format!("{:?} {}", loaded.effective(), loaded.settings.redacted());
    assert!(!shown.contains("hunter2") && shown.contains("(redacted)"));
    let file = File::new("secret.toml", "[ring]\nsecret = 4711\n");
    let message = error(Some(&file), &[], &[]);
    assert!(
        message.contains("ring.secret = (redacted)") && !message.contains("4711"),
        "{message}"
    );
    let file = File::new("quoted.toml", "[ring]\nsecret = \"4711\n");
    let message = error(Some(&file), &[], &[]);
    assert!(
        message.contains("line 2") && !message.contains("4711"),
        "{message}"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let missing = File(PathBuf::from("missing.toml"));
    assert!(error(Some(&missing), &[], &[]).contains("missing.toml"));
    let file = File::new("config.ini", "");
    assert!(error(Some(&file), &[], &[]).contains("must be named .toml, .yaml"));
    let file = File::new("broken.toml", "[store\n");
    assert!(error(Some(&file), &[], &[]).contains("broken.toml"));
}

#[test]
fn the_table_has_a_row_for_every_key() {
    let table = markdown_table();
    for row in [
        "| `http.listen` | `0.0.0.0:8080` | Where clients connect.",
        "| `ring.seeds` | – | Peers to meet first",
    ] {
        assert!(table.contains(row), "{table}");
    }
    assert!(
        table
            .lines()
            .all(|line| line.starts_with('|') && line.ends_with('|'))
    );
    for row in [
        "| `routes[].prefix` | `/` |",
        "| `upstreams.<name>.servers` | – |",
    ] {
        assert!(table.contains(row), "{table}");
    }
    let rows = table.lines().skip(2).count();
    let keys = koorde_sidecar::settings::keys::keys();
    let members: usize = keys.iter().map(|key| key.members.len()).sum();
    assert_eq!(rows, keys.len() + members);
}

#[test]
fn an_error_is_one_line_whatever_was_written() {
    // The reader of TOML says this one on two lines.
    let file = File::new("broken.toml", "[\u{1b}");
    let name = "two\nlines = 1";
    let keys = File::new("keys.json", "{\"two\\nlines\": 1}");
    for text in [
        error(Some(&file), &[], &[]),
        error(Some(&keys), &[], &[]),
        error(None, &[], &[(name, "1")]),
        error(None, &[("KOORDE_A\r__B", "1")], &[]),
        error(None, &[], &[("node.role", "a\nkoorde: all is well")]),
        error(None, &[], &[("routes", "[{ prefix =\n")]),
    ] {
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    let text = error(None, &[], &[("node.role", "a\nb")]);
    assert!(text.starts_with(r"node.role = a\nb (flag"), "{text}");
}
