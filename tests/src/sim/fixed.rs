//! A ring that stands still, up to 10^6 nodes: hops of look-ups with the ring's own route code.
//!
//! There are no million `Ring`s: what a node knows (R neighbours each way, the cover of its de Bruijn
//! pointers, learned intervals) is computed from the sorted ids when a look-up comes by.

use std::collections::BTreeMap;

use libkoorde::id::Id;
use libkoorde::ring::route::{Known, Step, next_step};
use libkoorde::ring::{cover_of, thin};

use crate::rules::Rng;

/// A ring of random ids.
#[derive(Clone, Debug)]
pub struct Fixed {
    ids: Vec<Id>,
    degree: u32,
    neighbors: usize,
}

/// Hops of many look-ups, sorted.
#[derive(Clone, Debug)]
pub struct Hops(Vec<u32>);

impl Hops {
    /// From the hops of each look-up.
    #[must_use]
    pub fn new(mut hops: Vec<u32>) -> Self {
        hops.sort_unstable();
        Self(hops)
    }

    /// Mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.iter().map(|&hops| f64::from(hops)).sum::<f64>() / self.0.len() as f64
    }

    /// The quantile `q`, 0 to 1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> u32 {
        self.0[((self.0.len() - 1) as f64 * q) as usize]
    }

    /// The longest path.
    #[must_use]
    pub fn max(&self) -> u32 {
        self.quantile(1.0)
    }
}

impl Fixed {
    /// `n` random ids; `neighbors` each way are known, as in `RingConfig`.
    #[must_use]
    pub fn new(seed: u64, n: usize, degree: u32, neighbors: usize) -> Self {
        let mut rng = Rng::new(seed);
        let mut ids: Vec<Id> = (0..n).map(|_| Id(rng.next())).collect();
        ids.sort_unstable();
        ids.dedup();
        Self {
            ids,
            degree,
            neighbors,
        }
    }

    /// Hops of `count` look-ups of random keys from random nodes to the key's home.
    #[must_use]
    pub fn hops(&self, seed: u64, count: usize) -> Hops {
        let mut rng = Rng::new(seed ^ 0xb0a7);
        let look_up = |_| self.look_up(rng.below(self.ids.len()), Id(rng.next()), &[]);
        Hops::new((0..count).map(look_up).collect())
    }

    /// Hops when each asker has learned the homes of the last `limit` intervals it asked for: one
    /// asker at a time does `warm` look-ups and is then measured for `count`; keys are 10^6,
    /// chosen by `popular`.
    pub fn hops_learned(
        &self,
        seed: u64,
        limit: usize,
        (askers, warm, count): (usize, usize, usize),
        mut popular: impl FnMut(&mut Rng) -> u64,
    ) -> Hops {
        let mut rng = Rng::new(seed ^ 0x1ea4);
        let mut hops = Vec::new();
        for _ in 0..askers {
            let asker = rng.below(self.ids.len());
            // By home: the interval, and when it was last used.
            let mut learned: BTreeMap<Id, (Id, u64)> = BTreeMap::new();
            let mut by_use: BTreeMap<u64, Id> = BTreeMap::new();
            for turn in 0..(warm + count) as u64 {
                let key = Id(scatter(seed, popular(&mut rng)));
                let at = self.successor(key);
                let (home, before) = (self.ids[at], self.ids[self.back(at, 1)]);
                if turn >= warm as u64 {
                    let known: Vec<(Id, Id)> = learned
                        .iter()
                        .map(|(&home, &(before, _))| (before, home))
                        .collect();
                    hops.push(self.look_up(asker, key, &known));
                }
                if let Some((_, used)) = learned.insert(home, (before, turn)) {
                    by_use.remove(&used);
                }
                by_use.insert(turn, home);
                if learned.len() > limit
                    && let Some((_, oldest)) = by_use.pop_first()
                {
                    learned.remove(&oldest);
                }
            }
        }
        Hops::new(hops)
    }

    /// Hops of one look-up; `learned` are the asker's intervals.
    ///
    /// # Panics
    /// If it is not home after 64 hops.
    #[must_use]
    pub fn look_up(&self, asker: usize, key: Id, learned: &[(Id, Id)]) -> u32 {
        let (mut at, mut state) = (asker, None);
        for hops in 0..64 {
            let learned = if hops == 0 { learned } else { &[] };
            match self.step(at, key, state, learned) {
                Step::Home => return hops,
                Step::Last(id) => {
                    assert_eq!(
                        self.successor(key),
                        self.successor(id),
                        "a known home is the home"
                    );
                    return hops + 1;
                }
                Step::Via(id, next) => (at, state) = (self.successor(id), next),
                Step::Stuck => panic!("a node of a ring of {} knows nobody", self.ids.len()),
            }
        }
        panic!("look-up for {key} from {} does not end", self.ids[asker]);
    }

    /// What the node at `at` decides.
    fn step(
        &self,
        at: usize,
        key: Id,
        state: Option<libkoorde::ring::Imaginary>,
        learned: &[(Id, Id)],
    ) -> Step {
        let n = self.ids.len();
        let me = self.ids[at];
        if n <= 2 * self.neighbors + 1 {
            // Everybody is known, as in a complete view: the home is certain.
            let home = self.ids[self.successor(key)];
            return if home == me {
                Step::Home
            } else {
                Step::Last(home)
            };
        }
        let reach = self.neighbors;
        let arc: Vec<Id> = (0..=2 * reach)
            .map(|i| self.ids[(self.back(at, reach) + i) % n])
            .collect();
        let digit_bits = self.degree.ilog2();
        let (first, through) = cover_of(me, self.ids[(at + 1) % n], digit_bits);
        let anchor = self.back(self.successor(first), 2.min(n - 1));
        let mut pointers = Vec::new();
        for i in 0..n {
            let id = self.ids[(anchor + i) % n];
            pointers.push(id);
            let start = pointers[0];
            if i >= 2 && start.distance(id) >= start.distance(through) {
                break;
            }
        }
        let dense = thin(&mut pointers, self.degree);
        let known = Known {
            me,
            digit_bits,
            arc: &arc,
            pointers: &pointers,
            dense,
            learned,
        };
        next_step(&known, key, state)
    }

    /// Index of the first id at or after `place`.
    fn successor(&self, place: Id) -> usize {
        self.ids.partition_point(|id| *id < place) % self.ids.len()
    }

    fn back(&self, at: usize, steps: usize) -> usize {
        (at + self.ids.len() - steps) % self.ids.len()
    }
}

/// Where object number `object` falls.
const fn scatter(seed: u64, object: u64) -> u64 {
    let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ object);
    rng.next()
}

/// Draws ranks 0..n with probability proportional to 1 / (rank + 1)^alpha.
#[derive(Clone, Debug)]
pub struct Zipf(Vec<f64>);

impl Zipf {
    /// O(n) memory.
    #[must_use]
    pub fn new(n: usize, alpha: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=n)
            .map(|rank| {
                sum += (rank as f64).powf(-alpha);
                sum
            })
            .collect();
        for value in &mut cumulative {
            *value /= sum;
        }
        Self(cumulative)
    }

    /// How much of all draws falls on the `count` most popular.
    #[must_use]
    pub fn share_of_first(&self, count: usize) -> f64 {
        match count.min(self.0.len()) {
            0 => 0.0,
            count => self.0[count - 1],
        }
    }

    /// One rank.
    pub fn draw(&self, rng: &mut Rng) -> usize {
        let at = rng.unit();
        self.0
            .partition_point(|&value| value < at)
            .min(self.0.len() - 1)
    }
}
