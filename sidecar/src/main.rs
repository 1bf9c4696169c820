//! The `koorde` binary: reads the command line, starts the runtime, exits. Nothing else exits.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use koorde_sidecar::cli::{self, Cli, Failure};

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => start(cli).unwrap_or_else(|failure| report(&failure)),
        Err(message) => {
            // Help and version come this way too and are no failure. Whoever closed the stream does
            // not want to read it.
            let _ = message.print();
            u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// Runs the command on a runtime of its own.
fn start(cli: Cli) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(format!("the runtime did not start: {error}")))?;
    let result = runtime.block_on(cli::run(cli));
    // What still runs was left behind on purpose (a second Ctrl-C): waiting for it would undo that.
    runtime.shutdown_background();
    result
}

/// One line says why; the exit code is 1 for work that failed, 2 for a command not understood.
fn report(failure: &Failure) -> ExitCode {
    if let Some(message) = failure.message() {
        let _ = writeln!(io::stderr(), "koorde: {message}");
    }
    ExitCode::from(failure.exit_code())
}
