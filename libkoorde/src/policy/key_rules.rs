//! How a route makes cache keys of its requests, RFC 9111 §2: the target URI, less
//! what the operator knows not to count, and more: "Caches might incorporate
//! additional material into the cache key".
//!
//! What is left out of a key can poison it: whoever sends it decides what others
//! get. So a parameter is left out only if no origin could take it for one that
//! is in (see `query.rs`), and unambiguously: one with `;` in it stays.

use super::key::MAX_EXTRA_LEN;
use super::query::{Parameter, cookies, parameters, query};
use super::settings::names;
use super::{CacheKey, Target, key, vary};
use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What of a request goes into its cache key. The default: its URL as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRules {
    /// Which query parameters count. Default: all.
    pub query: QueryRule,
    /// Whether the order of parameters with different names does not count; that of
    /// parameters with the same name always does. Default: false.
    pub sort_query: bool,
    /// Request fields whose values count, compared as Vary compares them (RFC 9111
    /// §4.1). At most 16. Default: none.
    #[serde(with = "names")]
    #[schemars(with = "Vec<String>")]
    pub headers: Vec<HeaderName>,
    /// Cookies whose values count, by exact name. At most 16. Default: none.
    pub cookies: Vec<String>,
}

/// Which query parameters count. Names are compared after percent-decoding; one
/// that ends in `*` stands for all that begin so, as `utm_*`. At most 64 names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueryRule {
    /// The whole query, byte by byte.
    #[default]
    All,
    /// No query at all.
    None,
    /// Only parameters of these names, in any case of letters and with or without
    /// an index (`id`, `ID`, `id[2]`).
    Keep(Vec<String>),
    /// All but parameters of exactly these names.
    Drop(Vec<String>),
}

/// Bounds of the lists.
const MAX_PARAMETERS: usize = 64;
const MAX_NAMES: usize = 16;

impl KeyRules {
    /// Checks bounds and names.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn check(&self) -> Result<(), String> {
        match &self.query {
            QueryRule::All | QueryRule::None => {}
            QueryRule::Keep(names) => check_patterns("query.keep", names, MAX_PARAMETERS)?,
            QueryRule::Drop(names) => check_patterns("query.drop", names, MAX_PARAMETERS)?,
        }
        if self.headers.len() > MAX_NAMES {
            let count = self.headers.len();
            return Err(format!("headers: {count} names, at most {MAX_NAMES}"));
        }
        check_patterns("cookies", &self.cookies, MAX_NAMES)?;
        match self.cookies.iter().find(|name| name.contains('*')) {
            Some(name) => Err(format!("cookies: {name:?} is no exact name")),
            None => Ok(()),
        }
    }

    /// Makes the cache key of a request. `slice` is the number of a slice of its
    /// response's body; `None`: the whole.
    ///
    /// Under default rules two keys are equal exactly if tenant and target are.
    pub fn key(
        &self,
        tenant: &str,
        target: &Target,
        fields: &HeaderMap,
        slice: Option<u64>,
    ) -> CacheKey {
        let extra = self.extra(fields);
        CacheKey::from_parts(tenant, target, &self.path(target), &extra, slice)
    }

    /// What all keys of this URL have in common ([`CacheKey::url`]): by this a purge
    /// finds them, of every tenant, field, cookie and slice. URLs that differ only
    /// in what these rules leave out are one.
    pub fn url(&self, target: &Target) -> Vec<u8> {
        key::url(target, &self.path(target))
    }

    /// The path and what these rules leave of the query.
    fn path<'a>(&self, target: &'a Target) -> Cow<'a, str> {
        let whole = target.path_and_query();
        let Some(query) = query(target) else {
            return Cow::Borrowed(whole);
        };
        if self.query == QueryRule::All && !self.sort_query {
            return Cow::Borrowed(whole);
        }
        let path = &whole[..whole.len() - query.len() - 1];
        let mut kept: Vec<Parameter<'_>> = parameters(query).filter(|p| self.keeps(*p)).collect();
        if kept.is_empty() {
            return Cow::Borrowed(path);
        }
        // Where an origin could part them otherwise, their order may count.
        if self.sort_query && !kept.iter().any(|p| p.is_ambiguous()) {
            kept.sort_by_cached_key(|p| p.coarse_name());
        }
        let mut text = String::with_capacity(whole.len());
        text.push_str(path);
        for (at, parameter) in kept.iter().enumerate() {
            text.push(if at == 0 { '?' } else { '&' });
            text.push_str(parameter.0);
        }
        Cow::Owned(text)
    }

    fn keeps(&self, parameter: Parameter<'_>) -> bool {
        match &self.query {
            QueryRule::All => true,
            QueryRule::None => false,
            QueryRule::Keep(names) => {
                parameter.is_ambiguous() || names.iter().any(|name| parameter.may_match(name))
            }
            QueryRule::Drop(names) => {
                parameter.is_ambiguous() || !names.iter().any(|name| parameter.surely_matches(name))
            }
        }
    }

    /// Fields and cookies, each with its name, whether it is there, and its value
    /// with its length. Empty without rules; a hash if it is long.
    fn extra(&self, fields: &HeaderMap) -> Vec<u8> {
        if self.headers.is_empty() && self.cookies.is_empty() {
            return Vec::new();
        }
        // In one order, so that the order in a configuration does not count.
        let mut headers: Vec<&HeaderName> = self.headers.iter().collect();
        headers.sort_by_key(|name| name.as_str());
        headers.dedup();
        let mut extra = vec![PLAIN];
        extra.extend(vary::variant_key(headers, fields));
        let mut names: Vec<&str> = self.cookies.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            append(&mut extra, name.as_bytes());
            for (_, value) in cookies(fields).filter(|(known, _)| *known == name.as_bytes()) {
                extra.push(1);
                append(&mut extra, value);
            }
            extra.push(0);
        }
        if extra.len() > MAX_EXTRA_LEN {
            let hash = blake3::hash(&extra);
            extra.clear();
            extra.push(HASHED);
            extra.extend_from_slice(hash.as_bytes());
        }
        extra
    }
}

/// Whether these bytes begin as what [`KeyRules`] add to a key, and are as long.
pub(super) fn is_extra(bytes: &[u8]) -> bool {
    match bytes {
        [PLAIN, ..] => true,
        [HASHED, hash @ ..] => hash.len() == blake3::OUT_LEN,
        _ => false,
    }
}

/// The first byte of the part: no values can be taken for a hash.
const PLAIN: u8 = 0;
const HASHED: u8 = 1;

fn append(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    to.extend_from_slice(bytes);
}

/// Checks a list of names, where `key` is what the operator calls it.
pub(super) fn check_patterns(key: &str, patterns: &[String], most: usize) -> Result<(), String> {
    if patterns.len() > most {
        return Err(format!("{key}: {} names, at most {most}", patterns.len()));
    }
    let wrong = |name: &&String| {
        name.is_empty() || name.trim_end_matches('*').contains('*') || name.ends_with("**")
    };
    match patterns.iter().find(wrong) {
        Some(name) => Err(format!(
            "{key}: {name:?} is no name, nor one that ends in *"
        )),
        None => Ok(()),
    }
}
