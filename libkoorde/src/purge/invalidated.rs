//! URLs that unsafe requests made stale (RFC 9111 §4.4), in a table of fixed size.
//!
//! Beside the purges and not among them: anybody who may POST can make as many of these as he likes,
//! and a full table of purges takes everything.

use std::time::{Duration, Instant};

use super::scope::ScopeKey;

/// Slots; 3 MiB of zeros, of which a page is taken only once a URL of it was made stale. With 2^14 of
/// them each hundred unsafe requests made one in 160 of all stored responses stale, too.
const SLOTS: usize = 1 << 18;

/// The newest invalidation of each URL, by a hash of it.
///
/// URLs that share a slot share its number: one made stale makes the others stale once, which costs
/// a validation each, of an origin that answers, and never a wrong answer. Nothing that comes later hides it.
#[derive(Debug)]
pub(crate) struct Invalidated {
    slots: Box<[u64]>,
    /// When each slot got its number: whole seconds since `began`, rounded up.
    times: Box<[u32]>,
    /// When the first came.
    began: Option<Instant>,
    /// Of all slots.
    newest: u64,
}

impl Invalidated {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![0; SLOTS].into(),
            times: vec![0; SLOTS].into(),
            began: None,
            newest: 0,
        }
    }

    /// Whether there is none, so that no hash is made in vain.
    pub(crate) fn is_empty(&self) -> bool {
        self.newest == 0
    }

    /// Makes a URL of one tenant stale as of `number`, which is greater than each before it.
    pub(crate) fn mark(&mut self, url: &ScopeKey, number: u64, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let seconds = now.saturating_duration_since(began).as_secs();
        let slot = slot(url);
        self.slots[slot] = number;
        self.times[slot] = u32::try_from(seconds + 1).unwrap_or(u32::MAX);
        self.newest = number;
    }

    /// The number of the newest one that may be of this URL; 0 for none.
    pub(crate) fn of(&self, url: &ScopeKey) -> u64 {
        self.slots[slot(url)]
    }

    /// Whether one that may be of this URL came within this time before `now`, or a second earlier.
    pub(crate) fn within(&self, url: &ScopeKey, time: Duration, now: Instant) -> bool {
        let Some(began) = self.began else {
            return false;
        };
        let since = now.saturating_duration_since(began).saturating_sub(time);
        let slot = slot(url);
        self.slots[slot] > 0 && u64::from(self.times[slot]) >= since.as_secs()
    }
}

fn slot(url: &ScopeKey) -> usize {
    // The rest of a division by SLOTS.
    (url.digest % SLOTS as u128) as usize
}
