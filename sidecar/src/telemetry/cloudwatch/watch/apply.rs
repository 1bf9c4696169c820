//! Puts dashboard and alarms into CloudWatch, and takes them away again. What is there already as it
//! should be is left alone, so it may be run again and again.

use std::time::Duration;

use aws_sdk_cloudwatch::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{self, ComparisonOperator},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Subject,
    bodies::{Alarms, CompositeAlarm, Dimension, Metric, MetricAlarm, MetricStat, Query},
    dashboard,
};
use crate::telemetry::{
    chain,
    cloudwatch::client::{Way, region},
};

/// Of a connection, and of an answer.
const BOUND: Duration = Duration::from_secs(10);
const TRIES: u32 = 5;

/// What became of one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// `dashboard` or `alarm`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not there.
    Made,
    /// It was there, and different.
    Changed,
    /// It was there as it should be.
    Unchanged,
    /// It is gone.
    Deleted,
    /// It was not there.
    Absent,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::Absent => "absent",
        }
    }

    fn of<T: PartialEq>(there: Option<&T>, wanted: &T) -> Self {
        match there {
            None => Self::Made,
            Some(there) if there == wanted => Self::Unchanged,
            Some(_) => Self::Changed,
        }
    }
}

/// CloudWatch of one region and account.
#[derive(Debug)]
pub struct CloudWatch {
    client: Client,
    /// The region.
    pub region: String,
}

impl CloudWatch {
    /// Finds region and credentials as all AWS SDKs do.
    ///
    /// # Errors
    /// There is no region; in words for a user.
    pub async fn find(region_: Option<String>, endpoint: Option<String>) -> Result<Self, String> {
        let way = Way {
            region: region_,
            endpoint,
            bound: BOUND,
            tries: TRIES,
        };
        let client = way.client().await;
        let Some(region) = region(&client).map(str::to_owned) else {
            return Err("no region was found: give --region".to_owned());
        };
        Ok(Self { client, region })
    }

    /// Puts the dashboard.
    ///
    /// # Errors
    /// A call has failed; in words for a user.
    pub async fn put_dashboard(&self, subject: &Subject) -> Result<Change, String> {
        let (name, body) = (dashboard::name(subject), dashboard::body(subject));
        let there = self.dashboard(&name).await?;
        let outcome = Outcome::of(there.as_ref(), &body);
        if outcome != Outcome::Unchanged {
            let put = self.client.put_dashboard().dashboard_name(&name);
            let put = put.dashboard_body(body.to_string()).send().await;
            let put = put.map_err(|e| failed("PutDashboard", &name, &e))?;
            // It takes a body that it has something against, and says so.
            let against = put.dashboard_validation_messages();
            let against: Vec<&str> = against.iter().filter_map(|m| m.message()).collect();
            if !against.is_empty() {
                return Err(format!("PutDashboard {name}: {}", against.join("; ")));
            }
        }
        let kind = "dashboard";
        Ok(Change {
            kind,
            name,
            outcome,
        })
    }

    /// Takes the dashboard away.
    ///
    /// # Errors
    /// A call has failed; in words for a user.
    pub async fn delete_dashboard(&self, subject: &Subject) -> Result<Change, String> {
        let (kind, name) = ("dashboard", dashboard::name(subject));
        let mut outcome = Outcome::Absent;
        if self.dashboard(&name).await?.is_some() {
            let delete = self.client.delete_dashboards().dashboard_names(&name);
            let deleted = delete.send().await;
            deleted.map_err(|e| failed("DeleteDashboards", &name, &e))?;
            outcome = Outcome::Deleted;
        }
        Ok(Change {
            kind,
            name,
            outcome,
        })
    }

    async fn dashboard(&self, name: &str) -> Result<Option<Value>, String> {
        match self
            .client
            .get_dashboard()
            .dashboard_name(name)
            .send()
            .await
        {
            // What is no JSON is nobody's dashboard: it is different from ours.
            Ok(found) => Ok(found
                .dashboard_body()
                .map(|body| serde_json::from_str(body).unwrap_or_default())),
            Err(error) if is_not_there(&error) => Ok(None),
            Err(error) => Err(failed("GetDashboard", name, &error)),
        }
    }

