//! Cache keys, RFC 9111 §2.
//!
//! A key holds every part with its length before it, so that no part can flow
//! into its neighbour: ("ab", "c") is not ("a", "bc").

use super::target::MAX_TARGET_LEN;
pub use super::target::{Target, TargetError};
use std::fmt;
use std::sync::Arc;

/// The longest tenant name in a key that comes from a peer, in bytes.
pub const MAX_TENANT_LEN: usize = 1024;

/// What a stored response is found by: tenant, method class, scheme, authority,
/// path and query. A clone is one reference more, not a copy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(Arc<[u8]>);

/// The only method class yet: GET, which also answers HEAD (RFC 9111 §4).
const CLASS_GET: &[u8] = b"GET";

/// The bytes of one length: 32 bits, most significant first.
const LEN_BYTES: usize = 4;

impl CacheKey {
    /// Makes the key of a target. The empty tenant is the one of a cluster
    /// without tenants.
    pub fn new(tenant: &str, target: &Target) -> Self {
        let parts = [
            tenant.as_bytes(),
            CLASS_GET,
            target.scheme().as_bytes(),
            target.authority().as_bytes(),
            target.path_and_query().as_bytes(),
        ];
        let len = parts.iter().map(|part| LEN_BYTES + part.len()).sum();
        let mut bytes = Vec::with_capacity(len);
        for part in parts {
            // A tenant of 4 GiB is the only part that could saturate here; its
            // key would be refused by `from_bytes`, not confused with another.
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Self(bytes.into())
    }

    /// Reads a key that a peer sent.
    ///
    /// # Errors
    /// [`KeyError`], unless the bytes are exactly what [`CacheKey::new`] makes of
    /// some tenant and target: a key cannot be spelled in two ways.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_TARGET_LEN + MAX_TENANT_LEN + 64 {
            return Err(KeyError::TooLong(bytes.len()));
        }
        let [tenant, class, scheme, authority, path] = split(bytes).ok_or(KeyError::Malformed)?;
        if class != CLASS_GET {
            return Err(KeyError::Method);
        }
        if tenant.len() > MAX_TENANT_LEN {
            return Err(KeyError::TooLong(tenant.len()));
        }
        let text = |part| std::str::from_utf8(part).map_err(|_| KeyError::Malformed);
        let tenant = text(tenant)?;
        let url = format!("{}://{}{}", text(scheme)?, text(authority)?, text(path)?);
        let target = Target::parse(&url)?;
        let key = Self::new(tenant, &target);
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
        std::str::from_utf8(self.parts()[0]).unwrap_or_default()
    }

    /// The target it was made of.
    ///
    /// # Panics
    /// Never: a key is made of a parsed target only, and these are its parts.
    pub fn target(&self) -> Target {
        let [_, _, scheme, authority, path] = self.parts();
        let text = [scheme, b"://", authority, path].concat();
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| Target::from_normal(text).ok())
            .expect("a cache key holds the parts of a parsed target")
    }

    fn parts(&self) -> [&[u8]; 5] {
        split(&self.0).expect("a cache key is made of five parts by its constructors")
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tenant, _, scheme, authority, path] = self.parts().map(String::from_utf8_lossy);
        write!(f, "CacheKey({tenant:?} {scheme}://{authority}{path})")
    }
}

/// Why bytes are not a [`CacheKey`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Longer than any key of ours, in bytes.
    #[error("the cache key is too long: {0} bytes")]
    TooLong(usize),
    /// Not five parts with lengths, or not text.
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

fn split(mut bytes: &[u8]) -> Option<[&[u8]; 5]> {
    let mut parts = [&[][..]; 5];
    for part in &mut parts {
        let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        (*part, bytes) = rest.split_at_checked(len)?;
    }
    bytes.is_empty().then_some(parts)
}
