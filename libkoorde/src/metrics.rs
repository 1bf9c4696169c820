//! What a node counts, under the names that every exporter uses.
//!
//! [`catalogue`] says what there is. Labels are closed sets: no URL, host, key or peer address ever
//! becomes one, so the number of series is bounded. Handles are resolved once, at start; counting is
//! an atomic addition.

use std::{sync::Arc, time::Duration};

use crate::{
    error::FetchError,
    outcome::{CacheResult, Outcome, Tier},
};

mod book;
pub mod catalogue;
mod cells;
pub mod describe;
mod distribution;
pub mod figures;
mod room;
mod table;

pub use book::{Book, Source, Values};
pub use catalogue::SECONDS;
pub use cells::{Count, Counters, Gauges, Level};
pub use distribution::{Bin, Distribution, Distributions};
pub use figures::Figures;
pub use room::{MAX_BYTES, MAX_SERIES};
pub use table::{OTHER, Word};

macro_rules! metrics {
    ($($field:ident: $of:ident = $shape:ident($entry:ident);)*) => {
        /// Everything a node counts; [`catalogue`] says what each is.
        #[derive(Debug)]
        pub struct Metrics {
            $(
                #[doc = concat!("[`catalogue::", stringify!($entry), "`].")]
                pub $field: $of,
            )*
        }

        impl Metrics {
            /// Adds every metric to a book and returns the handles.
            #[must_use]
            pub fn new(book: &mut Book) -> Arc<Self> {
                Arc::new(Self {
                    $($field: book.$shape(&catalogue::$entry),)*
                })
            }
        }
    };
}

metrics! {
    requests: Counters = counters(CACHE_REQUESTS);
    collapsed: Counters = counters(CACHE_COLLAPSED);
    coalesce_wait: Distributions = distributions(CACHE_COALESCE_WAIT);
    stale_served: Counters = counters(CACHE_STALE_SERVED);
    stored_age: Distributions = distributions(CACHE_STORED_AGE);
    fills: Counters = counters(CACHE_FILLS);
    fills_inflight: Gauges = gauges(CACHE_FILLS_INFLIGHT);
    stores: Counters = counters(CACHE_STORES);
    evictions: Counters = counters(CACHE_EVICTIONS);
    stored_responses: Gauges = gauges(CACHE_STORED_RESPONSES);
    stored_bytes: Gauges = gauges(CACHE_STORED_BYTES);
    capacity_bytes: Gauges = gauges(CACHE_CAPACITY_BYTES);
    hot_copies: Gauges = gauges(CACHE_HOT_COPIES);
    purges: Counters = counters(CACHE_PURGES);
    purges_unreachable: Counters = counters(PURGE_UNREACHABLE);
    purge_generation: Gauges = gauges(PURGE_GENERATION);
    look_aside: Counters = counters(LOOK_ASIDE);
    ring_state: Gauges = gauges(RING_STATE);
    ring_members: Gauges = gauges(RING_MEMBERS);
    ring_arc: Gauges = gauges(RING_ARC);
    ring_successors: Gauges = gauges(RING_SUCCESSORS);
    ring_pointers: Gauges = gauges(RING_POINTERS);
    lookup_hops: Distributions = distributions(RING_LOOKUP_HOPS);
    lookup_seconds: Distributions = distributions(RING_LOOKUP_SECONDS);
    stabilize_seconds: Distributions = distributions(RING_STABILIZE_SECONDS);
    suspicions: Counters = counters(RING_SUSPICIONS);
    ring_changes: Counters = counters(RING_CHANGES);
    ring_messages: Counters = counters(RING_MESSAGES);
    owner_disagreements: Counters = counters(OWNER_DISAGREEMENTS);
    fallbacks: Counters = counters(FALLBACKS);
    handed_over: Counters = counters(HANDED_OVER);
    handed_over_refused: Counters = counters(HANDED_OVER_REFUSED);
    handed_over_bytes: Counters = counters(HANDED_OVER_BYTES);
    peer_seconds: Distributions = distributions(PEER_RPC_SECONDS);
    origin_requests: Counters = counters(ORIGIN_REQUESTS);
    origin_seconds: Distributions = distributions(ORIGIN_SECONDS);
    origin_responses: Counters = counters(ORIGIN_RESPONSES);
    origin_response_seconds: Counters = counters(ORIGIN_RESPONSE_SECONDS);
    origin_inflight: Gauges = gauges(ORIGIN_INFLIGHT);
    origin_errors: Counters = counters(ORIGIN_ERRORS);
    origin_denied: Counters = counters(ORIGIN_DENIED);
    origin_waiting: Gauges = gauges(ORIGIN_WAITING);
    origin_breaker: Counters = counters(ORIGIN_BREAKER);
    origin_retries: Counters = counters(ORIGIN_RETRIES);
    upstream_servers: Counters = counters(UPSTREAM_SERVERS);
    origin_leases: Counters = counters(ORIGIN_LEASES);
    shed: Counters = counters(SHED);
    concurrency_limit: Gauges = gauges(CONCURRENCY_LIMIT);
    deadline_exceeded: Counters = counters(DEADLINE_EXCEEDED);
    hot_share: Gauges = gauges(HOT_SHARE);
}

