//! `koorde ring`: the ring as one node sees it.

use std::time::Duration;

use clap::Args;
use libkoorde::node::report::{MemberReport, RingReport};

use super::{
    Endpoint, Failure,
    client::Client,
    output::{self, printable},
};

mod watch;

/// Show the ring as one node sees it
///
/// Members are listed clockwise from the asked node. `share` is the part of all keys that a member
/// owns; `state` is self, alive, or suspect (it did not answer and may be declared gone);
/// `incarnation` grows with each restart.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RingArgs {
    /// The admin listener of the node to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: Endpoint,
    /// Go on: a line for each member, then one each time that a member comes, goes, or does not answer
    #[arg(long)]
    watch: bool,
    /// Write the report as JSON; with --watch a line of it each time
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde ring
  koorde ring --admin http://127.0.0.1:9091
  koorde ring --watch
  koorde ring --json | jq -r '.members[].name'
  kubectl port-forward koorde-0 9090 & koorde ring";

/// Asks for the ring and shows it.
///
/// # Errors
/// No answer, or not a node's.
pub async fn run(args: RingArgs) -> Result<(), Failure> {
    if args.watch {
        return watch::run(&args.admin, args.json).await;
    }
    let uri = args.admin.at("/debug/ring")?;
    let report = Client::for_reports()?.report(&args.admin, uri).await?;
    if args.json {
        return output::json(&report);
    }
    let ring: RingReport = serde_json::from_value(report).map_err(|error| {
        Failure::Work(format!(
            "{}/debug/ring is not understood: {error}",
            args.admin
        ))
    })?;
    output::line(headline(&ring))?;
    output::line("")?;
    output::line(members(&ring.members))
}

/// One sentence: who was asked, how it is, how requests travel.
fn headline(ring: &RingReport) -> String {
    let count = output::counted(ring.members.len() as u64, "member");
    let way = if ring.members.len() <= 1 {
        "nobody else is known".to_owned()
    } else if ring.complete {
        "all are known: every request is one hop".to_owned()
    } else {
        let through = printable(&ring.de_bruijn.join(" "));
        format!(
            "not all are known: look-ups go by de Bruijn pointers of degree {}: {through}",
            ring.degree
        )
    };
    let [node, id, state] = [&ring.node, &ring.id, &ring.state].map(|text| printable(text));
    format!("{node} ({id}) is {state}; {count}, {way}")
}

/// The members, a line each.
pub(crate) fn members(members: &[MemberReport]) -> String {
    let head = [
        "member",
        "share",
        "state",
        "round trip",
        "id",
        "address",
        "incarnation",
    ];
    let mut table = output::table(head, &[1, 3, 6]);
    for member in members {
        let round_trip = match member.round_trip_ms {
            Some(ms) => output::millis(Duration::from_secs_f64(ms.max(0.0) / 1000.0)),
            None => "-".to_owned(),
        };
        let state = if member.role == "edge" {
            format!("{} (edge)", member.state)
        } else {
            member.state.clone()
        };
        table.add_row([
            printable(&member.name),
            output::percent(member.share),
            printable(&state),
            round_trip,
            printable(&member.id),
            printable(&member.address),
            member.incarnation.to_string(),
        ]);
    }
    output::trimmed(&table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(names: &[&str]) -> RingReport {
        let member = |(index, name): (usize, &&str)| MemberReport {
            name: (*name).to_owned(),
            id: format!("{index:016x}"),
            address: "127.0.0.1:4000".to_owned(),
            role: "member".to_owned(),
            state: if index == 0 { "self" } else { "alive" }.to_owned(),
            incarnation: 1,
            share: 1.0 / names.len() as f64,
            round_trip_ms: (index > 0).then_some(0.25),
        };
        RingReport {
            node: names[0].to_owned(),
            id: format!("{:016x}", 0),
            state: "active".to_owned(),
            complete: true,
            degree: 16,
            members: names.iter().enumerate().map(member).collect(),
            de_bruijn: Vec::new(),
        }
    }

    #[test]
    fn the_headline_says_how_requests_travel() {
        assert!(
            headline(&ring(&["a", "b"]))
                .contains("2 members, all are known: every request is one hop")
        );
        assert!(headline(&ring(&["a"])).contains("1 member, nobody else is known"));
        let far = RingReport {
            complete: false,
            de_bruijn: vec!["b".to_owned()],
            ..ring(&["a", "b"])
        };
        assert!(headline(&far).contains("de Bruijn pointers of degree 16: b"));
    }

    #[test]
    fn nothing_that_a_peer_calls_itself_moves_the_cursor() {
        let odd = ring(&["a\u{1b}[2J", "b\u{1b}[2J"]);
        for text in [headline(&odd), members(&odd.members)] {
            assert!(
                !text.contains('\u{1b}') && text.contains("\u{fffd}[2J"),
                "{text}"
            );
        }
    }

    #[test]
    fn every_member_has_a_line() {
        let text = members(&ring(&["koorde-0", "koorde-1"]).members);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines[1],
            [
                "koorde-0",
                "50.0",
                "%",
                "self",
                "-",
                "0000000000000000",
                "127.0.0.1:4000",
                "1"
            ]
        );
        assert_eq!(lines[2][3..6], ["alive", "0.25", "ms"]);
    }
}
