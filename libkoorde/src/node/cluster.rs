//! The whole cluster as one node finds it: every member is asked at once what it has counted, and
//! who did not answer is named.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};

use super::{Inner, Node, clock, peers::PeerError, wire};
use crate::{
    hot_keys::{HotKey, merge},
    id::Id,
    metrics::{Book, Figures, Source},
    ring::{Member, Phase, RingView},
};

/// How long all members together are waited for.
const ASK: Duration = Duration::from_secs(1);
/// Members asked at once.
const AT_ONCE: usize = 64;

/// What a member tells of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// Another life of the same member counts from 0 again; only equality means anything.
    pub life: u64,
    /// For how long it runs.
    pub uptime: Duration,
    /// Where it is in its life: `alone joining active leaving left`.
    pub state: String,
    /// Members that it knows, itself among them.
    pub members: u64,
    /// What it has counted since its start.
    pub figures: Figures,
    /// The keys that its clients ask for most, lately.
    pub hot_keys: Vec<HotKey>,
    /// The requests that their counts are a part of.
    pub hot_total: u64,
}

/// What a member is, as the asked node finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// It has not met its ring yet, or has none.
    Joining,
    /// It answers.
    Live,
    /// It is in view and did not answer.
    Suspected,
    /// It says that it is leaving.
    Leaving,
    /// It was declared dead a moment ago.
    Dead,
}

impl MemberState {
    /// The word for reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Live => "live",
            Self::Suspected => "suspected",
            Self::Leaving => "leaving",
            Self::Dead => "dead",
        }
    }

    fn of(phase: &str) -> Self {
        match phase {
            "alone" | "joining" => Self::Joining,
            "leaving" | "left" => Self::Leaving,
            _ => Self::Live,
        }
    }
}

/// One member.
#[derive(Clone, Debug)]
pub struct ClusterMember {
    /// Its name.
    pub name: String,
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// Where peers reach it.
    pub address: String,
    /// What it is.
    pub state: MemberState,
    /// Expected share of all keys, 0–1; 0 where the asked node can't tell.
    pub share: f64,
    /// How long the answer took; of the asked node itself none.
    pub round_trip: Option<Duration>,
    /// What it tells, or why it tells nothing.
    pub told: Result<Told, String>,
}

/// All members.
#[derive(Clone, Debug)]
pub struct ClusterStats {
    /// The asked node's name.
    pub node: String,
    /// Every member, by id: those that were asked, and those declared dead a moment ago.
    pub members: Vec<ClusterMember>,
}

impl ClusterStats {
    /// Members that were asked, the asked node among them.
    #[must_use]
    pub fn asked(&self) -> usize {
        let is_there = |member: &&ClusterMember| member.state != MemberState::Dead;
        self.members.iter().filter(is_there).count()
    }

    /// What those tell that answered.
    pub fn told(&self) -> impl Iterator<Item = &Told> {
        self.members.iter().filter_map(|one| one.told.as_ref().ok())
    }

    /// Who was asked and did not answer, and why.
    pub fn silent(&self) -> impl Iterator<Item = (&str, &str)> {
        let asked = self.members.iter();
        let asked = asked.filter(|member| member.state != MemberState::Dead);
        asked.filter_map(|member| Some((&*member.name, &**member.told.as_ref().err()?)))
    }

    /// What all that answered have counted, together.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        self.told().for_each(|told| sum.merge(&told.figures));
        sum
    }

    /// The keys asked for most in the whole cluster, and the requests that they are a part of.
    #[must_use]
    pub fn hot_keys(&self) -> (Vec<HotKey>, u64) {
        let keys = merge(self.told().map(|told| &told.hot_keys[..]));
        let total = self.told().map(|told| told.hot_total);
        (keys, total.fold(0, u64::saturating_add))
    }
}

/// Where a node finds what its process has counted.
pub(crate) struct Counts {
    sources: Vec<Source>,
    refresh: Box<dyn Fn() + Send + Sync>,
}

impl Node {
    /// From now on members are told what this book has counted, after `refresh` has set what is only
    /// looked up when somebody asks. Without it they are told of no counts. Only the first call counts.
    pub fn tell(&self, book: &Book, refresh: impl Fn() + Send + Sync + 'static) {
        let counts = Counts {
            sources: book.sources().to_vec(),
            refresh: Box::new(refresh),
        };
        let _first_or_not = self.inner.counts.set(counts);
    }

    /// Asks every member what it has counted, for a second at most; edges are in nobody's view, so
    /// they are not among them.
    pub async fn cluster(&self) -> ClusterStats {
        self.inner.ask_cluster().await
    }
}

type Others = Vec<(Id, Arc<str>, SocketAddr)>;

