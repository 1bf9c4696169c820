//! `koorde cloudwatch`: what CloudWatch will cost, and what watches a cluster there.

use clap::{Args, Subcommand};

use super::Failure;

mod cost;
mod watch;

/// CloudWatch: its bill before it comes, a dashboard, alarms
#[derive(Debug, Args)]
pub struct CloudWatchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the bill before it comes: dollars a month, list prices of us-east-1
    Cost(cost::CostArgs),
    /// Print, put or delete the dashboard of a cluster
    Dashboard(watch::DashboardArgs),
    /// Print, put or delete the alarms of a cluster
    Alarms(watch::AlarmsArgs),
}

/// Does what was asked for.
///
/// # Errors
/// Standard output is closed, or CloudWatch has refused a call.
pub async fn run(args: CloudWatchArgs) -> Result<(), Failure> {
    match args.command {
        Command::Cost(args) => cost::run(&args),
        Command::Dashboard(args) => watch::dashboard(&args).await,
        Command::Alarms(args) => watch::alarms(&args).await,
    }
}
