//! What a purge takes: named by people as [`Scope`], kept and passed on as [`ScopeKey`].

use http::uri::Authority;

use crate::{
    error::Quoted,
    policy::{CacheKey, Target, tags::MAX_NAME_LEN},
};

/// What a purge takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything stored under one URL: all variants, slices and, unless one is named, tenants.
    Url(Target),
    /// Responses with this name in `Surrogate-Key` or `Cache-Tag`.
    Tag {
        /// The tag, compared byte by byte.
        name: String,
        /// Only those of this host; none for all hosts.
        host: Option<String>,
    },
    /// Responses of one origin with this name in `Cache-Groups` (RFC 9875).
    Group {
        /// Any URL of the origin.
        origin: Target,
        /// The group, compared byte by byte.
        name: String,
    },
    /// URLs that begin with this one, byte by byte: `https://h/a` takes `https://h/ab` too.
    Prefix(Target),
    /// Everything of one host; with a port, of that port only.
    Host(String),
    /// Everything.
    All,
}

impl Scope {
    /// A tag, of one host if it is given.
    ///
    /// # Errors
    /// The name is empty or longer than any that is kept of a response, or the host is none.
    pub fn tag(name: &str, host: Option<&str>) -> Result<Self, String> {
        Ok(Self::Tag {
            name: named("tag", name)?,
            host: host.map(authority).transpose()?,
        })
    }

    /// A group of the origin that a URL belongs to.
    ///
    /// # Errors
    /// The name is empty or longer than any that is kept of a response.
    pub fn group(origin: Target, name: &str) -> Result<Self, String> {
        let name = named("group", name)?;
        Ok(Self::Group { origin, name })
    }

    /// A host, with or without a port.
    ///
    /// # Errors
    /// It is none.
    pub fn host(host: &str) -> Result<Self, String> {
        authority(host).map(Self::Host)
    }
}

fn named(what: &str, name: &str) -> Result<String, String> {
    if (1..=MAX_NAME_LEN).contains(&name.len()) {
        Ok(name.to_owned())
    } else {
        let length = name.len();
        Err(format!(
            "{what} of {length} bytes: must be 1 to {MAX_NAME_LEN} bytes"
        ))
    }
}

/// A host as targets have it: in lower case and ASCII, its brackets kept, a port if one is given.
fn authority(host: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "host = {}: must be a host, or a host and a port",
            Quoted(host)
        )
    };
    let is_plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', '\\']);
    let target = Target::parse(&format!("http://{host}/")).map_err(|_| wrong())?;
    let port: Option<Authority> = host.parse().ok();
    // Of port 80 under http a target shows nothing; who names it means it.
    match port.and_then(|authority| authority.port_u16()) {
        _ if !is_plain => Err(wrong()),
        Some(port) => Ok(format!("{}:{port}", target.host())),
        None => Ok(target.host().to_owned()),
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(target) => write!(f, "url {target}"),
            Self::Tag { name, host: None } => write!(f, "tag {name}"),
            Self::Tag {
                name,
                host: Some(host),
            } => write!(f, "tag {name} of {host}"),
            Self::Group { origin, name } => {
                let (scheme, authority) = (origin.scheme(), origin.authority());
                write!(f, "group {name} of {scheme}://{authority}")
            }
            Self::Prefix(target) => write!(f, "prefix {target}"),
            Self::Host(host) => write!(f, "host {host}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// The kinds of scopes, as they are counted and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    All,
    Host,
    Url,
    Prefix,
    Tag,
    Group,
    /// Purges that are no longer known one by one: takes everything.
    Folded,
}

impl Class {
    pub(crate) const COUNT: usize = 7;
}

/// What a purge is of, in fixed size: two are equal if and only if their scopes and tenants are,
/// as far as 128 bits of BLAKE3 can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScopeKey {
    pub(crate) class: Class,
    /// Whether it is of one tenant.
    pub(crate) tenant: bool,
    /// Bytes of a prefix; otherwise 0.
    pub(crate) length: u32,
    pub(crate) digest: u128,
}

impl ScopeKey {
    /// The key of a scope; `url` is [`CacheKey::url`] of any key of the scope's target, as its
    /// route makes them.
    pub(crate) fn new(scope: &Scope, tenant: Option<&str>, url: &[u8]) -> Self {
        match scope {
            Scope::Url(_) => Self::url(tenant, url),
            Scope::Tag { name, host } => Self::tag(tenant, host.as_deref(), name),
            Scope::Group { origin, name } => {
                Self::group(tenant, (origin.scheme(), origin.authority()), name)
            }
            Scope::Prefix(target) => {
                let text = target.to_string();
                let mut hash = Hash::new(Class::Prefix, tenant);
                hash.last(text.as_bytes());
                hash.key(text.len())
            }
            Scope::Host(host) => Self::host(tenant, host),
            Scope::All => Hash::new(Class::All, tenant).key(0),
        }
    }

