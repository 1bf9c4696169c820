//! Heads of hits, as they were last worded.
//!
//! What a hit says changes once a second: Age, and the lifetime in Cache-Status. What is asked for
//! often says the same thousands of times in between, and a copy costs a third of wording it again.

use std::{
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwapOption;
use http::HeaderMap;

use crate::store::Stored;

/// Heads kept, each of at most [`LARGEST`] bytes: four megabytes in all.
const SLOTS: usize = 1024;
/// Largest head kept, in bytes as the store weighs it.
const LARGEST: usize = 4 << 10;

#[derive(Debug)]
pub(crate) struct Worded {
    slots: Box<[Slot]>,
}

#[derive(Debug, Default)]
struct Slot {
    /// What was worded here last. Only the second time it is kept: what is asked for once a second
    /// is not to cost a copy that nobody takes.
    asked: AtomicU64,
    head: ArcSwapOption<Head>,
}

#[derive(Debug)]
struct Head {
    /// Weak, so that a body that has left the store is gone. Its place in memory stays taken: no
    /// other response can be mistaken for it.
    stored: Weak<Stored>,
    said: Said,
    fields: HeaderMap,
}

/// What changes by itself in what is said of one stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Whole seconds.
    pub(crate) age: u64,
    /// Seconds for which it is fresh.
    pub(crate) ttl: i64,
}

impl Worded {
    pub(crate) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Slot::default()).collect(),
        }
    }

    /// The fields for a hit of this response: as they were worded before, or else by `word`.
    pub(crate) fn fields(
        &self,
        stored: &Arc<Stored>,
        said: Said,
        word: impl FnOnce() -> HeaderMap,
    ) -> HeaderMap {
        let place = mix(Arc::as_ptr(stored).addr() as u64);
        let slot = &self.slots[place as usize % SLOTS];
        if let Some(head) = &*slot.head.load()
            && ptr::eq(head.stored.as_ptr(), Arc::as_ptr(stored))
            && head.said == said
        {
            return head.fields.clone();
        }
        let fields = word();
        let asked = mix(place ^ mix(said.age) ^ said.ttl as u64);
        if slot.asked.load(Relaxed) != asked {
            slot.asked.store(asked, Relaxed);
        } else if stored.head.weight() <= LARGEST {
            slot.head.store(Some(Arc::new(Head {
                stored: Arc::downgrade(stored),
                said,
                fields: fields.clone(),
            })));
        }
        fields
    }
}

/// Spreads what differs in a few bits over all of them.
const fn mix(bits: u64) -> u64 {
    let product = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::{HeaderValue, StatusCode, header};

    use super::*;
    use crate::{
        node::clock,
        policy::{Carried, Selecting, Settings, StoredHead},
    };

    fn stored(largest: usize) -> Arc<Stored> {
        let carried = Carried {
            age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
        };
        let mut fields = HeaderMap::new();
        let value = "x".repeat(largest);
        fields.insert("x-a", HeaderValue::try_from(value).expect("a value"));
        let (ok, settings) = (StatusCode::OK, Settings::default());
        let now = clock::now().instant;
        let head = StoredHead::from_peer(ok, fields, Selecting::default(), carried, now, &settings);
        Stored::new(head, vec![Bytes::from_static(b"body")], 0).into()
    }

    /// Asks so often; how often it was worded.
    fn worded(by: &Worded, stored: &Arc<Stored>, said: Said, times: usize) -> usize {
        let mut count = 0;
        for _ in 0..times {
            let fields = by.fields(stored, said, || {
                count += 1;
                let mut fields = stored.head.fields.clone();
                fields.insert(header::AGE, said.age.into());
                fields
            });
            assert_eq!(fields[header::AGE], said.age.to_string());
            assert_eq!(fields["x-a"], stored.head.fields["x-a"]);
        }
        count
    }

    const NOW: Said = Said { age: 3, ttl: 57 };
    const LATER: Said = Said { age: 4, ttl: 56 };

    #[test]
    fn what_is_asked_for_again_is_worded_twice_a_second() {
        let (by, one) = (Worded::new(), stored(9));
        assert_eq!(worded(&by, &one, NOW, 9), 2);
        assert_eq!(worded(&by, &one, LATER, 9), 2);
        assert_eq!(
            worded(&by, &one, NOW, 1),
            1,
            "another second's is never given"
        );
    }

    #[test]
    fn a_response_never_has_the_head_of_another() {
        let by = Worded::new();
        let all: Vec<_> = (0..4 * SLOTS).map(|n| stored(n % 40)).collect();
        for _ in 0..3 {
            for one in &all {
                worded(&by, one, NOW, 2);
            }
        }
    }

    #[test]
    fn a_head_that_is_kept_keeps_no_body() {
        let (by, one) = (Worded::new(), stored(9));
        worded(&by, &one, NOW, 3);
        let weak = Arc::downgrade(&one);
        drop(one);
        assert!(weak.upgrade().is_none());
        let next = stored(7);
        assert_ne!(Arc::as_ptr(&next), weak.as_ptr(), "its place is taken");
    }

    #[test]
    fn a_large_head_is_not_kept() {
        let (by, one) = (Worded::new(), stored(LARGEST));
        assert_eq!(worded(&by, &one, NOW, 9), 9);
    }
}
