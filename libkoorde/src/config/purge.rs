//! Purges: how many are remembered, and how long members are waited for.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bound, within};

/// Purges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PurgeConfig {
    /// URLs, tags, prefixes… that stored responses are judged by one by one, 16–16777216; some 150
    /// bytes each. Beyond it everything stored before the oldest of them counts as purged like it.
    pub max_scopes: usize,
    /// Purges kept to be passed on one by one, 16–16777216; some 150 bytes each. A member that has
    /// missed older ones purges everything.
    pub max_log: usize,
    /// How long a member may take to acknowledge a purge, 50 ms – 60 s; one that does not in half
    /// of it is asked again.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for PurgeConfig {
    fn default() -> Self {
        Self {
            max_scopes: 65_536,
            max_log: 65_536,
            timeout: Duration::from_secs(2),
        }
    }
}

impl PurgeConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let rule = "16 to 16777216";
        for (key, value) in [
            ("purge.max_scopes", self.max_scopes),
            ("purge.max_log", self.max_log),
        ] {
            bound((16..=1 << 24).contains(&value), key, &value, rule)?;
        }
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
        within("purge.timeout", self.timeout, least, most)
    }
}
