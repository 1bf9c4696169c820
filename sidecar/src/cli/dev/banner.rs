//! What `koorde dev` says once it runs: who is there, and what to try.

use std::net::SocketAddr;

use serde_json::json;

use super::cluster::NodeRow;
use crate::cli::{Failure, output};

/// Where everything listens, on one line, for scripts.
pub(super) fn json_line(nodes: &[NodeRow], origin: SocketAddr, ready: bool) -> Result<(), Failure> {
    output::json_line(
        &json!({ "ready": ready, "origin": format!("http://{origin}"), "nodes": nodes }),
    )
}

/// The table of nodes and what can be pasted.
pub(super) fn text(nodes: &[NodeRow], origin: SocketAddr) -> String {
    let mut table = output::table(
        ["node", "requests", "admin", "place on the ring", "share"],
        &[4],
    );
    for node in nodes {
        let share = output::percent(node.share);
        table.add_row([&node.name, &node.url, &node.admin, &node.id, &share]);
    }
    let mut lines = vec![output::trimmed(&table), String::new()];
    lines.push(format!(
        "demo origin  http://{origin}/  (slow on purpose; its first page lists the others)"
    ));
    lines.push(String::new());
    lines.extend(examples(nodes, origin));
    lines.push(String::new());
    lines.push("Ctrl-C: all nodes leave.".to_owned());
    lines.join("\n")
}

/// Lines to paste. Flags that say the default are left away: what one reads is what one types.
fn examples(nodes: &[NodeRow], origin: SocketAddr) -> Vec<String> {
    let [first, ..] = nodes else {
        return Vec::new();
    };
    let last = nodes.last().unwrap_or(first);
    let flag = |name: &str, url: &str, default: &str| {
        if url == default {
            String::new()
        } else {
            format!(" --{name} {url}")
        }
    };
    let node = |row: &NodeRow| flag("node", &row.url, "http://127.0.0.1:8080");
    let admin = flag("admin", &first.admin, "http://127.0.0.1:9090");
    let page = format!("http://{origin}/page");
    let urls: Vec<&str> = nodes.iter().map(|row| row.url.as_str()).collect();
    let flags: Vec<String> = nodes
        .iter()
        .map(|row| format!("--node {}", row.url))
        .collect();
    vec![
        "Fetch through two nodes: one origin request.".to_owned(),
        format!("  koorde get -v{} {page}", node(first)),
        format!("  koorde get -v{} {page}", node(last)),
        format!("  curl http://{origin}/count"),
        "With curl:".to_owned(),
        format!("  curl -i '{}/cache?url={page}'", first.url),
        "Everybody at once, while it is still coming:".to_owned(),
        format!(
            "  for node in {}; do curl -so /dev/null $node/cache?url=http://{origin}/big & done; wait",
            urls.join(" ")
        ),
        "Look inside:".to_owned(),
        format!("  koorde explain{admin} {page}"),
        format!("  koorde ring{admin}"),
        format!("  koorde stats{admin} --cluster"),
        format!("  koorde top{admin}"),
        format!("  {}/ui in a browser", first.admin),
        "Load:".to_owned(),
        format!("  koorde bench --origin-delay 20ms {}", flags.join(" ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(index: u16, port: u16) -> NodeRow {
        NodeRow {
            name: format!("koorde-{index}"),
            url: format!("http://127.0.0.1:{}", port + index),
            admin: format!("http://127.0.0.1:{}", port + 1010 + index),
            peer: SocketAddr::from(([127, 0, 0, 1], 4000 + index)),
            id: format!("{index:016x}"),
            share: 0.5,
        }
    }

    #[test]
    fn the_examples_name_what_is_not_the_default() {
        let origin = SocketAddr::from(([127, 0, 0, 1], 9000));
        let usual = text(&[node(0, 8080), node(1, 8080)], origin);
        assert!(
            usual.contains("koorde get -v http://127.0.0.1:9000/page"),
            "{usual}"
        );
        assert!(
            usual.contains("koorde get -v --node http://127.0.0.1:8081 http://127.0.0.1:9000/page"),
            "{usual}"
        );
        assert!(usual.contains("koorde ring\n"), "{usual}");
        let other = text(&[node(0, 9500)], origin);
        assert!(
            other.contains("koorde ring --admin http://127.0.0.1:10510"),
            "{other}"
        );
    }

    #[test]
    fn no_nodes_are_no_examples() {
        assert!(examples(&[], SocketAddr::from(([127, 0, 0, 1], 9000))).is_empty());
    }
}
