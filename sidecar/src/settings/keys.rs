//! Every key there is, with its default and meaning, generated from the structures themselves: what
//! is printed, and what flags and variables are checked against, cannot drift from what is read.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Settings;

/// Keys whose values are never shown.
pub const SECRETS: [&str; 1] = ["ring.secret"];

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Dotted: `store.capacity`.
    pub name: String,
    /// What its value looks like.
    pub kind: Kind,
    /// Whether it may be left unset.
    pub optional: bool,
    /// Its default, as in JSON.
    pub default: Value,
    /// Its documentation, on one line.
    pub meaning: String,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string, a duration, a size, an address, a word.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Strings.
    List,
}

/// Every key there is, by name in alphabetical order.
#[must_use]
pub fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let generator = SchemaSettings::default().with(|s| s.inline_subschemas = true);
        let schema = generator
            .into_generator()
            .into_root_schema_for::<Settings>();
        let mut keys = Vec::new();
        collect(
            "",
            schema.as_value(),
            &tree(&Settings::default()),
            &mut keys,
        );
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        keys
    });
    &KEYS
}

/// The key of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    keys().iter().find(|key| key.name == name)
}

/// The keys, or else the sections, that could have been meant by a name that does not exist.
#[must_use]
pub fn hint(name: &str) -> String {
    let section = name.rsplit_once('.').map_or("", |(section, _)| section);
    let prefix = format!("{section}.");
    let siblings: Vec<_> = keys()
        .iter()
        .filter_map(|key| key.name.strip_prefix(&prefix))
        .collect();
    if !siblings.is_empty() {
        return format!("{section} has {}", siblings.join(", "));
    }
    let mut sections: Vec<_> = keys()
        .iter()
        .filter_map(|key| key.name.split('.').next())
        .collect();
    sections.dedup();
    format!("the sections are {}", sections.join(", "))
}

/// The settings as a tree of JSON.
#[must_use]
pub fn tree(settings: &Settings) -> Value {
    serde_json::to_value(settings).expect("settings are structures of strings and numbers")
}

/// A value as people write it: a list separated by commas, nothing for what is unset.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The Markdown table of all settings: key, default, what it means.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| key | default | what it means |\n|---|---|---|\n");
    for key in keys() {
        let default = match text(&key.default) {
            none if none.is_empty() => String::from("–"),
            some => format!("`{some}`"),
        };
        let meaning = key.meaning.replace('|', "\\|");
        table.push_str(&format!("| `{}` | {default} | {meaning} |\n", key.name));
    }
    table
}

fn collect(prefix: &str, schema: &Value, defaults: &Value, keys: &mut Vec<Key>) {
    let Some(properties) = schema["properties"].as_object() else {
        keys.push(leaf(prefix, schema, defaults));
        return;
    };
    for (name, schema) in properties {
        let dot = if prefix.is_empty() { "" } else { "." };
        collect(
            &format!("{prefix}{dot}{name}"),
            schema,
            &defaults[name],
            keys,
        );
    }
}

fn leaf(name: &str, schema: &Value, default: &Value) -> Key {
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let has = |name: &str| types.contains(&name);
    let kind = match () {
        () if has("array") => Kind::List,
        () if has("boolean") => Kind::Boolean,
        () if has("integer") => Kind::Integer,
        () if has("number") => Kind::Number,
        () => Kind::Text,
    };
    let meaning = schema["description"].as_str().unwrap_or_default();
    Key {
        name: name.to_owned(),
        kind,
        optional: has("null"),
        default: default.clone(),
        meaning: meaning.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning_and_every_secret_exists() {
        assert!(keys().len() > 40, "{}", keys().len());
        for key in keys() {
            assert!(!key.meaning.is_empty(), "{} has no doc comment", key.name);
        }
        for secret in SECRETS {
            assert!(find(secret).is_some(), "{secret}");
        }
    }

    #[test]
    fn kinds_and_defaults_are_those_of_the_structures() {
        for (name, kind, default) in [
            ("ring.seeds", Kind::List, ""),
            ("cache.strip_unkeyed", Kind::Boolean, "true"),
            ("store.capacity", Kind::Text, "256MiB"),
            ("node.weight", Kind::Integer, "100"),
            ("node.role", Kind::Text, "member"),
            ("telemetry.sample_ratio", Kind::Number, "0.01"),
            ("http.tls.cert", Kind::Text, ""),
            ("http.listen", Kind::Text, "0.0.0.0:8080"),
            ("shutdown.delay", Kind::Text, "5s"),
        ] {
            let key = find(name).unwrap_or_else(|| panic!("{name} is a key"));
            assert_eq!(
                (key.kind, text(&key.default).as_str()),
                (kind, default),
                "{name}"
            );
        }
        assert!(find("http.tls.cert").is_some_and(|key| key.optional));
    }
}
