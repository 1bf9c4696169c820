//! Reading the four places, by figment, and telling for each key which of them it is from.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    error::Kind,
    providers::{Format, Serialized, Toml, Yaml},
};
use serde_json::Value;

use super::{
    Settings, SettingsError, environment,
    keys::{self, Key},
};

/// Settings, and where each value is from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings, complete and checked.
    pub settings: Settings,
    sources: BTreeMap<&'static str, Source>,
}

impl Loaded {
    /// Where a key's value is from; [`Source::Default`] for a name that is no key.
    #[must_use]
    pub fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// Every key with its value, secrets redacted, and its source.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let tree = self.settings.redacted();
        let value = |key: &Key| {
            tree.pointer(&pointer(&key.name))
                .cloned()
                .unwrap_or_default()
        };
        let one = |key: &'static Key| Effective {
            key: &key.name,
            value: value(key),
            source: self.source(&key.name),
        };
        keys::keys().iter().map(one).collect()
    }
}

/// One key of the effective configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// Dotted: `store.capacity`.
    pub key: &'static str,
    /// Its value, as in JSON; `(redacted)` for a secret.
    pub value: Value,
    /// Where it is from.
    pub source: Source,
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A file.
    File(PathBuf),
    /// A variable, by name.
    Environment(String),
    /// A flag, by name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Reads defaults, then `file` (else the one that `KOORDE_CONFIG` names, if any), then `KOORDE_*`,
/// then `flags` (dotted key, value).
///
/// # Errors
/// A file that cannot be read, a key that does not exist, a value that cannot be read or is out of
/// bounds; each names what it is about and where it is from.
pub fn load(file: Option<&Path>, flags: &[(String, String)]) -> Result<Loaded, SettingsError> {
    let named = file.map(Path::to_owned).or_else(environment::config_file);
    load_from(named.as_deref(), &environment::variables(), flags)
}

/// As [`load`], with the environment as an argument.
///
/// # Errors
/// As [`load`].
pub fn load_from(
    file: Option<&Path>,
    variables: &[(String, String)],
    flags: &[(String, String)],
) -> Result<Loaded, SettingsError> {
    let mut reader = Reader::new();
    if let Some(path) = file {
        reader.file(path)?;
    }
    for (variable, value) in variables {
        let key = variable
            .trim_start_matches("KOORDE_")
            .replace("__", ".")
            .to_lowercase();
        reader.one(&key, value, Source::Environment(variable.clone()))?;
    }
    for (key, value) in flags {
        reader.one(key, value, Source::Flag(format!("--{key}")))?;
    }
    reader.finish()
}

/// Merges one place after the other and remembers who spoke last.
struct Reader {
    figment: Figment,
    sources: BTreeMap<&'static str, Source>,
}

impl Reader {
    fn new() -> Self {
        Self {
            figment: Figment::from(Serialized::defaults(Settings::default())),
            sources: BTreeMap::new(),
        }
    }

