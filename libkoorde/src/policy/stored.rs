//! The head of a stored response: everything that decisions need, parsed once.

use super::fields::cache_control::Directives;
use super::fields::entity_tag::EntityTag;
use super::fields::{age, connection};
use super::freshness::Control;
use super::settings::MAX_JITTER_PERCENT;
use super::{NotStored, Part, Selecting, Settings, Tags, parts};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::time::{Duration, Instant};

/// Status and fields of a stored response, and what was read out of them when it
/// was stored: a hit compares two durations and parses nothing.
///
/// The fields are as the origin sent them, without those of one connection, those
/// that `private="…"` and `no-cache="…"` name, and Age, which changes by the second.
/// A part has the status and the fields of the whole that it is a part of.
#[derive(Clone, Debug)]
pub struct StoredHead {
    /// The final status.
    pub status: StatusCode,
    /// The fields to reuse; put [`StoredHead::age_field`] beside them.
    pub fields: HeaderMap,
    /// Which bytes are there; `None`: the whole body.
    pub part: Option<Part>,
    /// The request fields that selected this response (Vary).
    pub selecting: Selecting,
    /// How old it was when it was received (`corrected_initial_age`).
    pub initial_age: Duration,
    /// When it was received, or freshened.
    pub received: Instant,
    /// The freshness lifetime, counted from the origin, not from `received`.
    pub lifetime: Duration,
    /// The directives of whichever field counted, and the stale windows of the route
    /// where it names none.
    pub directives: Directives,
    /// The names by which it can be purged.
    pub tags: Tags,
    pub(super) stale: StalePolicy,
    pub(super) refused: Option<NotStored>,
}

/// Whether a stale response may ever be served, RFC 9111 §4.2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StalePolicy {
    Allowed,
    /// Only within a window that the response itself opens (RFC 5861).
    ExplicitOnly,
    Forbidden,
}

impl StalePolicy {
    pub(super) fn of(directives: &Directives, settings: &Settings) -> Self {
        let d = directives;
        let s_maxage = d.s_maxage.is_some();
        let forbidden = d.must_revalidate || d.proxy_revalidate || d.no_cache;
        if forbidden || s_maxage && settings.s_maxage_revalidates {
            StalePolicy::Forbidden
        } else if s_maxage {
            StalePolicy::ExplicitOnly
        } else {
            StalePolicy::Allowed
        }
    }
}

/// What two nodes tell each other of a stored response's time: durations only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The current age when it was sent, plus the time the call took.
    pub age: Duration,
    /// The freshness lifetime.
    pub lifetime: Duration,
}

impl Carried {
    /// As [`StoredHead::ttl`].
    pub fn ttl(self) -> i64 {
        let Self { age, lifetime } = self;
        let whole = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        match lifetime.checked_sub(age) {
            Some(left) => whole(left),
            None => {
                let over = age.saturating_sub(lifetime);
                -whole(over.saturating_add(Duration::from_nanos(999_999_999)))
            }
        }
    }
}

impl StoredHead {
    /// Rebuilds a head from what another node carried over.
    ///
    /// The directives are read again from the fields, with this node's settings;
    /// age and lifetime are taken as they come. A part travels as the 206 that
    /// [`Part::content_range`] makes of it; one whose bytes cannot be told is never
    /// reused.
    pub fn from_peer(
        status: StatusCode,
        mut fields: HeaderMap,
        selecting: Selecting,
        carried: Carried,
        now: Instant,
        settings: &Settings,
    ) -> Self {
        let control = Control::read(&fields, settings);
        let mut directives = control.directives;
        settings.stale.fill(&mut directives, carried.lifetime);
        let tags = Tags::read(&fields);
        connection::strip_response(&mut fields);
        fields.remove(header::AGE);
        let settled = parts::settle(status, &mut fields);
        // The other node's client was given these; nobody else may be.
        for name in &control.unshared {
            fields.remove(name);
        }
        let refused = settled.err();
        let (status, part) = settled.unwrap_or((status, None));
        Self {
            status,
            fields,
            part,
            selecting,
            initial_age: carried.age,
            received: now,
            lifetime: carried.lifetime,
            directives,
            tags,
            stale: StalePolicy::of(&directives, settings),
            refused,
        }
    }

    /// What [`StoredHead::from_peer`] needs on the other side; add the time of the call.
    pub fn carried(&self, now: Instant) -> Carried {
        Carried {
            age: self.current_age(now),
            lifetime: self.lifetime,
        }
    }

