//! `koorde stats`: the numbers of one node, or of all.

use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::{
    Endpoint, Failure,
    client::Client,
    output::{self, printable},
};

/// Show the numbers of one node or of all: hits, origin requests saved, bytes
///
/// They count from the node's start and, without --cluster, are of this node alone: what it answered to
/// its own clients, and what it keeps. A hit is any answer for which nobody asked the origin, be it from this node's
/// store or from another's.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatsArgs {
    /// The admin listener of the node to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: Endpoint,
    /// Those of all members together, and who did not answer
    #[arg(long)]
    cluster: bool,
    /// Write the numbers as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde stats
  koorde stats --json | jq .cache.hit_rate
  koorde stats --cluster
  koorde stats --cluster --json | jq '.members.silent, .hotspots.urls[:3]'";

/// Asks for the numbers and shows them.
///
/// # Errors
/// No answer, or not a node's.
pub async fn run(args: StatsArgs) -> Result<(), Failure> {
    let scope = if args.cluster { "?scope=cluster" } else { "" };
    let uri = args.admin.at(&format!("/metrics/json{scope}"))?;
    let report = Client::for_reports()?.report(&args.admin, uri).await?;
    if args.json {
        return output::json(&report);
    }
    output::line(lines(&Numbers(&report)).join("\n"))
}

/// The tree of `/metrics/json`. A number that this version of the node does not send is left out
/// rather than shown as zero.
struct Numbers<'a>(&'a Value);

impl Numbers<'_> {
    fn count(&self, path: &str) -> Option<u64> {
        self.0.pointer(path)?.as_u64()
    }

    fn part(&self, path: &str) -> Option<f64> {
        self.0.pointer(path)?.as_f64()
    }

    /// `12 label, 3 label` of those that are sent.
    fn list(&self, items: &[(&str, &str)]) -> Option<String> {
        let known = items.iter().filter_map(|(path, label)| {
            let number = self.count(path)?;
            Some(format!("{} {label}", output::count(number)))
        });
        let known: Vec<String> = known.collect();
        (!known.is_empty()).then(|| known.join(", "))
    }
}

fn lines(numbers: &Numbers<'_>) -> Vec<String> {
    let name = numbers
        .0
        .pointer("/node")
        .and_then(|node| node.as_str().or_else(|| node.get("name")?.as_str()));
    let name = printable(name.unwrap_or("without name"));
    let mut lines = match members(numbers) {
        Some(members) => vec![format!("cluster   {members}, asked by {name}")],
        None => vec![format!("node      {name}")],
    };
    let mut add = |label: &str, text: Option<String>| {
        lines.extend(text.map(|text| format!("{label:<9} {text}")));
    };
    add("hit rate", hit_rate(numbers));
    add(
        "hits",
        numbers.list(&[
            ("/cache/hits_local", "from its own store"),
            ("/cache/hits_remote", "from another node"),
            ("/cache/stale", "stale within policy"),
        ]),
    );
    add(
        "others",
        numbers.list(&[
            ("/cache/misses", "misses"),
            ("/cache/validated", "validated with the origin"),
            ("/cache/revalidated", "validated with the origin"),
            ("/cache/bypass", "passed through"),
            ("/cache/errors", "without an answer"),
        ]),
    );
    add("saved", saved(numbers));
    add("store", store(numbers));
    add(
        "stored",
        numbers.list(&[
            ("/cache/entry_count", "responses"),
            ("/cache/stores", "put in since the start"),
            ("/cache/evictions", "taken out for want of room"),
        ]),
    );
    add(
        "ring",
        numbers.list(&[("/routing/members", "members known")]),
    );
    add("latency", latency(numbers));
    add(
        "copies",
        numbers.list(&[("/hotspots/count", "hot copies of other owners' responses")]),
    );
    let hot_keys = numbers.0.pointer("/hotspots/urls");
    let hot_keys = hot_keys.and_then(Value::as_array).into_iter().flatten();
    for key in hot_keys.take(10) {
        let share = key["share"].as_f64().map(output::percent);
        let row = share.zip(key["url"].as_str());
        add(
            "hot key",
            row.map(|(share, url)| format!("{share:>7}  {}", printable(url))),
        );
    }
    lines
}

/// Of the whole cluster: how many answered, and who did not.
fn members(numbers: &Numbers<'_>) -> Option<String> {
    let (asked, answered) = (
        numbers.count("/members/asked")?,
        numbers.count("/members/answered")?,
    );
    let silent = numbers.0.pointer("/members/silent")?.as_array()?;
    let silent = silent.iter().filter_map(|one| {
        let (name, why) = (one["name"].as_str()?, one["why"].as_str()?);
        Some(format!("{} ({})", printable(name), printable(why)))
    });
    let silent: Vec<String> = silent.collect();
    let mut text = format!(
        "{answered} of {} answered",
        output::counted(asked, "member")
    );
    if !silent.is_empty() {
        text += &format!("; not: {}", silent.join(", "));
    }
    Some(text)
}