    /// Puts all alarms: those of metrics first, as the others name them.
    ///
    /// # Errors
    /// A call has failed; in words for a user. What was put before it stays.
    pub async fn put_alarms(&self, alarms: &Alarms) -> Result<Vec<Change>, String> {
        let there = self.alarms(alarms).await?;
        let mut changes = Vec::new();
        for alarm in &alarms.metric_alarms {
            let mut same = there.metric_alarms.iter();
            let same = same.find(|t| t.alarm_name == alarm.alarm_name);
            let outcome = Outcome::of(same, alarm);
            if outcome != Outcome::Unchanged {
                self.put_metric_alarm(alarm).await?;
            }
            changes.push(change(&alarm.alarm_name, outcome));
        }
        for alarm in &alarms.composite_alarms {
            let mut same = there.composite_alarms.iter();
            let same = same.find(|t| t.alarm_name == alarm.alarm_name);
            let outcome = Outcome::of(same, alarm);
            if outcome != Outcome::Unchanged {
                self.put_composite_alarm(alarm).await?;
            }
            changes.push(change(&alarm.alarm_name, outcome));
        }
        Ok(changes)
    }

    /// Takes all alarms away: alarms of alarms first, one a call and the quietened before the one that
    /// quietens it, as the API wants it.
    ///
    /// # Errors
    /// A call has failed; in words for a user.
    pub async fn delete_alarms(&self, alarms: &Alarms) -> Result<Vec<Change>, String> {
        let there = self.alarms(alarms).await?;
        let mut changes = Vec::new();
        let composites = alarms.composite_alarms.iter().rev().map(|a| &a.alarm_name);
        for name in composites {
            let is_there = there.composite_alarms.iter().any(|t| t.alarm_name == *name);
            if is_there {
                self.delete(vec![name.clone()]).await?;
            }
            changes.push(change(name, gone(is_there)));
        }
        let known = |name: &str| there.metric_alarms.iter().any(|t| t.alarm_name == name);
        let names = || alarms.metric_alarms.iter().map(|a| &a.alarm_name);
        let some: Vec<String> = names().filter(|name| known(name)).cloned().collect();
        if !some.is_empty() {
            self.delete(some).await?;
        }
        changes.extend(names().map(|name| change(name, gone(known(name)))));
        Ok(changes)
    }

    async fn delete(&self, names: Vec<String>) -> Result<(), String> {
        let named = names.join(", ");
        let delete = self.client.delete_alarms().set_alarm_names(Some(names));
        let deleted = delete.send().await;
        deleted
            .map(drop)
            .map_err(|e| failed("DeleteAlarms", &named, &e))
    }

    /// Those of the alarms that are there, as they are there.
    async fn alarms(&self, wanted: &Alarms) -> Result<Alarms, String> {
        let names = wanted.metric_alarms.iter().map(|a| a.alarm_name.clone());
        let composites = wanted.composite_alarms.iter();
        let names: Vec<String> = names
            .chain(composites.map(|a| a.alarm_name.clone()))
            .collect();
        let mut there = Alarms {
            metric_alarms: Vec::new(),
            composite_alarms: Vec::new(),
        };
        // The API's bound of one call.
        for names in names.chunks(100) {
            let asked = self.client.describe_alarms().max_records(100);
            let asked = asked
                .set_alarm_names(Some(names.to_vec()))
                .alarm_types(types::AlarmType::MetricAlarm)
                .alarm_types(types::AlarmType::CompositeAlarm);
            let found = asked.send().await;
            let found = found.map_err(|e| failed("DescribeAlarms", &names.join(", "), &e))?;
            there
                .metric_alarms
                .extend(found.metric_alarms().iter().map(metric_alarm));
            there
                .composite_alarms
                .extend(found.composite_alarms().iter().map(composite_alarm));
        }
        Ok(there)
    }

    async fn put_metric_alarm(&self, alarm: &MetricAlarm) -> Result<(), String> {
        let put = self.client.put_metric_alarm();
        let put = put
            .alarm_name(&alarm.alarm_name)
            .alarm_description(&alarm.alarm_description)
            .actions_enabled(alarm.actions_enabled)
            .set_metrics(Some(alarm.metrics.iter().map(sdk_query).collect()))
            .evaluation_periods(alarm.evaluation_periods)
            .datapoints_to_alarm(alarm.datapoints_to_alarm)
            .threshold(alarm.threshold)
            .comparison_operator(ComparisonOperator::from(alarm.comparison_operator.as_str()))
            .treat_missing_data(&alarm.treat_missing_data);
        let sent = put.send().await;
        sent.map(drop)
            .map_err(|e| failed("PutMetricAlarm", &alarm.alarm_name, &e))
    }

