//! `koorde dev`: a whole cluster and a demo origin on this machine.

use std::{io, time::Duration};

use clap::Args;
use tracing_subscriber::filter::LevelFilter;

use super::{Failure, output};
use crate::{settings::Settings, shutdown::Signals};

mod banner;
mod cluster;
mod origin;
mod pages;
mod proof;

use cluster::{Cluster, NodeRow};
use origin::Demo;

/// Run a whole cluster and a demo origin on this machine
///
/// Starts real nodes on loopback, each with its own sockets, and a slow demo origin (port 9000) whose
/// pages show what a response can tell a cache. They run until Ctrl-C. A port that is taken is replaced
/// by a free one.
///
/// With --once it fetches one page through two nodes, shows what happened, and ends: with 0 if the
/// origin was asked once, with 1 if not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DevArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Port of the first node; the others follow. 0: free ones
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Admin port of the first node; the others follow. 0: free ones
    #[arg(long, value_name = "PORT", default_value_t = 9090)]
    admin_port: u16,
    /// Time the demo origin takes for an answer
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime_serde::re::humantime::parse_duration)]
    delay: Duration,
    /// Fetch a page through two nodes, show what happened, end
    #[arg(long)]
    once: bool,
    /// Log on stderr: off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log: LevelFilter,
    /// Write one JSON line when ready: where everything listens, or what --once saw
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde dev --once                          prove it and end
  koorde dev                                 five nodes; then, in another terminal:
    koorde get -v http://127.0.0.1:9000/page
    koorde ring
  koorde dev --nodes 20 --port 0 --admin-port 0 --json | jq -r '.nodes[].url'
  koorde dev --log debug                     show each request that reaches the demo origin";

/// Runs until told to stop, or, with `--once`, until the proof is done.
///
/// # Errors
/// Something could not be started, or the proof failed.
pub async fn run(args: DevArgs) -> Result<(), Failure> {
    // A test harness may have set up logging already, which then stays.
    let _ = tracing_subscriber::fmt()
        .with_max_level(args.log)
        .with_writer(io::stderr)
        .try_init();
    let mut signals = Signals::listen()
        .map_err(|error| Failure::Work(format!("signals cannot be received: {error}")))?;
    let demo = Demo::start(args.delay).await?;
    let cluster = Cluster::start(args.nodes, args.port, args.admin_port, demo.address()).await?;
    let result = tokio::select! {
        result = show(&args, &demo, &cluster) => result,
        _ = signals.next() => Ok(()),
    };
    if !args.once {
        output::remark("leaving; once more to stop at once");
    }
    tokio::select! {
        () = cluster.stop() => result,
        _ = signals.next() => Err(Failure::Work("stopped before all nodes had left".to_owned())),
    }
}

/// Waits for the ring, says what there is; then the proof, or for ever.
async fn show(args: &DevArgs, demo: &Demo, cluster: &Cluster) -> Result<(), Failure> {
    let ready = cluster.settled().await;
    let nodes = cluster.rows();
    if !ready && args.once {
        return Err(Failure::Work(
            "the nodes did not find each other in time; --log debug may tell why".to_owned(),
        ));
    }
    if !ready {
        output::remark("not all nodes know each other yet; `koorde ring` shows who does");
    }
    if args.once {
        return proof::prove(demo, &nodes, args.json).await;
    }
    moved(args, &nodes);
    if !args.json
        && let Err(failure) = proof::prove(demo, &nodes, false).await
    {
        // The nodes are there to be looked into all the same.
        output::remark(failure.to_string());
    }
    if args.json {
        banner::json_line(&nodes, demo.address(), ready)?;
    } else {
        output::line(banner::text(&nodes, demo.address()))?;
    }
    std::future::pending().await
}

/// Says where the first node is, if its port was taken.
fn moved(args: &DevArgs, nodes: &[NodeRow]) {
    let Some(first) = nodes.first() else { return };
    for (wanted, url) in [(args.port, &first.url), (args.admin_port, &first.admin)] {
        if wanted != 0 && !url.ends_with(&format!(":{wanted}")) {
            output::remark(format!(
                "port {wanted} is taken; {} is at {url}",
                first.name
            ));
        }
    }
}

/// Nobody balances load to these nodes, and all of them go at once: there is nobody to wait for.
fn leave_quickly(settings: &mut Settings) {
    settings.shutdown.delay = Duration::ZERO;
    settings.shutdown.leave = Duration::from_secs(2);
    settings.shutdown.finish = Duration::from_secs(2);
    settings.shutdown.flush = Duration::from_secs(1);
}
