//! Goals 11 to 13: who owns what, hot copies, and how long a decision takes.

use std::time::Instant;

use koorde_tests::oracle::Oracle;
use koorde_tests::rules::Rng;
use koorde_tests::sim::address;
use koorde_tests::sim::experiments::{balance, moved_on_join};
use koorde_tests::sim::fixed::Zipf;
use libkoorde::id::{Hasher, KeyId};
use libkoorde::ring::{Change, Input, Member, Message, Ring, RingConfig, RingView, Role};

use crate::{SEEDS, row};

pub(crate) fn shares(_: bool) {
    for (n, crashed) in [(5, 0), (10, 0), (50, 0), (50, 10)] {
        let worst = SEEDS
            .map(|seed| balance(seed, n, 100_000, 128, crashed))
            .fold(0.0, f64::max);
        let mean = SEEDS
            .map(|seed| balance(seed, n, 100_000, 128, crashed))
            .sum::<f64>()
            / 10.0;
        row(
            11,
            &format!("max / mean share, n={n}, {crashed} crashed, 100 k keys"),
            &format!("mean {mean:.3}, worst seed {worst:.3}"),
            "mean ≤ 1.07",
            "1.05 (p99 1.07)",
            mean <= 1.07,
        );
    }
    for n in [10, 50] {
        let mean = SEEDS
            .map(|seed| moved_on_join(seed, n, 100_000, 128))
            .sum::<f64>()
            / 10.0;
        row(
            11,
            &format!("keys moved by a join, n={n}, of the ideal"),
            &format!("mean {mean:.3}"),
            "1.00 ± 0.02",
            "1.00",
            (mean - 1.0).abs() <= 0.02,
        );
    }
}

/// One pod's stores in [`hot_keys`].
struct Pod {
    owned: moka::sync::Cache<u32, ()>,
    hot: moka::sync::Cache<u32, ()>,
    asked: u64,
}

pub(crate) fn hot_keys(_: bool) {
    const REQUESTS: usize = 2_000_000;
    let zipf = Zipf::new(1_000_000, 1.1);
    let run = |hot: u64| {
        let members = members(50);
        let oracle = Oracle::new(members.clone(), &RingConfig::default()).expect("fifty live");
        let owned = 2000 - hot;
        let mut pods: Vec<Pod> = (0..50)
            .map(|_| Pod {
                owned: moka::sync::Cache::new(owned),
                hot: moka::sync::Cache::new(hot),
                asked: 0,
            })
            .collect();
        let index = |id| {
            members
                .iter()
                .position(|member| member.id == id)
                .expect("an owner is a member")
        };
        let mut rng = Rng::new(12);
        let (mut local, mut misses) = (0_u64, 0_u64);
        for turn in 0..2 * REQUESTS {
            let object = zipf.draw(&mut rng) as u32;
            let pod = rng.below(50);
            if turn == REQUESTS {
                (local, misses) = (0, 0);
                pods.iter_mut().for_each(|pod| pod.asked = 0);
            }
            let key = KeyId(
                u128::from(Rng::new(u64::from(object)).next()) << 64
                    | u128::from(Rng::new(!u64::from(object)).next()),
            );
            let owner = index(oracle.owner(key));
            if owner == pod || (hot > 0 && pods[pod].hot.get(&object).is_some()) {
                local += 1;
                if owner != pod {
                    continue;
                }
            }
            pods[owner].asked += u64::from(owner != pod);
            if pods[owner].owned.get(&object).is_none() {
                misses += 1;
                pods[owner].owned.insert(object, ());
            }
            if hot > 0 && owner != pod {
                pods[pod].hot.insert(object, ());
            }
        }
        let busiest = pods.iter().map(|pod| pod.asked).max().unwrap_or(0);
        let share = |part: u64| part as f64 * 100.0 / REQUESTS as f64;
        (share(busiest), share(local), share(misses))
    };
    let (without, _, base) = run(0);
    let (busiest, local, misses) = run(60);
    let measured = format!(
        "busiest {busiest:.2} %, {local:.1} % local, misses {:+.2}",
        misses - base
    );
    let pass = busiest <= 1.5 && local >= 50.0 && misses - base <= 0.2;
    row(
        12,
        "Zipf 1.1, n=50, 3 % hot copies (one seed)",
        &measured,
        "≤ 1.5 %, ≥ 50 %, ≤ +0.2 points",
        "1.44, 50, +0.15",
        pass,
    );
    let best = most_local(&zipf, 50, 60);
    row(
        12,
        "the most that 60 hot copies a pod can do",
        &format!("{best:.1} % local"),
        "",
        "",
        true,
    );
    row(
        12,
        "the same without hot copies",
        &format!("busiest {without:.2} %, misses {base:.2} %"),
        "",
        "13.4, 11.3",
        true,
    );
}

/// Percentage of requests answered locally if each pod held, besides what it owns, the `hot` most
/// popular objects of others: no cache of that many can do better for long.
fn most_local(zipf: &Zipf, pods: usize, hot: usize) -> f64 {
    // Owners are drawn evenly, so a pod owns every n-th object, whatever its rank.
    let own = 1.0 / pods as f64;
    let others = 1.0 - own;
    let copied = zipf.share_of_first((hot as f64 / others) as usize);
    (own + others * copied) * 100.0
}

fn members(n: usize) -> Vec<Member> {
    let hasher = Hasher::new(b"acceptance");
    let member = |index: usize| {
        let name = format!("koorde-{index}");
        Member {
            id: hasher.node_id(&name),
            name: name.into(),
            addr: address(index),
            incarnation: 1,
            weight: 100,
            role: Role::Member,
        }
    };
    (0..n).map(member).collect()
}

#[allow(clippy::disallowed_methods, reason = "this goal is about real time")]
pub(crate) fn speed(_: bool) {
    let mut rng = Rng::new(13);
    for (n, limit, before) in [(10, 150, "39"), (50, 150, "128"), (129, 400, "208")] {
        let all = members(n);
        let view = RingView::ideal(all[0].clone(), all, 128);
        let keys: Vec<KeyId> = (0..1024)
            .map(|_| KeyId(u128::from(rng.next()) << 64 | u128::from(rng.next())))
            .collect();
        let start = Instant::now();
        let mut sum = 0;
        for turn in 0..1_000_000 {
            sum ^= view.owner(keys[turn % 1024]).map_or(0, |owner| owner.id.0);
        }
        let ns = start.elapsed().as_nanos() / 1_000_000;
        row(
            13,
            &format!("owner decision, n={n} (check {:02x})", sum & 0xff),
            &format!("{ns} ns"),
            &format!("≤ {limit} ns"),
            before,
            ns <= limit,
        );
    }
    let config = RingConfig::default();
    let now = Instant::now();
    let all = members(50);
    let mut ring = Ring::new(config, all[0].clone(), 1, now);
    for member in &all[1..] {
        let message = Message::Changes(vec![Change::Alive(member.clone())]);
        ring.handle(
            now,
            Input::Message {
                from: member.addr,
                message,
            },
        );
    }
    while ring.poll().is_some() {}
    let start = Instant::now();
    for nonce in 0..1_000_000 {
        let from = all[1 + nonce as usize % 49].addr;
        ring.handle(
            now,
            Input::Message {
                from,
                message: Message::Ping { nonce },
            },
        );
        while ring.poll().is_some() {}
    }
    let ns = start.elapsed().as_nanos() / 1_000_000;
    row(
        13,
        "ring step (ping answered), n=50",
        &format!("{ns} ns"),
        "≤ 1000 ns",
        "",
        ns <= 1000,
    );
}
