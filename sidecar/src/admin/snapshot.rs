//! The cluster at one moment, as the page and `koorde top` show it: plain data, and how it comes from
//! two rounds of answers.
//!
//! Members count from their start, each from its own. What happened lately is what each of them has
//! counted since it last answered: one that restarts or is silent for a while makes no jump.

use std::{collections::BTreeMap, time::Duration};

use libkoorde::{
    metrics::{Figures, catalogue::CACHE_REQUESTS},
    node::{
        cluster::{ClusterMember, ClusterStats, MemberState, Told},
        report::Stats,
    },
};
use serde::{Deserialize, Serialize};

use crate::telemetry::catalogue::{REQUEST_SECONDS, RESIDENT};

/// Hot keys that are shown.
const HOT_KEYS: usize = 20;

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The asked node's name.
    pub node: String,
    /// Its version.
    pub version: String,
    /// Members that were asked, the asked node among them.
    pub asked: usize,
    /// Members that answered.
    pub answered: usize,
    /// Whether a purge needs the token.
    pub needs_token: bool,
    /// Every member, those declared dead a moment ago too, clockwise from 0.
    pub members: Vec<Row>,
    /// What happened lately, in the whole cluster.
    pub lately: Lately,
    /// What there is, in the whole cluster.
    pub total: Total,
    /// The keys asked for most lately, most asked first.
    pub hot_keys: Vec<HotRow>,
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its place on the ring: 16 hexadecimal digits.
    pub id: String,
    /// Where peers reach it.
    pub address: String,
    /// `joining`, `live`, `suspected`, `leaving` or `dead`.
    pub state: String,
    /// Why it tells nothing; none if it does.
    pub why: Option<String>,
    /// Its expected share of all keys, 0–1.
    pub share: f64,
    /// How long its answer took, in milliseconds; of the asked node itself none.
    pub round_trip_ms: Option<f64>,
    /// For how long it runs, in seconds.
    pub uptime: Option<u64>,
    /// Members that it knows, itself among them.
    pub members: Option<u64>,
    /// What happened there lately.
    pub lately: Lately,
    /// What there is.
    pub total: Total,
}

/// What happened since the last round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lately {
    /// Requests of clients a second; none before the second round.
    pub requests: Option<f64>,
    /// Requests to origins a second.
    pub origin: Option<f64>,
    /// Requests without an answer a second.
    pub errors: Option<f64>,
    /// Part of answered requests that waited for no origin, 0–1; none if there were none.
    pub hit_ratio: Option<f64>,
    /// Median time to the head of the response, in seconds; none if there was no request.
    pub p50: Option<f64>,
    /// The time that 99 % do not exceed.
    pub p99: Option<f64>,
}

/// What there is, and what was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    /// Requests of clients.
    pub requests: u64,
    /// As [`Lately::hit_ratio`], of all of them.
    pub hit_ratio: Option<f64>,
    /// Requests to origins.
    pub origin: u64,
    /// Stored keys.
    pub stored: u64,
    /// Bytes in the stores.
    pub stored_bytes: u64,
    /// Their bound.
    pub capacity_bytes: u64,
    /// Memory of the processes; none if nobody tells it.
    pub resident_bytes: Option<u64>,
}

/// A hot key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HotRow {
    /// The URL; of its query a digest.
    pub url: String,
    /// Part of all requests lately, 0–1.
    pub share: f64,
    /// At least so many requests lately.
    pub count: u64,
}

/// What members counted when they last answered.
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<String, Last>);

#[derive(Debug)]
struct Last {
    life: u64,
    at: Duration,
    figures: Figures,
}

impl Rounds {
    /// The next snapshot. `now` is since any one moment.
    pub fn next(&mut self, cluster: &ClusterStats, now: Duration) -> Snapshot {
        let mut lately = Sum::default();
        let rows = cluster.members.iter();
        let rows = rows.map(|member| self.row(member, now, &mut lately));
        let members: Vec<Row> = rows.collect();
        // Whoever is not there any more is forgotten; one that is only silent is not.
        self.0
            .retain(|id, _| members.iter().any(|row| row.id == *id));
        let (hot_keys, of) = cluster.hot_keys();
        let hot_keys = hot_keys.into_iter().take(HOT_KEYS).map(|key| HotRow {
            share: key.count as f64 / of.max(1) as f64,
            url: key.url,
            count: key.count,
        });
        Snapshot {
            node: cluster.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            asked: cluster.asked(),
            answered: cluster.told().count(),
            needs_token: false,
            lately: lately.shown(),
            total: total(&cluster.figures()),
            hot_keys: hot_keys.collect(),
            members,
        }
    }

    fn row(&mut self, member: &ClusterMember, now: Duration, all: &mut Sum) -> Row {
        let mut row = Row {
            name: member.name.clone(),
            id: member.id.clone(),
            address: member.address.clone(),
            state: member.state.as_str().to_owned(),
            share: member.share,
            round_trip_ms: member.round_trip.map(|time| time.as_secs_f64() * 1000.0),
            ..Row::default()
        };
        match &member.told {
            Ok(told) => {
                let mut own = Sum::default();
                if let Some((grown, seconds)) = self.grown(&member.id, told, now) {
                    own.add(&grown, seconds);
                    all.add(&grown, seconds);
                }
                row.lately = own.shown();
                row.total = total(&told.figures);
                row.uptime = Some(told.uptime.as_secs());
                row.members = Some(told.members);
            }
            Err(why) => {
                row.why = Some(why.clone());
                if member.state == MemberState::Dead {
                    self.0.remove(&member.id);
                }
            }
        }
        row
    }

