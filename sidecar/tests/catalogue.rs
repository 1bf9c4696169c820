//! The catalogue of metrics is the only source: what nodes export is in it, and what documents,
//! dashboards and rules name is in it.

use std::{collections::BTreeSet, fs, path::Path};

use koorde_sidecar::telemetry::catalogue;
use libkoorde::metrics::describe::{Kind, Metric, Words};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Labels that Prometheus, and not a node, gives.
const OUTSIDE: [&str; 3] = ["namespace", "pod", "le"];

/// A sample as an expression names it, with its matchers.
struct Named {
    sample: String,
    matchers: Vec<(String, String, String)>,
}

/// Every sample of ours that a text names. Templates leave blanks and `-}}` inside braces.
fn named(text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for prefix in ["koorde_", "process_", "http_server_"] {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || "_-/.".contains(c)) {
                continue;
            }
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let rest = &text[at..];
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            found.push(Named {
                sample: rest[..end].to_owned(),
                matchers: matchers(&rest[end..]),
            });
        }
    }
    found
}

/// Label, operator and value of each matcher in the braces that follow a name.
fn matchers(rest: &str) -> Vec<(String, String, String)> {
    let Some(inside) = rest.strip_prefix('{') else {
        return Vec::new();
    };
    // The rules' templates put the common matchers in by `{{- $of -}}`.
    let inside = inside.replace("{{- $of -}}", "").replace('\\', "");
    let inside = inside.split('}').next().unwrap_or_default();
    let each = inside.split("\",").filter(|part| part.contains('"'));
    each.map(|part| {
        let (label, value) = part.split_once('"').expect("it has a quote");
        let label = label.trim_matches(|c: char| c.is_whitespace() || c == ',');
        let name: String = label
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let op = label[name.len()..].trim().to_owned();
        (name, op, value.trim_end_matches('"').to_owned())
    })
    .collect()
}

fn wrong_in(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for Named { sample, matchers } in named(text) {
        let Some(metric) = catalogue::find(&sample) else {
            wrong.push(format!("{sample} is no metric"));
            continue;
        };
        for (name, op, value) in matchers {
            if OUTSIDE.contains(&name.as_str()) {
                continue;
            }
            let Some(label) = metric.labels.iter().find(|label| label.name == name) else {
                wrong.push(format!("{sample} has no label {name}"));
                continue;
            };
            let Words::Of(words) = label.words else {
                continue;
            };
            let alternatives: Vec<&str> = match op.as_str() {
                "=~" | "!~" => value.split('|').collect(),
                _ => vec![&value],
            };
            for word in alternatives.iter().filter(|word| !words.contains(word)) {
                wrong.push(format!("{sample} has no {name}={word:?}"));
            }
        }
    }
    for (at, by) in text.match_indices(" by (") {
        let labels = text[at + by.len()..].split(')').next().unwrap_or_default();
        let known = |label: &&str| {
            let is_label = |m: &'static Metric| m.labels.iter().any(|l| l.name == *label);
            OUTSIDE.contains(label) || catalogue::all().any(is_label)
        };
        let labels = labels.split(',').map(str::trim);
        let unknown = labels.filter(|label| !known(label));
        wrong.extend(unknown.map(|label| format!("by ({label}) is no label")));
    }
    wrong
}

#[test]
fn dashboard_and_rules_name_only_what_is_in_the_catalogue() {
    for (path, least) in [
        ("helm/koorde/dashboards/koorde.json", 20),
        ("helm/koorde/templates/node/rules.yaml", 10),
        ("helm/koorde/templates/injector/rules.yaml", 3),
    ] {
        let text = read(path);
        assert!(
            named(&text).len() >= least,
            "{path}: nothing was understood"
        );
        assert_eq!(wrong_in(&text), Vec::<String>::new(), "{path}");
    }
}

#[test]
fn the_check_finds_names_labels_and_words_that_are_not_there() {
    for text in [
        "rate(koorde_gone_total[5m])",
        r#"koorde_cache_requests_total{kind="hit"}"#,
        r#"koorde_cache_requests_total{result="hot"}"#,
        r#"koorde_cache_requests_total{result=~"hit|hot"}"#,
        "sum by (url) (koorde_cache_requests_total)",
        "koorde_request_duration_seconds",
    ] {
        assert_eq!(wrong_in(text).len(), 1, "{text}");
    }
    let right =
        r#"sum by (le) (koorde_request_duration_seconds_bucket{result=~"hit|stale",pod="a"})"#;
    assert_eq!(wrong_in(right), Vec::<String>::new());
}

#[test]
fn the_table_of_metrics_is_the_one_that_the_code_prints() {
    let readme = read("README.md");
    let table = readme.split("<!-- metrics -->").nth(1).expect("it begins");
    let table = table.split("<!-- /metrics -->").next().expect("it ends");
    let hint = "put the output of `koorde metrics --table` between the markers of README.md";
    assert_eq!(table.trim(), catalogue::markdown_table().trim(), "{hint}");
}

#[test]
fn names_are_unique_well_formed_and_end_in_their_unit() {
    let (mut names, mut told) = (BTreeSet::new(), BTreeSet::new());
    for metric in catalogue::all() {
        assert!(names.insert(metric.name), "{} is there twice", metric.name);
        let is_counter = metric.kind == Kind::Counter;
        assert_eq!(
            metric.name.ends_with("_total"),
            is_counter,
            "{}",
            metric.name
        );
        assert!(
            !metric.help.ends_with('.'),
            "{}: {}",
            metric.name,
            metric.help
        );
        assert!(!metric.help.contains('|'), "{}", metric.name);
        for label in metric.labels {
            if let Words::Of(words) = label.words {
                let unique: BTreeSet<_> = words.iter().collect();
                assert_eq!(unique.len(), words.len(), "{} {}", metric.name, label.name);
            }
        }
        for published in metric.cloudwatch {
            assert!(
                told.insert(published.name),
                "{} is told twice",
                published.name
            );
            for (name, word) in published.of {
                let label = metric.labels.iter().find(|label| label.name == *name);
                let words = label.map(|label| label.words);
                let Some(Words::Of(words)) = words else {
                    panic!("{} has no words of {name}", metric.name);
                };
                assert!(words.contains(word), "{} has no {name}={word}", metric.name);
            }
        }
    }
    // Each costs money: see `koorde cloudwatch cost`.
    assert!(
        (15..=25).contains(&told.len()),
        "{} are told to CloudWatch",
        told.len()
    );
}