/// A request that will be counted, whatever becomes of it: dropped before it is answered, as one whose
/// client has left.
pub(crate) struct Asked<'a> {
    metrics: &'a Metrics,
    is_answered: bool,
}

impl Asked<'_> {
    /// It has an answer.
    pub(crate) fn answered(mut self, outcome: Outcome) {
        self.is_answered = true;
        self.metrics.answered(outcome);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let words = [catalogue::ABORTED, Tier::Origin.as_str()];
            self.metrics.requests.of(&words).inc();
        }
    }
}

impl Metrics {
    /// A client has asked.
    pub(crate) const fn asked(&self) -> Asked<'_> {
        Asked {
            metrics: self,
            is_answered: false,
        }
    }

    /// Counts one answered request.
    pub fn answered(&self, outcome: Outcome) {
        self.requests(outcome.result, outcome.tier).inc();
        if outcome.collapsed {
            self.collapsed.inc();
        }
    }

    /// Counts why a request has no response, where that protects somebody.
    pub(crate) fn failed(&self, error: &FetchError) {
        match error {
            FetchError::Overloaded(_) => count(&self.shed, "overloaded"),
            FetchError::Resting { .. } => count(&self.shed, "resting"),
            FetchError::Loop => count(&self.origin_denied, "loop"),
            _ => (),
        }
    }

    /// The counter of one result found in one place.
    #[must_use]
    pub fn requests(&self, result: CacheResult, tier: Tier) -> &Count {
        self.requests
            .at(result as usize * Tier::ALL.len() + tier as usize)
    }

    /// Requests with this result, wherever it was found.
    #[must_use]
    pub fn total(&self, result: CacheResult) -> u64 {
        Tier::ALL
            .into_iter()
            .map(|tier| self.requests(result, tier).get())
            .sum()
    }

    /// A call to a peer has its answer, or none.
    pub(crate) fn called(&self, method: &str, code: &str, took: Duration) {
        self.peer_seconds.of(&[method, code]).took(took);
    }
}

/// Counts `word`, of a metric with one label. Words are literals, so the set stays closed.
pub fn count(counters: &Counters, word: &'static str) {
    counters.of(&[word]).inc();
}

/// Counts `times` of `word`.
pub fn count_by(counters: &Counters, word: &'static str, times: u64) {
    counters.of(&[word]).inc_by(times);
}

/// How often `word` was counted.
#[must_use]
pub fn counted(counters: &Counters, word: &'static str) -> u64 {
    counters.of(&[word]).get()
}
