//! What members tell of themselves ↔ protobuf.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use koorde_proto::peer::v1::{self as proto, series::Value};

use super::{VERSION, purge};
use crate::{
    hot_keys::HotKey,
    id::Id,
    metrics::figures::{Bins, Figures, Series, Spread},
    node::cluster::Told,
};

/// Largest message accepted, in bytes; a test says how much of it a busy node needs.
pub(crate) const MAX_STATS: usize = 128 << 10;
/// Members that are asked, at most.
pub(crate) const MAX_ASKED: usize = 1024;
/// Hot keys that a member tells, at most.
pub(crate) const MAX_HOT: usize = 64;
const MAX_SERIES: usize = 1024;
const MAX_WORDS: usize = 8;
/// Bytes of a name, a word, a state.
const MAX_WORD: usize = 256;
/// Bytes of a hot key's URL.
const MAX_URL: usize = 320;

/// Asks a member; `asked` only where others may know more than the asker.
pub(crate) fn stats_request(cluster: &str, asked: &[Id]) -> proto::StatsRequest {
    proto::StatsRequest {
        version: VERSION,
        cluster: cluster.to_owned(),
        asked: asked.iter().map(|id| id.0).collect(),
    }
}

/// The members that are asked, as the asker says.
pub(crate) fn stats_asked(asked: &[u64]) -> Result<Vec<Id>, String> {
    if asked.len() > MAX_ASKED {
        return Err(format!(
            "{} members asked, at most {MAX_ASKED}",
            asked.len()
        ));
    }
    Ok(asked.iter().map(|id| Id(*id)).collect())
}

pub(crate) fn stats_reply(told: &Told, others: &[(Id, Arc<str>, SocketAddr)]) -> proto::StatsReply {
    let figures = &told.figures;
    let counts = figures.counts.iter();
    let counts = counts.map(|(of, count)| series(of, Value::Count(*count)));
    let levels = figures.levels.iter();
    let levels = levels.map(|(of, level)| series(of, Value::Level(level.sum)));
    let bins = figures.distributions.iter();
    let bins = bins.map(|(of, bins)| series(of, Value::Bins(packed(bins))));
    let hot_keys = told.hot_keys.iter().take(MAX_HOT);
    proto::StatsReply {
        life: told.life,
        uptime_ms: u64::try_from(told.uptime.as_millis()).unwrap_or(u64::MAX),
        state: told.state.clone(),
        members: told.members,
        series: counts.chain(levels).chain(bins).take(MAX_SERIES).collect(),
        hot_keys: hot_keys
            .map(|key| proto::HotKey {
                url: key.url.clone(),
                count: key.count,
            })
            .collect(),
        hot_total: told.hot_total,
        others: others.iter().map(purge::other).collect(),
    }
}

fn series(of: &Series, value: Value) -> proto::Series {
    proto::Series {
        metric: of.metric.clone(),
        words: of.words.clone(),
        value: Some(value),
    }
}

fn packed(bins: &Bins) -> proto::Bins {
    let mut before = 0;
    let steps = bins.keys().map(|bin| {
        let step = bin - before;
        before = *bin;
        step
    });
    proto::Bins {
        bins: steps.collect(),
        counts: bins.values().copied().collect(),
    }
}

/// What a member tells, and whom it knows beside those asked.
pub(crate) type ToldAndOthers = (Told, Vec<(Id, Arc<str>, SocketAddr)>);

pub(crate) fn told(reply: proto::StatsReply) -> Result<ToldAndOthers, String> {
    for (what, length, most) in [
        ("series", reply.series.len(), MAX_SERIES),
        ("hot keys", reply.hot_keys.len(), MAX_HOT),
        ("members", reply.others.len(), MAX_ASKED),
        ("bytes of a state", reply.state.len(), MAX_WORD),
    ] {
        if length > most {
            return Err(format!("{length} {what}, at most {most}"));
        }
    }
    let mut figures = Figures::default();
    for one in reply.series {
        take(&mut figures, one)?;
    }
    let hot_keys = reply.hot_keys.into_iter().map(hot_key);
    let others = reply.others.into_iter().map(purge::member);
    let others = others.collect::<Result<_, _>>()?;
    let told = Told {
        life: reply.life,
        uptime: Duration::from_millis(reply.uptime_ms),
        state: reply.state,
        members: reply.members,
        figures,
        hot_keys: hot_keys.collect::<Result<_, _>>()?,
        hot_total: reply.hot_total,
    };
    Ok((told, others))
}

fn hot_key(key: proto::HotKey) -> Result<HotKey, String> {
    if key.url.len() > MAX_URL {
        return Err(format!("URL of {} bytes", key.url.len()));
    }
    Ok(HotKey {
        url: key.url,
        count: key.count,
    })
}

fn take(figures: &mut Figures, one: proto::Series) -> Result<(), String> {
    let mut words = one.words.iter().chain(Some(&one.metric));
    if one.words.len() > MAX_WORDS || words.any(|word| word.len() > MAX_WORD) {
        return Err("a series of too many words, or too long ones".to_owned());
    }
    let series = Series {
        metric: one.metric,
        words: one.words,
    };
    match one.value {
        Some(Value::Count(count)) => {
            figures.counts.insert(series, count);
        }
        Some(Value::Level(level)) => {
            figures.levels.insert(series, Spread::of(level));
        }
        Some(Value::Bins(bins)) => {
            figures.distributions.insert(series, unpacked(&bins)?);
        }
        // A newer peer's kind of value, which this version does not know.
        None => {}
    }
    Ok(())
}