fn latency(numbers: &Numbers<'_>) -> Option<String> {
    let time = |path| {
        let seconds = numbers.part(path)?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    let (p50, p99) = (time("/latency/p50_seconds")?, time("/latency/p99_seconds")?);
    let (p50, p99) = (output::millis(p50), output::millis(p99));
    Some(format!(
        "{p50} median, {p99} for 99 % to the head of the response"
    ))
}

fn hit_rate(numbers: &Numbers<'_>) -> Option<String> {
    let rate = numbers.part("/cache/hit_rate")?;
    let (hits, misses) = (
        numbers.count("/cache/hits")?,
        numbers.count("/cache/misses")?,
    );
    let count = |path| numbers.count(path).unwrap_or_default();
    if hits + misses + count("/cache/validated") == 0 {
        let other = count("/cache/bypass") + count("/cache/errors");
        let why = if other > 0 {
            "nothing that could be one was asked"
        } else {
            "nothing was asked"
        };
        return Some(format!("none yet: {why}"));
    }
    let (hits, misses) = (output::counted(hits, "hit"), output::count(misses));
    Some(format!(
        "{} ({hits} to {misses} missed, hits on other nodes counted)",
        output::percent(rate)
    ))
}

/// Every hit is a request that the origin did not get.
fn saved(numbers: &Numbers<'_>) -> Option<String> {
    let saved = output::counted(numbers.count("/cache/hits")?, "origin request");
    let sent = numbers.count("/origin/requests").map(output::count);
    // What this node sent is also for others: it fetches what it owns, whoever asks.
    let sent = sent.map_or_else(String::new, |sent| {
        format!("; {sent} sent, for all nodes, of what it owns")
    });
    Some(format!("{saved}{sent}"))
}

fn store(numbers: &Numbers<'_>) -> Option<String> {
    let (used, capacity) = (
        numbers.count("/cache/size_bytes")?,
        numbers.count("/cache/capacity_bytes")?,
    );
    let part = numbers
        .part("/cache/utilization")
        .unwrap_or_else(|| output::ratio(used, capacity));
    Some(format!(
        "{} of {} ({})",
        output::bytes(used),
        output::bytes(capacity),
        output::percent(part)
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn remote_hits_count_as_saved_origin_requests() {
        let report = json!({
            "node": "koorde-0",
            "cache": {
                "hits": 90, "hits_local": 20, "hits_remote": 70, "misses": 10, "hit_rate": 0.9,
                "size_bytes": 1 << 20, "capacity_bytes": 4 << 20, "utilization": 0.25,
            },
            "origin": { "requests": 12 },
        });
        let text = lines(&Numbers(&report)).join("\n");
        for part in [
            "node      koorde-0",
            "90.0 % (90 hits to 10 missed",
            "20 from its own store, 70 from another node",
            "saved     90 origin requests; 12 sent",
            "1.0 MiB of 4.0 MiB (25.0 %)",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn numbers_that_are_not_sent_are_not_shown_as_zero() {
        assert_eq!(lines(&Numbers(&json!({}))), ["node      without name"]);
    }

    #[test]
    fn a_cluster_says_how_many_answered_and_shows_nothing_that_moves_a_cursor() {
        let silent = json!([{ "name": "koorde-2", "why": "no answer in time" }]);
        let report = json!({
            "node": { "name": "koorde-0" },
            "members": { "asked": 3, "answered": 2, "silent": silent },
            "latency": { "p50_seconds": 0.0002, "p99_seconds": 0.5 },
            "hotspots": { "urls": [{ "url": "http://a/\u{1b}[2J", "share": 0.5 }] },
        });
        let text = lines(&Numbers(&report)).join("\n");
        for part in [
            "2 of 3 members answered; not: koorde-2 (no answer in time), asked by koorde-0",
            "0.20 ms median, 500 ms for 99 %",
            "50.0 %  http://a/\u{fffd}[2J",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn a_hit_rate_of_nothing_says_why() {
        for (field, told) in [
            ("stores", "none yet: nothing was asked"),
            ("bypass", "none yet: nothing that could be one was asked"),
            ("errors", "none yet: nothing that could be one was asked"),
            ("validated", "0.0 % (0 hits to 0 missed"),
        ] {
            let mut report = json!({ "cache": { "hits": 0, "misses": 0, "hit_rate": 0.0 } });
            report["cache"][field] = json!(5);
            let text = lines(&Numbers(&report)).join("\n");
            assert!(text.contains(told), "{field}: {text}");
        }
    }
}
