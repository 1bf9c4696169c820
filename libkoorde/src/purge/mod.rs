//! Purges: what may not be reused any more, on every node, at the cost of one number a purge.
//!
//! A purge changes nothing that is stored. It gets the next number of this node's sequence and goes
//! into a `table`; each stored response carries the number that was current when it was asked for
//! (`born`), and on every look-up it is judged by the newest purge that applies to it. So a fill that
//! is under way during a purge does not survive it either. As long as no purge has come, a look-up
//! compares two numbers.
//!
//! Which purges of the whole cluster are known here is in the `log`; how they travel is in
//! `node/purge.rs`. Nothing here does I/O or reads a clock.

use std::{
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::policy::{CacheKey, Tags};

pub(crate) mod invalidated;
pub(crate) mod leases;
pub(crate) mod log;
pub(crate) mod scope;
pub(crate) mod table;
#[cfg(test)]
mod tests;

pub(crate) use log::{Entry, Horizon, Known};
pub use scope::Scope;
pub(crate) use scope::{Class, ScopeKey};
pub(crate) use table::Verdict;
use table::{Mark, Table};

/// What becomes of what a purge takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It counts as stale and is validated before it is reused; it may still answer when the origin
    /// fails, within policy, unless it is of a group: that invalidates (RFC 9875 §3).
    #[default]
    Soft,
    /// It counts as not stored.
    Hard,
}

impl Kind {
    /// The word for labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

/// What to purge, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeRequest {
    /// What it takes.
    pub scope: Scope,
    /// What becomes of it.
    pub kind: Kind,
    /// Only what is stored for this tenant; none for all of them.
    pub tenant: Option<String>,
}

/// What a purge has come to: who has taken it in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Purges that the node which issued it knows now; a number that only grows.
    pub generation: u64,
    /// `soft` or `hard`.
    pub kind: Kind,
    /// What it takes.
    pub scope: String,
    /// Names of the members that were asked, in alphabetical order; the issuer is not among them.
    pub asked: Vec<String>,
    /// Those that answer by it from now on.
    pub acknowledged: Vec<String>,
    /// Those that could not be reached. They learn of it before they answer from what they have
    /// stored to anybody who knows of it, and as soon as they are back in the ring.
    pub unreachable: Vec<String>,
}

impl Receipt {
    /// Whether every member answers by it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unreachable.is_empty()
    }
}

/// The bounds of what is remembered of purges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Scopes judged by one by one.
    pub(crate) scopes: usize,
    /// Purges passed on one by one.
    pub(crate) log: usize,
}

/// What one message or call has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Purges that were news.
    pub(crate) applied: u64,
    /// Times that everything had to be purged, because purges were no longer there one by one.
    pub(crate) folded: u64,
}

/// All purges that this node knows. Shared; a look-up locks only after a purge has come.
#[derive(Debug)]
pub(crate) struct Purges {
    /// The number of the newest purge applied here.
    version: AtomicU64,
    /// Of all that is known. Written before `version`: whoever has read that finds here at least
    /// what belongs to it.
    digest: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    table: Table,
    log: log::Log,
}

impl Purges {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            version: AtomicU64::new(0),
            digest: AtomicU64::new(0),
            state: RwLock::new(State {
                table: Table::new(bounds.scopes),
                log: log::Log::new(bounds.log),
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then shows what has come of it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state: RwLockWriteGuard<'_, State> =
            self.state.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut state);
        self.digest.store(state.log.digest(), Ordering::Release);
        self.version.store(state.table.seq(), Ordering::Release);
        result
    }

