//! `koorde cloudwatch dashboard` and `koorde cloudwatch alarms`: print, put, delete.

use std::time::Duration;

use clap::{Args, ValueEnum};
use libkoorde::config::ByteSize;
use serde_json::{Value, json};

use crate::{
    cli::{Failure, output},
    settings::environment,
    telemetry::cloudwatch::watch::{
        Subject,
        alarms::Limits,
        bodies,
        dashboard::{body, name},
        stack::{cloudformation, terraform},
    },
};

/// What both commands are told.
#[derive(Debug, Args)]
struct Whose {
    /// The nodes' `cloudwatch.cluster`
    #[arg(long, value_name = "NAME", value_parser = cluster)]
    cluster: String,
    /// The nodes' `cloudwatch.namespace`
    #[arg(long, value_name = "NAME", default_value = "Koorde", value_parser = namespace)]
    namespace: String,
    /// The region; by default the one that AWS's tools use
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// What to print
    #[arg(long, value_enum, default_value = "json")]
    output: Form,
    /// Put it into CloudWatch, and tell what has changed
    #[arg(long, conflicts_with_all = ["delete", "output"])]
    apply: bool,
    /// Delete it from CloudWatch
    #[arg(long, conflicts_with = "output")]
    delete: bool,
    /// With --apply or --delete: write what has changed as JSON
    #[arg(long)]
    json: bool,
    /// With --apply or --delete: the endpoint, if it is not the region's
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The bodies of the API's calls
    Json,
    /// A template of CloudFormation
    Cloudformation,
    /// A module of Terraform, for a file `*.tf.json`
    Terraform,
}

#[derive(Debug, Args)]
#[command(after_help = DASHBOARD_EXAMPLES)]
pub(super) struct DashboardArgs {
    #[command(flatten)]
    whose: Whose,
}

#[derive(Debug, Args)]
#[command(after_help = ALARMS_EXAMPLES)]
pub(super) struct AlarmsArgs {
    #[command(flatten)]
    whose: Whose,
    /// Whom the alarms tell: the ARN of an SNS topic; several times for several [default: nobody]
    #[arg(long, value_name = "ARN", value_parser = arn)]
    sns: Vec<String>,
    /// Seconds that 99 % of the requests may take to their heads
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().latency, value_parser = seconds)]
    latency: f64,
    /// Percent of the requests that should be hits
    #[arg(long, value_name = "PERCENT", default_value_t = Limits::default().hit_ratio, value_parser = percent)]
    hit_ratio: f64,
    /// The memory limit of a node's container
    #[arg(long, value_name = "BYTES", default_value_t = ByteSize(Limits::default().memory))]
    memory: ByteSize,
    /// The nodes' `cloudwatch.flush` in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().flush.as_secs(), value_parser = clap::value_parser!(u64).range(1..=3600))]
    flush: u64,
}

const DASHBOARD_EXAMPLES: &str = "\
Examples:
  koorde cloudwatch dashboard --cluster web/koorde --region eu-west-1 --apply
  koorde cloudwatch dashboard --cluster web/koorde --output terraform > main.tf.json

It needs cloudwatch:GetDashboard, PutDashboard and DeleteDashboards (examples/eks/iam/).";

const ALARMS_EXAMPLES: &str = "\
Examples:
  koorde cloudwatch alarms --cluster web/koorde --sns arn:aws:sns:eu-west-1:111122223333:oncall --apply
  koorde cloudwatch alarms --cluster web/koorde --output cloudformation > alarms.json

Only two of them tell anybody: Page, and Look, which is quiet while Page is loud.
It needs cloudwatch:DescribeAlarms, PutMetricAlarm, PutCompositeAlarm and DeleteAlarms (examples/eks/iam/).";

/// Prints, puts or deletes the dashboard.
pub(super) async fn dashboard(args: &DashboardArgs) -> Result<(), Failure> {
    let whose = &args.whose;
    if whose.apply || whose.delete {
        return put::dashboard(whose).await;
    }
    output::json(&match whose.output {
        Form::Cloudformation => cloudformation::dashboard(&whose.subject("")),
        Form::Terraform => terraform::dashboard(&whose.subject("")),
        Form::Json => {
            let subject = whose.subject(&whose.region()?);
            json!({ "DashboardName": name(&subject), "DashboardBody": body(&subject).to_string() })
        }
    })
}

