//! What counting costs a request: everything that a hit records, in a loop. Prints the median of many
//! batches, in nanoseconds.
//!
//!     cargo run --release --package koorde-tests --bin recording
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use libkoorde::{
    Metrics,
    metrics::Book,
    outcome::{CacheResult, Outcome, Tier},
};

/// Requests in a batch: few enough that most batches end before another process gets the core.
const ROUNDS: u32 = 1_000;
const BATCHES: usize = 2_001;

fn main() {
    let metrics = Metrics::new(&mut Book::default());
    let hit = Outcome {
        result: CacheResult::Hit,
        tier: Tier::Local,
        collapsed: false,
    };
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let began = Instant::now();
        for n in 0..ROUNDS {
            let took = Duration::from_nanos(u64::from(20_000 + n % 50_000));
            // The node's own.
            black_box(&metrics).answered(black_box(hit));
            metrics.stored_age.took(took);
            // As many and of the same kinds as the doors have: under way and its end, a histogram by
            // place, one by three words (here two and one), a counter by words, bytes.
            metrics.fills_inflight.inc();
            metrics.origin_seconds.took(took);
            metrics.peer_seconds.of(&["fetch", "not_stored"]).took(took);
            metrics.ring_messages.of(&["received"]).inc();
            metrics.origin_errors.of(&["other", "denied"]).inc();
            metrics.evictions.at(1).inc_by(1000);
            metrics.fills_inflight.dec();
        }
        batches.push(began.elapsed() / ROUNDS);
    }
    batches.sort_unstable();
    let median = batches[BATCHES / 2];
    println!("{} ns a request; the bound is 300", median.as_nanos());
    assert!(
        cfg!(debug_assertions) || median <= Duration::from_nanos(300),
        "counting costs too much"
    );
}
