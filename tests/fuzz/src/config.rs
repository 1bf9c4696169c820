//! What an operator writes: either it is a configuration, which is then the same when it is written
//! out and read again, or the error names a key or the file on one line and tells no secret.
//!
//! A line with `toml`, `yaml` or `json` and then a file; or lines of `env NAME value` and
//! `flag key value`.

use crate::input::{Input, text};
use koorde_sidecar::settings::{Loaded, SettingsError, keys, load_from};
use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// Long enough that no message has it by chance.
const SECRET: &str = "correct-horse-battery-staple";

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = text(input.line());
    let is_file = matches!(kind, "toml" | "yaml" | "json");
    let loaded = if is_file {
        let path = file(kind);
        fs::write(&path, input.rest()).expect("a temporary folder");
        load_from(Some(&path), &[], &[])
    } else {
        let (variables, flags) = pairs(text(bytes));
        load_from(None, &variables, &flags)
    };
    match loaded {
        Ok(loaded) => assert_is_itself(&loaded),
        Err(error) => {
            let message = error.to_string();
            let is_told = has_secret(text(bytes)) && message.contains(SECRET);
            assert!(!is_told, "{message}");
            assert_names_what_is_wrong(&error);
        }
    }
}

/// Whether the secret is there once, and as the value of its key: what is written in the place of
/// anything else is shown.
fn has_secret(text: &str) -> bool {
    let places = [
        "env RING__SECRET ",
        "flag ring.secret ",
        "secret = \"",
        "  secret: ",
    ];
    let is_value = |line: &str| {
        places.iter().any(|place| {
            line.strip_prefix(place)
                .is_some_and(|rest| rest.starts_with(SECRET))
        })
    };
    // Names of variables are shown in lower case.
    text.to_ascii_lowercase().matches(SECRET).count() == 1 && text.lines().any(is_value)
}

fn file(extension: &str) -> PathBuf {
    let shared = Path::new("/dev/shm");
    let folder = if shared.is_dir() {
        shared.to_owned()
    } else {
        env::temp_dir()
    };
    folder.join(format!("koorde-fuzz-{}.{extension}", process::id()))
}

type Pairs = Vec<(String, String)>;

fn pairs(text: &str) -> (Pairs, Pairs) {
    let (mut variables, mut flags) = (Vec::new(), Vec::new());
    for line in text.lines().take(16) {
        let mut words = line.splitn(3, ' ');
        let (Some(kind), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let pair = (name.to_owned(), words.next().unwrap_or_default().to_owned());
        match kind {
            "env" => variables.push((format!("KOORDE_{}", pair.0), pair.1)),
            "flag" => flags.push(pair),
            _ => {}
        }
    }
    (variables, flags)
}

fn assert_is_itself(loaded: &Loaded) {
    let settings = &loaded.settings;
    settings.check().expect("what was read has been checked");
    settings.config().check().expect("and the library's part");
    let effective = loaded.effective();
    assert_eq!(effective.len(), keys::keys().len());
    for one in &effective {
        let _ = (keys::text(&one.value), one.source.to_string());
        if keys::SECRETS.contains(&one.key) {
            assert!(matches!(keys::text(&one.value).as_str(), "" | "(redacted)"));
        }
    }
    let path = file("json");
    let written = in_yaml(&keys::tree(settings).to_string());
    fs::write(&path, &written).expect("a temporary folder");
    match load_from(Some(&path), &[], &[]) {
        Ok(again) => assert_eq!(again.settings, *settings, "{written}"),
        Err(error) => panic!("{error}: {written}"),
    }
}

/// JSON files are read as YAML, where a few characters may only be written as escapes.
fn in_yaml(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text
}

fn assert_names_what_is_wrong(error: &SettingsError) {
    let text = error.to_string();
    assert!(
        !text.contains(['\n', '\r']),
        "{text:?} is more than one line"
    );
    match error {
        SettingsError::UnknownKey { hint, .. } => assert!(!hint.is_empty()),
        SettingsError::Value { key, reason, .. } => {
            assert!(!key.is_empty() && !reason.is_empty(), "{text}");
        }
        SettingsError::Syntax { reason, .. } => assert!(!reason.is_empty()),
        _ => {}
    }
}
