//! The README says what is true: its table, its commands, its flags.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use koorde_sidecar::settings::{keys, load_from, markdown_table};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    fs::read_to_string(path).expect("the README is there")
}

#[test]
fn the_table_of_settings_is_the_one_that_the_code_prints() {
    let readme = readme();
    let table = readme.split("<!-- settings -->").nth(1).expect("it begins");
    let table = table.split("<!-- /settings -->").next().expect("it ends");
    let hint = "put the output of `koorde config --table` between the markers of README.md";
    assert_eq!(table.trim(), markdown_table().trim(), "{hint}");
}

#[test]
fn every_command_it_names_is_there() {
    let readme = readme();
    let named: BTreeSet<&str> = readme
        .match_indices("`koorde ")
        .filter_map(|(at, start)| readme[at + start.len()..].split([' ', '`']).next())
        .collect();
    assert!(named.len() >= 6, "{named:?}");
    for command in named {
        let help = Command::new(env!("CARGO_BIN_EXE_koorde"))
            .args([command, "--help"])
            .output()
            .expect("koorde runs");
        assert!(help.status.success(), "koorde {command}");
    }
}

#[test]
fn every_flag_it_names_is_a_setting() {
    let readme = readme();
    let known: BTreeSet<&str> = keys::keys().iter().map(|key| key.name.as_str()).collect();
    let mut seen = 0;
    for (at, _) in readme.match_indices("--") {
        let flag: String = readme[at + 2..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'))
            .collect();
        if flag.contains('.') && !flag.starts_with("section") {
            assert!(known.contains(flag.as_str()), "--{flag}");
            seen += 1;
        }
    }
    assert!(seen >= 2, "it shows no flag at all");
}

#[test]
fn every_example_of_settings_is_read() {
    let readme = readme();
    let blocks = readme.split("```toml\n").skip(1);
    let examples: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    let settings: Vec<&&str> = examples
        .iter()
        .filter(|example| example.contains("[[routes]]"))
        .collect();
    assert!(settings.len() >= 2, "it shows no settings at all");
    for (n, example) in settings.into_iter().enumerate() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{n}.toml"));
        fs::write(&path, example).expect("the target directory is writable");
        let loaded = load_from(Some(&path), &[], &[]);
        let mut settings = loaded.map(|loaded| loaded.settings).expect(example);
        settings.complete();
        assert_eq!(settings.check(), Ok(()), "{example}");
    }
}
