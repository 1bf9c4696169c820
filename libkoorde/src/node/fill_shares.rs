//! What one origin may take of the fills that all origins share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Fills under way by origin. An origin is here only while it has one.
#[derive(Debug)]
pub(crate) struct FillShares {
    max: usize,
    under_way: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl FillShares {
    /// At most `max` fills for one origin.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            under_way: Arc::default(),
        }
    }

    /// Counts one fill, unless its origin has its share.
    pub(crate) fn take(&self, origin: &str) -> Option<FillShare> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fills = under_way.entry(origin.to_owned()).or_default();
        if *fills >= self.max {
            return None;
        }
        *fills += 1;
        Some(FillShare {
            origin: origin.to_owned(),
            under_way: Arc::clone(&self.under_way),
        })
    }
}

/// One fill of one origin, until it is dropped.
#[derive(Debug)]
pub(crate) struct FillShare {
    origin: String,
    under_way: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Drop for FillShare {
    fn drop(&mut self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(fills) = under_way.get_mut(&self.origin) {
            *fills -= 1;
            if *fills == 0 {
                under_way.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_its_share_and_gives_it_back() {
        let shares = FillShares::new(2);
        let (one, two) = (shares.take("a"), shares.take("a"));
        assert!(one.is_some() && two.is_some() && shares.take("a").is_none());
        assert!(shares.take("b").is_some(), "each its own");
        drop((one, two));
        assert!(shares.take("a").is_some());
        assert!(shares.under_way.lock().expect("no panic").is_empty());
    }
}
