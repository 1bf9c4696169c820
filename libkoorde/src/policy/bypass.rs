//! Which requests of a route go past the cache, RFC 9211 §2.2: `fwd=bypass`.

use super::Target;
use super::key_rules::check_patterns;
use super::query::{cookies, matches, parameters, query};
use super::settings::names;
use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a request is neither answered from the store nor its response stored. Any
/// one condition is enough. Values do not count, only presence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bypass {
    /// Always: nothing of this route is cached. Default: false.
    pub always: bool,
    /// Request fields. At most 64. Default: none.
    #[serde(with = "names")]
    #[schemars(with = "Vec<String>")]
    pub headers: Vec<HeaderName>,
    /// Cookies by name; one that ends in `*` stands for all that begin so, as
    /// `wordpress_logged_in_*`. At most 64. Default: none.
    pub cookies: Vec<String>,
    /// Query parameters by name, after percent-decoding, in any case of letters;
    /// `*` as for cookies. At most 64. Default: none.
    pub query: Vec<String>,
}

const MAX_NAMES: usize = 64;

impl Bypass {
    /// Checks bounds and names.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn check(&self) -> Result<(), String> {
        if self.headers.len() > MAX_NAMES {
            let count = self.headers.len();
            return Err(format!("headers: {count} names, at most {MAX_NAMES}"));
        }
        check_patterns("cookies", &self.cookies, MAX_NAMES)?;
        check_patterns("query", &self.query, MAX_NAMES)
    }

    /// Whether this request goes past the cache.
    pub fn applies(&self, target: &Target, fields: &HeaderMap) -> bool {
        self.always
            || self.headers.iter().any(|name| fields.contains_key(name))
            || self.has_cookie(fields)
            || self.has_parameter(target)
    }

    fn has_cookie(&self, fields: &HeaderMap) -> bool {
        !self.cookies.is_empty()
            && cookies(fields).any(|(name, _)| {
                let named = |pattern: &String| matches(pattern.as_bytes(), name);
                self.cookies.iter().any(named)
            })
    }

    fn has_parameter(&self, target: &Target) -> bool {
        let Some(query) = query(target).filter(|_| !self.query.is_empty()) else {
            return false;
        };
        // Some origins part at `;` too: what they may find there counts.
        query.split(';').flat_map(parameters).any(|parameter| {
            let named = |pattern: &String| parameter.may_match(pattern);
            self.query.iter().any(named)
        })
    }
}
