//! `koorde explain`: where a URL lives, and why its next request is a hit or a miss.

use clap::Args;
use libkoorde::node::report::{Explanation, VariantReport};

use super::{Endpoint, Failure, client, client::Client, output};

/// Explain where a URL lives and why its next request is a hit or a miss
///
/// Shows the key, its home and owner on the ring, the nodes a request passes, and every stored
/// response with its freshness. Nothing is fetched, and nothing changes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExplainArgs {
    /// The URL to explain: absolute, http or https
    #[arg(value_name = "URL", value_parser = client::target)]
    url: String,
    /// The admin listener of the node to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: Endpoint,
    /// Write the explanation as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde explain http://127.0.0.1:9000/page
  koorde explain --json http://127.0.0.1:9000/vary | jq '.variants[].selecting'
  koorde explain --admin http://127.0.0.1:9093 https://example.com/     from koorde-3's view";

/// Asks for the explanation and shows it.
///
/// # Errors
/// No answer, or not a node's.
pub async fn run(args: ExplainArgs) -> Result<(), Failure> {
    let uri = args.admin.about("/debug/explain", &args.url)?;
    let report = Client::for_reports()?.report(&args.admin, uri).await?;
    if args.json {
        return output::json(&report);
    }
    let explanation: Explanation = serde_json::from_value(report).map_err(|error| {
        Failure::Work(format!(
            "{}/debug/explain is not understood: {error}",
            args.admin
        ))
    })?;
    output::line(lines(&explanation).join("\n"))
}

/// The explanation, top down: where, how to get there, what is there, what follows.
fn lines(explanation: &Explanation) -> Vec<String> {
    let (place, _) = explanation
        .key
        .split_at_checked(16)
        .unwrap_or((&explanation.key, ""));
    let mut lines = vec![
        format!("url       {}", explanation.url),
        format!("key       {} (place on the ring: {place})", explanation.key),
        format!(
            "home      {}, the first node at or after that place",
            explanation.home
        ),
        format!("owner     {}", owners(&explanation.owners)),
        format!("route     {}", route(explanation)),
    ];
    for (index, variant) in explanation.variants.iter().enumerate() {
        let label = if index == 0 { "stored" } else { "" };
        lines.push(format!("{label:<9} {}", stored(variant)));
        lines.push(format!("          {}", freshness(variant)));
    }
    if explanation.variants.is_empty() {
        lines.push("stored    nothing".to_owned());
    }
    if explanation.hot_copy {
        lines.push(format!("hot copy  {} holds one", explanation.node));
    }
    if explanation.filling {
        lines.push(
            "fill      under way at the owner: requests now wait for it and share it".to_owned(),
        );
    }
    if explanation.uncacheable {
        lines.push(
            "memory    the last response could not be stored, so requests do not wait for each other"
                .to_owned(),
        );
    }
    lines.push(format!(
        "next      {}: {}",
        next(&explanation.next),
        explanation.because
    ));
    lines
}

fn owners(owners: &[String]) -> String {
    match owners {
        [] => "unknown".to_owned(),
        [owner] => format!("{owner}, no replicas"),
        [owner, replicas @ ..] => format!("{owner}, then {} in its place", replicas.join(", ")),
    }
}

fn route(explanation: &Explanation) -> String {
    match explanation.route.len() {
        0 => "unknown".to_owned(),
        1 => format!("{}: the asked node is the owner", explanation.route[0]),
        n => format!(
            "{} ({})",
            explanation.route.join(" -> "),
            output::counted(n as u64 - 1, "hop")
        ),
    }
}

/// What one stored response is.
fn stored(variant: &VariantReport) -> String {
    let mut text = format!(
        "status {}, {}",
        variant.status,
        output::bytes(variant.length)
    );
    if let Some(etag) = &variant.etag {
        text.push_str(&format!(", ETag {etag}"));
    }
    if let Some(date) = &variant.last_modified {
        text.push_str(&format!(", last modified {date}"));
    }
    if !variant.selecting.is_empty() {
        text.push_str(&format!(
            ", for requests with {}",
            variant.selecting.join("; ")
        ));
    }
    text
}

/// The sum of RFC 9111 §4.2 in words.
fn freshness(variant: &VariantReport) -> String {
    let sum = format!("age {} s of {} s", variant.age, variant.lifetime);
    match variant.ttl {
        ttl if ttl > 0 => format!("{sum}: fresh for {ttl} s more"),
        0 => format!("{sum}: stale from now on"),
        ttl => format!("{sum}: stale for {} s", ttl.unsigned_abs()),
    }
}

fn next(word: &str) -> &str {
    match word {
        "hit" => "hit",
        "" => "unknown",
        "stale" => "stale",
        "bypass" | "method" | "request" => "passed on",
        _ => "miss",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Explanation {
        Explanation {
            url: "http://a.example/".to_owned(),
            key: "00112233445566778899aabbccddeeff".to_owned(),
            node: "koorde-0".to_owned(),
            home: "koorde-4".to_owned(),
            owners: vec!["koorde-2".to_owned(), "koorde-1".to_owned()],
            route: vec!["koorde-0".to_owned(), "koorde-2".to_owned()],
            variants: vec![VariantReport {
                status: 200,
                length: 2048,
                age: 12,
                lifetime: 60,
                ttl: 48,
                ..VariantReport::default()
            }],
            next: "hit".to_owned(),
            because: "a stored response is fresh".to_owned(),
            ..Explanation::default()
        }
    }

    #[test]
    fn a_hit_is_explained_by_its_sum() {
        let text = lines(&page()).join("\n");
        for part in [
            "place on the ring: 0011223344556677)",
            "koorde-2, then koorde-1 in its place",
            "koorde-0 -> koorde-2 (1 hop)",
            "status 200, 2.0 KiB",
            "age 12 s of 60 s: fresh for 48 s more",
            "next      hit: a stored response is fresh",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn a_miss_says_that_nothing_is_stored() {
        let miss = Explanation {
            variants: Vec::new(),
            next: "uri-miss".to_owned(),
            ..page()
        };
        let text = lines(&miss).join("\n");
        assert!(
            text.contains("stored    nothing") && text.contains("next      miss"),
            "{text}"
        );
    }

    #[test]
    fn stale_is_counted_from_when_it_began() {
        let stale = |age, ttl| {
            freshness(&VariantReport {
                age,
                lifetime: 60,
                ttl,
                ..VariantReport::default()
            })
        };
        assert_eq!(stale(65, -5), "age 65 s of 60 s: stale for 5 s");
        assert_eq!(stale(60, 0), "age 60 s of 60 s: stale from now on");
    }

    #[test]
    fn an_empty_explanation_does_not_panic() {
        assert!(!lines(&Explanation::default()).is_empty());
    }
}
