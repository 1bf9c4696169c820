//! Which URLs this node may have handed out as hot copies within the last lease: so that an unsafe
//! request tells all members only when one of them may hold a copy.
//!
//! Two Bloom filters, one a lease long. They forget nothing too early and now and then remember
//! what never was, which costs a message.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Words of one filter: 2^20 bits, 128 KiB. With 100,000 URLs in it, one answer in 90 is wrong.
const WORDS: usize = 1 << 14;
/// Bits of one URL.
const BITS: usize = 4;

/// The URLs handed out in this lease and in the one before.
#[derive(Debug)]
pub(crate) struct Leases {
    filters: [Box<[AtomicU64]>; 2],
    /// Which filter is written, and since when.
    current: Mutex<(usize, Instant)>,
    lease: Duration,
}

impl Leases {
    pub(crate) fn new(lease: Duration, now: Instant) -> Self {
        let filter = || (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        Self {
            filters: [filter(), filter()],
            current: Mutex::new((0, now)),
            lease,
        }
    }

    /// Remembers that a copy of this URL went out, for at least one lease from now.
    pub(crate) fn note(&self, url: &[u8], now: Instant) {
        let filter = &self.filters[self.rotate(now)];
        for (word, bit) in places(url) {
            filter[word].fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Whether one may have gone out within a lease.
    pub(crate) fn may_hold(&self, url: &[u8], now: Instant) -> bool {
        self.rotate(now);
        let holds = |filter: &[AtomicU64]| {
            places(url).all(|(word, bit)| filter[word].load(Ordering::Acquire) & bit != 0)
        };
        self.filters.iter().any(|filter| holds(filter))
    }

    /// Begins a new lease where one is over; the filter to write.
    fn rotate(&self, now: Instant) -> usize {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut written, since) = *current;
        let age = now.saturating_duration_since(since);
        if age >= self.lease {
            written = 1 - written;
            let forget = |filter: &[AtomicU64]| {
                filter
                    .iter()
                    .for_each(|word| word.store(0, Ordering::Release));
            };
            forget(&self.filters[written]);
            // Nothing was noted for a whole lease: what is in the other is over, too.
            if age >= 2 * self.lease {
                forget(&self.filters[1 - written]);
            }
            *current = (written, now);
        }
        written
    }
}

/// Word and bit of each place of a URL in a filter.
fn places(url: &[u8]) -> impl Iterator<Item = (usize, u64)> {
    let hash = blake3::hash(url);
    (0..BITS).map(move |index| {
        let at = index * 4;
        let bytes = hash.as_bytes();
        let place = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let place = place as usize % (WORDS * 64);
        (place / 64, 1 << (place % 64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any time will do")]
    fn a_copy_is_remembered_for_a_lease_and_not_for_ever() {
        let (lease, start) = (Duration::from_secs(60), Instant::now());
        let leases = Leases::new(lease, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!leases.may_hold(b"a", at(0)));
        leases.note(b"a", at(50));
        leases.note(b"b", at(70));
        assert!(leases.may_hold(b"a", at(70)) && leases.may_hold(b"a", at(109)));
        assert!(leases.may_hold(b"b", at(130)), "60 s");
        assert!(!leases.may_hold(b"a", at(200)) && !leases.may_hold(b"b", at(200)));
        leases.note(b"c", at(210));
        assert!(!leases.may_hold(b"c", at(1000)), "after a long silence");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any time will do")]
    fn few_urls_are_remembered_that_never_were() {
        let now = Instant::now();
        let leases = Leases::new(Duration::from_secs(60), now);
        for n in 0..100_000u32 {
            leases.note(&n.to_le_bytes(), now);
        }
        let wrong = (100_000..110_000u32).filter(|n| leases.may_hold(&n.to_le_bytes(), now));
        assert!(wrong.count() < 300);
    }
}