    pub(crate) fn url(tenant: Option<&str>, url: &[u8]) -> Self {
        let mut hash = Hash::new(Class::Url, tenant);
        hash.last(url);
        hash.key(0)
    }

    pub(super) fn host(tenant: Option<&str>, host: &str) -> Self {
        let mut hash = Hash::new(Class::Host, tenant);
        hash.last(host.as_bytes());
        hash.key(0)
    }

    pub(super) fn tag(tenant: Option<&str>, host: Option<&str>, name: &str) -> Self {
        let mut hash = Hash::new(Class::Tag, tenant);
        hash.maybe(host);
        hash.last(name.as_bytes());
        hash.key(0)
    }

    pub(super) fn group(tenant: Option<&str>, origin: (&str, &str), name: &str) -> Self {
        let mut hash = Hash::new(Class::Group, tenant);
        hash.maybe(Some(origin.0));
        hash.maybe(Some(origin.1));
        hash.last(name.as_bytes());
        hash.key(0)
    }

    /// The keys of every prefix of a URL with one of these lengths, in rising order.
    pub(super) fn prefixes<'a>(
        tenant: Option<&str>,
        url: &'a str,
        lengths: impl Iterator<Item = u32> + 'a,
    ) -> impl Iterator<Item = Self> + 'a {
        let mut hash = Hash::new(Class::Prefix, tenant);
        let mut done = 0;
        lengths.map_while(move |length| {
            let end = length as usize;
            hash.last(url.as_bytes().get(done..end)?);
            done = end;
            Some(hash.key(end))
        })
    }
}

/// The host of a key's authority, without its port.
pub(super) fn host_of(key: &CacheKey) -> &str {
    let authority = key.authority();
    match authority.rfind(':') {
        Some(colon) if !authority.ends_with(']') => &authority[..colon],
        _ => authority,
    }
}

/// Every part but the last with its length before it, so that none can flow into its neighbour.
struct Hash {
    class: Class,
    tenant: bool,
    hasher: blake3::Hasher,
}

impl Hash {
    fn new(class: Class, tenant: Option<&str>) -> Self {
        let mut hash = Self {
            class,
            tenant: tenant.is_some(),
            hasher: blake3::Hasher::new(),
        };
        hash.hasher.update(&[class as u8]);
        hash.maybe(tenant);
        hash
    }

    fn maybe(&mut self, part: Option<&str>) {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        self.hasher.update(&length.to_le_bytes());
        self.hasher.update(part.unwrap_or_default().as_bytes());
    }

    fn last(&mut self, part: &[u8]) {
        self.hasher.update(part);
    }

    fn key(&self, length: usize) -> ScopeKey {
        let hash = self.hasher.finalize();
        let (half, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        ScopeKey {
            class: self.class,
            tenant: self.tenant,
            // A target has at most 8 KiB.
            length: u32::try_from(length).unwrap_or(u32::MAX),
            digest: u128::from_le_bytes(*half),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_as_targets_have_it() {
        for (given, read) in [
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com:8080"),
            ("example.com:80", "example.com:80"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("[2001:DB8::1]:81", "[2001:db8::1]:81"),
        ] {
            assert_eq!(Scope::host(given), Ok(Scope::Host(read.to_owned())));
        }
        for wrong in ["", "a/b", "http://a", "a b", "user@a", "a?b", "a:b"] {
            let error = Scope::host(wrong).expect_err(wrong);
            assert!(error.starts_with("host = "), "{error}");
        }
    }

    #[test]
    fn a_name_that_no_response_can_have_is_refused() {
        assert!(Scope::tag("", None).is_err());
        let long = "x".repeat(MAX_NAME_LEN + 1);
        let error = Scope::tag(&long, None).expect_err("too long");
        assert_eq!(error, "tag of 257 bytes: must be 1 to 256 bytes");
    }

    #[test]
    fn no_part_flows_into_its_neighbour() {
        let keys = [
            ScopeKey::tag(None, None, "ab"),
            ScopeKey::tag(None, Some("a"), "b"),
            ScopeKey::tag(Some("a"), None, "b"),
            ScopeKey::tag(Some(""), None, "ab"),
            ScopeKey::tag(None, Some(""), "ab"),
            ScopeKey::group(None, ("", ""), "ab"),
            ScopeKey::host(None, "ab"),
            ScopeKey::url(None, b"ab"),
        ];
        for (index, one) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(one), "{index}");
        }
    }

    #[test]
    fn a_prefix_is_found_among_the_prefixes_of_a_url() {
        let target = |url| Target::parse(url).expect("a URL");
        let scope = Scope::Prefix(target("http://a.example/x/"));
        let wanted = ScopeKey::new(&scope, None, &[]);
        let lengths = [3, wanted.length, 500];
        let found =
            |url| ScopeKey::prefixes(None, url, lengths.into_iter()).any(|prefix| prefix == wanted);
        assert!(found("http://a.example/x/y?z"));
        assert!(found("http://a.example/x/"));
        assert!(!found("http://a.example/x"));
        assert!(!found("http://b.example/x/y"));
    }
}
