//! Every key there is, with its default and meaning, generated from the structures themselves: what
//! is printed, and what flags and variables are checked against, cannot drift from what is read.

use std::{fmt, sync::LazyLock};

use figment::providers::{Format as _, Toml};
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Settings;

/// Keys whose values are never shown.
pub const SECRETS: [&str; 2] = ["ring.secret", "telemetry.otlp_headers"];

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
    /// Of [`Kind::Tables`], what each table has: `routes[].host`, `upstreams.<name>.servers`.
    pub members: Vec<Key>,
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
    /// Tables, in a list or by name, or values by name: given as a whole, as TOML or JSON.
    Tables,
}

impl Key {
    /// The text of a flag or variable as a value of the key's kind.
    ///
    /// # Errors
    /// It is none, and why.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        if self.optional && trimmed.is_empty() {
            return Ok(Value::Null);
        }
        let number = |e: &dyn fmt::Display| format!("{e}; must be a number");
        match self.kind {
            Kind::Text => Ok(text.into()),
            Kind::Integer => trimmed
                .parse::<i64>()
                .map(Value::from)
                .map_err(|e| number(&e)),
            Kind::Number => trimmed
                .parse::<f64>()
                .map(Value::from)
                .map_err(|e| number(&e)),
            Kind::Boolean => trimmed
                .parse::<bool>()
                .map(Value::from)
                .map_err(|e| e.to_string()),
            Kind::List if trimmed.starts_with('[') => {
                let list: Result<Vec<String>, _> = serde_json::from_str(trimmed);
                list.map(Value::from).map_err(|e| e.to_string())
            }
            Kind::List => {
                let items = trimmed
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                Ok(items.map(Value::from).collect())
            }
            Kind::Tables => tables(trimmed),
        }
    }
}

/// Tables as JSON or as a value of TOML.
fn tables(text: &str) -> Result<Value, String> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let toml: Result<Value, _> = Toml::from_str(&format!("value = {text}"));
    let mut toml = toml.map_err(|e| {
        let example = r#"[{ host = "a.example", upstream = "a" }]"#;
        format!(
            "{}; must be TOML or JSON on one line, such as {example}",
            on_one_line(e.message())
        )
    })?;
    Ok(toml["value"].take())
}

/// What the reader of TOML says, often on two lines.
pub(super) fn on_one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join(", ")
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
        let defaults = tree(&Settings::default());
        collect("", schema.as_value(), &defaults, &mut keys);
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
    let inside = |key: &&Key| name.starts_with(&format!("{}.", key.name));
    if let Some(table) = keys()
        .iter()
        .find(|key| key.kind == Kind::Tables && inside(key))
    {
        return format!("{} is given as a whole, as TOML or JSON", table.name);
    }
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
        Value::Array(items) if !items.iter().any(Value::is_object) => {
            items.iter().map(text).collect::<Vec<_>>().join(",")
        }
        Value::Array(none) if none.is_empty() => String::new(),
        Value::Object(none) if none.is_empty() => String::new(),
        other => other.to_string(),
    }
}

/// The Markdown table of all settings: key, default, what it means. What tables hold follows them.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from("| key | default | what it means |\n|---|---|---|\n");
    rows(keys(), &mut table);
    table
}

fn rows(keys: &[Key], table: &mut String) {
    for key in keys {
        let default = match text(&key.default) {
            none if none.is_empty() => String::from("–"),
            some => format!("`{some}`"),
        };
        let meaning = key.meaning.replace('|', "\\|");
        table.push_str(&format!("| `{}` | {default} | {meaning} |\n", key.name));
        rows(&key.members, table);
    }
}

fn collect(prefix: &str, schema: &Value, defaults: &Value, keys: &mut Vec<Key>) {
    // The members of an optional structure are documented where they are not optional.
    let is_structure = schema["type"] == "object";
    let properties = schema["properties"].as_object();
    let Some(properties) = properties.filter(|_| is_structure) else {
        keys.push(leaf(prefix, schema, defaults));
        return;
    };
    for (name, schema) in properties {
        let dot = if prefix.is_empty() { "" } else { "." };
        // In a table the defaults are part of the schema.
        let default = match &defaults[name] {
            Value::Null => &schema["default"],
            some => some,
        };
        collect(&format!("{prefix}{dot}{name}"), schema, default, keys);
    }
}

fn leaf(name: &str, schema: &Value, default: &Value) -> Key {
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let has = |name: &str| types.contains(&name);
    let members = members(name, schema);
    let kind = match () {
        () if !members.is_empty() || has("object") => Kind::Tables,
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
        members,
    }
}

/// What the tables of a list, or those of a map, have.
fn members(name: &str, schema: &Value) -> Vec<Key> {
    let (name, one) = match (&schema["items"], &schema["additionalProperties"]) {
        (item, _) if item["properties"].is_object() => (format!("{name}[]"), item),
        (_, value) if value["properties"].is_object() => (format!("{name}.<name>"), value),
        _ => return Vec::new(),
    };
    let mut keys = Vec::new();
    collect(&name, one, &Value::Null, &mut keys);
    keys
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
            ("routes", Kind::Tables, ""),
            ("upstreams", Kind::Tables, ""),
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

    #[test]
    fn the_members_of_tables_have_names_defaults_and_meanings() {
        let all = keys().iter().flat_map(|key| &key.members);
        let member = |name: &str| {
            let mut all = all.clone();
            let found = all.find(|key| key.name == name);
            found.unwrap_or_else(|| panic!("{name} is a member"))
        };
        for (name, default) in [
            ("routes[].prefix", "/"),
            ("routes[].host", ""),
            ("routes[].collapse", "true"),
            ("routes[].cache", ""),
            ("upstreams.<name>.servers", ""),
            ("upstreams.<name>.max_fails", "3"),
            ("upstreams.<name>.fail_timeout", "10s"),
        ] {
            assert_eq!(text(&member(name).default), default, "{name}");
            assert!(!member(name).meaning.is_empty(), "{name}");
        }
    }
}
