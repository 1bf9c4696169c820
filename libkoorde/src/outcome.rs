//! How an answer came about, in one vocabulary: `as_str()` feeds the metric label, the span field
//! and the header alike.

/// What the cache did for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CacheResult {
    /// A stored response was reused without asking the origin.
    Hit,
    /// A stored response was reused although stale, within policy.
    Stale,
    /// A stored response was validated with the origin and then reused.
    Validated,
    /// The origin sent the response.
    Miss,
    /// The cache was not to be used for this request.
    Bypass,
    /// There is no response.
    Error,
}

impl CacheResult {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Stale,
        Self::Validated,
        Self::Miss,
        Self::Bypass,
        Self::Error,
    ];

    /// The word for labels, logs and the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Validated => "validated",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }

    /// The result a word names, if any.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|result| result.as_str() == word)
    }
}

/// Where the bytes were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// The asked node's own store.
    Local,
    /// A hot copy at the asked node.
    Hot,
    /// Another node: the key's owner or a replica.
    Peer,
    /// The origin.
    Origin,
}

impl Tier {
    /// All of them, in order of declaration.
    pub const ALL: [Self; 4] = [Self::Local, Self::Hot, Self::Peer, Self::Origin];

    /// The word for labels, logs and the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Hot => "hot",
            Self::Peer => "peer",
            Self::Origin => "origin",
        }
    }
}

/// How one request was answered; an extension of every response of [`Node::fetch`](crate::Node::fetch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the cache did.
    pub result: CacheResult,
    /// Where the bytes were found.
    pub tier: Tier,
    /// Whether the request waited for a fill that another had started.
    pub collapsed: bool,
}

impl Outcome {
    /// The value of the seed's `X-Cache` field.
    #[must_use]
    pub const fn x_cache(self) -> &'static str {
        match (self.result, self.tier) {
            (CacheResult::Hit, Tier::Local | Tier::Hot) => "HIT-LOCAL",
            (CacheResult::Hit, Tier::Peer | Tier::Origin) => "HIT-REMOTE",
            (CacheResult::Stale, _) => "STALE",
            (CacheResult::Validated, _) => "REVALIDATED",
            (CacheResult::Miss, _) => "MISS-ORIGIN",
            (CacheResult::Bypass, _) => "BYPASS",
            (CacheResult::Error, _) => "ERROR",
        }
    }
}
