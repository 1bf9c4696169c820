//! Cache keys, RFC 9111 §2.
//!
//! A key holds every part with its length before it, so that no part can flow
//! into its neighbour: ("ab", "c") is not ("a", "bc"). How a route makes keys of
//! its requests is in [`key_rules`].

use super::key_rules;
use super::target::MAX_TARGET_LEN;
pub use super::target::{Target, TargetError};
use std::fmt;
use std::sync::Arc;

/// The longest tenant name in a key that comes from a peer, in bytes.
pub const MAX_TENANT_LEN: usize = 1024;

/// The longest part for fields and cookies, in bytes: what is longer is there as
/// its hash (see [`key_rules`]).
pub const MAX_EXTRA_LEN: usize = 1024;

/// What a stored response is found by: tenant, method class, scheme, authority,
/// path and query, values of fields and cookies, slice. A clone is one reference
/// more, not a copy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(Arc<[u8]>);

/// The only method class yet: GET, which also answers HEAD (RFC 9111 §4).
const CLASS_GET: &[u8] = b"GET";

/// The bytes of one length: 32 bits, most significant first.
const LEN_BYTES: usize = 4;

/// The parts of a key, in their order in it.
const PARTS: usize = 7;

/// Those that belong to the URL, one after the other.
const URL_PARTS: std::ops::Range<usize> = 2..5;

impl CacheKey {
    /// Makes the key of a target under default rules. The empty tenant is the one
    /// of a cluster without tenants.
    pub fn new(tenant: &str, target: &Target) -> Self {
        Self::from_parts(tenant, target, target.path_and_query(), &[], None)
    }

    /// Makes a key of what the rules of a route left of a request. `path` has to be
    /// one that a target can have, `extra` at most [`MAX_EXTRA_LEN`] bytes.
    pub(super) fn from_parts(
        tenant: &str,
        target: &Target,
        path: &str,
        extra: &[u8],
        slice: Option<u64>,
    ) -> Self {
        let number = slice.map(u64::to_be_bytes);
        let parts: [&[u8]; PARTS] = [
            tenant.as_bytes(),
            CLASS_GET,
            target.scheme().as_bytes(),
            target.authority().as_bytes(),
            path.as_bytes(),
            extra,
            number.as_ref().map_or(&[], |number| &number[..]),
        ];
        // Made in its place: a hit makes a key, and nothing else of this size.
        let mut key: Arc<[u8]> = std::iter::repeat_n(0, joined_len(&parts)).collect();
        fill(
            Arc::get_mut(&mut key).expect("nobody else has it yet"),
            &parts,
        );
        Self(key)
    }

