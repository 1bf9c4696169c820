//! The command line of `koorde`: a file a command, and the few things they share.
//!
//! Every command writes what it was asked for to stdout and everything about it to stderr, takes
//! `--json`, and ends with 0 (done), 1 (could not be done) or 2 (was not understood).

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod bench;
mod cache_status;
pub mod check;
mod client;
mod clock;
pub mod cloudwatch;
pub mod config;
pub mod dev;
mod events;
pub mod explain;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod get;
pub mod inject;
pub mod injector;
mod loopback;
mod manifest;
pub mod metrics;
mod output;
pub mod purge;
pub mod ring;
pub mod serve;
pub mod stats;
pub mod top;

pub use client::Endpoint;
pub use failure::Failure;

/// A cluster-wide HTTP cache: N nodes that fetch the same URL make one origin request.
///
/// Every node keeps a part of the cache and answers for all of it. Ask any node; it answers from its
/// own store, or from the node that owns the URL, which alone asks the origin.
#[derive(Debug, Parser)]
#[command(name = "koorde", version, max_term_width = 100, after_help = FIRST_STEPS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  koorde dev --once                        prove it: two nodes, one origin request
  koorde dev                               five nodes and a demo origin to play with
  koorde get -v http://127.0.0.1:9000/page     fetch through a node, see the way it took
  koorde explain http://127.0.0.1:9000/page    why the next request is a hit or a miss

Exit codes: 0 done, 1 could not be done, 2 the command was not understood.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one node: the container's command
    Serve(serve::ServeArgs),
    /// Run a whole cluster and a demo origin on this machine
    Dev(dev::DevArgs),
    /// Fetch a URL through a node
    Get(get::GetArgs),
    /// Show the ring as one node sees it
    Ring(ring::RingArgs),
    /// Show the numbers of one node or of all: hits, origin requests saved, bytes
    Stats(stats::StatsArgs),
    /// Show the whole cluster in this terminal, once a second
    Top(top::TopArgs),
    /// Explain where a URL lives and why its next request is a hit or a miss
    Explain(explain::ExplainArgs),
    /// Purge a URL, a tag, a prefix, a host or everything on every node
    Purge(purge::PurgeArgs),
    /// Measure: a Zipf workload with latency percentiles and hit rate
    Bench(bench::BenchArgs),
    /// Add the sidecar to Kubernetes objects: files, folders or stdin
    Inject(inject::InjectArgs),
    /// Take the sidecar out of Kubernetes objects again
    Uninject(inject::UninjectArgs),
    /// Run the webhook that adds the sidecar to pods as they are made
    Injector(injector::InjectorArgs),
    /// Check koorde in a Kubernetes cluster, and say how to mend what is wrong
    Check(check::CheckArgs),
    /// Show, check and document the configuration
    Config(config::ConfigArgs),
    /// Show every metric that a node has
    Metrics(metrics::MetricsArgs),
    /// CloudWatch: its bill before it comes, a dashboard, alarms
    #[command(name = "cloudwatch")]
    CloudWatch(cloudwatch::CloudWatchArgs),
}

/// Does what the command line asks for.
///
/// # Errors
/// A [`Failure`], whose message says what was wrong and what to do.
pub async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        // It says itself what is wrong: by then it may log.
        Command::Serve(args) => return Ok(serve::run(args).await),
        Command::Injector(args) => return injector::run(args).await,
        Command::Check(args) => return check::run(args).await,
        Command::Config(args) => config::run(args).await,
        Command::Metrics(args) => metrics::run(&args),
        Command::CloudWatch(args) => cloudwatch::run(args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::Ring(args) => ring::run(args).await,
        Command::Stats(args) => stats::run(args).await,
        Command::Top(args) => top::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Purge(args) => purge::run(args).await,
        Command::Inject(args) => inject::run(args).await,
        Command::Uninject(args) => inject::run_uninject(args).await,
        Command::Bench(args) => bench::run(args).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_that_does_not_exist_is_exit_code_2() {
        let error =
            Cli::try_parse_from(["koorde", "ring", "--nonsense"]).expect_err("no such flag");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn every_command_that_reports_has_json() {
        for command in ["dev", "ring", "stats", "top", "check"] {
            assert!(
                Cli::try_parse_from(["koorde", command, "--json"]).is_ok(),
                "{command}"
            );
        }
        for command in ["get", "explain"] {
            assert!(
                Cli::try_parse_from(["koorde", command, "--json", "http://a.example/"]).is_ok()
            );
        }
    }
}
