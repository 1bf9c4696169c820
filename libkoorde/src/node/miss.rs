//! A request that the store could not answer, and what is known about it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method};

use super::{
    FetchError, Inner, Request,
    answer::{Answer, Head},
    clock,
    routes::Route,
};
use crate::{
    metrics::{catalogue::UNREACHABLE, count},
    outcome::{CacheResult, Tier},
    policy::{CacheKey, Forward, Now, Reuse, fields::cache_control::RequestDirectives, reuse},
    ring::protocol::Member,
    store::{Stored, Variants},
};

/// A request that the store could not answer, and what is known about it.
#[derive(Clone, Debug)]
pub(crate) struct Miss {
    pub(crate) request: Request,
    pub(crate) key: CacheKey,
    /// The rules of its target.
    pub(crate) route: Arc<Route>,
    /// A stored response to validate, if there is one.
    pub(crate) stale: Option<Arc<Stored>>,
    pub(crate) forward: Forward,
    /// Who may answer in place of the origin, best first; none if we are the owner.
    pub(crate) owners: Vec<Member>,
    /// Why the owners are not asked although the key is not ours.
    pub(crate) detail: Option<&'static str>,
    /// Whether a peer asks, for all who wait there.
    pub(crate) forwarded: bool,
    /// Whether the origin is not to be asked (RFC 9111 §5.2.1.7).
    pub(crate) only_if_cached: bool,
    /// The newest purge that applies to what is asked for, as far as is known before it is here.
    pub(crate) after: u64,
    /// Whether it may wait for another's fill, as far as this node and the route say.
    pub(crate) collapses: bool,
    /// When whoever asked stops caring; one for all that is tried on the way.
    pub(crate) deadline: Instant,
}

impl Miss {
    /// What is left of the asker's patience.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.deadline.saturating_duration_since(now)
    }

    /// No owner could be reached: from here on the key counts as ours.
    pub(crate) fn fall_back(&mut self) {
        self.owners.clear();
        self.detail = Some(UNREACHABLE);
    }

    /// Whether what a fill ended in leaves each who waited to fetch for itself. A response that nobody may
    /// share: by way of the owner all who are let go would meet there. A refusal by the owner's guard: ours
    /// may let it pass, and then it is for this request alone.
    pub(crate) fn goes_alone(&self, error: &FetchError) -> bool {
        match error {
            FetchError::NotShared { .. } => true,
            FetchError::Denied { .. } => !self.owners.is_empty(),
            _ => false,
        }
    }

    /// The same for all who may wait for it: the whole response, without this client's conditions.
    pub(crate) fn for_everybody(&self) -> Self {
        let mut miss = self.clone();
        for name in [
            http::header::IF_NONE_MATCH,
            http::header::IF_MODIFIED_SINCE,
            http::header::IF_MATCH,
            http::header::IF_UNMODIFIED_SINCE,
            http::header::IF_RANGE,
        ] {
            miss.request.fields.remove(name);
        }
        miss
    }
}

impl Inner {
    /// What a waiter may have in place of an error of the fill that it waited for: whoever led it may
    /// have asked for something fresher. As the store is now: the first look-up was before the fill.
    pub(crate) fn stale_after(&self, miss: &Miss, error: FetchError) -> Result<Answer, FetchError> {
        // Without it, the store is not ours to answer from.
        if miss.stale.is_none() || matches!(error, FetchError::Denied { .. }) {
            return Err(error);
        }
        let now = clock::now();
        let asked = (&miss.request.method, &miss.request.fields);
        let variants = self.store.get(&miss.key, now.instant);
        let (index, result) = match decide(asked, variants.as_deref(), now) {
            Reuse::Fresh { index } => (index, CacheResult::Hit),
            Reuse::Validate { index, .. } | Reuse::StaleWhileRevalidate { index } => {
                (index, CacheResult::Stale)
            }
            Reuse::Forward(_) | Reuse::OnlyIfCached => return Err(error),
        };
        let stored = variants.as_ref().and_then(|all| all.all.get(index));
        let may_serve = |stored: &&Arc<Stored>| {
            reuse::may_serve_stale_on_error(asked.1, &stored.head, now.instant)
        };
        let Some(stored) = stored.filter(may_serve) else {
            return Err(error);
        };
        if result == CacheResult::Stale {
            count(&self.metrics.stale_served, "sie");
        }
        Ok(self.hit(asked, stored, result, Tier::Local, now))
    }
}

/// The policy's word on a request, given what is stored under its key. What a purge took is validated
/// before it is reused, whatever else would make it usable.
pub(crate) fn decide(
    (method, fields): (&Method, &HeaderMap),
    variants: Option<&Variants>,
    now: Now,
) -> Reuse {
    let all = || variants.into_iter().flat_map(|variants| &variants.all);
    let heads = all().map(|stored| &stored.head);
    match reuse::decide(method, fields, heads, now.instant) {
        Reuse::Fresh { index } | Reuse::StaleWhileRevalidate { index }
            if all().nth(index).is_some_and(|stored| stored.purged) =>
        {
            if RequestDirectives::read(fields).only_if_cached {
                return Reuse::OnlyIfCached;
            }
            let forward = Forward::Stale;
            Reuse::Validate { index, forward }
        }
        reuse => reuse,
    }
}

/// Whether a waiter may have what another's request brought (RFC 9111 §4, "collapsed requests").
pub(crate) fn may_share(request: &Request, head: &Head, now: Now) -> bool {
    let Some(shared) = &head.shared else {
        return false;
    };
    if head.result == CacheResult::Stale {
        let (fields, now) = (&request.fields, now.instant);
        // A peer does not say what the origin told it.
        return match head.fwd_status.filter(|_| head.stored.is_some()) {
            Some(status) => reuse::may_serve_stale_on_status(fields, shared, now, status),
            None => reuse::may_serve_stale_on_error(fields, shared, now),
        };
    }
    let reuse = reuse::decide(&request.method, &request.fields, [shared], now.instant);
    matches!(
        reuse,
        Reuse::Fresh { .. } | Reuse::StaleWhileRevalidate { .. }
    )
}
