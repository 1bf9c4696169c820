//! Where leases lie while those who hold them make their requests elsewhere: found again by an id
//! that cannot be guessed.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Things by id, at most as many as were said.
#[derive(Debug)]
pub(crate) struct Desk<T> {
    things: Mutex<HashMap<Id, T>>,
    max: usize,
    next: AtomicU64,
    /// Keyed by chance at the start of the process.
    hasher: RandomState,
}

type Id = [u8; 16];

impl<T> Desk<T> {
    /// An empty one for at most `max` things.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            things: Mutex::default(),
            max,
            next: AtomicU64::new(0),
            hasher: RandomState::new(),
        })
    }

    fn things(&self) -> MutexGuard<'_, HashMap<Id, T>> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays a thing down until it is taken or the slip is dropped; back with it if there is no room.
    pub(crate) fn lay(self: &Arc<Self>, thing: T) -> Result<Slip<T>, T> {
        let mut id = Id::default();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        id[..8].copy_from_slice(&number.to_le_bytes());
        id[8..].copy_from_slice(&self.hasher.hash_one(number).to_le_bytes());
        let mut things = self.things();
        if things.len() >= self.max {
            return Err(thing);
        }
        things.insert(id, thing);
        Ok(Slip {
            desk: Arc::clone(self),
            id,
        })
    }

    /// Takes what has this id, once.
    pub(crate) fn take(&self, id: &[u8]) -> Option<T> {
        let id = Id::try_from(id).ok()?;
        self.things().remove(&id)
    }
}

/// Dropping it takes the thing away, if nobody has.
#[derive(Debug)]
pub(crate) struct Slip<T> {
    desk: Arc<Desk<T>>,
    id: Id,
}

impl<T> Slip<T> {
    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }
}

impl<T> Drop for Slip<T> {
    fn drop(&mut self) {
        // Dropped after the lock is: what lies here may have locks of its own.
        let _thing = self.desk.take(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_taken_once_or_gone_with_its_slip() {
        let desk = Desk::new(2);
        let (one, two) = (desk.lay(1).expect("room"), desk.lay(2).expect("room"));
        assert_ne!(one.id(), two.id());
        assert_eq!(desk.lay(3).expect_err("no room"), 3);
        assert_eq!((desk.take(one.id()), desk.take(one.id())), (Some(1), None));
        let id = two.id().to_vec();
        drop(two);
        assert_eq!((desk.take(&id), desk.take(b"short")), (None, None));
    }
}
