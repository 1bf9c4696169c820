//! What is remembered of keys beside their stored responses: small, bounded, forgotten at will.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, header};
use moka::sync::Cache;

use crate::policy::{CacheKey, vary};

/// Keys remembered, each table. Forgetting one costs one request's wait.
const KEYS: u64 = 16_384;
/// How long the names in Vary are believed without being seen again.
const VARY_FOR: Duration = Duration::from_secs(3600);
/// Conditional requests for one key that come closer together than this are worth storing it for.
const CONDITION_FOR: Duration = Duration::from_secs(60);

/// What collapses: requests of one key that the same variant answers.
///
/// Requests with Authorization fly apart from those without: what one may share, the other may not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    key: CacheKey,
    variant: Box<[u8]>,
    authorized: bool,
    /// The Range asked for; nothing for the whole.
    range: Box<[u8]>,
    /// Asks the owners. A flight whose source is the origin never waits for one of these: two nodes
    /// that take each other for the owner must not wait for each other.
    asks_owners: bool,
    /// The newest purge that applies to what is asked for: nobody follows a flight that was begun
    /// before it.
    after: u64,
}

impl FlightKey {
    /// What it is remembered by: a key may be kilobytes long, and the tables hold thousands.
    fn digest(&self) -> u128 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.key.len() as u64).to_le_bytes());
        hasher.update(self.key.as_bytes());
        hasher.update(&[u8::from(self.authorized)]);
        hasher.update(&(self.range.len() as u64).to_le_bytes());
        hasher.update(&self.range);
        hasher.update(&self.variant);
        first_half(&hasher.finalize())
    }
}

fn first_half(hash: &blake3::Hash) -> u128 {
    let (half, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has 32 bytes");
    u128::from_le_bytes(*half)
}

/// The side tables.
#[derive(Debug)]
pub(crate) struct Memo {
    vary: Cache<u128, Arc<[HeaderName]>>,
    /// Whether what came was stored all the same: it is validated each time.
    uncacheable: Cache<u128, bool>,
    /// Keys whose origin was asked under a client's condition, with nothing stored.
    conditional: Cache<u128, ()>,
    /// Keys of what is not fetched in slices although its route says so.
    whole: Cache<u128, ()>,
}

impl Memo {
    /// Uncacheable keys are remembered for `uncacheable_for` (hit-for-miss).
    pub(crate) fn new(uncacheable_for: Duration) -> Self {
        Self {
            vary: Cache::builder()
                .max_capacity(KEYS)
                .time_to_live(VARY_FOR)
                .build(),
            uncacheable: Cache::builder()
                .max_capacity(KEYS)
                .time_to_live(uncacheable_for)
                .build(),
            conditional: Cache::builder()
                .max_capacity(KEYS)
                .time_to_live(CONDITION_FOR)
                .build(),
            whole: Cache::builder()
                .max_capacity(KEYS)
                .time_to_live(VARY_FOR)
                .build(),
        }
    }

    /// The flight of a request, as far as the key's Vary is known; `after` is the newest purge that
    /// applies to it.
    pub(crate) fn flight(
        &self,
        key: &CacheKey,
        fields: &HeaderMap,
        asks_owners: bool,
        after: u64,
    ) -> FlightKey {
        let variant = match self.vary.get(&first_half(&blake3::hash(key.as_bytes()))) {
            Some(names) => vary::variant_key(names.iter(), fields),
            None => Vec::new(),
        };
        let range = fields
            .get(header::RANGE)
            .map_or(&[][..], |range| range.as_bytes());
        let authorized = fields.contains_key(header::AUTHORIZATION);
        FlightKey {
            key: key.clone(),
            variant: variant.into(),
            authorized,
            range: range.into(),
            asks_owners,
            after,
        }
    }

    /// Remembers the names in Vary, so that the next requests collapse by variant.
    pub(crate) fn learn_vary<'a>(
        &self,
        key: &CacheKey,
        names: impl Iterator<Item = &'a HeaderName>,
    ) {
        let names: Arc<[HeaderName]> = names.cloned().collect();
        if !names.is_empty() {
            self.vary
                .insert(first_half(&blake3::hash(key.as_bytes())), names);
        }
    }

    /// Whether a client's conditions go to the origin as they are. Once in a while they do: what the
    /// client has may be all that anybody wants. From the second on the whole is fetched instead,
    /// for all, or a key that is only ever asked for under conditions would never be stored.
    pub(crate) fn passes_condition(&self, key: &CacheKey) -> bool {
        let entry = self
            .conditional
            .entry(first_half(&blake3::hash(key.as_bytes())));
        entry.or_insert(()).is_fresh()
    }

    /// Remembers that a key's response is no good in slices.
    pub(crate) fn mark_whole(&self, key: &CacheKey) {
        self.whole
            .insert(first_half(&blake3::hash(key.as_bytes())), ());
    }

    /// Whether it is known to be no good in slices.
    pub(crate) fn is_whole(&self, key: &CacheKey) -> bool {
        self.whole
            .contains_key(&first_half(&blake3::hash(key.as_bytes())))
    }

    /// Remembers that waiting for this flight is in vain, although what it brings may be stored, if
    /// it `is_storable`.
    pub(crate) fn mark_uncacheable(&self, flight: &FlightKey, is_storable: bool) {
        self.uncacheable.insert(flight.digest(), is_storable);
    }

    /// Whether nothing that may be stored is known to come of this flight.
    pub(crate) fn is_hopeless(&self, flight: &FlightKey) -> bool {
        self.uncacheable.get(&flight.digest()) == Some(false)
    }

    /// Forgets it: the last response could be shared.
    pub(crate) fn mark_cacheable(&self, flight: &FlightKey) {
        self.uncacheable.invalidate(&flight.digest());
    }

    /// Whether waiting for this flight is known to be in vain.
    pub(crate) fn is_uncacheable(&self, flight: &FlightKey) -> bool {
        self.uncacheable.contains_key(&flight.digest())
    }
}
