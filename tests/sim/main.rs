//! The ring in virtual time: each file a topic, each test a sentence.
//!
//! A failing run prints its seed. `SEED=… cargo test -p koorde-tests --test sim <name>` runs a test
//! with that seed alone; `Sim::trace` prints what one node hears and says.

mod churn;
mod crash;
mod edge;
mod join;
mod leave;
mod lookup;
mod partition;
mod pause;
mod replay;
mod schedules;

/// The seeds a test runs with: the one in `SEED`, else 1 to `count`.
#[allow(clippy::disallowed_methods, reason = "a test may read its own seed")]
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => vec![seed],
        None => (1..=count).collect(),
    }
}
