//! `koorde config`: the effective configuration, where each value is from, and what there is.

use std::{collections::BTreeMap, path::PathBuf};

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::{Failure, output, serve::SettingFlags};
use crate::settings::{Effective, Loaded, keys, load, markdown_table};

/// Print the effective configuration with the source of each value.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArgs {
    /// Configuration file, TOML or YAML [default: the one KOORDE_CONFIG names, if any]
    #[arg(long, short, value_name = "FILE", conflicts_with = "check")]
    pub config: Option<PathBuf>,
    /// Print JSON: one member a key, with `value` and `source`
    #[arg(long)]
    pub json: bool,
    /// Only check a file, together with environment and flags; print nothing if all is well
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// Print the table of all settings as Markdown: key, default, what it means
    #[arg(long, conflicts_with_all = ["json", "check"])]
    pub table: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub settings: SettingFlags,
}

/// Prints what was asked for.
///
/// # Errors
/// The configuration is wrong: [`Failure::Usage`].
pub async fn run(args: ConfigArgs) -> Result<(), Failure> {
    if args.table {
        return output::line(markdown_table().trim_end());
    }
    let file = args.check.as_deref().or(args.config.as_deref());
    let loaded = load(file, &args.settings.given);
    let loaded = loaded.map_err(|error| Failure::Usage(error.to_string()))?;
    match (args.check, args.json) {
        (Some(_), _) => Ok(()),
        (None, true) => output::line(as_json(&loaded)),
        (None, false) => output::line(as_table(&loaded)),
    }
}

fn as_json(loaded: &Loaded) -> String {
    let effective = loaded.effective().into_iter();
    let member = |Effective { key, value, source }| {
        (key, json!({ "value": value, "source": source.to_string() }))
    };
    let members: BTreeMap<&str, Value> = effective.map(member).collect();
    serde_json::to_string_pretty(&members).expect("keys are strings")
}

fn as_table(loaded: &Loaded) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["KEY", "VALUE", "SOURCE"]);
    for Effective { key, value, source } in loaded.effective() {
        table.add_row([key.to_owned(), keys::text(&value), source.to_string()]);
    }
    table.trim_fmt()
}
