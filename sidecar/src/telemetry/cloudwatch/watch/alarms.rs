//! The alarms: what each looks at, from where on, for how long, and why.
//!
//! Only two of them tell anybody: `Page`, which wakes people, and `Look`, which does not and which is
//! quiet while `Page` is loud. So one fault tells once, whatever it sets off.

use std::time::Duration;

use super::{
    Subject,
    series::{self, Look, PERIOD, Stat},
};

/// What a user may set.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Seconds that 99 % of the requests may take.
    pub latency: f64,
    /// Percent of the requests that should be hits.
    pub hit_ratio: f64,
    /// Bytes of memory that a node may have: its container's limit.
    pub memory: u64,
    /// The nodes' `cloudwatch.flush`: between two calls.
    pub flush: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            latency: 1.0,
            hit_ratio: 10.0,
            memory: 512 << 20,
            flush: Duration::from_secs(300),
        }
    }
}

/// An alarm of metrics.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Its name, after the prefix; the runbook's section is `Koorde` and this.
    pub id: &'static str,
    /// What it means, in a sentence, for whoever reads the alarm.
    pub means: &'static str,
    /// What it looks at.
    pub of: Condition,
    /// From where on it is wrong.
    pub is: Bound,
    /// How many of how many periods must be wrong.
    pub periods: (u32, u32),
    /// What a period without data says.
    pub missing: Missing,
}

/// What an alarm looks at.
#[derive(Clone, Debug)]
pub enum Condition {
    /// A series as it is.
    Of(Look),
    /// 100 × `parts` ÷ `whole`, in periods in which `whole` is more than `floor`: of few, one is many.
    Percent {
        /// What is counted.
        parts: Vec<Look>,
        /// Of what.
        whole: Look,
        /// How many there must be.
        floor: u32,
    },
    /// The mean over a period of the sum over all nodes of a level that is told as level-seconds.
    /// Wrong where nodes look less often than once a period: then some have all, and some nothing.
    Together(Look),
    /// `value`, in periods in which `when` is more than `floor`.
    When {
        /// What is looked at.
        value: Look,
        /// What must be so.
        when: Look,
        /// How much more.
        floor: u32,
    },
}

/// From where on something is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// More than this.
    Above(f64),
    /// Less than this.
    Below(f64),
}

/// What a period without data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is wrong: there was nothing to count, or too little.
    Fine,
    /// Something is wrong: there should always be data.
    Wrong,
    /// Nothing: it stays as it was. `Silent` says that data is missing.
    Unknown,
}

/// An alarm of alarms.
#[derive(Clone, Debug)]
pub struct Composite {
    /// Its name, after the prefix.
    pub id: &'static str,
    /// What it means.
    pub means: &'static str,
    /// It is one if all alarms of any of these are.
    pub any: Vec<Vec<&'static str>>,
    /// The one that keeps it quiet.
    pub quiet_under: Option<&'static str>,
}

/// The alarms of metrics.
#[must_use]
pub fn alarms(limits: &Limits) -> Vec<Alarm> {
    [
        of_requests(limits),
        of_origins(),
        of_the_ring(),
        of_nodes(limits),
    ]
    .concat()
}

