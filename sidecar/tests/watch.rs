//! What watches a cluster: the files for CloudFormation and Terraform are what the command prints, and
//! every alarm and every rule has its section in the runbook.

use std::{collections::BTreeMap, fs, path::Path};

use clap::Parser as _;
use koorde_sidecar::{
    cli::Cli,
    telemetry::cloudwatch::watch::{
        RUNBOOK, Subject,
        alarms::{Limits, alarms, composites},
        stack::{cloudformation, terraform},
    },
};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_files_of_the_eks_example_are_what_the_command_prints() {
    let subject = Subject::new("Koorde", "koorde-cache/koorde", "");
    let limits = Limits::default();
    let command = "koorde cloudwatch dashboard|alarms --cluster koorde-cache/koorde --output";
    for (file, printed) in [
        (
            "cloudformation/dashboard.json",
            cloudformation::dashboard(&subject),
        ),
        (
            "cloudformation/alarms.json",
            cloudformation::alarms(&subject, &limits),
        ),
        (
            "terraform/dashboard/main.tf.json",
            terraform::dashboard(&subject),
        ),
        (
            "terraform/alarms/main.tf.json",
            terraform::alarms(&subject, &limits),
        ),
    ] {
        let text = serde_json::to_string_pretty(&printed).expect("it is JSON");
        let path = format!("examples/eks/cloudwatch/{file}");
        assert!(
            read(&path).trim_end() == text,
            "{path} is not the output of `{command} …`"
        );
    }
}

/// The sections of the runbook: heading to text.
fn sections() -> BTreeMap<String, String> {
    let runbook = read("helm/koorde/RUNBOOK.md");
    let sections = runbook.split("\n## ").skip(1);
    sections
        .map(|section| {
            let (heading, text) = section.split_once('\n').expect("a text below its heading");
            (heading.to_owned(), text.to_owned())
        })
        .collect()
}

/// The rules for Prometheus: each alert with the lines up to the next.
fn rules() -> Vec<(String, String)> {
    let files =
        ["node", "injector"].map(|f| read(&format!("helm/koorde/templates/{f}/rules.yaml")));
    let rules = files
        .iter()
        .flat_map(|text| text.split("- alert: ").skip(1));
    rules
        .map(|rule| {
            let (name, rest) = rule.split_once('\n').expect("a rule below its name");
            (name.trim().to_owned(), rest.to_owned())
        })
        .collect()
}

#[test]
fn every_alarm_and_every_rule_has_a_section_in_the_runbook_and_no_section_is_of_nothing() {
    let of_alarms = alarms(&Limits::default());
    let of_alarms = of_alarms.iter().map(|alarm| alarm.id);
    let of_alarms = of_alarms.chain(composites().into_iter().map(|alarm| alarm.id));
    let mut known: Vec<String> = of_alarms.map(|id| format!("Koorde{id}")).collect();
    let rules = rules();
    assert!(rules.len() >= 11, "rules were found: {rules:?}");
    for (name, rest) in &rules {
        let link = format!("runbook_url: {RUNBOOK}#{}", name.to_lowercase());
        assert!(rest.contains(&link), "{name} has no {link}");
        known.push(name.clone());
    }
    known.sort();
    known.dedup();
    let sections: Vec<String> = sections().into_keys().collect();
    assert_eq!(sections, known);
}

/// Commands of ours in a text: lines of its block of code, words in backticks.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.lines().skip(1));
    let lines = lines.map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_section_says_what_it_means_the_first_three_commands_and_what_is_safe() {
    for (heading, text) in sections() {
        assert!(
            !text.trim_start().starts_with("```"),
            "{heading}: what does it mean?"
        );
        let commands = commands(&text);
        assert_eq!(commands.len(), 3, "{heading}: {commands:?}");
        let (_, safe) = text.split_once("\nSafe: ").unwrap_or_default();
        assert!(safe.trim().len() > 20, "{heading}: what is safe to do?");
    }
}

#[test]
fn every_command_that_rules_and_runbook_name_is_one() {
    let mut seen = 0;
    let texts = sections().into_iter().chain(rules());
    for (heading, text) in texts {
        let prose: String = text.split("```").step_by(2).collect();
        let quoted = prose.split('`').skip(1).step_by(2).map(str::to_owned);
        for line in commands(&text).into_iter().chain(quoted) {
            // In a pod: kubectl exec POD -- koorde …
            let Some((before, ours)) = line.split_once("koorde ") else {
                continue;
            };
            if !before.is_empty() && !before.ends_with("-- ") {
                continue;
            }
            let ours = ours.split(" | ").next().unwrap_or(ours);
            let ours = ours.replace("URL", "http://origin.example/");
            let words = std::iter::once("koorde").chain(ours.split_whitespace());
            let parsed = Cli::try_parse_from(words);
            let asks = parsed.as_ref().is_err_and(|e| e.exit_code() == 0);
            assert!(
                parsed.is_ok() || asks,
                "{heading}: {line}: {:?}",
                parsed.err()
            );
            seen += 1;
        }
    }
    assert!(seen >= 15, "only {seen} commands were found");
}
