//! `koorde serve`: a node as a process.

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgMatches, Command};
use tracing::{error, info};

use crate::{
    app::{App, AppError},
    settings::{Settings, keys, load},
    shutdown::Signals,
    telemetry::Telemetry,
};

/// Run a node: cache, ring and probes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeArgs {
    /// Configuration file, TOML or YAML [default: the one KOORDE_CONFIG names, if any]
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub settings: SettingFlags,
}

/// One flag a setting: `--store.capacity 1GiB`. Generated from the settings themselves.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags {
    /// Dotted key and value, in order of keys.
    pub given: Vec<(String, String)>,
}

/// Runs until SIGTERM or SIGINT, then ends in order. A second signal ends the process at once.
pub async fn run(args: ServeArgs) -> ExitCode {
    let loaded = match load(args.config.as_deref(), &args.settings.given) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("koorde: {error}");
            return ExitCode::from(2);
        }
    };
    match serve(loaded.settings).await {
        Ok(code) => code,
        Err(error) => {
            // The logger may not stand yet, or be set to say nothing.
            eprintln!("koorde: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<ExitCode, AppError> {
    // Before anything else: a pod may be told to go while it is still coming.
    let signals = Signals::listen();
    let telemetry = Telemetry::install(&settings);
    let app = App::start_with(settings, telemetry).await?;
    Ok(end(signals, app.shutdown()).await)
}

/// Shuts a process down once it is told to end, and ends it at once when it is told again.
pub(super) async fn end(
    signals: std::io::Result<Signals>,
    shutdown: impl Future<Output = ()>,
) -> ExitCode {
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "Cannot listen for signals; only killing ends this process.");
            return std::future::pending().await;
        }
    };
    let signal = signals.next().await;
    info!(signal, "Told to end.");
    tokio::select! {
        () = shutdown => ExitCode::SUCCESS,
        second = signals.next() => {
            // `main` waits for nothing after this.
            info!(signal = second, "Told again; ending now.");
            ExitCode::FAILURE
        }
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |key: &'static keys::Key| {
            let value = matches.get_one::<String>(&key.name)?;
            Some((key.name.clone(), value.clone()))
        };
        Ok(Self {
            given: keys::keys().iter().filter_map(value).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.extend(Self::from_arg_matches(matches)?.given);
        Ok(())
    }
}

impl clap::Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command
            .next_help_heading("Settings")
            .args(keys::keys().iter().map(|key| {
                let name: &'static str = &key.name;
                let meaning: &'static str = &key.meaning;
                // Dozens of them: `-h` shows the command, `--help` everything.
                clap::Arg::new(name)
                    .long(name)
                    .value_name("VALUE")
                    .help(meaning)
                    .allow_hyphen_values(true)
                    .hide_short_help(true)
            }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
