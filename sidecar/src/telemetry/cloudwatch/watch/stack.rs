//! Dashboard and alarms for CloudFormation and Terraform, both in JSON, each with parameters for what
//! is yours: the cluster, the names' prefix, whom to tell.

use serde_json::{Map, Value, json};

use super::{
    Subject,
    alarms::Limits,
    bodies::{self, Alarms, CompositeAlarm, MetricAlarm, Query},
    dashboard,
};

/// What takes the place of a subject's own words.
fn placeholders(subject: &Subject, cluster: &str, prefix: &str, region: &str) -> Subject {
    Subject {
        namespace: subject.namespace.clone(),
        cluster: cluster.to_owned(),
        prefix: prefix.to_owned(),
        region: region.to_owned(),
    }
}

/// Clusters that fit into texts as they are.
const CLUSTERS: &str = "^[A-Za-z0-9._/:#-]{1,200}$";
const PREFIXES: &str = "^koorde-[A-Za-z0-9_-]{1,200}$";

/// A template of CloudFormation.
pub mod cloudformation {
    use super::*;

    fn of(subject: &Subject) -> Subject {
        placeholders(subject, "${Cluster}", "${Name}", "${AWS::Region}")
    }

    /// The dashboard's.
    #[must_use]
    pub fn dashboard(subject: &Subject) -> Value {
        let body = dashboard::body(&of(subject)).to_string();
        let properties = json!({ "DashboardName": "${Name}", "DashboardBody": body });
        let resource = json!({ "Type": "AWS::CloudWatch::Dashboard", "Properties": properties });
        template(
            "Dashboard of a koorde cluster",
            parameters(subject),
            json!({}),
            json!({ "Dashboard": resource }),
        )
    }

    /// The alarms'.
    #[must_use]
    pub fn alarms(subject: &Subject, limits: &Limits) -> Value {
        let Alarms {
            metric_alarms,
            composite_alarms,
        } = bodies::alarms(&of(subject), limits, &[]);
        let mut resources = Map::new();
        for alarm in &metric_alarms {
            resources.insert(id(&alarm.alarm_name), resource("Alarm", json!(alarm), &[]));
        }
        let mut before: Vec<String> = resources.keys().cloned().collect();
        for alarm in &composite_alarms {
            let mut properties = json!(alarm);
            let tell =
                json!({ "Fn::If": ["Tells", [{ "Ref": "Topic" }], { "Ref": "AWS::NoValue" }] });
            properties["AlarmActions"] = tell.clone();
            properties["OKActions"] = tell;
            let made = resource("CompositeAlarm", properties, &before);
            before.push(id(&alarm.alarm_name));
            resources.insert(id(&alarm.alarm_name), made);
        }
        let mut parameters = parameters(subject);
        parameters["Topic"] = json!({
            "Type": "String", "Default": "",
            "Description": "ARN of the SNS topic that is told; none: nobody is",
        });
        let conditions =
            json!({ "Tells": { "Fn::Not": [{ "Fn::Equals": [{ "Ref": "Topic" }, ""] }] } });
        template(
            "Alarms of a koorde cluster",
            parameters,
            conditions,
            Value::Object(resources),
        )
    }

    fn resource(kind: &str, properties: Value, before: &[String]) -> Value {
        let mut made =
            json!({ "Type": format!("AWS::CloudWatch::{kind}"), "Properties": properties });
        if !before.is_empty() {
            made["DependsOn"] = before.into();
        }
        made
    }

    /// What a template may be called inside: the name's last part.
    fn id(name: &str) -> String {
        name.rsplit('-').next().unwrap_or(name).to_owned()
    }

    fn parameters(subject: &Subject) -> Value {
        json!({
            "Cluster": {
                "Type": "String", "Default": subject.cluster, "AllowedPattern": CLUSTERS,
                "Description": "The nodes' cloudwatch.cluster",
            },
            "Name": {
                "Type": "String", "Default": subject.prefix, "AllowedPattern": PREFIXES,
                "Description": "What names begin with",
            },
        })
    }

    fn template(what: &str, parameters: Value, conditions: Value, mut resources: Value) -> Value {
        substitute(&mut resources);
        let mut template = json!({
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": format!("{what}; made by `koorde cloudwatch`"),
            "Parameters": parameters,
            "Resources": resources,
        });
        if conditions != json!({}) {
            template["Conditions"] = conditions;
        }
        template
    }

    /// Texts with a parameter in them become `Fn::Sub`.
    fn substitute(tree: &mut Value) {
        match tree {
            Value::String(text) if text == "${Cluster}" => *tree = json!({ "Ref": "Cluster" }),
            Value::String(text) if text == "${Name}" => *tree = json!({ "Ref": "Name" }),
            Value::String(text) if text.contains("${") => *tree = json!({ "Fn::Sub": text }),
            Value::Array(list) => list.iter_mut().for_each(substitute),
            Value::Object(members) => members.values_mut().for_each(substitute),
            _ => (),
        }
    }
}

/// A module of Terraform, in its JSON syntax.
pub mod terraform {
    use super::*;

    fn of(subject: &Subject) -> Subject {
        placeholders(subject, "${var.cluster}", "${var.name}", "${var.region}")
    }

