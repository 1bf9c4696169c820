//! Alarms as `PutMetricAlarm` and `PutCompositeAlarm` take them; the names are the API's.

use serde::Serialize;

use super::{
    RUNBOOK, Subject,
    alarms::{self, Alarm, Bound, Composite, Limits, Missing, name},
    series::{Look, PERIOD},
};

/// `PutMetricAlarm`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricAlarm {
    /// Its name.
    pub alarm_name: String,
    /// What it means, and where to read on.
    pub alarm_description: String,
    /// Whether it does anything: only alarms of alarms do.
    pub actions_enabled: bool,
    /// What it looks at.
    pub metrics: Vec<Query>,
    /// Periods that are looked at.
    pub evaluation_periods: i32,
    /// Periods that must be wrong.
    pub datapoints_to_alarm: i32,
    /// From where on.
    pub threshold: f64,
    /// In which direction.
    pub comparison_operator: String,
    /// What a period without data says.
    pub treat_missing_data: String,
}

/// `MetricDataQuery`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Query {
    /// Its name in expressions.
    pub id: String,
    /// A metric, or
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_stat: Option<MetricStat>,
    /// an expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Whether it is what the alarm compares.
    pub return_data: bool,
}

/// `MetricStat`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricStat {
    /// The metric.
    pub metric: Metric,
    /// Seconds.
    pub period: i32,
    /// What is looked at.
    pub stat: String,
}

/// `Metric`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metric {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub metric_name: String,
    /// Its dimensions.
    pub dimensions: Vec<Dimension>,
}

/// `Dimension`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Dimension {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// `PutCompositeAlarm`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CompositeAlarm {
    /// Its name.
    pub alarm_name: String,
    /// What it means.
    pub alarm_description: String,
    /// Over which alarms.
    pub alarm_rule: String,
    /// Whether it tells anybody.
    pub actions_enabled: bool,
    /// Whom it tells when it begins.
    pub alarm_actions: Vec<String>,
    /// Whom it tells when it ends.
    #[serde(rename = "OKActions")]
    pub ok_actions: Vec<String>,
    /// The alarm that keeps it quiet, and
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_suppressor: Option<String>,
    /// seconds that it waits for that one, and
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_suppressor_wait_period: Option<i32>,
    /// seconds that it waits after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_suppressor_extension_period: Option<i32>,
}

/// All alarms of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Alarms {
    /// Those of metrics, which must be there first.
    pub metric_alarms: Vec<MetricAlarm>,
    /// Those of alarms.
    pub composite_alarms: Vec<CompositeAlarm>,
}

/// The alarms of a cluster; `tell` are ARNs, of an SNS topic usually.
#[must_use]
pub fn alarms(subject: &Subject, limits: &Limits, tell: &[String]) -> Alarms {
    let of_metrics = alarms::alarms(limits);
    let of_alarms = alarms::composites();
    Alarms {
        metric_alarms: of_metrics.iter().map(|a| metric(subject, a)).collect(),
        composite_alarms: of_alarms
            .iter()
            .map(|a| composite(subject, a, tell))
            .collect(),
    }
}

fn metric(subject: &Subject, alarm: &Alarm) -> MetricAlarm {
    let expression = alarm.of.expression();
    let looks = alarm.of.looks();
    let mut metrics: Vec<Query> = (1..)
        .zip(&looks)
        .map(|(n, l)| query(subject, n, l))
        .collect();
    match expression {
        None => metrics[0].return_data = true,
        Some(expression) => metrics.push(Query {
            id: "e1".to_owned(),
            metric_stat: None,
            expression: Some(expression),
            return_data: true,
        }),
    }
    let (threshold, comparison) = match alarm.is {
        Bound::Above(threshold) => (threshold, "GreaterThanThreshold"),
        Bound::Below(threshold) => (threshold, "LessThanThreshold"),
    };
    let missing = match alarm.missing {
        Missing::Fine => "notBreaching",
        Missing::Wrong => "breaching",
        Missing::Unknown => "ignore",
    };
    let count = |periods: u32| i32::try_from(periods).unwrap_or(i32::MAX);
    MetricAlarm {
        alarm_name: name(subject, alarm.id),
        alarm_description: description(alarm.id, alarm.means),
        actions_enabled: false,
        metrics,
        evaluation_periods: count(alarm.periods.1),
        datapoints_to_alarm: count(alarm.periods.0),
        threshold,
        comparison_operator: comparison.to_owned(),
        treat_missing_data: missing.to_owned(),
    }
}

