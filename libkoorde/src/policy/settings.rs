//! The few choices that RFC 9111 leaves to the cache's operator.

use http::HeaderName;
use std::time::Duration;

/// What the operator of the cache may choose. `Default` is the careful choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When a response with Set-Cookie may be shared. Default: [`SetCookie::PublicOnly`].
    pub store_set_cookie: SetCookie,
    /// How long a response without explicit freshness is fresh; `None`: never.
    /// Default: a tenth of its age since Last-Modified, at most a day.
    pub heuristic: Option<Heuristic>,
    /// Targeted fields (RFC 9213) that speak to this cache, most specific first,
    /// for example `cdn-cache-control`. Default: none, because a cache that is not
    /// a CDN acting for that origin has to ignore the field of CDNs.
    pub targets: Vec<HeaderName>,
    /// Whether `s-maxage` forbids serving stale, as RFC 9111 §5.2.2.10 says.
    /// Default: true. With false, an *explicit* `stale-while-revalidate` or
    /// `stale-if-error` beside `s-maxage` is honoured, as most CDNs do; a
    /// `must-revalidate`, `proxy-revalidate` or `no-cache` still forbids.
    pub s_maxage_revalidates: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store_set_cookie: SetCookie::default(),
            heuristic: Some(Heuristic::default()),
            targets: Vec::new(),
            s_maxage_revalidates: true,
        }
    }
}

/// When a response with Set-Cookie may be stored and given to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// Only with `public` or `s-maxage`: the origin thought of shared caches.
    #[default]
    PublicOnly,
    /// Whenever freshness is explicit: RFC 9111 §7.3 to the letter. Origins that
    /// set `max-age` on pages with session cookies leak those sessions.
    ExplicitFreshness,
}

/// Heuristic freshness, RFC 9111 §4.2.2: a part of Date − Last-Modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heuristic {
    /// The part in per cent, at most 100. Default: 10.
    pub percent: u32,
    /// The longest lifetime to guess. Default: one day.
    pub max: Duration,
    /// Whether the heuristically cacheable errors (404, 405, 410, 414, 501) are
    /// guessed too, if they carry Last-Modified. Default: true. Other errors are
    /// stored with explicit freshness only, whatever this says.
    pub errors: bool,
}

impl Default for Heuristic {
    fn default() -> Self {
        Self {
            percent: 10,
            max: Duration::from_secs(24 * 60 * 60),
            errors: true,
        }
    }
}
