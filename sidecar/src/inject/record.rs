//! What was done to a pod, in an annotation of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RECORD, draft::Was};

/// What [`super::uninject`] has to take away.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Record {
    /// Lists and objects that were made, by their dotted name: `spec.volumes`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) made: BTreeMap<String, Was>,
    /// Containers that were changed: `containers/app`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) env: BTreeMap<String, Env>,
    /// Labels that were added.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) labels: BTreeSet<String>,
    /// Annotations that were added, but for the record's own.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) annotations: BTreeSet<String>,
    /// Image pull secrets that were added.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) pull_secrets: BTreeSet<String>,
}

/// What was done to one container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Env {
    /// What there was in place of its list of variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) made: Option<Was>,
    /// Variables that were added.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) added: BTreeSet<String>,
    /// Former values of those that were merged.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) was: BTreeMap<String, String>,
}

impl Record {
    /// That of a pod; none if it was never injected, or if the annotation cannot be read.
    pub(super) fn of(pod: &Value) -> Option<Self> {
        let text = pod["metadata"]["annotations"][RECORD].as_str()?;
        serde_json::from_str(text).ok()
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("names and strings")
    }
}
