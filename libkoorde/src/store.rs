//! What is kept: responses by cache key, under a hard bound of bytes that we count ourselves.
//!
//! moka decides what stays (TinyLFU); its own `max_capacity` is soft (writes queue up before they
//! are weighed: a 56 MB limit was seen to peak at 215 MB), so it gets nine tenths of ours and we
//! let nothing in that would pass the whole. One response may take a tenth, which is why there is
//! always room once moka has caught up.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use moka::{notification::RemovalCause, sync::Cache};

use crate::{
    metrics::{Metrics, count},
    policy::{key::CacheKey, stored::StoredHead},
};

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
}

impl Stored {
    pub(crate) fn new(head: StoredHead, chunks: Vec<Bytes>) -> Self {
        let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        Self {
            head,
            chunks,
            length,
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
}

impl Store {
    /// A store of at most `capacity` bytes: bodies, fields, keys and overhead.
    pub(crate) fn new(capacity: u64, metrics: Arc<Metrics>) -> Self {
        let live = Arc::new(AtomicU64::new(0));
        let leaving = Arc::clone(&live);
        let cache = Cache::builder()
            .max_capacity(capacity - capacity / 10)
            .weigher(|_: &CacheKey, variants: &Arc<Variants>| {
                u32::try_from(variants.weight).unwrap_or(u32::MAX)
            })
            .eviction_listener(move |_, variants: Arc<Variants>, cause| {
                leaving.fetch_sub(variants.weight, Ordering::AcqRel);
                let kind = match cause {
                    RemovalCause::Size => "size",
                    RemovalCause::Replaced => "replaced",
                    RemovalCause::Explicit => "removed",
                    RemovalCause::Expired => "expired",
                };
                count(&metrics.evictions, kind);
            })
            .build();
        Self {
            cache,
            live,
            capacity,
            writes: Mutex::new(()),
        }
    }

    /// The most that one key may take, in bytes. moka weighs in 32 bits.
    pub(crate) fn ceiling(&self) -> u64 {
        (self.capacity / 10).min(u64::from(u32::MAX))
    }

    /// Bytes stored, never above the capacity.
    pub(crate) fn bytes(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// The bound of [`Store::bytes`].
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Keys stored, about: moka counts when it tidies up.
    pub(crate) fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    pub(crate) fn get(&self, key: &CacheKey) -> Option<Arc<Variants>> {
        self.cache.get(key)
    }

    /// Keeps a response, in place of the variant that the same requests select.
    ///
    /// # Errors
    /// It takes more than [`Store::ceiling`] by itself.
    pub(crate) fn put(&self, key: &CacheKey, stored: Arc<Stored>) -> Result<(), TooLarge> {
        let _writer = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = match self.cache.get(key) {
            Some(old) => old
                .all
                .iter()
                .filter(|v| v.head.selecting != stored.head.selecting)
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        all.push(stored);
        let overhead = 2 * key.len() as u64 + 256;
        let weigh = |all: &[Arc<Stored>]| overhead + all.iter().map(|v| v.weight()).sum::<u64>();
        let mut weight = weigh(&all);
        while all.len() > 1 && (weight > self.ceiling() || all.len() > MAX_VARIANTS) {
            all.remove(0);
            weight = weigh(&all);
        }
        if weight > self.ceiling() {
            return Err(TooLarge);
        }
        self.make_room(weight)?;
        self.live.fetch_add(weight, Ordering::AcqRel);
        self.cache
            .insert(key.clone(), Arc::new(Variants { all, weight }));
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

    /// Drops every variant of a key.
    pub(crate) fn remove(&self, key: &CacheKey) {
        let _writer = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        self.cache.invalidate(key);
    }
}