    /// The dashboard's.
    #[must_use]
    pub fn dashboard(subject: &Subject) -> Value {
        let body = dashboard::body(&of(subject)).to_string();
        let resource = json!({ "dashboard_name": "${var.name}", "dashboard_body": body });
        let mut variables = variables(subject);
        variables["region"] = json!({
            "type": "string", "description": "Where the metrics are: eu-west-1",
        });
        module(
            variables,
            json!({ "aws_cloudwatch_dashboard": { "koorde": resource } }),
        )
    }

    /// The alarms'.
    #[must_use]
    pub fn alarms(subject: &Subject, limits: &Limits) -> Value {
        let Alarms {
            metric_alarms,
            composite_alarms,
        } = bodies::alarms(&of(subject), limits, &[]);
        let named = metric_alarms.iter().map(|a| (id(&a.alarm_name), metric(a)));
        let metric: Map<String, Value> = named.collect();
        let mut before: Vec<String> = metric
            .keys()
            .map(|id| format!("aws_cloudwatch_metric_alarm.{id}"))
            .collect();
        let mut composites = Map::new();
        for alarm in &composite_alarms {
            let id = id(&alarm.alarm_name);
            composites.insert(id.clone(), composite(alarm, &before));
            before.push(format!("aws_cloudwatch_composite_alarm.{id}"));
        }
        let mut variables = variables(subject);
        variables["sns_topic_arn"] = json!({
            "type": "string", "default": "",
            "description": "The SNS topic that is told; none: nobody is",
        });
        module(
            variables,
            json!({
                "aws_cloudwatch_metric_alarm": metric,
                "aws_cloudwatch_composite_alarm": composites,
            }),
        )
    }

    fn metric(alarm: &MetricAlarm) -> Value {
        json!({
            "alarm_name": alarm.alarm_name,
            "alarm_description": alarm.alarm_description,
            "actions_enabled": alarm.actions_enabled,
            "metric_query": alarm.metrics.iter().map(query).collect::<Value>(),
            "evaluation_periods": alarm.evaluation_periods,
            "datapoints_to_alarm": alarm.datapoints_to_alarm,
            "threshold": alarm.threshold,
            "comparison_operator": alarm.comparison_operator,
            "treat_missing_data": alarm.treat_missing_data,
        })
    }

    fn query(query: &Query) -> Value {
        let mut made = json!({ "id": query.id, "return_data": query.return_data });
        if let Some(expression) = &query.expression {
            made["expression"] = expression.as_str().into();
        }
        if let Some(of) = &query.metric_stat {
            let dimensions = of.metric.dimensions.iter();
            let dimensions = dimensions.map(|d| (d.name.clone(), d.value.clone().into()));
            made["metric"] = json!({
                "namespace": of.metric.namespace,
                "metric_name": of.metric.metric_name,
                "dimensions": dimensions.collect::<Map<String, Value>>(),
                "period": of.period,
                "stat": of.stat,
            });
        }
        made
    }

    fn composite(alarm: &CompositeAlarm, before: &[String]) -> Value {
        let tell = r#"${var.sns_topic_arn == "" ? [] : [var.sns_topic_arn]}"#;
        let mut made = json!({
            "alarm_name": alarm.alarm_name,
            "alarm_description": alarm.alarm_description,
            "alarm_rule": alarm.alarm_rule,
            "actions_enabled": alarm.actions_enabled,
            "alarm_actions": tell,
            "ok_actions": tell,
            "depends_on": before,
        });
        if let Some(suppressor) = &alarm.actions_suppressor {
            made["actions_suppressor"] = json!({
                "alarm": suppressor,
                "wait_period": alarm.actions_suppressor_wait_period,
                "extension_period": alarm.actions_suppressor_extension_period,
            });
        }
        made
    }

    /// `ServerErrors` → `server_errors`.
    fn id(name: &str) -> String {
        let last = name.rsplit('-').next().unwrap_or(name);
        let mut id = String::new();
        for letter in last.chars() {
            if letter.is_ascii_uppercase() && !id.is_empty() {
                id.push('_');
            }
            id.push(letter.to_ascii_lowercase());
        }
        id
    }

    fn variables(subject: &Subject) -> Value {
        let checked = |value: &str, name: &str, pattern: &str, what: &str| {
            json!({
                "type": "string", "default": value, "description": what,
                "validation": {
                    "condition": format!("${{can(regex(\"{pattern}\", var.{name}))}}"),
                    "error_message": format!("It must match {pattern}"),
                },
            })
        };
        json!({
            "cluster": checked(&subject.cluster, "cluster", CLUSTERS, "The nodes' cloudwatch.cluster"),
            "name": checked(&subject.prefix, "name", PREFIXES, "What names begin with"),
        })
    }

    fn module(variables: Value, resources: Value) -> Value {
        json!({
            "//": "Made by `koorde cloudwatch`",
            // Suppressors came with 5.11.
            "terraform": { "required_providers": { "aws": { "source": "hashicorp/aws", "version": ">= 5.11" } } },
            "variable": variables,
            "resource": resources,
        })
    }
}
