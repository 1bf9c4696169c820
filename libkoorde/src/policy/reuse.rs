//! May a stored response answer this request? RFC 9111 §4, RFC 5861.

use super::fields::cache_control::RequestDirectives;
use super::fields::seconds;
use super::stored::StalePolicy;
use super::storing::has_body;
use super::{Forward, StoredHead, range};
use http::{HeaderMap, Method, StatusCode, header};
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// What to do with a request. `index` counts the stored responses as given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Answer with it at once: it is fresh, or the client takes it stale (`max-stale`).
    Fresh {
        /// The stored response to reuse.
        index: usize,
    },
    /// Answer with it at once, and validate it in the background (RFC 5861 §3).
    StaleWhileRevalidate {
        /// The stored response to reuse.
        index: usize,
    },
    /// Ask the origin about it first; if there is no validator, ask for a new one.
    /// It may still serve when the origin fails: [`may_serve_stale_on_error`].
    Validate {
        /// The stored response to validate.
        index: usize,
        /// Why: [`Forward::Stale`] or [`Forward::Request`].
        forward: Forward,
    },
    /// Nothing stored is of use: ask the origin.
    Forward(Forward),
    /// Answer 504 (Gateway Timeout): the client wants a stored response or none.
    OnlyIfCached,
}

/// Decides how to answer a request, given the stored responses of its cache key.
///
/// Ranges and conditions of the request are applied to the response chosen, by
/// [`range`] and [`precondition`](super::precondition). Here a Range
/// matters only to stored parts: a part is chosen for a GET that asks for nothing
/// else than it has, and for a HEAD if it knows the complete length. Allocates
/// nothing unless there is a Range and a part.
pub fn decide<'a>(
    method: &Method,
    fields: &HeaderMap,
    stored: impl IntoIterator<Item = &'a StoredHead>,
    now: Instant,
) -> Reuse {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Reuse::Forward(Forward::Method);
    }
    let wants = RequestDirectives::read(fields);
    let reuse = if is_bypass(fields) {
        Reuse::Forward(Forward::Bypass)
    } else {
        choose(&wants, &select(method, fields, stored, now), now)
    };
    match reuse {
        Reuse::Validate { .. } | Reuse::Forward(_) if wants.only_if_cached => Reuse::OnlyIfCached,
        reuse => reuse,
    }
}

/// Requests that only the origin can answer: with a body, or with a condition
/// that is "not applicable to a cache" (RFC 9111 §4.3.2) but that the
/// client relies on.
pub(crate) fn is_bypass(fields: &HeaderMap) -> bool {
    has_body(fields)
        || fields.contains_key(header::IF_MATCH)
        || fields.contains_key(header::IF_UNMODIFIED_SINCE)
}

/// Chooses between the two: the better one, and of equals the whole.
fn choose(wants: &RequestDirectives, selected: &Selected<'_>, now: Instant) -> Reuse {
    let judge = |candidate: &Candidate<'_>| judge(wants, candidate, now);
    match (&selected.whole, &selected.part) {
        (Some(whole), Some(part)) if part.rank > whole.rank => match judge(part) {
            // Either has to be asked about: then about the one that serves more.
            Reuse::Validate { forward, .. } => Reuse::Validate {
                index: whole.index,
                forward,
            },
            reuse => reuse,
        },
        (Some(candidate), _) | (None, Some(candidate)) => judge(candidate),
        (None, None) => Reuse::Forward(selected.otherwise),
    }
}

/// A stored response that fits the request but for its age.
struct Candidate<'a> {
    rank: Rank,
    index: usize,
    head: &'a StoredHead,
}

/// Whether it says what it varies on and is fresh; how young it is.
type Rank = (bool, Reverse<Duration>);

/// The best complete response and the best part that fit.
struct Selected<'a> {
    whole: Option<Candidate<'a>>,
    part: Option<Candidate<'a>>,
    /// Why the request is forwarded if there is neither.
    otherwise: Forward,
}

