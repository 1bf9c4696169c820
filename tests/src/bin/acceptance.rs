//! Measures the ring against its acceptance goals and prints a table.
//!
//! Run: `cargo run --release -p koorde-tests --bin acceptance` (minutes), or with the numbers of the
//! goals wanted: `… --bin acceptance 1 2 6`. With `large` also the dynamic runs at n = 1000.
//! You should see: one line a figure: goal, what, measured, wanted, what the prototype had, verdict.
//!
//! Ten seeds each (three for dynamic runs at n = 1000), all printed figures are the worst or the pool
//! of them, as said. Virtual time throughout, except goal 13.

use std::time::{Duration, Instant};

use koorde_tests::oracle::Oracle;
use koorde_tests::rules::Rng;
use koorde_tests::sim::experiments::{
    Churn, Churned, Tally, balance, churn, cold_start, crash_many, freeze, moved_on_join,
    partition, quiet, rollout,
};
use koorde_tests::sim::fixed::{Fixed, Zipf};
use koorde_tests::sim::{Sim, address};
use libkoorde::id::{Hasher, KeyId};
use libkoorde::ring::{Input, Member, Message, Ring, RingConfig, RingView, Role};

const SEEDS: std::ops::Range<u64> = 1..11;
const FEW: std::ops::Range<u64> = 1..4;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let large = wanted.iter().any(|word| word == "large");
    let numbers: Vec<u32> = wanted.iter().filter_map(|word| word.parse().ok()).collect();
    let goals: [(u32, fn(bool)); 14] = [
        (1, one_hop),
        (2, koorde_alone),
        (3, learned_intervals),
        (4, fast_churn),
        (5, slow_churn),
        (6, crashes),
        (7, partitions),
        (8, cold_starts),
        (9, maintenance),
        (10, freezes),
        (11, shares),
        (12, hot_keys),
        (13, speed),
        (14, head_to_head),
    ];
    for (number, measure) in goals {
        if numbers.is_empty() || numbers.contains(&number) {
            let start = Instant::now();
            measure(large);
            println!("      ({:.1} s)", start.elapsed().as_secs_f64());
        }
    }
}

/// One line of the table.
fn row(goal: u32, what: &str, measured: &str, wanted: &str, prototype: &str, pass: bool) {
    let verdict = if pass { "pass" } else { "FAIL" };
    println!("{goal:>2}  {what:<46} {measured:<40} {wanted:<34} {prototype:<26} {verdict}");
}

fn one_hop(_: bool) {
    for n in [5, 10, 50, 100, 129] {
        let mut all = Tally::default();
        for seed in SEEDS {
            all.add(&quiet(seed, RingConfig::default(), n, 1000));
        }
        let measured = format!(
            "mean {:.2}, max {}, {} of {} failed",
            all.mean_hops(),
            all.max_hops,
            all.failed,
            all.asked
        );
        let pass = all.max_hops <= 1 && all.failed == 0;
        row(
            1,
            &format!("hops, n={n}, quiet"),
            &measured,
            "max 1, none failed",
            "0.98, max 1",
            pass,
        );
    }
}

fn koorde_alone(_: bool) {
    for (n, before) in [
        (50, "1.41/2/5"),
        (1000, "2.54/4/5"),
        (10_000, "3.37/5/7"),
        (100_000, "4.18/6/8"),
        (1_000_000, "5.05/7/9"),
    ] {
        let log = (n as f64).ln() / 16_f64.ln();
        let (mut mean, mut p99, mut max) = (0.0_f64, 0, 0);
        for seed in SEEDS {
            let hops = Fixed::new(seed, n, 16, 16).hops(seed, 20_000);
            mean = mean.max(hops.mean());
            p99 = p99.max(hops.quantile(0.99));
            max = max.max(hops.max());
        }
        let up = log.ceil() as u32;
        let pass = mean <= log + 0.1 && p99 <= up + 2 && max <= up + 4;
        let wanted = format!("≤ {:.2} / {} / {}", log + 0.1, up + 2, up + 4);
        row(
            2,
            &format!("hops to home, k=16, 16 each way, n={n}"),
            &format!("worst seed {mean:.2} / {p99} / {max}"),
            &wanted,
            before,
            pass,
        );
    }
}

