//! What is kept: responses by cache key, under a hard bound of bytes that we count ourselves.
//!
//! moka decides what stays (TinyLFU); its own `max_capacity` is soft (writes queue up before they
//! are weighed: a 56 MB limit was seen to peak at 215 MB), so it gets nine tenths of ours and we
//! let nothing in that would pass the whole. One response may take a tenth, which is why there is
//! always room once moka has caught up.

use std::{
    cmp::Ordering,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderValue;
use moka::{notification::RemovalCause, sync::Cache};

use crate::{
    policy::{CacheKey, Settings, StoredHead},
    purge::{Purges, Verdict},
};

mod parts;

/// What two ages that were read from Date may differ by for one moment.
const DATE_ERROR: Duration = Duration::from_secs(2);

/// Largest piece of a stored body, in bytes: small enough to be written without a copy.
const BLOCK: usize = 256 << 10;

/// Responses under one key; beyond it the oldest goes. A request field with many values named in
/// Vary must not fill the store.
const MAX_VARIANTS: usize = 50;

/// One stored response: a variant of its key.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) head: StoredHead,
    /// The body, in the pieces in which it came: joining them would copy it.
    pub(crate) chunks: Vec<Bytes>,
    /// Bytes in `chunks`.
    pub(crate) length: u64,
    /// The newest purge that was known here when it was asked for: later ones may take it.
    pub(crate) born: u64,
    /// The newest purge that it was found clean by.
    clean: AtomicU64,
    /// When it was first found to be taken by a purge that leaves it here: stale since then.
    taken: OnceLock<Instant>,
    /// Whether such a purge has taken it: then it is stale, whatever its head says.
    pub(crate) purged: bool,
    /// A hot copy is reused until then: whoever gave it remembers so long that there is one.
    pub(crate) until: Option<Instant>,
}

impl Stored {
    pub(crate) fn new(head: StoredHead, chunks: Vec<Bytes>, born: u64) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            head,
            chunks,
            length,
            born,
            clean: AtomicU64::new(born),
            taken: OnceLock::new(),
            purged: false,
            until: None,
        }
    }

    /// The same as a purge leaves it that does not take it away: stale since it was first looked up
    /// after that, so that the time for which it may be served stale runs out; or not served stale at
    /// all.
    fn purged(&self, now: Instant, verdict: Verdict) -> Self {
        let mut head = self.head.clone();
        // Another's look-up may have read the clock a moment later than this one.
        let taken = *self.taken.get_or_init(|| now);
        head.expire_at(head.current_age(taken.min(now)));
        if verdict == Verdict::Invalid {
            head.forbid_stale();
        }
        Self {
            head,
            chunks: self.chunks.clone(),
            length: self.length,
            born: self.born,
            clean: AtomicU64::new(self.born),
            taken: OnceLock::from(taken),
            purged: true,
            until: self.until,
        }
    }

    /// The same in buffers of its own size. What came from a connection are slices of its read
    /// buffers, and one small slice would keep hundreds of kilobytes alive that nobody counts.
    pub(crate) fn compact(head: StoredHead, chunks: &[Bytes], born: u64) -> Self {
        let mut copies = Vec::new();
        let mut left: usize = chunks.iter().map(Bytes::len).sum();
        let mut block = Vec::with_capacity(left.min(BLOCK));
        for mut rest in chunks.iter().map(|chunk| &chunk[..]) {
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(BLOCK - block.len()));
                block.extend_from_slice(now);
                (rest, left) = (later, left - now.len());
                if block.len() == BLOCK || left == 0 {
                    let next = Vec::with_capacity(left.min(BLOCK));
                    copies.push(Bytes::from(std::mem::replace(&mut block, next)));
                }
            }
        }
        Self::of_head(head, copies, born)
    }

    /// A body of its own buffers under a head that has just come, which gets such buffers, too.
    pub(crate) fn of_head(mut head: StoredHead, chunks: Vec<Bytes>, born: u64) -> Self {
        for value in head.fields.values_mut() {
            let is_sensitive = value.is_sensitive();
            if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
                copy.set_sensitive(is_sensitive);
                *value = copy;
            }
        }
        Self::new(head, chunks, born)
    }

    /// Whether the origin made it after the other one. Ages read from Date are off by a second and
    /// more; what is closer together than that goes by which of the two came here later.
    fn is_newer(&self, other: &Self) -> bool {
        let made = |stored: &Self| stored.head.received.checked_sub(stored.head.initial_age);
        let Some((ours, others)) = made(self).zip(made(other)) else {
            return self.head.received > other.head.received;
        };
        match (
            ours.checked_duration_since(others),
            others.checked_duration_since(ours),
        ) {
            (Some(ahead), _) if ahead > DATE_ERROR => true,
            (_, Some(behind)) if behind > DATE_ERROR => false,
            _ => self.head.received > other.head.received,
        }
    }

    fn weight(&self) -> u64 {
        self.head.weight() as u64 + self.length + 64 * self.chunks.len() as u64
    }
}