fn unpacked(packed: &proto::Bins) -> Result<Bins, String> {
    let (steps, counts) = (&packed.bins, &packed.counts);
    if steps.len() != counts.len() || steps.len() > Figures::BINS as usize {
        return Err(format!("{} bins, {} counts", steps.len(), counts.len()));
    }
    let mut at = 0_u32;
    let mut bins = Bins::new();
    for (step, count) in steps.iter().zip(counts) {
        at = at.saturating_add(*step);
        if at >= Figures::BINS {
            return Err(format!("bin {at}: must be below {}", Figures::BINS));
        }
        bins.insert(at, *count);
    }
    Ok(bins)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::metrics::{Book, Metrics, Values};

    fn example() -> Told {
        let series = |metric: &str, words: &[&str]| Series {
            metric: metric.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let mut figures = Figures::default();
        figures.counts.insert(series("a", &["x", "y"]), u64::MAX);
        figures.levels.insert(series("b", &[]), Spread::of(-3));
        let bins = Bins::from([(0, 1), (7, 2), (Figures::BINS - 1, 3)]);
        figures.distributions.insert(series("c", &["z"]), bins);
        Told {
            life: 5,
            uptime: Duration::from_millis(1500),
            state: "active".to_owned(),
            members: 3,
            figures,
            hot_keys: vec![HotKey {
                url: "http://a/".to_owned(),
                count: 4,
            }],
            hot_total: 9,
        }
    }

    #[test]
    fn what_a_member_tells_comes_as_it_was_told() {
        let other = (Id(7), "b".into(), ([127, 0, 0, 1], 4000).into());
        let reply = stats_reply(&example(), std::slice::from_ref(&other));
        assert_eq!(told(reply), Ok((example(), vec![other])));
    }

    proptest! {
        #[test]
        fn whatever_a_member_says_is_read_or_refused(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            if let Ok(reply) = proto::StatsReply::decode(&bytes[..])
                && let Ok((one, others)) = told(reply)
            {
                let again = told(stats_reply(&one, &others));
                prop_assert_eq!(again, Ok((one, others)));
            }
        }

        #[test]
        fn bins_come_as_they_went(bins in proptest::collection::btree_map(0..Figures::BINS, 0_u64.., 0..40)) {
            prop_assert_eq!(unpacked(&packed(&bins)), Ok(bins));
        }
    }

    #[test]
    fn a_busy_node_needs_a_third_of_the_room_at_most() {
        let mut book = Book::default();
        let metrics = Metrics::new(&mut book);
        for source in book.sources() {
            if let Values::Counters(counters) = &source.values {
                let n = counters.each().count();
                (0..n).for_each(|at| counters.at(at).inc_by(1 << 40));
            }
        }
        for nanoseconds in (0..37).flat_map(|octave| (0..40_u64).map(move |n| (40 + n) << octave)) {
            let took = Duration::from_nanos(nanoseconds);
            metrics.origin_seconds.at(0).took(took);
        }
        let mut told = example();
        told.figures = Figures::of(book.sources());
        told.hot_keys = (0..MAX_HOT)
            .map(|n| HotKey {
                url: format!("http://shop.example.com/products/a-usual-path/{n}"),
                count: 1 << 20,
            })
            .collect();
        let length = stats_reply(&told, &[]).encoded_len();
        assert!(length <= MAX_STATS / 3, "{length} bytes");
        println!("{length} bytes");
    }

    #[test]
    fn what_would_take_too_much_room_is_refused() {
        let reply = || stats_reply(&example(), &[]);
        type Change = fn(&mut proto::StatsReply);
        let wrong: [(&str, Change); 6] = [
            ("series", |reply| {
                reply.series = vec![reply.series[0].clone(); MAX_SERIES + 1];
            }),
            ("hot keys", |reply| {
                reply.hot_keys = vec![reply.hot_keys[0].clone(); MAX_HOT + 1];
            }),
            ("URL", |reply| {
                reply.hot_keys[0].url = "x".repeat(MAX_URL + 1)
            }),
            ("words", |reply| {
                reply.series[0].words = vec!["w".into(); MAX_WORDS + 1];
            }),
            ("bin", |reply| {
                let bins = proto::Bins {
                    bins: vec![u32::MAX],
                    counts: vec![1],
                };
                reply.series[0].value = Some(Value::Bins(bins));
            }),
            ("counts", |reply| {
                let bins = proto::Bins {
                    bins: vec![1, 2],
                    counts: vec![1],
                };
                reply.series[0].value = Some(Value::Bins(bins));
            }),
        ];
        for (why, change) in wrong {
            let mut reply = reply();
            change(&mut reply);
            let error = told(reply).expect_err(why);
            assert!(error.contains(why), "{why}: {error}");
        }
        assert!(stats_asked(&vec![1; MAX_ASKED + 1]).is_err());
    }
}