fn of_requests(limits: &Limits) -> Vec<Alarm> {
    let requests = series::REQUESTS.look(Stat::Sum);
    let calls = 3 * limits.flush.as_secs();
    let silent = u32::try_from(calls.div_ceil(PERIOD.as_secs())).unwrap_or(u32::MAX);
    let silent = silent.max(3);
    vec![
        Alarm {
            id: "Silent",
            means: "No node has told CloudWatch anything for three calls, 15 minutes or more: no node runs, or none may call it.",
            // Every node tells a sum each minute, be it 0.
            of: Condition::Of(series::REQUESTS.look(Stat::SampleCount)),
            is: Bound::Below(1.0),
            // Three missed calls are no accident.
            periods: (silent, silent),
            missing: Missing::Wrong,
        },
        Alarm {
            id: "ServerErrors",
            means: "More than 1 % of the answers to clients are 5xx, koorde's own or an origin's.",
            of: Condition::Percent {
                parts: vec![series::SERVER_ERRORS.look(Stat::Sum)],
                whole: requests,
                floor: 100,
            },
            is: Bound::Above(1.0),
            // Two of three: one bad deployment of an origin that is taken back wakes nobody.
            periods: (2, 3),
            missing: Missing::Fine,
        },
        Alarm {
            id: "Slow",
            means: "One request in a hundred waits longer for its head than it should.",
            of: Condition::Of(series::REQUEST_DURATION.look(Stat::P99)),
            is: Bound::Above(limits.latency),
            periods: (3, 3),
            // Nobody asked.
            missing: Missing::Fine,
        },
        Alarm {
            id: "FewHits",
            means: "Few requests are hits: origins do the work that this cache is for.",
            of: Condition::Percent {
                parts: vec![
                    series::HITS.look(Stat::Sum),
                    series::STALE_HITS.look(Stat::Sum),
                ],
                whole: requests,
                floor: 100,
            },
            is: Bound::Below(limits.hit_ratio),
            // A new cluster needs time to fill.
            periods: (6, 6),
            missing: Missing::Fine,
        },
        Alarm {
            id: "Shed",
            means: "Requests are refused to protect an origin or the nodes.",
            of: Condition::Of(series::SHED.look(Stat::Sum)),
            is: Bound::Above(0.0),
            periods: (2, 2),
            missing: Missing::Fine,
        },
    ]
}

fn of_origins() -> Vec<Alarm> {
    vec![
        Alarm {
            id: "OriginErrors",
            means: "More than 5 % of the requests to origins fail: no connection, no answer in time, a broken one.",
            of: Condition::Percent {
                parts: vec![series::ORIGIN_ERRORS.look(Stat::Sum)],
                whole: series::ORIGIN_REQUESTS.look(Stat::Sum),
                floor: 20,
            },
            is: Bound::Above(5.0),
            periods: (2, 3),
            missing: Missing::Fine,
        },
        Alarm {
            id: "OriginSlow",
            means: "One origin request in a hundred takes longer than 2.5 seconds to its head.",
            of: Condition::Of(series::ORIGIN_DURATION.look(Stat::P99)),
            // A quarter of the longest bucket: by then waiters pile up.
            is: Bound::Above(2.5),
            periods: (3, 3),
            missing: Missing::Fine,
        },
    ]
}

fn of_the_ring() -> Vec<Alarm> {
    let most_members = series::RING_MEMBERS.look(Stat::Maximum);
    vec![
        Alarm {
            id: "RingThin",
            means: "A node knows fewer than two successors: the next loss may cut it off.",
            of: Condition::When {
                value: series::RING_SUCCESSORS.look(Stat::Minimum),
                // Of two members each has only one.
                when: most_members,
                floor: 2,
            },
            is: Bound::Below(2.0),
            // While nodes start or leave, one is thin for moments.
            periods: (2, 2),
            missing: Missing::Unknown,
        },
        Alarm {
            id: "RingSplit",
            means: "There has been more than one ring for 15 minutes: origins get more than one request.",
            // The arcs of one ring are one circle, whoever comes and goes.
            of: Condition::Together(series::RING_ARC.look(Stat::Sum)),
            is: Bound::Above(1.5),
            periods: (3, 3),
            missing: Missing::Unknown,
        },
        Alarm {
            id: "MembersLost",
            means: "Members have died again and again. Those that end in order are not counted.",
            of: Condition::Of(series::MEMBERS_LOST.look(Stat::Sum)),
            is: Bound::Above(0.0),
            // One lost host is no news.
            periods: (2, 3),
            missing: Missing::Fine,
        },
        Alarm {
            id: "OwnersDisagree",
            means: "Nodes have disagreed for 15 minutes about who owns what.",
            of: Condition::Of(series::OWNER_DISAGREEMENTS.look(Stat::Sum)),
            is: Bound::Above(0.0),
            periods: (3, 3),
            missing: Missing::Fine,
        },
        Alarm {
            id: "PurgesUnreachable",
            means: "A member did not acknowledge a purge: until it is told, it may serve what was purged.",
            of: Condition::Of(series::PURGES_UNREACHABLE.look(Stat::Sum)),
            is: Bound::Above(0.0),
            periods: (1, 1),
            missing: Missing::Fine,
        },
    ]
}

