//! `koorde metrics`: every metric there is, as exporters and documents have it.

use comfy_table::{Table, presets};
use libkoorde::metrics::describe::{Kind, Label, Metric, Words};
use serde_json::{Value, json};

use super::{Failure, output};
use crate::telemetry::catalogue;

/// Show every metric that a node has
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MetricsArgs {
    /// Print JSON: a list of metrics with their labels
    #[arg(long, conflicts_with = "table")]
    pub json: bool,
    /// Print the table of all metrics as Markdown
    #[arg(long)]
    pub table: bool,
}

/// Prints what was asked for.
///
/// # Errors
/// Standard output is closed.
pub fn run(args: &MetricsArgs) -> Result<(), Failure> {
    if args.table {
        return output::line(catalogue::markdown_table().trim_end());
    }
    if args.json {
        return output::json(&catalogue::all().map(as_json).collect::<Value>());
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["METRIC", "KIND", "WHAT IT SAYS"]);
    for metric in catalogue::all() {
        table.add_row([metric.name, metric.kind.as_str(), metric.help]);
    }
    output::line(table.trim_fmt())
}

fn as_json(metric: &Metric) -> Value {
    let told = metric.cloudwatch.iter();
    let told = told.map(|told| json!({ "name": told.name, "statistic": told.statistic.as_str() }));
    json!({
        "name": metric.name,
        "kind": metric.kind.as_str(),
        "unit": metric.unit.as_str(),
        "help": metric.help,
        "labels": metric.labels.iter().map(label).collect::<Value>(),
        "buckets": match metric.kind {
            Kind::Histogram(bounds) => bounds.into(),
            _ => Value::Null,
        },
        "cloudwatch": told.collect::<Value>(),
    })
}

fn label(label: &Label) -> Value {
    let words = match label.words {
        Words::Of(words) => words.into(),
        Words::Upstreams | Words::Fixed => Value::Null,
    };
    json!({ "name": label.name, "words": words })
}
