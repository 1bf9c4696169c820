//! `koorde check`: what is wrong with koorde in a cluster, and the command that mends it.
//!
//! ```text
//! kubectl ── gather ──► Cluster (plain JSON) ── checks (pure) ──► Report ── text or JSON
//! ```
//!
//! The cluster is reached through `kubectl`, by the user's kubeconfig (why so: `kubectl.rs`). Nothing is changed:
//! the one pod that is made is made in a dry run.

mod cluster;
mod dns;
mod finding;
mod gather;
mod install;
mod kubectl;
mod kubernetes;
mod labels;
mod restart;
mod ring;
mod sidecars;
mod trial;
mod trust;
mod webhook;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;

use self::{
    cluster::Cluster,
    finding::{Finding, Level, Report},
    kubectl::Kubectl,
};
use super::{Failure, clock, output};

/// Between two looks with --wait.
const PAUSE: Duration = Duration::from_secs(3);

/// Check koorde in a Kubernetes cluster
///
/// Looks at the cluster, the chart's objects, the injector with its certificate and rights, names, the ring
/// as its nodes see it, and all pods that have or should have a sidecar. Each line that is not ✓ says how to
/// mend it. The cluster is the one that kubectl talks to; nothing in it is changed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Namespace of the release [default: all releases that there are]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Before the chart is installed: whether the cluster can take it
    #[arg(long)]
    pre: bool,
    /// Look again until nothing fails, for as long as this
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = super::injector::duration)]
    wait: Duration,
    /// How to write what was found
    #[arg(
        long,
        short,
        value_enum,
        value_name = "FORM",
        default_value = "text",
        conflicts_with = "json"
    )]
    output: Form,
    /// The same as --output json
    #[arg(long)]
    json: bool,
    /// The kubectl to use
    #[arg(long, value_name = "FILE", default_value = "kubectl")]
    kubectl: PathBuf,
    /// The kubeconfig's context [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig [default: as kubectl finds it]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
}

/// How to write what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people
    Text,
    /// For programs
    Json,
}

const EXAMPLES: &str = "\
Examples:
  koorde check --pre                     before helm install
  koorde check --wait 5m                 after it, in a pipeline
  koorde check -n web --output json | jq -r '.checks[] | select(.level == \"failed\") | .text'

Exit codes: 0 nothing failed (there may be warnings), 1 something did or the cluster could not be asked,
2 the command was not understood.";

/// Looks, once or until nothing fails, and writes the report.
///
/// # Errors
/// The report cannot be written.
pub async fn run(args: CheckArgs) -> Result<ExitCode, Failure> {
    let kubectl = Kubectl::new(
        args.kubectl,
        args.context.as_deref(),
        args.kubeconfig.as_deref(),
    );
    let begun = clock::now();
    let report = loop {
        let report = look(&kubectl, args.namespace.as_deref(), args.pre).await;
        if report.failed == 0 || begun.elapsed() + PAUSE > args.wait {
            break report;
        }
        let failed = output::counted(report.failed as u64, "check");
        output::remark(format!("{failed} failed; looking again"));
        tokio::time::sleep(PAUSE).await;
    };
    if args.json || args.output == Form::Json {
        output::json(&report)?;
    } else {
        output::line(report.text())?;
    }
    Ok(if report.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One look at everything.
async fn look(kubectl: &Kubectl, namespace: Option<&str>, is_before: bool) -> Report {
    let version = match kubectl.get("/version").await {
        Ok(version) => version,
        Err(trouble) => return Report::of(vec![kubernetes::silent(trouble.text())]),
    };
    let mut cluster = Cluster {
        version,
        ..Cluster::default()
    };
    if is_before {
        gather::before(kubectl, &mut cluster, namespace.unwrap_or("default")).await;
        return Report::of(kubernetes::before(&cluster));
    }
    gather::all(kubectl, &mut cluster, namespace).await;
    Report::of(decide(&cluster, namespace, clock::unix()))
}

/// All checks, in the order in which one needs the other.
fn decide(cluster: &Cluster, namespace: Option<&str>, now: i64) -> Vec<Finding> {
    let mut findings = kubernetes::check(cluster);
    let releases: Vec<_> = cluster
        .releases()
        .into_iter()
        .filter(|release| namespace.is_none_or(|namespace| namespace == release.namespace))
        .collect();
    if releases.is_empty() {
        findings.push(install::nothing(namespace));
    }
    for release in &releases {
        findings.extend(install::check(cluster, release));
        findings.extend(dns::check(cluster, release));
        findings.extend(webhook::check(cluster, release));
        findings.extend(trust::check(cluster, release, now));
        findings.extend(ring::check(cluster, release));
    }
    findings.extend(labels::check(cluster));
    findings.extend(sidecars::check(cluster, &releases));
    findings
}
