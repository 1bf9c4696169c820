//! `koorde cloudwatch cost`: the bill before it comes.

use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use crate::{
    cli::{Failure, output},
    settings::{CloudWatchSettings, Exporter},
    telemetry::cloudwatch::cost::{Bill, DASHBOARD, Plan, bill, for_alarms, told},
};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CostArgs {
    /// Nodes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pods: u32,
    /// `cloudwatch.interval` in seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    interval: Option<u64>,
    /// `cloudwatch.flush` in seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    flush: Option<u64>,
    /// Write the bills as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  koorde cloudwatch cost --pods 50
  koorde cloudwatch cost --pods 50 --flush 60";

/// Prints the bills.
pub(super) fn run(args: &CostArgs) -> Result<(), Failure> {
    let defaults = CloudWatchSettings::default();
    let seconds = |given: Option<u64>, default| given.map_or(default, Duration::from_secs);
    let bills = [
        (Exporter::Api, false),
        (Exporter::Api, true),
        (Exporter::EmfStdout, false),
        (Exporter::EmfStdout, true),
    ]
    .map(|(exporter, pod_dimension)| {
        let plan = Plan {
            exporter,
            pods: args.pods,
            pod_dimension,
            interval: seconds(args.interval, defaults.interval),
            flush: seconds(args.flush, defaults.flush),
        };
        (plan, bill(&plan, told()))
    });
    if args.json {
        return output::json(&bills.iter().map(as_json).collect::<serde_json::Value>());
    }
    output::line(as_table(&bills))
}

fn as_json((plan, bill): &(Plan, Bill)) -> serde_json::Value {
    json!({
        "exporter": plan.exporter.as_str(),
        "pod_dimension": plan.pod_dimension,
        "pods": plan.pods,
        "interval_seconds": plan.interval.as_secs(),
        "flush_seconds": plan.flush.as_secs(),
        "metrics": bill.metrics,
        "dollars": {
            "metrics": bill.for_metrics,
            "calls": bill.for_calls,
            "logs": bill.for_logs,
            "total": bill.total(),
        },
    })
}

fn as_table(bills: &[(Plan, Bill)]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "EXPORTER",
        "POD DIMENSION",
        "METRICS",
        "FOR METRICS",
        "FOR CALLS",
        "FOR LOGS",
        "A MONTH",
    ]);
    for (plan, bill) in bills {
        let dollars = |amount: f64| format!("${amount:.2}");
        let exporter = match plan.exporter {
            Exporter::EmfStdout => "emf-stdout, emf-agent",
            exporter => exporter.as_str(),
        };
        table.add_row([
            exporter.to_owned(),
            if plan.pod_dimension { "yes" } else { "no" }.to_owned(),
            format!("{}", bill.metrics),
            dollars(bill.for_metrics),
            dollars(bill.for_calls),
            dollars(bill.for_logs),
            dollars(bill.total()),
        ]);
    }
    for column in 2..7 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let Some((plan, _)) = bills.first() else {
        return String::new();
    };
    format!(
        "{}\n\n{} nodes, a look each {} s, a call each {} s; list prices of us-east-1.\n\
         The dashboard is ${:.2} more, the alarms ${:.2} (`koorde cloudwatch dashboard|alarms`).",
        table.trim_fmt(),
        plan.pods,
        plan.interval.as_secs(),
        plan.flush.as_secs(),
        DASHBOARD,
        for_alarms(),
    )
}