fn of_nodes(limits: &Limits) -> Vec<Alarm> {
    vec![Alarm {
        id: "Memory",
        means: "A node uses more than 90 % of its memory: at 100 % it is killed, and what it stored is lost.",
        of: Condition::Of(series::RESIDENT_MEMORY.look(Stat::Maximum)),
        // A full store is half of the limit, so 90 % is no full store.
        is: Bound::Above(0.9 * limits.memory as f64),
        periods: (3, 3),
        missing: Missing::Unknown,
    }]
}

/// The two alarms that tell somebody.
#[must_use]
pub fn composites() -> Vec<Composite> {
    vec![
        Composite {
            id: "Page",
            means: "Clients get errors, or wait because origins fail or the ring is cut, or nothing is known.",
            any: vec![
                vec!["Silent"],
                vec!["ServerErrors"],
                vec!["Slow", "OriginErrors"],
                vec!["RingThin", "FewHits"],
            ],
            quiet_under: None,
        },
        Composite {
            id: "Look",
            means: "Something wants a look by daylight; what pages is not told again.",
            any: [
                "Slow",
                "FewHits",
                "Shed",
                "OriginErrors",
                "OriginSlow",
                "RingThin",
                "RingSplit",
                "MembersLost",
                "OwnersDisagree",
                "PurgesUnreachable",
                "Memory",
            ]
            .map(|id| vec![id])
            .to_vec(),
            quiet_under: Some("Page"),
        },
    ]
}

/// The name of an alarm.
#[must_use]
pub fn name(subject: &Subject, id: &str) -> String {
    format!("{}-{id}", subject.prefix)
}

impl Condition {
    /// What it looks at, in the order in which its expression names them: `m1`, `m2`, …
    #[must_use]
    pub fn looks(&self) -> Vec<Look> {
        match self {
            Self::Of(look) => vec![*look],
            Self::Percent { parts, whole, .. } => {
                let mut looks = parts.clone();
                looks.push(*whole);
                looks
            }
            Self::Together(sum) => vec![*sum],
            Self::When { value, when, .. } => vec![*value, *when],
        }
    }

    /// The expression over them, if it is more than a series.
    #[must_use]
    pub fn expression(&self) -> Option<String> {
        match self {
            Self::Of(_) => None,
            Self::Percent { parts, floor, .. } => {
                let part = sum(parts.len());
                let whole = format!("m{}", parts.len() + 1);
                Some(format!("IF({whole} > {floor}, 100 * {part} / {whole})"))
            }
            Self::Together(_) => Some(format!("m1 / {}", PERIOD.as_secs())),
            Self::When { floor, .. } => Some(format!("IF(m2 > {floor}, m1)")),
        }
    }
}

fn sum(count: usize) -> String {
    let names: Vec<String> = (1..=count).map(|n| format!("m{n}")).collect();
    match &names[..] {
        [one] => one.clone(),
        several => format!("({})", several.join(" + ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_alarm_looks_at_what_makes_sense_and_names_what_it_looks_at() {
        for alarm in alarms(&Limits::default()) {
            let looks = alarm.of.looks();
            // <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html>
            assert!((1..=10).contains(&looks.len()), "{}", alarm.id);
            for look in &looks {
                assert!(look.makes_sense(), "{}: {look:?}", alarm.id);
            }
            if let Some(expression) = alarm.of.expression() {
                for at in 1..=looks.len() {
                    assert!(expression.contains(&format!("m{at}")), "{expression}");
                }
            } else {
                assert_eq!(looks.len(), 1, "{}", alarm.id);
            }
            let (wrong, of) = alarm.periods;
            assert!(0 < wrong && wrong <= of, "{}", alarm.id);
            // Longer than a day is not evaluated.
            assert!(series::PERIOD * of <= std::time::Duration::from_secs(86_400));
        }
    }

    #[test]
    fn every_alarm_tells_somebody_and_what_pages_is_not_told_twice() {
        let alarms: BTreeSet<_> = alarms(&Limits::default()).iter().map(|a| a.id).collect();
        let named: BTreeSet<_> = composites().iter().flat_map(|c| c.any.concat()).collect();
        assert_eq!(named, alarms);
        let [page, look] = &composites()[..] else {
            panic!("two tell somebody");
        };
        assert_eq!((page.quiet_under, look.quiet_under), (None, Some(page.id)));
    }
}