    fn file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let text = fs::read_to_string(path).map_err(|source| SettingsError::File {
            path: path.to_owned(),
            source,
        })?;
        let syntax = |reason: String| SettingsError::Syntax {
            path: path.to_owned(),
            reason,
        };
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let tree: Value = match extension {
            // The error as a whole quotes the line, which may be the secret's.
            "toml" => Toml::from_str(&text).map_err(|e| {
                let before = text
                    .get(..e.span().unwrap_or_default().start)
                    .unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                syntax(format!("line {line}: {}", keys::on_one_line(e.message())))
            })?,
            "yaml" | "yml" | "json" => Yaml::from_str(&text).map_err(|e| syntax(e.to_string()))?,
            _ => return Err(syntax("must be named .toml, .yaml, .yml or .json".into())),
        };
        let tree = without_nulls(tree).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        if !tree.is_object() {
            return Err(syntax("must be sections of keys".into()));
        }
        let from = Source::File(path.to_owned());
        let mut sources = BTreeMap::new();
        note("", &tree, &from, &mut sources)?;
        self.sources.append(&mut sources);
        self.figment = std::mem::take(&mut self.figment).merge(Serialized::defaults(tree));
        Ok(())
    }

    fn one(&mut self, name: &str, text: &str, from: Source) -> Result<(), SettingsError> {
        let Some(key) = keys::find(name) else {
            return Err(unknown(name, &from));
        };
        let value = key.parse(text).map_err(|reason| SettingsError::Value {
            key: name.to_owned(),
            value: shown(name, text),
            from: from.clone(),
            reason,
        })?;
        let merged = std::mem::take(&mut self.figment).merge(Serialized::default(name, value));
        self.figment = merged;
        self.sources.insert(&key.name, from);
        Ok(())
    }

    fn finish(self) -> Result<Loaded, SettingsError> {
        let mut settings: Settings = self.figment.extract().map_err(|e| self.refused(&e))?;
        settings.complete();
        if let Err(message) = settings.check() {
            return Err(self.out_of_bounds(&message));
        }
        Ok(Loaded {
            settings,
            sources: self.sources,
        })
    }

    /// A value that serde refused.
    fn refused(&self, error: &figment::Error) -> SettingsError {
        let key = error.path.join(".");
        if let Kind::UnknownField(_, known) = &error.kind {
            let table = key.rsplit_once('.').map_or("", |(table, _)| table);
            return SettingsError::UnknownKey {
                hint: format!("{table} has {}", known.join(", ")),
                from: self.source(&key),
                key,
            };
        }
        // serde's words repeat the value.
        let secret = keys::SECRETS.contains(&key.as_str());
        let reason = if secret {
            "must be a string".into()
        } else {
            error.kind.to_string()
        };
        SettingsError::Value {
            value: shown(&key, &keys::text(&self.value(&key))),
            from: self.source(&key),
            reason,
            key,
        }
    }

    /// The value of a key, or of a member of a table: `routes.0.prefix`.
    fn value(&self, key: &str) -> Value {
        let (first, rest) = key.split_once('.').unwrap_or((key, ""));
        let value = self.figment.find_value(first).ok();
        let value = value.and_then(|value| serde_json::to_value(value).ok());
        let found = value.as_ref().and_then(|value| match rest {
            "" => Some(value),
            _ => value.pointer(&pointer(rest)),
        });
        found.cloned().unwrap_or_default()
    }

    /// A message of `check`: `key = value: must be …`.
    fn out_of_bounds(&self, message: &str) -> SettingsError {
        let (key, rest) = message.split_once(" = ").unwrap_or(("settings", message));
        let (value, reason) = rest.rsplit_once(": ").unwrap_or(("", rest));
        SettingsError::Value {
            key: key.to_owned(),
            value: shown(key, value),
            from: self.source(key),
            reason: reason.to_owned(),
        }
    }

    fn source(&self, key: &str) -> Source {
        // A member of a table is from where the table is from.
        let mut names = std::iter::successors(Some(key), |name| {
            name.rsplit_once('.').map(|(outer, _)| outer)
        });
        let source = names.find_map(|name| self.sources.get(name));
        source.cloned().unwrap_or(Source::Default)
    }
}

/// Notes every key of a file's tree; refuses those that do not exist.
fn note(
    prefix: &str,
    tree: &Value,
    from: &Source,
    sources: &mut BTreeMap<&'static str, Source>,
) -> Result<(), SettingsError> {
    if let Some(key) = keys::find(prefix) {
        sources.insert(&key.name, from.clone());
        return Ok(());
    }
    let inside = format!("{prefix}.");
    let is_section = prefix.is_empty() || keys::keys().iter().any(|k| k.name.starts_with(&inside));
    match tree.as_object() {
        Some(entries) if is_section => entries.iter().try_for_each(|(name, tree)| {
            let dot = if prefix.is_empty() { "" } else { "." };
            note(&format!("{prefix}{dot}{name}"), tree, from, sources)
        }),
        _ => Err(unknown(prefix, from)),
    }
}

/// The tree without what is null: YAML has `egress:` with nothing below it, as a template renders an
/// empty section, and a file of nothing but comments. Both mean: nothing said.
fn without_nulls(tree: Value) -> Option<Value> {
    match tree {
        Value::Null => None,
        Value::Object(entries) => {
            let said = |(name, tree)| without_nulls(tree).map(|tree| (name, tree));
            Some(Value::Object(
                entries.into_iter().filter_map(said).collect(),
            ))
        }
        other => Some(other),
    }
}

fn unknown(key: &str, from: &Source) -> SettingsError {
    SettingsError::UnknownKey {
        key: key.to_owned(),
        from: from.clone(),
        hint: keys::hint(key),
    }
}

fn shown(key: &str, value: &str) -> String {
    if keys::SECRETS.contains(&key) {
        "(redacted)".into()
    } else {
        value.to_owned()
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('.', "/"))
}