/// Prints, puts or deletes the alarms.
pub(super) async fn alarms(args: &AlarmsArgs) -> Result<(), Failure> {
    let whose = &args.whose;
    if whose.apply || whose.delete {
        return put::alarms(whose, args).await;
    }
    let subject = whose.subject("");
    let made: Value = match whose.output {
        Form::Cloudformation => cloudformation::alarms(&subject, &args.limits()),
        Form::Terraform => terraform::alarms(&subject, &args.limits()),
        Form::Json => {
            let alarms = bodies::alarms(&subject, &args.limits(), &args.sns);
            serde_json::to_value(alarms).map_err(|e| Failure::Work(e.to_string()))?
        }
    };
    output::json(&made)
}

impl Whose {
    fn subject(&self, region: &str) -> Subject {
        Subject::new(&self.namespace, &self.cluster, region)
    }

    /// A dashboard says where its metrics are. Only the ways that need no file and no call are looked at.
    fn region(&self) -> Result<String, Failure> {
        let region = self.region.clone().or_else(environment::aws_region);
        region.ok_or_else(|| Failure::Usage("--region: give one, or set AWS_REGION".to_owned()))
    }
}

impl AlarmsArgs {
    fn limits(&self) -> Limits {
        Limits {
            latency: self.latency,
            hit_ratio: self.hit_ratio,
            memory: self.memory.0,
            flush: Duration::from_secs(self.flush),
        }
    }
}

#[cfg(feature = "cloudwatch")]
mod put {
    use super::{AlarmsArgs, Failure, Whose, bodies, output};
    use crate::telemetry::cloudwatch::watch::apply::{Change, CloudWatch};

    pub(super) async fn dashboard(whose: &Whose) -> Result<(), Failure> {
        let cloudwatch = find(whose).await?;
        let subject = whose.subject(&cloudwatch.region);
        let change = if whose.delete {
            cloudwatch.delete_dashboard(&subject).await
        } else {
            cloudwatch.put_dashboard(&subject).await
        };
        tell(whose, &[change.map_err(Failure::Work)?])
    }

    pub(super) async fn alarms(whose: &Whose, args: &AlarmsArgs) -> Result<(), Failure> {
        let cloudwatch = find(whose).await?;
        let subject = whose.subject(&cloudwatch.region);
        let alarms = bodies::alarms(&subject, &args.limits(), &args.sns);
        let changes = if whose.delete {
            cloudwatch.delete_alarms(&alarms).await
        } else {
            cloudwatch.put_alarms(&alarms).await
        };
        tell(whose, &changes.map_err(Failure::Work)?)
    }

    async fn find(whose: &Whose) -> Result<CloudWatch, Failure> {
        let found = CloudWatch::find(whose.region.clone(), whose.endpoint.clone()).await;
        found.map_err(Failure::Usage)
    }

    fn tell(whose: &Whose, changes: &[Change]) -> Result<(), Failure> {
        if whose.json {
            return output::json(&changes);
        }
        let mut table = output::table(["OUTCOME", "KIND", "NAME"], &[]);
        for change in changes {
            table.add_row([change.outcome.as_str(), change.kind, &change.name]);
        }
        output::line(output::trimmed(&table))
    }
}

#[cfg(not(feature = "cloudwatch"))]
mod put {
    use super::{AlarmsArgs, Failure, Whose};

    const WHY: &str = "this build has no AWS SDK (cargo feature cloudwatch): \
                       print it with --output, and put it there with another tool";

    pub(super) async fn dashboard(_: &Whose) -> Result<(), Failure> {
        Err(Failure::Usage(WHY.to_owned()))
    }

    pub(super) async fn alarms(_: &Whose, _: &AlarmsArgs) -> Result<(), Failure> {
        Err(Failure::Usage(WHY.to_owned()))
    }
}

/// Names that expressions, rules and templates carry as they are.
fn cluster(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:#-".contains(c);
    if (1..=200).contains(&text.len()) && text.chars().all(plain) && !text.starts_with(':') {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 200 letters, digits and ._/:#-".to_owned())
}

fn namespace(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_/#:".contains(c);
    if (1..=255).contains(&text.len()) && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 255 letters, digits and .-_/#:".to_owned())
}

fn arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, _, _, _, resource] if !resource.is_empty() => Ok(text.to_owned()),
        _ => Err("must be an ARN: arn:aws:sns:eu-west-1:111122223333:oncall".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.001, 3600.0)
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 0.0, 100.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|e| format!("{e}"))?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(format!("must be {least} to {most}"))
}
