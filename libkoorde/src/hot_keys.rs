//! The keys that are asked for most: a table of fixed size, whatever is asked.
//!
//! Space-Saving (Metwally, Agrawal, El Abbadi 2005): a key that has no place takes that of the least
//! counted, and its count with it as a possible error. What is told is what is certain. Counts are
//! halved once a minute, so that yesterday's hot key is none today.

use std::time::Duration;

/// Keys counted.
const SLOTS: usize = 128;
/// Counts are halved after so long.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Halvings that leave nothing of any count.
const ENOUGH: u32 = 64;

/// A key and how often it was asked for lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The URL, as much of it as may be shown.
    pub url: String,
    /// At least so often.
    pub count: u64,
}

/// Counts of the keys asked for most. Times are since any one moment.
#[derive(Debug, Default)]
pub(crate) struct HotKeys {
    slots: Vec<Slot>,
    total: u64,
    halved: Duration,
}

#[derive(Debug)]
struct Slot {
    url: String,
    count: u64,
    /// So much of it may be another's.
    over: u64,
}

impl HotKeys {
    /// `times` more requests for this.
    pub(crate) fn note(&mut self, url: &str, times: u64, now: Duration) {
        self.age(now);
        self.total = self.total.saturating_add(times);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.url == url) {
            slot.count = slot.count.saturating_add(times);
            return;
        }
        let mut slot = Slot {
            url: url.to_owned(),
            count: times,
            over: 0,
        };
        if self.slots.len() < SLOTS {
            return self.slots.push(slot);
        }
        let least = self.slots.iter_mut().min_by_key(|slot| slot.count);
        let least = least.expect("the table is full");
        slot.over = least.count;
        slot.count = slot.count.saturating_add(least.count);
        *least = slot;
    }

    /// The keys asked for most, and how many requests there were in all, by the same measure.
    pub(crate) fn top(&mut self, most: usize, now: Duration) -> (Vec<HotKey>, u64) {
        self.age(now);
        let certain = self.slots.iter().map(|slot| HotKey {
            url: slot.url.clone(),
            count: slot.count - slot.over,
        });
        let mut keys: Vec<HotKey> = certain.filter(|key| key.count > 0).collect();
        sort(&mut keys);
        keys.truncate(most);
        (keys, self.total)
    }

    fn age(&mut self, now: Duration) {
        let since = now.saturating_sub(self.halved);
        let times = since.as_secs() / HALF_LIFE.as_secs();
        let times = u32::try_from(times).unwrap_or(ENOUGH).min(ENOUGH);
        if times == 0 {
            return;
        }
        self.halved = now;
        let half = |count: u64| count.checked_shr(times).unwrap_or(0);
        self.total = half(self.total);
        for slot in &mut self.slots {
            (slot.count, slot.over) = (half(slot.count), half(slot.over));
        }
        self.slots.retain(|slot| slot.count > 0);
    }
}

/// The hot keys of several nodes, together: of each key the sum.
#[must_use]
pub fn merge<'a>(all: impl IntoIterator<Item = &'a [HotKey]>) -> Vec<HotKey> {
    let mut sums = std::collections::BTreeMap::<&str, u64>::new();
    for key in all.into_iter().flatten() {
        let sum = sums.entry(&key.url).or_default();
        *sum = sum.saturating_add(key.count);
    }
    let keys = sums.into_iter().map(|(url, count)| HotKey {
        url: url.to_owned(),
        count,
    });
    let mut keys: Vec<HotKey> = keys.collect();
    sort(&mut keys);
    keys
}

/// Most asked first; by name where that is the same, so that lists do not flicker.
fn sort(keys: &mut [HotKey]) {
    keys.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.url.cmp(&b.url)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_key_that_is_often_asked_for_is_found_among_many_that_are_not() {
        let mut keys = HotKeys::default();
        for n in 0..10_000 {
            keys.note(&format!("http://a/{n}"), 1, NOW);
            if n % 10 == 0 {
                keys.note("http://a/hot", 1, NOW);
            }
        }
        let (top, total) = keys.top(3, NOW);
        assert_eq!((top[0].url.as_str(), total), ("http://a/hot", 11_000));
        assert!(top[0].count > 500 && top[0].count <= 1000, "{top:?}");
        assert!(keys.slots.len() <= SLOTS);
    }

    #[test]
    fn what_was_hot_is_forgotten() {
        let mut keys = HotKeys::default();
        keys.note("http://a/", 8, NOW);
        let count = |keys: &mut HotKeys, seconds| {
            let (top, total) = keys.top(1, Duration::from_secs(seconds));
            (top.first().map(|key| key.count), total)
        };
        assert_eq!(count(&mut keys, 59), (Some(8), 8));
        assert_eq!(count(&mut keys, 60), (Some(4), 4));
        assert_eq!(count(&mut keys, 180), (Some(1), 1));
        assert_eq!(count(&mut keys, 1_000_000), (None, 0));
    }

    proptest! {
        #[test]
        fn no_count_is_more_than_was_asked(asked in proptest::collection::vec(0_u32..300, 0..2000)) {
            let mut keys = HotKeys::default();
            for n in &asked {
                keys.note(&n.to_string(), 1, NOW);
            }
            let (top, total) = keys.top(SLOTS, NOW);
            prop_assert_eq!(total, asked.len() as u64);
            for key in top {
                let truly = asked.iter().filter(|n| n.to_string() == key.url).count() as u64;
                prop_assert!(key.count <= truly, "{:?}: {}", key, truly);
            }
        }

        #[test]
        fn merged_keys_are_sums_in_any_order(
            a in proptest::collection::vec(("[a-c]", 0_u64..9), 0..5),
            b in proptest::collection::vec(("[a-c]", 0_u64..9), 0..5),
        ) {
            let keys = |all: &[(String, u64)]| -> Vec<HotKey> {
                let all = all.iter();
                all.map(|(url, count)| HotKey { url: url.clone(), count: *count }).collect()
            };
            let (a, b) = (keys(&a), keys(&b));
            let (ab, ba) = (merge([&a[..], &b]), merge([&b[..], &a]));
            prop_assert_eq!(&ab, &ba);
            let sum = |keys: &[HotKey]| keys.iter().map(|key| key.count).sum::<u64>();
            prop_assert_eq!(sum(&ab), sum(&a) + sum(&b));
        }
    }
}
