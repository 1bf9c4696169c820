//! What is wrong with a configuration.

use std::{io, path::PathBuf};

use super::Source;

/// What is wrong with a configuration: always the key or file, the value, and where it is from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file could not be read.
    #[error("configuration file {}: {source}", path.display())]
    File {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is neither TOML nor YAML by its name, or not well-formed.
    #[error("configuration file {}: {reason}", path.display())]
    Syntax {
        /// The path asked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such key.
    #[error("{key} ({from}) is no setting; {hint}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where it is written.
        from: Source,
        /// The keys that exist in its place.
        hint: String,
    },
    /// A value cannot be read, or is out of bounds.
    #[error("{key} = {value} ({from}): {reason}")]
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