/// Selects by Vary, §4.1, and by Range. Of several "the most recent one" (§4): that
/// of least age, which is the order of Date without trusting clocks. But while it is
/// fresh, one that has Vary comes before any that has not: the latter may be
/// mistakes (§4.1).
fn select<'a>(
    method: &Method,
    fields: &HeaderMap,
    stored: impl IntoIterator<Item = &'a StoredHead>,
    now: Instant,
) -> Selected<'a> {
    let mut selected = Selected {
        whole: None,
        part: None,
        otherwise: Forward::UriMiss,
    };
    for (index, head) in stored.into_iter().enumerate() {
        if head.refused.is_some() {
            continue;
        }
        if !head.selected_by(fields) {
            if selected.otherwise == Forward::UriMiss {
                selected.otherwise = Forward::VaryMiss;
            }
            continue;
        }
        if head.part.is_some() && !is_part_enough(method, fields, head) {
            selected.otherwise = Forward::Partial;
            continue;
        }
        let varies = head.selecting.names().next().is_some() && head.is_fresh(now);
        let rank = (varies, Reverse(head.current_age(now)));
        let best = if head.part.is_some() {
            &mut selected.part
        } else {
            &mut selected.whole
        };
        if best.as_ref().is_none_or(|best| rank >= best.rank) {
            *best = Some(Candidate { rank, index, head });
        }
    }
    selected
}

/// Whether a part has all that this request is after: the bytes of its Range, or,
/// for a HEAD, the length that Content-Length has to name (RFC 9110 §8.6).
fn is_part_enough(method: &Method, fields: &HeaderMap, head: &StoredHead) -> bool {
    if *method == Method::HEAD {
        return head.part.is_some_and(|part| part.complete.is_some());
    }
    range::is_within_part(method, fields, head)
}

/// Applies freshness and the request's directives to the selected response.
fn judge(wants: &RequestDirectives, candidate: &Candidate<'_>, now: Instant) -> Reuse {
    let Candidate { index, head, rank } = *candidate;
    let (_, Reverse(age)) = rank;
    let fresh = head.lifetime > age && !head.directives.no_cache;
    if wants.no_cache || !is_acceptable(wants, head, age) {
        let forward = if fresh {
            Forward::Request
        } else {
            Forward::Stale
        };
        return Reuse::Validate { index, forward };
    }
    if fresh {
        return Reuse::Fresh { index };
    }
    if may_serve_while_revalidating(head, now) {
        return Reuse::StaleWhileRevalidate { index };
    }
    if wants
        .max_stale
        .is_some_and(|most| may_serve_max_stale(most, head, now))
    {
        return Reuse::Fresh { index };
    }
    Reuse::Validate {
        index,
        forward: Forward::Stale,
    }
}

/// `max-age` and `min-fresh` of the request, §5.2.1.1 and §5.2.1.3. A `max-age=0`
/// asks for validation even in the very moment of arrival; any `max-age` without
/// `max-stale` wants nothing stale.
fn is_acceptable(wants: &RequestDirectives, head: &StoredHead, age: Duration) -> bool {
    let young = wants
        .max_age
        .is_none_or(|most| most > 0 && age <= seconds(most));
    let lasting = wants
        .min_fresh
        .is_none_or(|least| head.lifetime >= age.saturating_add(seconds(least)));
    let stale = head.lifetime <= age && wants.max_age.is_some() && wants.max_stale.is_none();
    young && lasting && !stale
}

/// Once the window has passed without validation, it "SHOULD NOT continue to be
/// served stale" (RFC 5861 §3).
fn may_serve_while_revalidating(head: &StoredHead, now: Instant) -> bool {
    head.stale != StalePolicy::Forbidden
        && is_within(head.directives.stale_while_revalidate, head, now)
}

fn may_serve_max_stale(most: u32, head: &StoredHead, now: Instant) -> bool {
    head.stale == StalePolicy::Allowed && is_within(Some(most), head, now)
}

