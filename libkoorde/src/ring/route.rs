//! The Koorde step: where a look-up goes next, as a pure function of what a node knows.
//!
//! Koorde (Kaashoek & Karger 2003) walks a de Bruijn graph of *imaginary* nodes: each step shifts
//! the next digit of the key into the imaginary node's id, and the real node just before the
//! imaginary one stands for it. After the last digit the imaginary node *is* the key. Carried is
//! the number of digits left and the imaginary node, so the degree's bits need not divide 64.
//!
//! Beyond the paper, each measured (rules G, C, P, S):
//! - start aligned to whole digits, at the imaginary node that needs the fewest (the paper's start
//!   costs 1.9 × 64 hops at degree 2);
//! - greedy: every node on the way runs best-start again on every interval it knows, and takes it
//!   only if digits strictly fall; otherwise it walks towards the imaginary node;
//! - the pointers cover the whole image of (me, successor], not just k nodes, so the shift lands in
//!   a list; with the predecessor of the first in front, lest its death leave a walk of O(n);
//! - never shift without a list entry near the image: hand over to a neighbour instead.

use super::protocol::Imaginary;
use crate::id::Id;

/// What a node knows, as far as routing goes. All slices clockwise.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The node that decides.
    pub me: Id,
    /// log2 of the degree.
    pub digit_bits: u32,
    /// A run of the ring without a gap, `me` in it.
    pub arc: &'a [Id],
    /// The de Bruijn pointers, from the predecessor's predecessor of degree × me on.
    pub pointers: &'a [Id],
    /// Whether there is nobody between two pointers (false when thinned to the cap).
    pub dense: bool,
    /// Learned intervals: keys in (.0, .1] have home .1.
    pub learned: &'a [(Id, Id)],
}

/// Where a look-up goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Here: the deciding node is home.
    Home,
    /// To this node, which is home.
    Last(Id),
    /// To this node, on the way.
    Via(Id, Option<Imaginary>),
    /// Nobody else is known.
    Stuck,
}

/// Decides where a look-up for `key` goes that stands at `at` (`None`: not begun).
///
/// At every hop either the digits left fall or the distance to the imaginary node does, so that no
/// look-up circles, whatever the nodes lack.
#[must_use]
pub fn next_step(known: &Known<'_>, key: Id, at: Option<Imaginary>) -> Step {
    if let Some(home) = known.home(key) {
        return if home == known.me {
            Step::Home
        } else {
            Step::Last(home)
        };
    }
    let left = at.map_or(u8::MAX, |at| at.digits);
    if let Some((imaginary, to)) = known.best_start(key, left)
        && to != known.me
    {
        return Step::Via(to, Some(imaginary));
    }
    if let Some(at) = at
        && let Some(to) = known.closest_before(at.node)
        && to != known.me
    {
        return Step::Via(to, Some(at));
    }
    // We stand at the imaginary node ourselves, and our pointers do not reach its image: walk there
    // from the closest we have.
    if let Some(at) = at
        && at.digits > 0
        && let Some(next) = known.shifted(at, key)
    {
        return next;
    }
    known.without_pointers(key, at)
}

/// The fewest digits, below `limit`, that reach `key` from an imaginary node in (`after`,
/// `through`], and the first such node: one whose low digits are already the key's high ones.
#[must_use]
pub fn best_start(
    after: Id,
    through: Id,
    key: Id,
    digit_bits: u32,
    limit: u8,
) -> Option<Imaginary> {
    let reach = after.distance(through).wrapping_sub(1);
    let all = Id::BITS.div_ceil(digit_bits) as u8;
    (0..limit.min(all + 1)).find_map(|digits| {
        let shift = digit_bits * u32::from(digits);
        let (wanted, mask) = if shift >= Id::BITS {
            (0, 0)
        } else {
            (key.0 >> shift, u64::MAX >> shift)
        };
        // One less than the distance, so that a residue equal to `after`'s means a whole period.
        let ahead = wanted.wrapping_sub(after.0).wrapping_sub(1) & mask;
        (ahead <= reach).then(|| Imaginary {
            digits,
            node: Id(after.0.wrapping_add(1).wrapping_add(ahead)),
        })
    })
}

