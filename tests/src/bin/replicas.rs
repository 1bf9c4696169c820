//! A service of three replicas behind the koorde layer, seen from outside: how often its upstream is
//! asked when all want one cold key, also when the replica that fetches is killed; and what its calls
//! cost while the sidecar is dead. Real processes on loopback.
//!
//! `cargo run --release -p koorde-tests --bin replicas [-- stampede | outage [BEFORE DEAD AFTER [RATE]]]`,
//! in seconds; `app` is one replica (see `replica::app`).

use std::{io::Write, path::Path, process::ExitCode, time::Duration};

use koorde_tests::replica::{
    app,
    outage::{Outage, Phase, Times, outage},
    stampede::stampede,
};

const CALLS: u64 = 100;
const DELAY: Duration = Duration::from_millis(500);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let program = std::env::current_exe().expect("it runs from a file");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["app", ..] => app::run(&arguments[1..]).await,
        [] => {
            stampedes(&program).await;
            outages(&program, Times::default()).await;
            Ok(())
        }
        ["stampede"] => {
            stampedes(&program).await;
            Ok(())
        }
        ["outage", ..] => match times(&words[1..]) {
            Some(times) => {
                outages(&program, times).await;
                Ok(())
            }
            None => Err("outage BEFORE DEAD AFTER RATE".to_owned()),
        },
        _ => Err(format!("no such thing to show: {words:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("replicas: {why}");
            ExitCode::from(2)
        }
    }
}

fn times(words: &[&str]) -> Option<Times> {
    let mut times = Times::default();
    let numbers: Option<Vec<u64>> = words.iter().map(|word| word.parse().ok()).collect();
    match numbers?[..] {
        [] => {}
        [before, dead, after, ref rate @ ..] if rate.len() < 2 => {
            times.before = Duration::from_secs(before);
            times.dead = Duration::from_secs(dead);
            times.after = Duration::from_secs(after);
            times.rate = *rate.first().unwrap_or(&times.rate);
        }
        _ => return None,
    }
    Some(times)
}

fn say(line: &str) {
    // A closed pipe is no reason to panic.
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn stampedes(program: &Path) {
    for (kills, title) in [
        (false, "3 replicas × 100 calls, cold key, origin 500 ms"),
        (true, "the same, the replica that fetches killed meanwhile"),
    ] {
        let came = stampede(program, CALLS, DELAY, kills).await;
        say(&format!(
            "{title}: {} origin request(s), {} answered, {} failed, the slowest after {} ms",
            came.origin_requests, came.answered, came.failed, came.slowest
        ));
    }
}

async fn outages(program: &Path, times: Times) {
    for mode in ["delegate", "look-aside"] {
        let came = outage(program, mode, times).await;
        show(mode, times, &came);
    }
}

fn show(mode: &str, times: Times, came: &Outage) {
    say(&format!(
        "{mode}, {} calls/s, sidecar dead for {:?}: {} of {} calls failed ({} straight to the origin)",
        times.rate, times.dead, came.failed, came.calls, came.floor_failed
    ));
    for Phase {
        name,
        layered,
        floor,
    } in &came.phases
    {
        let ms = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
        say(&format!(
            "  {name:7} p50 {:.2} ms, p99 {:.2} ms; the floor {:.2}, {:.2}; added p50 {:+.2} ms; {} calls, {} failed open",
            ms(layered.p50),
            ms(layered.p99),
            ms(floor.p50),
            ms(floor.p99),
            ms(layered.p50) - ms(floor.p50),
            layered.calls,
            layered.open,
        ));
    }
    match came.found_again {
        Some(after) => say(&format!(
            "  a stored response again {after} ms after its new start"
        )),
        None => say("  no stored response after its new start"),
    }
}