/// Whether it is stale for no longer than this window; false without a window.
fn is_within(window: Option<u32>, head: &StoredHead, now: Instant) -> bool {
    let staleness = head.staleness(now).unwrap_or_default();
    window.is_some_and(|window| staleness <= seconds(window) && window > 0)
}

/// Whether a stored response may be served although the origin could not be
/// asked: no connection, no answer, or an answer that broke off.
///
/// RFC 9111 §4.2.4 allows it for as long as the cache likes when it is
/// disconnected, RFC 5861 §4 for as long as `stale-if-error` says; the narrower
/// counts. Never with `no-cache` (of either side), `must-revalidate`,
/// `proxy-revalidate` or `s-maxage`, nor against a `max-age` or `min-fresh` of the
/// request unless the request itself brings `stale-if-error`. A stored part serves
/// only what [`range::is_within_part`] grants a GET.
pub fn may_serve_stale_on_error(fields: &HeaderMap, stored: &StoredHead, now: Instant) -> bool {
    if stored.part.is_some() && !range::is_within_part(&Method::GET, fields, stored) {
        return false;
    }
    let wants = RequestDirectives::read(fields);
    if wants.no_cache || stored.directives.no_cache || stored.refused.is_some() {
        return false;
    }
    let by_request = is_within(wants.stale_if_error, stored, now);
    if !is_acceptable(&wants, stored, stored.current_age(now)) && !by_request {
        return false;
    }
    if stored.is_fresh(now) {
        return true;
    }
    let by_response = is_within(stored.directives.stale_if_error, stored, now);
    match stored.stale {
        StalePolicy::Forbidden => false,
        StalePolicy::ExplicitOnly => by_response,
        StalePolicy::Allowed => {
            let bounded =
                stored.directives.stale_if_error.is_some() || wants.stale_if_error.is_some();
            !bounded || by_response || by_request
        }
    }
}

/// Whether a stored response is stale and forbids to be served so, whatever a request says:
/// `must-revalidate`, `proxy-revalidate`, `no-cache`, or `s-maxage` that means the same. A cache that
/// can't validate it answers 504 (Gateway Timeout), RFC 9111 §5.2.2.2.
pub fn forbids_stale(stored: &StoredHead, now: Instant) -> bool {
    stored.stale == StalePolicy::Forbidden && !stored.is_fresh(now)
}

/// Whether whoever reuses it while it is fresh needs to look at nothing else: it does not vary, and
/// names no validation. Of a redirect that was followed nothing more is kept ([`StoredHead::bind`]).
pub fn is_bound_by_lifetime_alone(stored: &StoredHead) -> bool {
    let said = &stored.directives;
    let says_more = said.no_cache || said.must_revalidate || said.proxy_revalidate;
    stored.selecting.names().next().is_none() && !says_more
}

/// Whether a stored response may replace this answer of the origin: only an error
/// of RFC 5861 §4, and only within a `stale-if-error` that one side asked for.
/// Without it the origin's own words are passed on.
pub fn may_serve_stale_on_status(
    fields: &HeaderMap,
    stored: &StoredHead,
    now: Instant,
    status: StatusCode,
) -> bool {
    let asked = stored.directives.stale_if_error.is_some()
        || RequestDirectives::read(fields).stale_if_error.is_some();
    asked
        && matches!(status.as_u16(), 500 | 502 | 503 | 504)
        && may_serve_stale_on_error(fields, stored, now)
}

/// Whether this request may wait for another one's response instead of being sent.
///
/// Not if it insists on the origin (`no-cache`, `max-age=0`), wants to leave no
/// trace (`no-store`), or could be answered with something else than the whole
/// (Range, conditions of the origin's). A waiter shares only what was storable.
pub fn may_collapse(method: &Method, fields: &HeaderMap) -> bool {
    let wants = RequestDirectives::read(fields);
    *method == Method::GET
        && !is_bypass(fields)
        && !fields.contains_key(header::IF_RANGE)
        && !wants.no_cache
        && !wants.no_store
        && wants.max_age != Some(0)
}