impl Known<'_> {
    /// The home of `key`, if it lies in an interval we know.
    fn home(&self, key: Id) -> Option<Id> {
        let in_run = |run: &[Id]| {
            let at = position(run, key)?;
            (at > 0).then(|| run[at])
        };
        // Whether we are home ourselves only the arc can tell; the rest is hearsay.
        let elsewhere = |home: &Id| *home != self.me;
        let pointers = if self.dense { self.pointers } else { &[] };
        let learned = || {
            let hit = self
                .learned
                .iter()
                .find(|(after, home)| key.is_within(*after, *home));
            hit.map(|&(_, home)| home)
        };
        in_run(self.arc)
            .or_else(|| in_run(pointers).filter(elsewhere))
            .or_else(|| learned().filter(elsewhere))
    }

    /// The best start over all we know, with fewer than `limit` digits, and who stands for it.
    fn best_start(&self, key: Id, limit: u8) -> Option<(Imaginary, Id)> {
        let mut best: Option<(Imaginary, Id)> = None;
        let mut limit = limit;
        for run in [self.pointers, self.arc] {
            if let (Some(&first), Some(&last)) = (run.first(), run.last())
                && run.len() > 1
                && let Some(start) = best_start(first, last, key, self.digit_bits, limit)
            {
                limit = start.digits;
                best = Some((start, before(run, start.node)));
            }
        }
        for &(after, home) in self.learned {
            // Reachable with t digits implies reachable with more: try the first that would help.
            if limit == 0 || !reaches(after, home, key, self.digit_bits, limit - 1) {
                continue;
            }
            if let Some(start) = best_start(after, home, key, self.digit_bits, limit) {
                limit = start.digits;
                best = Some((start, after));
            }
        }
        best
    }

    /// The known node closest before `target`, ourselves included.
    fn closest_before(&self, target: Id) -> Option<Id> {
        let runs = [self.arc, self.pointers]
            .into_iter()
            .filter(|run| !run.is_empty());
        let in_runs = runs.map(|run| before(run, target));
        in_runs
            .chain(self.learned.iter().map(|&(_, home)| home))
            .min_by_key(|id| id.distance(target).wrapping_sub(1))
    }

    /// The pointer closest before the image of `at`, unless that is ourselves.
    fn shifted(&self, at: Imaginary, key: Id) -> Option<Step> {
        if self.pointers.is_empty() {
            return None;
        }
        let digits = at.digits - 1;
        let digit = key.digit(self.digit_bits, u32::from(digits));
        let next = Imaginary {
            digits,
            node: at.node.shift(self.digit_bits, digit),
        };
        let to = before(self.pointers, next.node);
        (to != self.me).then_some(Step::Via(to, Some(next)))
    }

    /// A node that has just come has no pointers yet, but its neighbour has: ask that first. If many
    /// are new at once, nobody has any: then walk the ring, R nodes a hop, and do not begin anew on
    /// the way, or two nodes without pointers play ball.
    fn without_pointers(&self, key: Id, at: Option<Imaginary>) -> Step {
        let all = Id::BITS.div_ceil(self.digit_bits) as u8;
        if at.is_none()
            && let Some(to) = self.neighbor()
        {
            return Step::Via(
                to,
                Some(Imaginary {
                    digits: all,
                    node: self.me,
                }),
            );
        }
        match self.closest_before(key) {
            Some(to) if to != self.me => Step::Via(
                to,
                Some(Imaginary {
                    digits: 0,
                    node: key,
                }),
            ),
            _ => Step::Stuck,
        }
    }

    /// Our successor, else our predecessor.
    fn neighbor(&self) -> Option<Id> {
        let at = self.arc.iter().position(|&id| id == self.me)?;
        let next = self
            .arc
            .get(at + 1)
            .or_else(|| at.checked_sub(1).map(|at| &self.arc[at]));
        next.or_else(|| self.pointers.iter().find(|&&id| id != self.me))
            .copied()
    }
}

fn reaches(after: Id, through: Id, key: Id, digit_bits: u32, digits: u8) -> bool {
    let shift = digit_bits * u32::from(digits);
    if shift >= Id::BITS {
        return true;
    }
    let ahead = (key.0 >> shift).wrapping_sub(after.0).wrapping_sub(1) & (u64::MAX >> shift);
    ahead < after.distance(through)
}

/// Index of the first node of `run` at or after `target`; `None` if that is past its end.
fn position(run: &[Id], target: Id) -> Option<usize> {
    let first = *run.first()?;
    let distance = first.distance(target);
    let at = run.partition_point(|id| first.distance(*id) < distance);
    (at < run.len()).then_some(at)
}

/// The last node of `run` strictly before `target`; the last of all if `target` is not past the
/// first. `run` must not be empty.
fn before(run: &[Id], target: Id) -> Id {
    let first = run[0];
    let distance = first.distance(target).wrapping_sub(1);
    let at = run.partition_point(|id| first.distance(*id) <= distance);
    run[at.max(1) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_aligned_to_digits_and_leads_to_the_key() {
        let (after, through) = (Id(0x1000_0000_0000_0000), Id(0x1400_0000_0000_0000));
        let key = Id(0x9abc_def0_1234_5678);
        for digit_bits in 1..=6 {
            let start = best_start(after, through, key, digit_bits, u8::MAX);
            let start = start.expect("64 bits of digits reach every key from anywhere");
            assert!(start.node.is_within(after, through));
            let mut at = start.node;
            for digit in (0..u32::from(start.digits)).rev() {
                at = at.shift(digit_bits, key.digit(digit_bits, digit));
            }
            assert_eq!(at, key);
            assert!(
                digit_bits < 4 || start.digits <= 3,
                "1/64 of the circle is 2 digits or so"
            );
        }
    }

    #[test]
    fn fewer_digits_than_the_best_are_not_found() {
        let key = Id(0x9abc_def0_1234_5678);
        let best = best_start(Id(5), Id(5000), key, 4, u8::MAX).expect("reachable");
        assert_eq!(best_start(Id(5), Id(5000), key, 4, best.digits), None);
    }

    #[test]
    fn a_known_home_is_the_last_hop() {
        let ids = [Id(10), Id(20), Id(30)];
        let known = Known {
            me: Id(20),
            digit_bits: 4,
            arc: &ids,
            pointers: &[],
            dense: true,
            learned: &[],
        };
        assert_eq!(next_step(&known, Id(15), None), Step::Home);
        assert_eq!(next_step(&known, Id(30), None), Step::Last(Id(30)));
        assert!(matches!(next_step(&known, Id(40), None), Step::Via(..)));
    }
}
