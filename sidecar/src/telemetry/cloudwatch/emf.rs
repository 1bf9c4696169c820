//! The embedded metric format: metrics inside a line of a log, or sent to the CloudWatch agent.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
//! A document has at most 100 metrics, and a metric 100 values: more of them get another document.

use serde_json::{Map, Value, json};

use super::{
    interval::{Datum, Interval},
    outbox::Form,
    pack::Dimension,
};
use libkoorde::metrics::describe::Statistic;

/// Metrics in a document, at most; with more, agents drop it without a word.
const MAX_METRICS: usize = 100;
/// Values of a metric, at most.
const MAX_VALUES: usize = 100;

/// The documents of an interval, each on one line. Every document is for all sets of dimensions.
#[must_use]
pub fn documents(interval: &Interval, form: &Form) -> Vec<String> {
    let mut documents = Vec::new();
    // The first hundred values of each, then the second hundred of those that have as many, …
    for round in 0.. {
        let parts: Vec<(&Datum, &[(f64, u64)])> = interval
            .data
            .iter()
            .filter_map(|datum| Some((datum, datum.values.chunks(MAX_VALUES).nth(round)?)))
            .collect();
        if parts.is_empty() {
            break;
        }
        let some = parts.chunks(MAX_METRICS);
        documents.extend(some.map(|parts| document(interval.at, form, parts)));
    }
    documents
}

fn document(at: u64, form: &Form, parts: &[(&Datum, &[(f64, u64)])]) -> String {
    let names = |set: &Vec<Dimension>| set.iter().map(|(name, _)| *name).collect::<Value>();
    let metric = |(datum, _): &(&Datum, &[(f64, u64)])| {
        let mut metric = json!({ "Name": datum.name, "Unit": datum.unit() });
        if form.is_fine {
            metric["StorageResolution"] = 1.into();
        }
        metric
    };
    let mut members = Map::new();
    let about = json!({
        "Timestamp": at,
        "CloudWatchMetrics": [{
            "Namespace": form.namespace,
            "Dimensions": form.sets.iter().map(names).collect::<Value>(),
            "Metrics": parts.iter().map(metric).collect::<Value>(),
        }],
    });
    members.insert("_aws".to_owned(), about);
    for (name, value) in form.sets.iter().flatten() {
        members.insert((*name).to_owned(), value.as_str().into());
    }
    for (datum, values) in parts {
        members.insert(datum.name.to_owned(), target(datum, values));
    }
    Value::Object(members).to_string()
}

/// A number, or values with their counts.
fn target(datum: &Datum, values: &[(f64, u64)]) -> Value {
    if let (true, [(value, 1)]) = (datum.statistic != Statistic::P99, values) {
        return json!(value);
    }
    let sum: f64 = values
        .iter()
        .map(|(value, count)| value * *count as f64)
        .sum();
    json!({
        "Values": values.iter().map(|(value, _)| *value).collect::<Value>(),
        "Counts": values.iter().map(|(_, count)| *count).collect::<Value>(),
        "Min": values.first().map(|(value, _)| *value),
        "Max": values.last().map(|(value, _)| *value),
        "Count": values.iter().map(|(_, count)| count).sum::<u64>(),
        "Sum": sum,
    })
}

#[cfg(test)]
mod tests {
    use libkoorde::metrics::describe::Unit;

    use super::*;

    fn form(sets: Vec<Vec<Dimension>>, is_fine: bool) -> Form {
        Form {
            is_emf: true,
            namespace: "Koorde".to_owned(),
            sets,
            is_fine,
        }
    }

    fn datum(name: &'static str, statistic: Statistic, values: Vec<(f64, u64)>) -> Datum {
        let unit = Unit::One;
        Datum {
            name,
            unit,
            statistic,
            values,
        }
    }

    #[test]
    fn a_document_says_what_it_has_and_has_what_it_says() {
        let data = vec![
            datum("Requests", Statistic::Sum, vec![(7.0, 1)]),
            datum("RequestDuration", Statistic::P99, vec![(0.5, 3), (2.0, 1)]),
        ];
        let sets = vec![
            vec![("Cluster", "a \"b\"".to_owned())],
            vec![("Cluster", "a \"b\"".to_owned()), ("Pod", "p".to_owned())],
        ];
        let documents = documents(&Interval { at: 42, data }, &form(sets, false));
        let [line] = &documents[..] else {
            panic!("one document: {documents:?}");
        };
        assert!(!line.contains('\n'));
        let expected = json!({
            "_aws": {
                "Timestamp": 42,
                "CloudWatchMetrics": [{
                    "Namespace": "Koorde",
                    "Dimensions": [["Cluster"], ["Cluster", "Pod"]],
                    "Metrics": [
                        { "Name": "Requests", "Unit": "Count" },
                        { "Name": "RequestDuration", "Unit": "Count" },
                    ],
                }],
            },
            "Cluster": "a \"b\"",
            "Pod": "p",
            "Requests": 7.0,
            "RequestDuration": {
                "Values": [0.5, 2.0], "Counts": [3, 1], "Min": 0.5, "Max": 2.0, "Count": 4, "Sum": 3.5,
            },
        });
        assert_eq!(
            serde_json::from_str::<Value>(line).expect("it is JSON"),
            expected
        );
    }

    #[test]
    fn intervals_of_seconds_are_kept_as_seconds() {
        let interval = Interval {
            at: 1,
            data: vec![datum("Requests", Statistic::Sum, vec![(7.0, 1)])],
        };
        for (is_fine, expected) in [(true, Some(1)), (false, None)] {
            let documents = documents(&interval, &form(vec![vec![]], is_fine));
            let tree: Value = serde_json::from_str(&documents[0]).expect("it is JSON");
            let metric = &tree["_aws"]["CloudWatchMetrics"][0]["Metrics"][0];
            assert_eq!(metric["StorageResolution"].as_u64(), expected);
        }
    }

    #[test]
    fn more_than_a_hundred_values_or_metrics_get_more_documents_and_none_is_lost() {
        let names: &[&'static str] = &["A", "B", "C"];
        let values = |n: u64| (0..n).map(|v| (v as f64, 1)).collect();
        let data: Vec<Datum> = names
            .iter()
            .zip([1, 100, 250])
            .map(|(name, n)| datum(name, Statistic::P99, values(n)))
            .collect();
        let documents = documents(&Interval { at: 1, data }, &form(vec![vec![]], false));
        assert_eq!(documents.len(), 3);
        let mut counts = [0; 3];
        for document in documents {
            let tree: Value = serde_json::from_str(&document).expect("it is JSON");
            let told = tree["_aws"]["CloudWatchMetrics"][0]["Metrics"]
                .as_array()
                .expect("a list");
            for metric in told {
                let name = metric["Name"].as_str().expect("a name");
                let values = tree[name]["Values"].as_array().expect("a list");
                assert!(values.len() <= 100);
                let at = names
                    .iter()
                    .position(|known| *known == name)
                    .expect("known");
                counts[at] += values.len();
            }
        }
        assert_eq!(counts, [1, 100, 250]);
    }
}
