//! Before it answers from what it has stored, a node that met a member, or slept, or was taken for
//! dead, hears which purges it has missed.
//!
//! The driver closes the gate before it publishes a view with a member that was not in the last; the
//! task in `node/purge.rs` hears that member and opens it again. A request waits for that at most
//! [`PATIENCE`]: a member that does not answer can't be asked by anybody, and the next exchange with
//! it tells.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time,
};

use crate::{id::Id, ring::Member};

/// How long a request waits at a closed gate.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How long a purge still asks for a member that was declared dead: it may only have been cut off.
const LOST: Duration = Duration::from_secs(60);
/// Members lost that are remembered.
const MAX_LOST: usize = 1024;
/// Members waiting to be heard; more than a view has.
const MAX_WAITING: usize = 8192;

#[derive(Debug)]
pub(crate) struct Gate {
    /// Whether requests wait. Beside the channel, so that an open gate costs one load.
    closed: AtomicBool,
    opens: watch::Sender<bool>,
    wakes: Notify,
    members: Mutex<Members>,
    start: Instant,
    /// When the last round of exchanges ended, in milliseconds since `start`.
    heard: AtomicU64,
    /// When a member last came or went, likewise.
    changed: AtomicU64,
    /// A pause between two rounds that only sleep explains.
    gap: Duration,
}

#[derive(Debug, Default)]
struct Members {
    waiting: BTreeMap<Id, Member>,
    /// All members have to be heard.
    everybody: bool,
    lost: BTreeMap<Id, (Member, Instant)>,
}

/// Whom the next round has to hear.
pub(crate) struct Waiting {
    pub(crate) members: Vec<Member>,
    pub(crate) everybody: bool,
}

