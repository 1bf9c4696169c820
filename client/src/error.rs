//! What can be wrong with a layer's settings, and what bodies fail with.

use std::{error::Error, fmt};

use crate::Reason;

/// What a [`Body`](crate::Body) fails with: the inner service's error as it is, boxed. Koorde adds
/// none of its own where the origin could have been read instead.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The sidecar died in the middle of a body, and what the origin sends is not the same.
#[derive(Debug)]
pub(crate) struct Stalled(pub(crate) Reason);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.0.as_str();
        write!(f, "the sidecar stopped in the middle of a body: {why}")
    }
}

impl Error for Stalled {}

/// A setting that can't be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    key: &'static str,
    value: String,
    reason: &'static str,
}

impl InvalidSetting {
    pub(crate) fn new(key: &'static str, value: &str, reason: &'static str) -> Self {
        let value = value.chars().take(200).collect();
        Self { key, value, reason }
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.key, self.value, self.reason)
    }
}

impl Error for InvalidSetting {}
