//! The ideal ring of those that live: what the simulated nodes ought to know.

use libkoorde::id::{Id, KeyId};
use libkoorde::ring::{Member, RingConfig, RingView};

/// Everything there is, at one instant.
#[derive(Clone, Debug)]
pub struct Oracle {
    view: RingView,
    candidates: usize,
    neighbors: usize,
}

impl Oracle {
    /// The ideal ring of `living` members (no edges); `None` if nobody lives.
    #[must_use]
    pub fn new(living: Vec<Member>, config: &RingConfig) -> Option<Self> {
        let me = living.first()?.clone();
        let candidates = config.owner_candidates();
        Some(Self {
            view: RingView::ideal(me, living, candidates),
            candidates,
            neighbors: config.neighbors,
        })
    }

    /// The living, by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.view.members()
    }

    /// Whether `owner` may own `key`: the best of its candidates. With more members the last
    /// candidate differs while a join is on its way, so the second best will do as well.
    #[must_use]
    pub fn may_own(&self, key: KeyId, owner: Id) -> bool {
        let count = if self.view.members().len() > self.candidates {
            2
        } else {
            1
        };
        self.view
            .owners(key, count)
            .iter()
            .any(|member| member.id == owner)
    }

    /// Who ought to own `key`.
    ///
    /// # Panics
    /// Never: the ring has a member.
    #[must_use]
    pub fn owner(&self, key: KeyId) -> Id {
        self.view
            .owner(key)
            .expect("a complete view of at least one member has an owner")
            .id
    }

    /// Compares what a node knows with what it ought to know.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, view: &RingView) -> Result<(), String> {
        let ideal = self.view.members();
        let me = view.me();
        let n = ideal.len();
        let Some(at) = ideal.iter().position(|member| member.id == me.id) else {
            return Err(format!("{} is not among the living", me.name));
        };
        let next = &ideal[(at + 1) % n];
        let before = &ideal[(at + n - 1) % n];
        let successor = view.successors().first().unwrap_or(me);
        if successor.id != next.id {
            return Err(format!(
                "{}: successor {}, should be {}",
                me.name, successor.name, next.name
            ));
        }
        let predecessor = view.predecessor().unwrap_or(me);
        if predecessor.id != before.id {
            return Err(format!(
                "{}: predecessor {}, should be {}",
                me.name, predecessor.name, before.name
            ));
        }
        if view.is_complete() != (n - 1 <= 2 * self.neighbors) {
            return Err(format!(
                "{}: thinks its view complete: {}",
                me.name,
                view.is_complete()
            ));
        }
        let reach = self.neighbors.min(n - 1);
        let expected: Vec<u64> = if n - 1 <= 2 * self.neighbors {
            ideal.iter().map(|member| member.id.0).collect()
        } else {
            (0..=2 * reach)
                .map(|i| ideal[(at + n - reach + i) % n].id.0)
                .collect()
        };
        let mut known: Vec<u64> = view.members().iter().map(|member| member.id.0).collect();
        let mut expected = expected;
        known.sort_unstable();
        expected.sort_unstable();
        if known == expected {
            return Ok(());
        }
        // Where on the ring, counted from the node: +1 is its successor.
        let place = |id: &u64| {
            let at_id = ideal.partition_point(|member| member.id.0 < *id);
            let ahead = (at_id + n - at) % n;
            if ahead > n / 2 {
                ahead as i64 - n as i64
            } else {
                ahead as i64
            }
        };
        let lacks: Vec<i64> = expected
            .iter()
            .filter(|id| known.binary_search(id).is_err())
            .map(place)
            .collect();
        let surplus: Vec<i64> = known
            .iter()
            .filter(|id| expected.binary_search(id).is_err())
            .map(place)
            .collect();
        Err(format!(
            "{}: knows {}, lacks {lacks:?}, has {surplus:?}",
            me.name,
            known.len()
        ))
    }
}