fn query(subject: &Subject, number: usize, look: &Look) -> Query {
    let cluster = Dimension {
        name: "Cluster".to_owned(),
        value: subject.cluster.clone(),
    };
    let metric = Metric {
        namespace: subject.namespace.clone(),
        metric_name: look.series.name().to_owned(),
        dimensions: vec![cluster],
    };
    Query {
        id: format!("m{number}"),
        metric_stat: Some(MetricStat {
            metric,
            period: i32::try_from(PERIOD.as_secs()).unwrap_or(i32::MAX),
            stat: look.stat.as_str().to_owned(),
        }),
        expression: None,
        return_data: false,
    }
}

fn composite(subject: &Subject, alarm: &Composite, tell: &[String]) -> CompositeAlarm {
    let one = |id: &&str| format!("ALARM(\"{}\")", name(subject, id));
    let all = |ids: &Vec<&str>| match &ids[..] {
        [id] => one(id),
        ids => format!(
            "({})",
            ids.iter().map(one).collect::<Vec<_>>().join(" AND ")
        ),
    };
    let rule: Vec<String> = alarm.any.iter().map(all).collect();
    let suppressor = alarm.quiet_under.map(|id| name(subject, id));
    // A fault sets off its alarms within one evaluation, a minute, of each other.
    let seconds = |seconds| suppressor.as_ref().map(|_| seconds);
    CompositeAlarm {
        alarm_name: name(subject, alarm.id),
        alarm_description: description(alarm.id, alarm.means),
        alarm_rule: rule.join(" OR "),
        actions_enabled: true,
        alarm_actions: tell.to_vec(),
        ok_actions: tell.to_vec(),
        actions_suppressor_wait_period: seconds(120),
        actions_suppressor_extension_period: seconds(600),
        actions_suppressor: suppressor,
    }
}

fn description(id: &str, means: &str) -> String {
    format!("{means} {RUNBOOK}#koorde{}", id.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_are_within_the_apis_limits() {
        let cluster = "n".repeat(200);
        let subject = Subject::new("Koorde", &cluster, "eu-west-1");
        let alarms = alarms(&subject, &Limits::default(), &[]);
        let composites = &alarms.composite_alarms;
        let named = alarms.metric_alarms.iter();
        let named = named.map(|a| (&a.alarm_name, &a.alarm_description));
        let named = named.chain(
            composites
                .iter()
                .map(|a| (&a.alarm_name, &a.alarm_description)),
        );
        for (name, description) in named {
            assert!(name.len() <= 255, "{name}");
            assert!(description.len() <= 1024 && description.contains(RUNBOOK));
        }
        for composite in composites {
            assert!(composite.alarm_rule.len() <= 10_240);
            assert!(composite.alarm_rule.matches("ALARM(").count() <= 100);
        }
    }

    #[test]
    fn an_alarm_reads_as_the_api_has_it() {
        let subject = Subject::new("Koorde", "web/koorde", "eu-west-1");
        let all = alarms(&subject, &Limits::default(), &["arn:topic".to_owned()]);
        let tree = serde_json::to_value(&all).expect("it is JSON");
        let errors = &tree["MetricAlarms"][1];
        let metric = |name: &str, id: &str| {
            serde_json::json!({
                "Id": id,
                "MetricStat": {
                    "Metric": {
                        "Namespace": "Koorde", "MetricName": name,
                        "Dimensions": [{ "Name": "Cluster", "Value": "web/koorde" }],
                    },
                    "Period": 300, "Stat": "Sum",
                },
                "ReturnData": false,
            })
        };
        assert_eq!(errors["AlarmName"], "koorde-web-koorde-ServerErrors");
        assert_eq!(
            errors["Metrics"],
            serde_json::json!([
                metric("ServerErrors", "m1"),
                metric("Requests", "m2"),
                { "Id": "e1", "Expression": "IF(m2 > 100, 100 * m1 / m2)", "ReturnData": true },
            ])
        );
        let page = &tree["CompositeAlarms"][0];
        assert_eq!(page["AlarmActions"], serde_json::json!(["arn:topic"]));
        assert_eq!(page["ActionsSuppressor"], serde_json::Value::Null);
        let rule = page["AlarmRule"].as_str().expect("a rule");
        assert!(
            rule.contains(r#" OR (ALARM("koorde-web-koorde-Slow") AND ALARM("#),
            "{rule}"
        );
        let look = &tree["CompositeAlarms"][1];
        assert_eq!(look["ActionsSuppressor"], page["AlarmName"]);
    }
}