    /// Shortens the lifetime by up to `percent` (at most 20) of what was left of it
    /// on arrival, as `seed` chooses: a hash of the cache key, so that all nodes
    /// choose alike. To be called once, when it is stored or freshened. Only ever
    /// shortens: beyond its lifetime a response is stale (RFC 9111 §4.2).
    ///
    /// Less than 10 s is left alone, and so is what is `immutable`: a proxy should not
    /// validate it while it is fresh (RFC 8246 §2.1).
    pub fn jitter(&mut self, seed: u64, percent: u8) {
        let left = self.lifetime.saturating_sub(self.initial_age);
        if left < LEAST_JITTERED || self.directives.immutable {
            return;
        }
        let most = left.as_millis() * u128::from(percent.min(MAX_JITTER_PERCENT)) / 100;
        // The seed's high half as a fraction of 2^32.
        let part = (most * u128::from(seed >> 32)) >> 32;
        let part = Duration::from_millis(u64::try_from(part).unwrap_or(0));
        self.lifetime = self.lifetime.saturating_sub(part);
    }

    /// Binds it to a redirect that led to it: fresh for no longer, and never served stale if that may
    /// not be, as with `s-maxage`.
    pub fn bind(&mut self, redirect: &Self) {
        let left = redirect.lifetime.saturating_sub(redirect.initial_age);
        self.lifetime = self.lifetime.min(left.saturating_add(self.initial_age));
        if redirect.stale == StalePolicy::Forbidden {
            self.forbid_stale();
        }
    }

    /// Makes it stale from the moment at which it has this age.
    pub fn expire_at(&mut self, age: Duration) {
        self.lifetime = self.lifetime.min(age);
    }

    /// As `must-revalidate` would: it is in need of "a mandatory validation before" it "can be sent
    /// in response to a subsequent request", RFC 9111 §4.4.
    pub fn forbid_stale(&mut self) {
        self.stale = StalePolicy::Forbidden;
    }

    /// The time since the origin made or validated it, RFC 9111 §4.2.3. A `now`
    /// before [`StoredHead::received`] counts as that moment.
    pub fn current_age(&self, now: Instant) -> Duration {
        let resident_time = now.saturating_duration_since(self.received);
        self.initial_age.saturating_add(resident_time)
    }

    /// Seconds of freshness that remain: the `ttl` of RFC 9211 §2.4. Negative once
    /// stale; zero in the last second of being fresh.
    pub fn ttl(&self, now: Instant) -> i64 {
        self.carried(now).ttl()
    }

    /// Whether the freshness lifetime exceeds the current age, RFC 9111 §4.2.
    /// A fresh response with `no-cache` still has to be validated.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.lifetime > self.current_age(now)
    }

    /// How long it has been stale; `None` while it is fresh.
    pub fn staleness(&self, now: Instant) -> Option<Duration> {
        let age = self.current_age(now);
        (self.lifetime <= age).then(|| age.saturating_sub(self.lifetime))
    }

    /// The Age field to send with it now (§5.1).
    pub fn age_field(&self, now: Instant) -> HeaderValue {
        age::write(self.current_age(now))
    }

    /// The entity tag, if there is one and it is well-formed.
    pub fn etag(&self) -> Option<EntityTag<'_>> {
        EntityTag::parse(self.fields.get(header::ETAG)?.as_bytes())
    }

    /// The Last-Modified field as it stands.
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        self.fields.get(header::LAST_MODIFIED)
    }

    /// Whether the origin can be asked if it is still good.
    pub fn has_validator(&self) -> bool {
        self.etag().is_some() || self.last_modified().is_some()
    }

    /// Why it may answer the request at hand but must not be kept: set by a 304, for
    /// example one that brings `no-store`; and by a 206 of another node that says not
    /// which bytes it has. If the reason is one
    /// [of the request](NotStored::is_of_request), what was stored before stays
    /// as it was; if it is one of the response, that has to go as well.
    pub fn refused(&self) -> Option<NotStored> {
        self.refused
    }

    /// Whether this response was selected by fields like these, §4.1.
    pub fn selected_by(&self, request: &HeaderMap) -> bool {
        self.selecting.matches(request)
            || self
                .fields
                .get(header::CONTENT_LANGUAGE)
                .is_some_and(|language| self.selecting.matches_language(request, language))
    }

    /// Memory it takes, in bytes: names, values and an estimate of the tables.
    pub fn weight(&self) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD)
            .sum();
        size_of::<Self>() + fields + self.selecting.weight() + self.tags.weight()
    }
}

/// Lifetimes shorter than this are not jittered.
const LEAST_JITTERED: Duration = Duration::from_secs(10);

/// A bucket, its index and the two handles of a field, in bytes.
const FIELD_OVERHEAD: usize = 112;