impl Gate {
    /// An open gate. `rounds` is the time between two rounds of exchanges.
    pub(crate) fn new(rounds: Duration, now: Instant) -> Self {
        Self {
            closed: AtomicBool::new(false),
            opens: watch::Sender::new(true),
            wakes: Notify::new(),
            members: Mutex::default(),
            start: now,
            heard: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            gap: 3 * rounds + 2 * PATIENCE,
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_start(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_millis();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }

    /// A member is in view that was not: it has to be heard.
    pub(crate) fn up(&self, member: &Member, now: Instant) {
        self.changed.store(self.since_start(now), Ordering::Release);
        let mut members = self.members();
        members.lost.remove(&member.id);
        if members.waiting.len() < MAX_WAITING {
            members.waiting.insert(member.id, member.clone());
        } else {
            members.everybody = true;
        }
        self.close(members);
    }

    /// A member is gone. One that did not say so may only be out of reach.
    pub(crate) fn down(&self, member: &Member, is_dead: bool, now: Instant) {
        self.changed.store(self.since_start(now), Ordering::Release);
        let mut members = self.members();
        members.waiting.remove(&member.id);
        if is_dead {
            if members.lost.len() >= MAX_LOST {
                members.lost.pop_first();
            }
            members.lost.insert(member.id, (member.clone(), now));
        }
    }

    /// Members that were lost a while ago.
    pub(crate) fn lost(&self, now: Instant) -> Vec<Member> {
        let mut members = self.members();
        members
            .lost
            .retain(|_, (_, since)| now.saturating_duration_since(*since) < LOST);
        members
            .lost
            .values()
            .map(|(lost, _)| lost.clone())
            .collect()
    }

    /// Whether a member came or went within this time.
    pub(crate) fn changed_within(&self, time: Duration, now: Instant) -> bool {
        let changed = Duration::from_millis(self.changed.load(Ordering::Acquire));
        now.saturating_duration_since(self.start + changed) < time
    }

    /// This node was away, as it has seen or as it was told: everybody has to be heard.
    pub(crate) fn everybody(&self) {
        let mut members = self.members();
        members.everybody = true;
        self.close(members);
    }

    fn close(&self, held: MutexGuard<'_, Members>) {
        self.closed.store(true, Ordering::Release);
        self.opens.send_replace(false);
        drop(held);
        self.wakes.notify_one();
    }

    fn has_slept(&self, now: Instant) -> bool {
        let heard = Duration::from_millis(self.heard.load(Ordering::Acquire));
        now.saturating_duration_since(self.start + heard) > self.gap
    }

    /// Whether nobody waits here now.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        !self.closed.load(Ordering::Acquire) && !self.has_slept(now)
    }

    /// Waits until all are heard that have to be, at most [`PATIENCE`].
    pub(crate) async fn pass(&self, now: Instant) {
        if self.has_slept(now) {
            // Nothing ran here for long: who knows what happened meanwhile.
            self.everybody();
        }
        if !self.closed.load(Ordering::Acquire) {
            return;
        }
        let mut opens = self.opens.subscribe();
        let _opened_or_not = time::timeout(PATIENCE, opens.wait_for(|open| *open)).await;
    }

    /// Resolves when somebody has to be heard.
    pub(crate) async fn wanted(&self) {
        self.wakes.notified().await;
    }

    /// Talks to those of a round, no longer than a request waits for it; whether it is over. One that
    /// nobody waits for gives way as soon as somebody waits for the next: it must not cost them their
    /// patience.
    pub(crate) async fn round(&self, talks: impl Future<Output = ()>, is_waited_for: bool) -> bool {
        tokio::select! {
            biased;
            _heard_or_not = time::timeout(PATIENCE, talks) => true,
            () = self.wanted(), if !is_waited_for => false,
        }
    }

    /// Whom to hear now.
    pub(crate) fn take(&self) -> Waiting {
        let mut members = self.members();
        Waiting {
            members: std::mem::take(&mut members.waiting).into_values().collect(),
            everybody: std::mem::take(&mut members.everybody),
        }
    }

    /// A round is over: all that were taken are heard, or can't be.
    pub(crate) fn heard(&self, now: Instant) {
        self.heard.store(self.since_start(now), Ordering::Release);
        let members = self.members();
        if members.waiting.is_empty() && !members.everybody {
            self.closed.store(false, Ordering::Release);
            self.opens.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{node::clock, ring::Role};

    fn member(id: u64) -> Member {
        Member {
            id: Id(id),
            name: format!("member-{id}").into(),
            addr: ([127, 0, 0, 1], 1).into(),
            incarnation: 1,
            weight: 100,
            role: Role::Member,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_until_a_new_member_is_heard_and_not_for_ever() {
        let now = clock::now().instant;
        let gate = Gate::new(Duration::from_secs(1), now);
        gate.pass(now).await;
        assert_eq!(clock::now().instant, now, "an open gate is no wait");
        gate.up(&member(1), now);
        gate.pass(now).await;
        assert_eq!(clock::now().instant - now, PATIENCE);
        assert_eq!(gate.take().members, [member(1)]);
        gate.up(&member(2), now);
        gate.heard(now);
        assert!(
            gate.closed.load(Ordering::Acquire),
            "the second is not heard"
        );
        assert_eq!(gate.take().members, [member(2)]);
        gate.heard(now);
        let before = clock::now().instant;
        gate.pass(now).await;
        assert_eq!(clock::now().instant, before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_slept_hears_everybody_first() {
        let now = clock::now().instant;
        let gate = Gate::new(Duration::from_secs(1), now);
        gate.heard(now);
        let later = now + Duration::from_secs(60);
        gate.pass(later).await;
        assert!(gate.take().everybody);
        gate.heard(later);
        gate.pass(later).await;
        assert!(!gate.take().everybody);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_nobody_waits_for_gives_way_to_one_that_somebody_does() {
        let start = clock::now().instant;
        let gate = Gate::new(Duration::from_secs(1), start);
        let up = async {
            time::sleep(Duration::from_millis(10)).await;
            gate.up(&member(1), start);
        };
        let no_answer = || std::future::pending::<()>();
        let (is_over, ()) = tokio::join!(gate.round(no_answer(), false), up);
        assert!(!is_over);
        assert_eq!(clock::now().instant - start, Duration::from_millis(10));
        gate.up(&member(2), start);
        assert!(gate.round(no_answer(), true).await, "it is waited for");
        assert_eq!(clock::now().instant - start, Duration::from_millis(1010));
        assert!(gate.round(async {}, false).await, "nobody new waits");
    }

    #[test]
    fn a_lost_member_is_remembered_for_a_minute_unless_it_comes_back() {
        let now = clock::now().instant;
        let gate = Gate::new(Duration::from_secs(1), now);
        for id in 1..=3 {
            gate.down(&member(id), id != 3, now);
        }
        gate.up(&member(2), now);
        assert_eq!(gate.lost(now), [member(1)], "the third said goodbye");
        assert!(gate.lost(now + Duration::from_secs(61)).is_empty());
        assert!(gate.changed_within(Duration::from_secs(5), now));
        assert!(!gate.changed_within(Duration::from_secs(5), now + Duration::from_secs(6)));
    }
}