    /// Reads a key that a peer sent.
    ///
    /// # Errors
    /// [`KeyError`], unless the bytes are exactly what a node makes of some tenant,
    /// target and rules: a key cannot be spelled in two ways.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_TARGET_LEN + MAX_TENANT_LEN + MAX_EXTRA_LEN + 64 {
            return Err(KeyError::TooLong(bytes.len()));
        }
        let [tenant, class, scheme, authority, path, extra, slice] =
            split(bytes).ok_or(KeyError::Malformed)?;
        if class != CLASS_GET {
            return Err(KeyError::Method);
        }
        for (part, most) in [(tenant, MAX_TENANT_LEN), (extra, MAX_EXTRA_LEN)] {
            if part.len() > most {
                return Err(KeyError::TooLong(part.len()));
            }
        }
        if !extra.is_empty() && !key_rules::is_extra(extra) {
            return Err(KeyError::Malformed);
        }
        let slice = match slice {
            [] => None,
            number => Some(number.try_into().map_err(|_| KeyError::Malformed)?),
        };
        let text = |part| std::str::from_utf8(part).map_err(|_| KeyError::Malformed);
        let tenant = text(tenant)?;
        let url = format!("{}://{}{}", text(scheme)?, text(authority)?, text(path)?);
        let target = Target::parse(&url)?;
        let path = target.path_and_query();
        let slice = slice.map(u64::from_be_bytes);
        let key = Self::from_parts(tenant, &target, path, extra, slice);
        if *key.0 != *bytes {
            return Err(KeyError::NotNormal);
        }
        Ok(key)
    }

    /// The bytes, for hashing and for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes: what the key weighs in the store.
    #[expect(clippy::len_without_is_empty, reason = "a key is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The tenant it was made for.
    pub fn tenant(&self) -> &str {
        self.text(0)
    }

    /// The scheme: `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.text(2)
    }

    /// Host and, unless it is the default, port.
    pub fn authority(&self) -> &str {
        self.text(3)
    }

    /// The path and the query, as far as the route's rules keep it.
    pub fn path_and_query(&self) -> &str {
        self.text(4)
    }

    /// Which slice of the response's body it is for; `None`: the whole.
    pub fn slice(&self) -> Option<u64> {
        let number = self.parts()[6].try_into().ok()?;
        Some(u64::from_be_bytes(number))
    }

    /// Scheme, authority, path and query with their lengths: the same bytes for all
    /// keys of one URL, whatever their tenant, fields, cookies and slice, and other
    /// bytes for every other URL. [`KeyRules::url`](super::KeyRules::url) makes them
    /// of a target.
    pub fn url(&self) -> &[u8] {
        let parts = self.parts();
        let len = |range: std::ops::Range<usize>| -> usize {
            parts[range].iter().map(|part| LEN_BYTES + part.len()).sum()
        };
        let start = len(0..URL_PARTS.start);
        &self.0[start..start + len(URL_PARTS)]
    }

    /// Whether it is a key of this URL, given as by
    /// [`KeyRules::url`](super::KeyRules::url). No tenant: of any.
    pub fn is_of(&self, tenant: Option<&str>, url: &[u8]) -> bool {
        tenant.is_none_or(|tenant| tenant == self.tenant()) && self.url() == url
    }

    /// The target it was made of, where the rules of its route kept all of it;
    /// otherwise the target whose query is what they left.
    ///
    /// # Panics
    /// Never: a key is made of a parsed target only, and these are its parts.
    pub fn target(&self) -> Target {
        let text = format!(
            "{}://{}{}",
            self.scheme(),
            self.authority(),
            self.path_and_query()
        );
        Target::from_normal(&text).expect("a cache key holds the parts of a parsed target")
    }

    fn text(&self, part: usize) -> &str {
        std::str::from_utf8(self.parts()[part]).unwrap_or_default()
    }

    fn parts(&self) -> [&[u8]; PARTS] {
        split(&self.0).expect("a cache key is made of its parts by its constructors")
    }
}

/// The bytes of [`CacheKey::url`] for a URL whose path and query are `path`.
pub(super) fn url(target: &Target, path: &str) -> Vec<u8> {
    join(&[
        target.scheme().as_bytes(),
        target.authority().as_bytes(),
        path.as_bytes(),
    ])
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant, scheme) = (self.tenant(), self.scheme());
        let (authority, path) = (self.authority(), self.path_and_query());
        // Values of fields and cookies are somebody's: their length has to do.
        let extra = self.parts()[5].len();
        write!(f, "CacheKey({tenant:?} {scheme}://{authority}{path}")?;
        if extra > 0 {
            write!(f, " extra={extra}B")?;
        }
        match self.slice() {
            Some(slice) => write!(f, " slice={slice})"),
            None => f.write_str(")"),
        }
    }
}

/// Why bytes are not a [`CacheKey`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Longer than any key of ours, in bytes.
    #[error("the cache key is too long: {0} bytes")]
    TooLong(usize),
    /// Not the parts with their lengths, or not text.
    #[error("the cache key is malformed")]
    Malformed,
    /// A method class this version does not store.
    #[error("the cache key has an unknown method class")]
    Method,
    /// Its parts are not a target.
    #[error("the cache key's URL is not a target")]
    Target(#[from] TargetError),
    /// Another spelling of a key, which would hide it from a purge.
    #[error("the cache key is not in normal form")]
    NotNormal,
}

/// Parts with their lengths before them.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; joined_len(parts)];
    fill(&mut bytes, parts);
    bytes
}

fn joined_len(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| LEN_BYTES + part.len()).sum()
}

/// Writes parts with their lengths into what is as long as they are.
fn fill(mut bytes: &mut [u8], parts: &[&[u8]]) {
    for part in parts {
        // A tenant of 4 GiB is the only part that could saturate here; its
        // key would be refused by `from_bytes`, not confused with another.
        let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
        let (head, rest) = bytes.split_at_mut(LEN_BYTES);
        head.copy_from_slice(&len.to_be_bytes());
        let (body, rest) = rest.split_at_mut(part.len());
        body.copy_from_slice(part);
        bytes = rest;
    }
}

fn split(mut bytes: &[u8]) -> Option<[&[u8]; PARTS]> {
    let mut parts = [&[][..]; PARTS];
    for part in &mut parts {
        let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        (*part, bytes) = rest.split_at_checked(len)?;
    }
    bytes.is_empty().then_some(parts)
}
