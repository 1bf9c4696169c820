//! Who has left of its own accord: what it may still be asked, and by what its responses are judged.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{id::Id, policy::CacheKey, purge::Purges, ring::Member};

/// Members that are remembered, and for how long: longer than any hand-off lasts.
const MAX_DEPARTED: usize = 1024;
const REMEMBERED: Duration = Duration::from_secs(1200);
/// How long one certainly answers after it has announced that it leaves; it stays two seconds.
const STAYS: Duration = Duration::from_millis(1500);

/// The members that have left.
#[derive(Debug)]
pub(crate) struct Departed {
    purges: Arc<Purges>,
    members: Mutex<Vec<Gone>>,
}

#[derive(Debug)]
struct Gone {
    member: Member,
    /// The newest purge that was known here when it left. What it hands over is judged by all that
    /// came later: it may not have been told.
    born: u64,
    at: Instant,
    /// Hand-offs of it that are being taken here.
    giving: usize,
}

impl Departed {
    pub(crate) fn new(purges: Arc<Purges>) -> Self {
        Self {
            purges,
            members: Mutex::default(),
        }
    }

    /// Called before the view without it is published: from then on others are told what is stale.
    pub(crate) fn note(&self, member: &Member, now: Instant) {
        let mut members = self.lock();
        members.retain(|gone| gone.member.id != member.id && gone.since(now) < REMEMBERED);
        if members.len() == MAX_DEPARTED {
            members.remove(0);
        }
        members.push(Gone {
            member: member.clone(),
            born: self.purges.version(),
            at: now,
            giving: 0,
        });
    }

    /// The newest purge that was known here when this member left; none if it has not been heard of.
    pub(super) fn born(&self, member: Id) -> Option<u64> {
        let members = self.lock();
        let gone = members.iter().find(|gone| gone.member.id == member);
        gone.map(|gone| gone.born)
    }

    /// Those that still answer and may be asked for what they have stored under a key: they knew of
    /// every purge of it. Of unsafe requests for it they may not have been told, so their answer is
    /// compared with those ([`Inner::may_be_from_before`](crate::node::Inner::may_be_from_before)).
    pub(crate) fn still_there(&self, now: Instant, key: &CacheKey) -> Vec<Member> {
        let members = self.lock();
        if members.is_empty() {
            return Vec::new();
        }
        let newest = self.purges.newest(key, None);
        let there = members
            .iter()
            .filter(|gone| gone.born >= newest && (gone.giving > 0 || gone.since(now) < STAYS));
        there.map(|gone| gone.member.clone()).collect()
    }

    /// This member is handing over, until what comes back is dropped.
    pub(super) fn giving(&self, member: Id) -> Giving<'_> {
        self.change(member, |giving| giving.saturating_add(1));
        Giving(self, member)
    }

    fn change(&self, member: Id, change: impl Fn(usize) -> usize) {
        let mut members = self.lock();
        if let Some(gone) = members.iter_mut().find(|gone| gone.member.id == member) {
            gone.giving = change(gone.giving);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Gone>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gone {
    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

/// A hand-off that is being taken.
pub(super) struct Giving<'a>(&'a Departed, Id);

impl Drop for Giving<'_> {
    fn drop(&mut self) {
        self.0.change(self.1, |giving| giving.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::clock,
        policy::Target,
        purge::{Bounds, Scope, ScopeKey},
        ring::Role,
    };

    fn purges() -> Arc<Purges> {
        let bounds = Bounds {
            scopes: 16,
            log: 16,
        };
        Arc::new(Purges::new(bounds))
    }

    fn member(id: u64) -> Member {
        Member {
            id: Id(id),
            name: format!("node-{id}").as_str().into(),
            addr: ([127, 0, 0, 1], 1).into(),
            incarnation: 1,
            weight: 1,
            role: Role::Member,
        }
    }

    fn key() -> CacheKey {
        CacheKey::new("", &Target::parse("http://a.example/").unwrap())
    }

    fn purge(purges: &Purges) {
        let everything = ScopeKey::new(&Scope::All, None, b"");
        purges.issue(&[everything], false, (1, 1));
    }

    #[test]
    fn one_that_has_left_is_asked_as_long_as_it_stays_or_hands_over() {
        let departed = Departed::new(purges());
        let (left, second) = (clock::now().instant, Duration::from_secs(1));
        departed.note(&member(1), left);
        let is_there = |after| !departed.still_there(left + after, &key()).is_empty();
        assert!(is_there(second));
        assert!(!is_there(2 * second));
        let giving = departed.giving(Id(1));
        assert!(is_there(600 * second));
        drop(giving);
        assert!(!is_there(2 * second));
    }

    #[test]
    fn what_it_may_not_have_been_told_is_not_asked_of_it() {
        let purges = purges();
        let departed = Departed::new(Arc::clone(&purges));
        purge(&purges);
        let left = clock::now().instant;
        departed.note(&member(1), left);
        assert_eq!(departed.born(Id(1)), Some(1));
        assert_eq!(departed.still_there(left, &key()).len(), 1);
        purge(&purges);
        assert!(departed.still_there(left, &key()).is_empty());
    }

    #[test]
    fn who_leaves_twice_is_remembered_once_and_nobody_for_ever() {
        let purges = purges();
        let departed = Departed::new(Arc::clone(&purges));
        let left = clock::now().instant;
        departed.note(&member(1), left);
        purge(&purges);
        departed.note(&member(1), left);
        assert_eq!(
            (departed.born(Id(1)), departed.born(Id(2))),
            (Some(1), None)
        );
        for id in 2..2000 {
            departed.note(&member(id), left);
        }
        assert_eq!(departed.lock().len(), MAX_DEPARTED);
        departed.note(&member(1), left + REMEMBERED);
        assert_eq!(departed.lock().len(), 1);
    }
}