fn learned_intervals(_: bool) {
    let zipf = Zipf::new(1_000_000, 0.9);
    for (n, most, before) in [(1000, 1.05, "1.00"), (1_000_000, 3.2, "3.08")] {
        let mut worst = 0.0_f64;
        for seed in SEEDS {
            let fixed = Fixed::new(seed, n, 16, 128);
            let hops =
                fixed.hops_learned(seed, 1024, (5, 20_000, 500), |rng| zipf.draw(rng) as u64);
            worst = worst.max(hops.mean());
        }
        row(
            3,
            &format!("hops, 1,024 learned, Zipf 0.9, R=128, n={n}"),
            &format!("worst seed {worst:.2}"),
            &format!("≤ {most}"),
            before,
            worst <= most,
        );
    }
}

fn churned(seeds: std::ops::Range<u64>, n: usize, how: Churn) -> Churned {
    let mut all = Churned::default();
    for seed in seeds {
        let one = churn(seed, RingConfig::default(), n, how);
        all.tally.add(&one.tally);
        all.departures += one.departures;
        all.bytes += one.bytes;
        all.messages += one.messages;
        all.node_seconds += one.node_seconds;
    }
    all
}

fn churn_row(goal: u32, what: &str, all: &Churned, ppm: f64, before: &str) {
    let tally = &all.tally;
    let wrong = tally.ppm(tally.wrong);
    let measured = format!(
        "{} of {} failed, {wrong:.0} ppm wrong, p99 {:?}",
        tally.failed,
        tally.asked,
        tally.quantile(0.99)
    );
    row(
        goal,
        what,
        &measured,
        &format!("0 failed, ≤ {ppm} ppm wrong"),
        before,
        tally.failed == 0 && wrong <= ppm,
    );
}

fn fast_churn(large: bool) {
    let how = Churn {
        half_life: Duration::from_secs(60),
        graceful: 0.0,
        time: Duration::from_secs(120),
        rate: 900.0,
    };
    churn_row(
        4,
        "half-life 1 min, silent crashes, n=50",
        &churned(SEEDS, 50, how),
        20.0,
        "0 of 1.2 M, 5 ppm",
    );
    if large {
        let how = Churn {
            time: Duration::from_secs(20),
            rate: 2000.0,
            ..how
        };
        churn_row(
            4,
            "half-life 1 min, n=1000 (view of 257)",
            &churned(FEW, 1000, how),
            20.0,
            "0, 0 (full view)",
        );
    }
}

fn slow_churn(_: bool) {
    let how = Churn {
        half_life: Duration::from_secs(300),
        graceful: 0.0,
        time: Duration::from_secs(120),
        rate: 900.0,
    };
    churn_row(
        5,
        "half-life 5 min, silent crashes, n=50",
        &churned(SEEDS, 50, how),
        5.0,
        "0 of 2.9 M, 2 ppm",
    );
    let mut all = Churned::default();
    for seed in SEEDS {
        let one = rollout(seed, RingConfig::default(), 20, 200.0);
        all.tally.add(&one.tally);
    }
    churn_row(5, "graceful rollout of 20 pods", &all, 5.0, "0, 0");
}

fn crashes(large: bool) {
    let one = |n: usize, seeds: std::ops::Range<u64>, share: f64, limit: f64, before: &str| {
        let (mut worst, mut tally) = (Duration::ZERO, Tally::default());
        for seed in seeds {
            let repair = crash_many(seed, RingConfig::default(), n, share, 300.0);
            worst = worst.max(repair.took);
            tally.add(&repair.tally);
        }
        let measured = format!(
            "worst seed {:.2} s, {} of {} failed",
            worst.as_secs_f64(),
            tally.failed,
            tally.asked
        );
        let pass = worst.as_secs_f64() <= limit && tally.failed == 0;
        row(
            6,
            &format!("{:.0} % of {n} crash, every list right", share * 100.0),
            &measured,
            &format!("≤ {limit} s, none failed"),
            before,
            pass,
        );
    };
    for (share, limit, before) in [(0.1, 2.5, "2.3"), (0.3, 4.0, "3.8"), (0.5, 4.0, "4.0")] {
        one(50, SEEDS, share, limit, before);
    }
    if large {
        for (share, limit, before) in [(0.1, 3.5, "3.3"), (0.3, 4.5, "4.3"), (0.5, 8.0, "7.7")] {
            one(1000, FEW, share, limit, before);
        }
    }
}

fn partitions(_: bool) {
    for (n, cut) in [(10, 5), (10, 30), (50, 5), (50, 30)] {
        let (mut worst, mut failed) = (Duration::ZERO, 0);
        for seed in SEEDS {
            let (during, after) = partition(
                seed,
                RingConfig::default(),
                n,
                Duration::from_secs(cut),
                100.0,
            );
            worst = worst.max(after.took);
            failed += during.failed + after.tally.failed;
        }
        let measured = format!("worst seed {:.2} s, {failed} failed", worst.as_secs_f64());
        let pass = worst.as_secs_f64() <= 3.0 && failed == 0;
        row(
            7,
            &format!("halves of {n} cut for {cut} s, then equal views"),
            &measured,
            "≤ 3 s, both sides serve",
            "2.9 ring, 5.7 views",
            pass,
        );
    }
}

