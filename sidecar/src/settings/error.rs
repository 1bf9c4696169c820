//! What is wrong with a configuration.

use std::{fmt, io, path::PathBuf};

use super::Source;

/// What is wrong with a configuration: always the key or file, the value, and where it is from, on one
/// line, whatever is in the value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read.
    #[error("{}", one_line(format_args!("configuration file {}: {source}", path.display())))]
    File {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is neither TOML nor YAML by its name, or not well-formed.
    #[error("{}", one_line(format_args!("configuration file {}: {reason}", path.display())))]
    Syntax {
        /// The path asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such key.
    #[error("{}", one_line(format_args!("{key} ({from}) is no setting; {hint}")))]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where it is written.
        from: Source,
        /// The keys that exist in its place.
        hint: String,
    },
    /// A value cannot be read, or is out of bounds.
    #[error("{}", one_line(format_args!("{key} = {value} ({from}): {reason}")))]
    Value {
        /// The key.
        key: String,
        /// The value as written; `(redacted)` for a secret.
        value: String,
        /// Where it is written.
        from: Source,
        /// What it must be.
        reason: String,
    },
}

/// Control characters as in Rust's strings: what was written must not look like a line of ours.
fn one_line(text: fmt::Arguments<'_>) -> String {
    let mut line = String::new();
    for c in text.to_string().chars() {
        if c.is_control() {
            line.extend(c.escape_debug());
        } else {
            line.push(c);
        }
    }
    line
}
