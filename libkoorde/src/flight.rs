//! Collapsed forwarding: one flight a key, however many ask for it.
//!
//! The table knows neither HTTP nor the ring: it is generic in the key and in what is in the air.
//! The first to [`join`](Flights::join) a key leads and gets a [`Landing`]; everybody who joins
//! until that is dropped follows and gets the same value. Dropping the landing frees the key, on
//! every path, a panic included, so a dead leader can't leave its followers behind a stale lock.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const SHARDS: usize = 16;

/// What is in the air, by key. At most `bound` flights at once.
#[derive(Debug)]
pub(crate) struct Flights<K, V> {
    shards: Vec<Mutex<HashMap<K, Arc<V>>>>,
    hasher: RandomState,
    bound_per_shard: usize,
}

/// The part that [`Flights::join`] gives.
pub(crate) enum Joined<K: Eq + Hash + Clone, V> {
    /// Nobody else is at it: do the work, publish it through the value, drop the landing.
    Leads(Arc<V>, Landing<K, V>),
    /// Somebody is: read the value.
    Follows(Arc<V>),
    /// The table is at its bound.
    Full,
}

impl<K: Eq + Hash + Clone, V> Flights<K, V> {
    /// A table of at most `bound` flights (rounded up to a multiple of the shards).
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            bound_per_shard: bound.div_ceil(SHARDS),
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, HashMap<K, Arc<V>>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // A panic while the lock was held can't have left the map half changed: every change is
        // one call.
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight of `key`, or starts one with what `start` makes.
    pub(crate) fn join(self: &Arc<Self>, key: &K, start: impl FnOnce() -> V) -> Joined<K, V> {
        let mut shard = self.shard(key);
        let full = shard.len() >= self.bound_per_shard;
        match shard.entry(key.clone()) {
            Entry::Occupied(flight) => Joined::Follows(Arc::clone(flight.get())),
            Entry::Vacant(_) if full => Joined::Full,
            Entry::Vacant(slot) => {
                let value = Arc::clone(slot.insert(Arc::new(start())));
                let landing = Landing {
                    flights: Arc::clone(self),
                    key: key.clone(),
                    value: Arc::clone(&value),
                };
                Joined::Leads(value, landing)
            }
        }
    }

    /// Lets nobody join this flight of `key` any more: somebody has seen that nothing comes of it.
    pub(crate) fn forget(&self, key: &K, flight: &Arc<V>) {
        let mut shard = self.shard(key);
        if shard
            .get(key)
            .is_some_and(|value| Arc::ptr_eq(value, flight))
        {
            shard.remove(key);
        }
    }

    /// The flight of `key`, if there is one.
    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.shard(key).get(key).cloned()
    }

    /// Flights under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}

/// Held by the leader; dropping it frees the key.
#[derive(Debug)]
pub(crate) struct Landing<K: Eq + Hash + Clone, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    value: Arc<V>,
}

impl<K: Eq + Hash + Clone, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.forget(&self.key, &self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(bound: usize) -> Arc<Flights<u32, u32>> {
        Arc::new(Flights::new(bound))
    }

    #[test]
    fn the_first_leads_and_the_others_follow_until_it_lands() {
        let flights = table(64);
        let Joined::Leads(value, landing) = flights.join(&1, || 7) else {
            panic!("must lead")
        };
        assert_eq!(*value, 7);
        assert!(matches!(flights.join(&1, || 8), Joined::Follows(seen) if *seen == 7));
        drop(landing);
        assert_eq!(flights.len(), 0);
        assert!(matches!(flights.join(&1, || 9), Joined::Leads(seen, _) if *seen == 9));
    }

    #[test]
    fn a_flight_of_which_nothing_comes_is_left_before_it_lands_and_the_next_stays() {
        let flights = table(64);
        let Joined::Leads(first, landing) = flights.join(&1, || 7) else {
            panic!("must lead")
        };
        flights.forget(&1, &first);
        let Joined::Leads(second, _second) = flights.join(&1, || 8) else {
            panic!("must lead")
        };
        flights.forget(&1, &first);
        drop(landing);
        assert!(
            matches!(flights.join(&1, || 9), Joined::Follows(seen) if Arc::ptr_eq(&seen, &second))
        );
    }

    #[test]
    fn a_panicking_leader_frees_its_key() {
        let flights = table(64);
        let inner = Arc::clone(&flights);
        let leader = std::thread::spawn(move || {
            let Joined::Leads(_value, _landing) = inner.join(&1, || 7) else {
                return;
            };
            panic!("the leader dies");
        });
        assert!(leader.join().is_err());
        assert!(flights.get(&1).is_none());
    }

    #[test]
    fn the_table_says_so_when_it_is_full() {
        let flights = table(1);
        let mut landings = Vec::new();
        let mut full = 0;
        for key in 0..1000 {
            match flights.join(&key, || key) {
                Joined::Leads(_, landing) => landings.push(landing),
                Joined::Follows(_) => panic!("every key is new"),
                Joined::Full => full += 1,
            }
        }
        assert!(landings.len() <= SHARDS && full >= 1000 - SHARDS);
    }
}