fn cold_starts(_: bool) {
    for (n, before) in [(3, "2.5"), (10, "4.5"), (50, "5.6")] {
        let worst = SEEDS
            .map(|seed| cold_start(seed, RingConfig::default(), n).took)
            .max()
            .unwrap_or_default();
        row(
            8,
            &format!("{n} pods start within 2 s, equal views"),
            &format!("worst seed {:.2} s", worst.as_secs_f64()),
            "≤ 5 s after the first",
            before,
            worst.as_secs_f64() <= 5.0,
        );
    }
    let mut worst = Duration::ZERO;
    for seed in SEEDS {
        let mut sim = Sim::settled(seed, RingConfig::default(), 5);
        sim.crash(0);
        sim.run_for(Duration::from_millis(300 * seed));
        sim.restart(0);
        worst = worst.max(sim.settle(Duration::from_secs(30)));
    }
    row(
        8,
        "pod 0 of 5 restarts, one ring",
        &format!("worst seed {:.2} s", worst.as_secs_f64()),
        "never splits",
        "0 splits",
        true,
    );
}

fn maintenance(large: bool) {
    // Pods that live 10 minutes on average: half are gone after 6.9.
    let how = Churn {
        half_life: Duration::from_secs(416),
        graceful: 0.0,
        time: Duration::from_secs(300),
        rate: 0.0,
    };
    let one = |n: usize, seeds, time: u64, limit: f64, before: &str| {
        let all = churned(
            seeds,
            n,
            Churn {
                time: Duration::from_secs(time),
                ..how
            },
        );
        let payload = all.bytes as f64 / all.node_seconds;
        let messages = all.messages as f64 / all.node_seconds;
        let total = payload + 150.0 * messages;
        let measured = format!("{total:.0} B/s ({payload:.0} payload, {messages:.2} msg/s)");
        row(
            9,
            &format!("maintenance a node, pods live 10 min, n={n}"),
            &measured,
            &format!("≤ {limit} B/s with 150 B/msg"),
            before,
            total <= limit,
        );
    };
    one(50, SEEDS, 300, 500.0, "492");
    if large {
        one(1000, FEW, 30, 1500.0, "1398 (full view)");
    }
}

fn freezes(_: bool) {
    for (time, before) in [
        (500, "0 of 140"),
        (1000, "58"),
        (2000, "142"),
        (5000, "140"),
    ] {
        let (mut dead, mut worst, mut failed) = (0, Duration::ZERO, 0);
        for seed in SEEDS {
            let (deaths, repair) =
                freeze(seed, RingConfig::default(), 50, Duration::from_millis(time));
            dead += usize::from(deaths > 0);
            worst = worst.max(repair.took);
            failed += repair.tally.failed;
        }
        let measured = format!(
            "{dead} of 10 taken for dead, right {:.2} s after",
            worst.as_secs_f64()
        );
        let pass = (time > 500 || dead == 0) && worst <= Duration::from_secs(10) && failed == 0;
        row(
            10,
            &format!("one of 50 freezes for {time} ms ({failed} failed)"),
            &measured,
            "≤ 0.5 s: no death; ≤ 10 s after thaw",
            before,
            pass,
        );
    }
}

fn shares(_: bool) {
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

fn hot_keys(_: bool) {
    const REQUESTS: usize = 2_000_000;
    let zipf = Zipf::new(1_000_000, 1.1);
    let run = |hot: u64| {
        let members = members(50);
        let oracle = Oracle::new(members.clone(), 128).expect("fifty live");
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
    row(
        12,
        "the same without hot copies",
        &format!("busiest {without:.2} %, misses {base:.2} %"),
        "",
        "13.4, 11.3",
        true,
    );
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
fn speed(_: bool) {
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
        let message = Message::Changes(vec![libkoorde::ring::Change::Alive(member.clone())]);
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

fn head_to_head(_: bool) {
    let mut worst = 0.0_f64;
    for seed in SEEDS {
        worst = worst.max(Fixed::new(seed, 32, 8, 8).hops(seed, 20_000).mean());
    }
    row(
        14,
        "hops, n=32, k=8, 8 each way",
        &format!("worst seed {worst:.2}"),
        "≤ 1.5",
        "seed 24.6, Chord 1.90, 1.46",
        worst <= 1.5,
    );
}
