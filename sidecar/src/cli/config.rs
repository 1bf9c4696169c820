//! `koorde config`: the effective configuration, where each value is from, and what there is.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::serve::SettingFlags;
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

/// Prints what was asked for; 2 if the configuration is wrong.
pub async fn run(args: ConfigArgs) -> ExitCode {
    if args.table {
        print!("{}", markdown_table());
        return ExitCode::SUCCESS;
    }
    let file = args.check.as_deref().or(args.config.as_deref());
    let loaded = match load(file, &args.settings.given) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("koorde: {error}");
            return ExitCode::from(2);
        }
    };
    if args.check.is_none() {
        println!(
            "{}",
            if args.json {
                as_json(&loaded)
            } else {
                as_table(&loaded)
            }
        );
    }
    ExitCode::SUCCESS
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