    async fn put_composite_alarm(&self, alarm: &CompositeAlarm) -> Result<(), String> {
        let put = self.client.put_composite_alarm();
        let put = put
            .alarm_name(&alarm.alarm_name)
            .alarm_description(&alarm.alarm_description)
            .alarm_rule(&alarm.alarm_rule)
            .actions_enabled(alarm.actions_enabled)
            .set_alarm_actions(Some(alarm.alarm_actions.clone()))
            .set_ok_actions(Some(alarm.ok_actions.clone()))
            .set_actions_suppressor(alarm.actions_suppressor.clone())
            .set_actions_suppressor_wait_period(alarm.actions_suppressor_wait_period)
            .set_actions_suppressor_extension_period(alarm.actions_suppressor_extension_period);
        let sent = put.send().await;
        sent.map(drop)
            .map_err(|e| failed("PutCompositeAlarm", &alarm.alarm_name, &e))
    }
}

fn change(name: &str, outcome: Outcome) -> Change {
    let (kind, name) = ("alarm", name.to_owned());
    Change {
        kind,
        name,
        outcome,
    }
}

const fn gone(was_there: bool) -> Outcome {
    if was_there {
        Outcome::Deleted
    } else {
        Outcome::Absent
    }
}

fn is_not_there<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    let SdkError::ServiceError(answer) = error else {
        return false;
    };
    let code = answer.err().code().unwrap_or_default();
    code.contains("NotFound")
}

fn failed<E, R>(call: &str, name: &str, error: &SdkError<E, R>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug + 'static,
{
    match error.code() {
        Some(code) => format!("{call} {name}: {code}: {}", chain(error)),
        None => format!("{call} {name}: {}", chain(error)),
    }
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

fn metric_alarm(there: &types::MetricAlarm) -> MetricAlarm {
    let comparison = there.comparison_operator();
    MetricAlarm {
        alarm_name: text(there.alarm_name()),
        alarm_description: text(there.alarm_description()),
        actions_enabled: there.actions_enabled().unwrap_or(true),
        metrics: there.metrics().iter().map(our_query).collect(),
        evaluation_periods: there.evaluation_periods().unwrap_or_default(),
        datapoints_to_alarm: there.datapoints_to_alarm().unwrap_or_default(),
        threshold: there.threshold().unwrap_or_default(),
        comparison_operator: text(comparison.map(ComparisonOperator::as_str)),
        treat_missing_data: text(there.treat_missing_data()),
    }
}

fn composite_alarm(there: &types::CompositeAlarm) -> CompositeAlarm {
    CompositeAlarm {
        alarm_name: text(there.alarm_name()),
        alarm_description: text(there.alarm_description()),
        alarm_rule: text(there.alarm_rule()),
        actions_enabled: there.actions_enabled().unwrap_or(true),
        alarm_actions: there.alarm_actions().to_vec(),
        ok_actions: there.ok_actions().to_vec(),
        actions_suppressor: there.actions_suppressor().map(str::to_owned),
        actions_suppressor_wait_period: there.actions_suppressor_wait_period(),
        actions_suppressor_extension_period: there.actions_suppressor_extension_period(),
    }
}

fn our_query(there: &types::MetricDataQuery) -> Query {
    let dimension = |there: &types::Dimension| Dimension {
        name: text(there.name()),
        value: text(there.value()),
    };
    let metric = |there: &types::Metric| Metric {
        namespace: text(there.namespace()),
        metric_name: text(there.metric_name()),
        dimensions: there.dimensions().iter().map(dimension).collect(),
    };
    Query {
        id: text(there.id()),
        metric_stat: there.metric_stat().and_then(|stat| {
            Some(MetricStat {
                metric: metric(stat.metric()?),
                period: stat.period().unwrap_or_default(),
                stat: text(stat.stat()),
            })
        }),
        expression: there.expression().map(str::to_owned),
        // The API's default.
        return_data: there.return_data().unwrap_or(true),
    }
}

fn sdk_query(ours: &Query) -> types::MetricDataQuery {
    let dimension = |ours: &Dimension| {
        let made = types::Dimension::builder().name(&ours.name);
        made.value(&ours.value).build()
    };
    let stat = |ours: &MetricStat| {
        let dimensions = ours.metric.dimensions.iter().map(dimension).collect();
        let metric = types::Metric::builder()
            .namespace(&ours.metric.namespace)
            .metric_name(&ours.metric.metric_name)
            .set_dimensions(Some(dimensions));
        let made = types::MetricStat::builder().metric(metric.build());
        made.period(ours.period).stat(&ours.stat).build()
    };
    types::MetricDataQuery::builder()
        .id(&ours.id)
        .set_metric_stat(ours.metric_stat.as_ref().map(stat))
        .set_expression(ours.expression.clone())
        .return_data(ours.return_data)
        .build()
}