impl Inner {
    /// What this node tells of itself.
    pub(crate) fn told(&self) -> Told {
        let figures = self.counts.get().map(|counts| {
            (counts.refresh)();
            Figures::of(&counts.sources)
        });
        let (hot_keys, hot_total) = self.popular.top(wire::MAX_HOT);
        let view = self.view.load();
        Told {
            life: self.life,
            uptime: clock::now().instant.saturating_duration_since(self.started),
            state: view.state().as_str().to_owned(),
            members: view.members().len() as u64,
            figures: figures.unwrap_or_default(),
            hot_keys,
            hot_total,
        }
    }

    /// Members in view that are not among those asked, where the asker asks for them.
    pub(crate) fn known_beside(&self, asked: &[Id]) -> Others {
        let view = self.view.load();
        let all = view.members().iter();
        let others = all.filter(|member| !asked.is_empty() && !asked.contains(&member.id));
        let others = others.take(wire::MAX_ASKED);
        others
            .map(|member| (member.id, Arc::clone(&member.name), member.addr))
            .collect()
    }

    /// Asks those in view, and, in a ring too large to be known whole, whomever these know beside.
    async fn ask_cluster(&self) -> ClusterStats {
        let view = self.view.load_full();
        let deadline = clock::now().instant + ASK;
        let others = view.members().iter().filter(|one| one.id != view.me().id);
        let mut next: BTreeMap<Id, (Arc<str>, SocketAddr)> = others
            .map(|member| (member.id, (Arc::clone(&member.name), member.addr)))
            .collect();
        let mut members = BTreeMap::from([(view.me().id, self.myself(&view))]);
        while !next.is_empty() && members.len() < wire::MAX_ASKED {
            let room = wire::MAX_ASKED - members.len();
            let batch: Vec<_> = std::mem::take(&mut next).into_iter().take(room).collect();
            let asked = members.keys().copied();
            let asked = asked.chain(batch.iter().map(|(id, _)| *id));
            // Where all know all there is nothing to hear of others.
            let asked: Vec<Id> = if view.is_complete() {
                Vec::new()
            } else {
                asked.collect()
            };
            let (asked, view) = (&asked, &view);
            let answers = stream::iter(batch).map(|(id, (name, to))| async move {
                self.ask_member(view, (id, &name, to), asked, deadline)
                    .await
            });
            let mut answers = answers.buffer_unordered(AT_ONCE);
            while let Some((id, member, others)) = answers.next().await {
                members.insert(id, member);
                next.extend(others.into_iter().map(|(id, name, to)| (id, (name, to))));
            }
            next.retain(|id, _| !members.contains_key(id));
        }
        for lost in self.gate.lost(clock::now().instant) {
            members.entry(lost.id).or_insert_with(|| dead(&lost));
        }
        ClusterStats {
            node: view.me().name.to_string(),
            members: members.into_values().collect(),
        }
    }

    fn myself(&self, view: &RingView) -> ClusterMember {
        let (me, told) = (view.me(), self.told());
        // A ring of one that is meant to be one has joined all there is to join.
        let state = match view.state() {
            Phase::Alone if self.config.ring.seeds.is_empty() => MemberState::Live,
            state => MemberState::of(state.as_str()),
        };
        ClusterMember {
            name: me.name.to_string(),
            id: me.id.to_string(),
            address: me.addr.to_string(),
            state,
            share: view.share(me.id),
            round_trip: None,
            told: Ok(told),
        }
    }

    async fn ask_member(
        &self,
        view: &RingView,
        (id, name, to): (Id, &str, SocketAddr),
        asked: &[Id],
        deadline: Instant,
    ) -> (Id, ClusterMember, Others) {
        let started = clock::now().instant;
        let request = wire::stats_request(&self.cluster, asked);
        let answer = self.peers.stats(to, request, deadline).await;
        let took = clock::now().instant - started;
        let (state, told, others) = match answer {
            Ok(Some((told, others))) => (MemberState::of(&told.state), Ok(told), others),
            Ok(None) => {
                let why = "an older version, which can't be asked".to_owned();
                (MemberState::Live, Err(why), Vec::new())
            }
            Err(PeerError::Unreachable(why) | PeerError::Refused(why)) => {
                (MemberState::Suspected, Err(why), Vec::new())
            }
            Err(why) => (MemberState::Suspected, Err(format!("{why:?}")), Vec::new()),
        };
        let member = ClusterMember {
            name: name.to_owned(),
            id: id.to_string(),
            address: to.to_string(),
            state,
            share: view.share(id),
            round_trip: told.is_ok().then_some(took),
            told,
        };
        (id, member, others)
    }
}

fn dead(member: &Member) -> ClusterMember {
    ClusterMember {
        name: member.name.to_string(),
        id: member.id.to_string(),
        address: member.addr.to_string(),
        state: MemberState::Dead,
        share: 0.0,
        round_trip: None,
        told: Err("declared dead".to_owned()),
    }
}