    /// The number of the newest purge. What is asked for after this is `born` with it.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What a forwarded request carries; read after the `born` of what it will bring.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Acquire)
    }

    /// Judges what was asked for when `born` was the newest purge. `clean` is the newest purge that
    /// it was found clean by; kept beside it, so that the next look-up is quick.
    pub(crate) fn judge(
        &self,
        born: u64,
        clean: &AtomicU64,
        key: &CacheKey,
        tags: &Tags,
    ) -> Verdict {
        if clean.load(Ordering::Relaxed) == self.version() {
            return Verdict::Clean;
        }
        let state = self.read();
        let verdict = Verdict::of(born, state.table.newest(key, Some(tags)));
        if verdict == Verdict::Clean {
            clean.store(state.table.seq(), Ordering::Relaxed);
        }
        verdict
    }

    /// The newest purge that applies to a key, as far as its URL tells, or with these names.
    pub(crate) fn newest(&self, key: &CacheKey, tags: Option<&Tags>) -> u64 {
        if self.version() == 0 {
            return 0;
        }
        let mark: Mark = self.read().table.newest(key, tags);
        mark.newest()
    }

    /// Issues purges: they apply here at once, and are returned for the others. `started` and `node`
    /// name this life of the node, see [`log::Log::issue`].
    pub(crate) fn issue(
        &self,
        scopes: &[ScopeKey],
        hard: bool,
        (started, node): (u64, u64),
    ) -> Vec<Entry> {
        self.change(|state| {
            let issue = |scope: &ScopeKey| {
                let entry = state.log.issue(*scope, hard, started, node);
                state.take(entry);
                entry
            };
            scopes.iter().map(issue).collect()
        })
    }

    /// Makes URLs of one tenant stale, here and nowhere else. However many they are, no purge is
    /// folded for them.
    pub(crate) fn mark(&self, urls: impl Iterator<Item = ScopeKey>, now: Instant) {
        self.change(|state| urls.for_each(|url| state.table.mark(&url, now)));
    }

    /// Whether what others have stored of a URL, of this age at most, may have been made stale by an
    /// unsafe request that was heard of here. What is younger was asked for after that request had
    /// been answered: an age counts from when the origin was asked, or from earlier.
    pub(crate) fn is_marked_within(&self, key: &CacheKey, age: Duration, now: Instant) -> bool {
        self.read().table.is_marked_within(key, age, now)
    }

    /// Takes in what another node has told.
    pub(crate) fn merge(&self, entries: &[Entry], horizon: Horizon) -> Applied {
        self.change(|state| {
            let folded = state.table.folded();
            let mut applied = Applied::default();
            applied.folded += u64::from(state.raise(horizon));
            for entry in entries {
                let is_news = state.take(*entry);
                applied.applied += u64::from(is_news);
                applied.folded += u64::from(is_news && entry.scope.class == Class::Folded);
            }
            applied.folded += state.table.folded() - folded;
            applied
        })
    }

    /// Whether we know all that a node with this digest knows.
    pub(crate) fn covers(&self, digest: u64) -> bool {
        self.digest() == digest || self.read().log.covers(digest)
    }

    /// Purges known.
    pub(crate) fn generation(&self) -> u64 {
        self.read().log.generation()
    }

    pub(crate) fn known(&self) -> Known {
        self.read().log.known()
    }

    /// What a node that knows this lacks; empty if that is nothing.
    pub(crate) fn missing(&self, other: &Known) -> Vec<Entry> {
        self.read().log.missing(other)
    }

    /// Whether we know all that a node knows.
    pub(crate) fn covers_all(&self, theirs: &Known) -> bool {
        self.read().log.covers_all(theirs)
    }

    /// Whether a node that knows this knows all that we know.
    pub(crate) fn is_covered_by(&self, other: &Known) -> bool {
        self.read().log.is_covered_by(other)
    }
}

impl State {
    fn take(&mut self, entry: Entry) -> bool {
        let is_news = self.log.add(entry);
        if is_news {
            self.table.apply(entry.scope, entry.hard);
            if let Some(horizon) = self.log.overflow() {
                self.raise(horizon);
            }
        }
        is_news
    }

    fn raise(&mut self, horizon: Horizon) -> bool {
        let is_later = self.log.raise(horizon);
        if is_later {
            let everything = Entry::folded(0, 0, horizon.hard);
            self.table.apply(everything.scope, everything.hard);
        }
        is_later
    }
}
