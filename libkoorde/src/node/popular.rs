//! Which keys the clients of this node ask for most: a sample of their requests.
//!
//! All are counted while there are few. Beyond some hundreds a second one of 2, 4, 8, … is, and stands
//! for as many: what is left of the cost is a random number a request.

use std::{
    cell::Cell,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::clock;
use crate::{
    hot_keys::{HotKey, HotKeys},
    id::Hasher,
    policy::Target,
};

/// Requests counted a second before fewer are.
const MOST: u32 = 256;
/// At least one of so many is counted.
const RAREST: u32 = 1 << 16;
/// Bytes of a URL that are shown, without its query.
const SHOWN: usize = 300;

#[derive(Debug)]
pub(crate) struct Popular {
    /// One of so many requests is counted, less 1: a power of two less 1.
    mask: AtomicU32,
    started: Instant,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    keys: HotKeys,
    second: u64,
    taken: u32,
}

impl Popular {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            mask: AtomicU32::new(0),
            started,
            counted: Mutex::default(),
        }
    }

    /// A client asks for this.
    pub(crate) fn note(&self, target: &Target, hasher: &Hasher) {
        let mask = self.mask.load(Relaxed);
        if mask > 0 && draw() & mask != 0 {
            return;
        }
        let now = self.now();
        // No request waits for another's count.
        let Ok(mut counted) = self.counted.try_lock() else {
            return;
        };
        self.mask.store(counted.pace(mask, now.as_secs()), Relaxed);
        let url = shown(target, hasher);
        counted.keys.note(&url, u64::from(mask) + 1, now);
    }

    /// The keys asked for most, and how many requests they are a part of.
    pub(crate) fn top(&self, most: usize) -> (Vec<HotKey>, u64) {
        let now = self.now();
        let counted = self.counted.lock();
        let mut counted = counted.unwrap_or_else(std::sync::PoisonError::into_inner);
        counted.keys.top(most, now)
    }

    fn now(&self) -> Duration {
        let now = clock::now().instant;
        now.saturating_duration_since(self.started)
    }
}

impl Counted {
    /// One more is counted in this second; the mask from here on.
    fn pace(&mut self, mask: u32, second: u64) -> u32 {
        let mut mask = mask;
        if second != self.second {
            if self.taken < MOST / 4 {
                mask >>= 1;
            }
            (self.second, self.taken) = (second, 0);
        }
        self.taken += 1;
        if self.taken >= MOST && mask < RAREST - 1 {
            mask = mask << 1 | 1;
            self.taken = 0;
        }
        mask
    }
}

/// A random number of this thread's own (xorshift): nobody shares a cache line for it.
fn draw() -> u32 {
    thread_local! {
        static STATE: Cell<u32> = const { Cell::new(0x9e37_79b9) };
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        state.set(x);
        x
    })
}

/// What may be shown of a URL. Queries carry secrets: in place of one stands a digest, keyed as those
/// of the ring are, so that different ones can be told apart and none be guessed.
fn shown(target: &Target, hasher: &Hasher) -> String {
    let (path, query) = match target.path_and_query().split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target.path_and_query(), None),
    };
    let mut url = format!("{}://{}{path}", target.scheme(), target.authority());
    if let Some((end, _)) = url.char_indices().find(|(at, c)| at + c.len_utf8() > SHOWN) {
        url.truncate(end);
        url.push('…');
    }
    if let Some(query) = query {
        let digest = hasher.key_id(query.as_bytes()).0 >> 104;
        url.push_str(&format!("?#{digest:06x}"));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).expect("a URL")
    }

    #[test]
    fn queries_are_told_apart_and_never_shown() {
        let hasher = Hasher::new(b"secret");
        let shown = |url: &str| shown(&target(url), &hasher);
        assert_eq!(shown("http://a.example/p"), "http://a.example/p");
        let (one, two) = (
            shown("http://a.example/p?token=1"),
            shown("http://a.example/p?token=2"),
        );
        assert_ne!(one, two);
        assert!(one.starts_with("http://a.example/p?#") && !one.contains("token"));
        let long = shown(&format!("http://a.example/{}?x", "y".repeat(5000)));
        assert!(long.len() <= 320, "{}", long.len());
    }

    #[test]
    fn a_storm_of_requests_is_sampled_and_still_counted_whole() {
        let popular = Popular::new(clock::now().instant);
        let hasher = Hasher::new(b"secret");
        let (hot, other) = (target("http://a.example/hot"), target("http://a.example/b"));
        for n in 0..200_000 {
            popular.note(if n % 4 == 0 { &other } else { &hot }, &hasher);
        }
        let mask = popular.mask.load(Relaxed);
        assert!(mask >= 31, "one of {} is counted", mask + 1);
        let (top, total) = popular.top(2);
        assert_eq!(top[0].url, "http://a.example/hot");
        let (share, all) = (top[0].count as f64 / total as f64, total as f64 / 200_000.0);
        assert!((0.6..0.9).contains(&share), "{share}");
        assert!((0.7..1.3).contains(&all), "{all}");
    }

    #[test]
    fn calm_brings_every_request_back_into_the_count() {
        let mut counted = Counted::default();
        let mut mask = 0;
        for _ in 0..10_000 {
            mask = counted.pace(mask, 1);
        }
        assert_eq!(mask, RAREST - 1, "bounded");
        for second in 2..60 {
            mask = counted.pace(mask, second);
        }
        assert_eq!(mask, 0);
    }
}