/// The stored responses of one key, newest last.
#[derive(Debug)]
pub(crate) struct Variants {
    pub(crate) all: Vec<Arc<Stored>>,
    weight: u64,
    /// The ring's view in which this node was last found to be among the key's owners.
    pub(crate) owned_in: AtomicU64,
}

impl Variants {
    fn new(all: Vec<Arc<Stored>>, weight: u64) -> Self {
        Self {
            all,
            weight,
            owned_in: AtomicU64::new(u64::MAX),
        }
    }
}

/// The response takes more than a tenth of the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Stored responses by cache key.
#[derive(Debug)]
pub(crate) struct Store {
    cache: Cache<CacheKey, Arc<Variants>>,
    /// Bytes put in and not yet seen to leave.
    live: Arc<AtomicU64>,
    capacity: u64,
    /// One writer at a time: adding a variant is read, change, write.
    writes: Mutex<()>,
    /// What may not be reused.
    purges: Arc<Purges>,
}

impl Store {
    /// A store of at most `capacity` bytes: bodies, fields, keys and overhead. What `purges` take is
    /// never given out as if nothing had happened. `on_leave` hears of each that leaves, by cause.
    pub(crate) fn new(
        capacity: u64,
        purges: Arc<Purges>,
        on_leave: impl Fn(&'static str) + Send + Sync + 'static,
    ) -> Self {
        let live = Arc::new(AtomicU64::new(0));
        let leaving = Arc::clone(&live);
        let cache = Cache::builder()
            .max_capacity(capacity - capacity / 10)
            .weigher(|_: &CacheKey, variants: &Arc<Variants>| {
                u32::try_from(variants.weight).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |_, variants: Arc<Variants>, cause| {
                leaving.fetch_sub(variants.weight, AcqRel);
                let kind = match cause {
                    RemovalCause::Size => "size",
                    RemovalCause::Replaced => "replaced",
                    RemovalCause::Explicit => "removed",
                    RemovalCause::Expired => "expired",
                };
                on_leave(kind);
            })
            .build();
        Self {
            cache,
            live,
            capacity,
            writes: Mutex::new(()),
            purges,
        }
    }

    /// The most that one key may take, in bytes. moka weighs in 32 bits.
    pub(crate) fn ceiling(&self) -> u64 {
        (self.capacity / 10).min(u64::from(u32::MAX))
    }

    /// Bytes stored, never above the capacity.
    pub(crate) fn bytes(&self) -> u64 {
        self.live.load(Acquire)
    }

    /// The bound of [`Store::bytes`].
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Keys stored. moka counts when it tidies up, so it is made to: for operators, not for hits.
    pub(crate) fn len(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }

    /// The stored responses of a key, as purges leave them: without those that a hard one took, and
    /// stale where it was a soft one.
    ///
    /// moka takes note of each look, and a miss looks up to four times until it is put. That is as it
    /// should be: with one note, what is new is hardly let in. Traces of a shop, a database and a
    /// recommender, stores of 1–25 % of their keys: four notes a miss give 0–11 points more hits.
    pub(crate) fn get(&self, key: &CacheKey, now: Instant) -> Option<Arc<Variants>> {
        let variants = self.cache.get(key)?;
        let verdicts: Vec<Verdict> = match &variants.all[..] {
            // Nearly always; a list would be allocated in vain.
            [one] if self.judge(key, one) == Verdict::Clean => return Some(variants),
            all => all.iter().map(|one| self.judge(key, one)).collect(),
        };
        if verdicts.iter().all(|verdict| *verdict == Verdict::Clean) {
            return Some(variants);
        }
        let left = variants.all.iter().zip(verdicts);
        let left = left.filter_map(|(stored, verdict)| match verdict {
            Verdict::Clean => Some(Arc::clone(stored)),
            Verdict::Soft | Verdict::Invalid => Some(Arc::new(stored.purged(now, verdict))),
            Verdict::Hard => None,
        });
        let all: Vec<_> = left.collect();
        let weight = variants.weight;
        (!all.is_empty()).then(|| Arc::new(Variants::new(all, weight)))
    }

    /// The keys, those with the smallest responses first.
    pub(crate) fn keys_by_weight(&self) -> Vec<CacheKey> {
        let weighed = self
            .cache
            .iter()
            .map(|(key, variants)| (variants.weight, (*key).clone()));
        let mut keys: Vec<_> = weighed.collect();
        keys.sort_unstable_by_key(|(weight, _)| *weight);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn judge(&self, key: &CacheKey, stored: &Stored) -> Verdict {
        self.purges
            .judge(stored.born, &stored.clean, key, &stored.head.tags)
    }

    /// Keeps a response, in place of the variant that the same requests select; unless that one is
    /// newer: a slow body may end after a reload has brought its successor. What a purge took stands
    /// in nobody's way, and what was purged on its way here in the place of nothing better.
    ///
    /// Whether it was kept.
    ///
    /// # Errors
    /// It takes more than [`Store::ceiling`] by itself.
    pub(crate) fn put(
        &self,
        key: &CacheKey,
        stored: Arc<Stored>,
        settings: &Settings,
    ) -> Result<bool, TooLarge> {
        let _writer = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.cache.get(key);
        let mut all: Vec<_> = old.map(|old| old.all.clone()).unwrap_or_default();
        let same = |variant: &Arc<Stored>| variant.head.selecting == stored.head.selecting;
        let verdict = self.judge(key, &stored);
        let is_better = |old: &Arc<Stored>| match self.judge(key, old).cmp(&verdict) {
            Ordering::Less => true,
            Ordering::Equal => old.head.part == stored.head.part && old.is_newer(&stored),
            Ordering::Greater => false,
        };
        if verdict == Verdict::Hard || all.iter().any(|old| same(old) && is_better(old)) {
            return Ok(false);
        }
        all.retain(|old| match self.judge(key, old) {
            Verdict::Clean => true,
            // What a purge took must not grow together with what it did not.
            Verdict::Soft | Verdict::Invalid => !same(old),
            Verdict::Hard => false,
        });
        parts::place(&mut all, stored, settings);
        let weigh = |all: &[Arc<Stored>]| weigh(key, all);
        let mut weight = weigh(&all);
        while all.len() > 1 && (weight > self.ceiling() || all.len() > MAX_VARIANTS) {
            all.remove(0);
            weight = weigh(&all);
        }
        if weight > self.ceiling() {
            return Err(TooLarge);
        }
        self.insert(key, all, weight)?;
        Ok(true)
    }

    fn insert(&self, key: &CacheKey, all: Vec<Arc<Stored>>, weight: u64) -> Result<(), TooLarge> {
        self.make_room(weight)?;
        self.live.fetch_add(weight, AcqRel);
        self.cache
            .insert(key.clone(), Arc::new(Variants::new(all, weight)));
        // Applied at once: moka's own sum goes wrong for good when an update and a removal of one
        // key wait in its queue together (0.12.16; the property test below finds it in seconds).
        self.cache.run_pending_tasks();
        Ok(())
    }

    /// Lets moka catch up until `weight` fits. It always does, since moka keeps to nine tenths;
    /// should it not, the bound is worth more than the response.
    fn make_room(&self, weight: u64) -> Result<(), TooLarge> {
        for _ in 0..64 {
            if self.bytes() + weight <= self.capacity {
                return Ok(());
            }
            self.cache.run_pending_tasks();
        }
        if self.bytes() + weight <= self.capacity {
            Ok(())
        } else {
            Err(TooLarge)
        }
    }

    /// Drops these of a key's stored responses, as [`Store::get`] gave them, and no others.
    pub(crate) fn take_out(&self, key: &CacheKey, gone: &[Arc<Stored>]) {
        if gone.is_empty() {
            return;
        }
        let _writer = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(old) = self.cache.get(key) else {
            return;
        };
        let mut left = old.all.clone();
        left.retain(|stored| !gone.iter().any(|gone| Arc::ptr_eq(gone, stored)));
        let weight = weigh(key, &left);
        if left.is_empty() || self.insert(key, left, weight).is_err() {
            self.cache.invalidate(key);
            self.cache.run_pending_tasks();
        }
    }

    /// Drops every variant of a key.
    pub(crate) fn remove(&self, key: &CacheKey) {
        let _writer = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        self.cache.invalidate(key);
        self.cache.run_pending_tasks();
    }
}

/// What responses under one key take, in bytes.
fn weigh(key: &CacheKey, all: &[Arc<Stored>]) -> u64 {
    let overhead = 2 * key.len() as u64 + 256;
    overhead + all.iter().map(|stored| stored.weight()).sum::<u64>()
}

#[cfg(test)]
mod tests;