    /// What a member has counted since it last answered, and how long that is; none if it never did
    /// in this life.
    fn grown(&mut self, id: &str, told: &Told, now: Duration) -> Option<(Figures, f64)> {
        let last = Last {
            life: told.life,
            at: now,
            figures: told.figures.clone(),
        };
        let before = self.0.insert(id.to_owned(), last)?;
        let seconds = now.saturating_sub(before.at).as_secs_f64();
        (before.life == told.life && seconds > 0.0)
            .then(|| (told.figures.since(&before.figures), seconds))
    }
}

/// What several members have counted, each in its own time.
#[derive(Debug, Default)]
struct Sum {
    figures: Figures,
    rates: Option<[f64; 3]>,
}

impl Sum {
    fn add(&mut self, grown: &Figures, seconds: f64) {
        self.figures.merge(grown);
        let counts = [
            grown.counted(&CACHE_REQUESTS, &[]),
            Stats::of(grown).origin_requests,
            grown.counted(&CACHE_REQUESTS, &["error"]),
        ];
        let rates = self.rates.get_or_insert_default();
        for (rate, count) in rates.iter_mut().zip(counts) {
            *rate += count as f64 / seconds;
        }
    }

    fn shown(&self) -> Lately {
        let rate = |index: usize| self.rates.map(|rates| rates[index]);
        Lately {
            requests: rate(0),
            origin: rate(1),
            errors: rate(2),
            hit_ratio: Stats::of(&self.figures).hit_ratio(),
            p50: self.figures.percentile(&REQUEST_SECONDS, 0.5),
            p99: self.figures.percentile(&REQUEST_SECONDS, 0.99),
        }
    }
}

fn total(figures: &Figures) -> Total {
    let stats = Stats::of(figures);
    let resident = figures.level(&RESIDENT);
    Total {
        requests: figures.counted(&CACHE_REQUESTS, &[]),
        hit_ratio: stats.hit_ratio(),
        origin: stats.origin_requests,
        stored: stats.stored_responses,
        stored_bytes: stats.stored_bytes,
        capacity_bytes: stats.capacity_bytes,
        resident_bytes: resident.and_then(|spread| u64::try_from(spread.sum).ok()),
    }
}

#[cfg(test)]
mod tests {
    use libkoorde::metrics::figures::Series;

    use super::*;

    fn told(life: u64, hits: u64, misses: u64) -> Told {
        let mut figures = Figures::default();
        for (word, count) in [("hit", hits), ("miss", misses)] {
            let series = Series {
                metric: CACHE_REQUESTS.name.to_owned(),
                words: vec![word.to_owned(), "local".to_owned()],
            };
            figures.counts.insert(series, count);
        }
        Told {
            life,
            figures,
            ..Told::default()
        }
    }

    fn member(name: &str, state: MemberState, told: Result<Told, String>) -> ClusterMember {
        ClusterMember {
            name: name.to_owned(),
            id: name.to_owned(),
            address: String::new(),
            state,
            share: 0.5,
            round_trip: None,
            told,
        }
    }

    fn round(rounds: &mut Rounds, second: u64, members: Vec<ClusterMember>) -> Snapshot {
        let node = "a".to_owned();
        rounds.next(&ClusterStats { node, members }, Duration::from_secs(second))
    }

    #[test]
    fn a_member_that_restarts_or_is_silent_makes_no_jump() {
        let live = |name, told| member(name, MemberState::Live, Ok(told));
        let mut rounds = Rounds::default();
        let first = vec![live("a", told(1, 900, 100)), live("b", told(1, 50, 50))];
        let first = round(&mut rounds, 10, first);
        assert_eq!(first.lately.requests, None, "nothing to compare with");
        assert_eq!((first.total.requests, first.asked), (1100, 2));
        let silent = member("b", MemberState::Suspected, Err("no answer".to_owned()));
        let second = vec![live("a", told(1, 908, 102)), silent];
        let second = round(&mut rounds, 11, second);
        assert_eq!(second.lately.requests, Some(10.0));
        assert_eq!(second.lately.hit_ratio, Some(0.8));
        assert_eq!((second.asked, second.answered), (2, 1));
        assert_eq!(second.members[1].why.as_deref(), Some("no answer"));
        // Two seconds of b in one answer, and a begins again.
        let third = vec![live("a", told(2, 3, 0)), live("b", told(1, 54, 50))];
        let third = round(&mut rounds, 12, third);
        assert_eq!(third.lately.requests, Some(2.0));
        assert_eq!(third.members[0].lately.requests, None);
    }

    #[test]
    fn the_dead_are_shown_and_not_counted_as_asked() {
        let mut rounds = Rounds::default();
        let dead = member("b", MemberState::Dead, Err("declared dead".to_owned()));
        let all = vec![member("a", MemberState::Live, Ok(told(1, 1, 1))), dead];
        let snapshot = round(&mut rounds, 1, all);
        assert_eq!((snapshot.asked, snapshot.answered), (1, 1));
        assert_eq!(snapshot.members[1].state, "dead");
        assert!(!rounds.0.contains_key("b"));
    }
}
