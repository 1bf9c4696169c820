//! The dashboard: rows of widgets over the catalogue's series.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html>

use serde_json::{Value, json};

use super::{
    RUNBOOK, Subject,
    series::{self, Look, PERIOD, Series, Stat},
};

/// Units of the grid: 24 wide, and this high a row.
const HIGH: u32 = 6;

/// A graph.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Its title.
    pub title: &'static str,
    /// What it shows.
    pub lines: Vec<Line>,
    /// What the axis counts, if that needs saying.
    pub axis: &'static str,
}

/// What a graph shows.
#[derive(Clone, Debug)]
pub enum Line {
    /// A series, by its name.
    Plain(Look),
    /// 100 × `parts` ÷ `whole`.
    Percent {
        /// What it is called.
        label: &'static str,
        /// What is counted.
        parts: Vec<Look>,
        /// Of what.
        whole: Look,
    },
    /// A line a node; none where `cloudwatch.pod_dimension` is off.
    EachPod(Look),
}

/// The rows of the dashboard, each with its graphs.
#[must_use]
pub fn rows() -> Vec<Vec<Graph>> {
    vec![traffic(), latency(), origins(), ring(), nodes(), pods()]
}

fn graph(title: &'static str, axis: &'static str, lines: Vec<Line>) -> Graph {
    Graph { title, lines, axis }
}

fn sums(series: &[Series]) -> Vec<Line> {
    let line = |series: &Series| Line::Plain(series.look(Stat::Sum));
    series.iter().map(line).collect()
}

fn percentiles(series: Series) -> Vec<Line> {
    [Stat::P50, Stat::P99]
        .map(|stat| Line::Plain(series.look(stat)))
        .to_vec()
}

fn traffic() -> Vec<Graph> {
    let hits = [series::HITS, series::STALE_HITS].map(|series| series.look(Stat::Sum));
    let ratio = Line::Percent {
        label: "Hits and stale hits",
        parts: hits.to_vec(),
        whole: series::REQUESTS.look(Stat::Sum),
    };
    vec![
        graph(
            "Requests by result",
            "",
            sums(&[
                series::REQUESTS,
                series::HITS,
                series::STALE_HITS,
                series::MISSES,
                series::COLLAPSED,
            ]),
        ),
        graph("Hit ratio", "%", vec![ratio]),
        graph(
            "What clients did not get",
            "",
            sums(&[series::SERVER_ERRORS, series::ERRORS, series::SHED]),
        ),
    ]
}

fn latency() -> Vec<Graph> {
    vec![
        graph(
            "Requests, to the head",
            "s",
            percentiles(series::REQUEST_DURATION),
        ),
        graph("Calls to peers", "s", percentiles(series::PEER_DURATION)),
        graph("Bytes to clients", "bytes", sums(&[series::RESPONSE_BYTES])),
    ]
}

fn origins() -> Vec<Graph> {
    vec![
        graph(
            "Origin requests",
            "",
            sums(&[series::ORIGIN_REQUESTS, series::ORIGIN_ERRORS]),
        ),
        graph(
            "Origins, to the head",
            "s",
            percentiles(series::ORIGIN_DURATION),
        ),
        graph(
            "Of requests that reached an origin",
            "%",
            vec![Line::Percent {
                label: "Origin requests",
                parts: vec![series::ORIGIN_REQUESTS.look(Stat::Sum)],
                whole: series::REQUESTS.look(Stat::Sum),
            }],
        ),
    ]
}

fn ring() -> Vec<Graph> {
    let levels = |series: Series| {
        [Stat::Minimum, Stat::Maximum]
            .map(|stat| Line::Plain(series.look(stat)))
            .to_vec()
    };
    vec![
        graph("Members that nodes know", "", levels(series::RING_MEMBERS)),
        graph(
            "Successors that nodes know",
            "",
            levels(series::RING_SUCCESSORS),
        ),
        graph(
            "Arcs of all nodes × seconds (one ring: 300 in 5 minutes)",
            "",
            sums(&[series::RING_ARC]),
        ),
        graph(
            "Trouble in the ring",
            "",
            sums(&[
                series::MEMBERS_LOST,
                series::OWNER_DISAGREEMENTS,
                series::PURGES_UNREACHABLE,
            ]),
        ),
    ]
}

fn nodes() -> Vec<Graph> {
    let most = |series: Series| vec![Line::Plain(series.look(Stat::Maximum))];
    vec![
        graph(
            "Memory of the largest node",
            "bytes",
            most(series::RESIDENT_MEMORY),
        ),
        graph(
            "Stored bytes of the fullest node",
            "bytes",
            most(series::STORED_BYTES),
        ),
        graph("Evictions for want of room", "", sums(&[series::EVICTIONS])),
    ]
}

fn pods() -> Vec<Graph> {
    let each = |look| vec![Line::EachPod(look)];
    vec![
        graph("Requests a pod", "", each(series::REQUESTS.look(Stat::Sum))),
        graph(
            "Members known by each pod",
            "",
            each(series::RING_MEMBERS.look(Stat::Minimum)),
        ),
        graph(
            "Memory a pod",
            "bytes",
            each(series::RESIDENT_MEMORY.look(Stat::Maximum)),
        ),
    ]
}

/// Its name.
#[must_use]
pub fn name(subject: &Subject) -> String {
    subject.prefix.clone()
}

/// The dashboard's body.
#[must_use]
pub fn body(subject: &Subject) -> Value {
    let mut widgets = vec![head(subject)];
    for (down, row) in (0..).zip(rows()) {
        let wide = 24 / u32::try_from(row.len().max(1)).unwrap_or(24);
        for (across, graph) in (0..).zip(row) {
            widgets.push(json!({
                "type": "metric",
                "x": across * wide, "y": 2 + down * HIGH, "width": wide, "height": HIGH,
                "properties": properties(subject, &graph),
            }));
        }
    }
    json!({
        "start": "-PT6H",
        "periodOverride": "inherit",
        "variables": [{
            "id": "cluster", "label": "Cluster", "type": "property", "property": "Cluster",
            "inputType": "select", "visible": true, "defaultValue": subject.cluster,
            "search": format!(
                "{{{},Cluster}} MetricName=\"{}\"", subject.namespace, series::REQUESTS.name()
            ),
            "populateFrom": "Cluster",
        }],
        "widgets": widgets,
    })
}

fn head(subject: &Subject) -> Value {
    let text = format!(
        "# koorde: {}\nA point is {} minutes. Graphs of single pods are empty unless \
         `cloudwatch.pod_dimension` is on. What to do: [runbook]({RUNBOOK})",
        subject.cluster,
        PERIOD.as_secs() / 60,
    );
    json!({
        "type": "text", "x": 0, "y": 0, "width": 24, "height": 2,
        "properties": { "markdown": text },
    })
}

fn properties(subject: &Subject, graph: &Graph) -> Value {
    let mut ids = 0..;
    let mut metrics = Vec::new();
    for line in &graph.lines {
        match line {
            Line::Plain(look) => metrics.push(metric(subject, look, json!({}))),
            Line::Percent {
                label,
                parts,
                whole,
            } => {
                let mut add = |look: &Look| {
                    let id = format!("m{}", ids.next().unwrap_or_default());
                    metrics.push(metric(subject, look, json!({ "id": id, "visible": false })));
                    id
                };
                let parts: Vec<String> = parts.iter().map(&mut add).collect();
                let whole = add(whole);
                let expression = format!("100 * ({}) / {whole}", parts.join(" + "));
                metrics.push(json!([{ "expression": expression, "label": label }]));
            }
            Line::EachPod(look) => {
                let expression = format!(
                    "SEARCH('{{{},Cluster,Pod}} MetricName=\"{}\" Cluster=\"{}\"', '{}', {})",
                    subject.namespace,
                    look.series.name(),
                    subject.cluster,
                    look.stat.as_str(),
                    PERIOD.as_secs(),
                );
                metrics.push(json!([{ "expression": expression, "label": "" }]));
            }
        }
    }
    json!({
        "title": graph.title,
        "view": "timeSeries",
        "stacked": false,
        "region": subject.region,
        "period": PERIOD.as_secs(),
        "metrics": metrics,
        "yAxis": { "left": { "min": 0, "label": graph.axis, "showUnits": graph.axis.is_empty() } },
    })
}

fn metric(subject: &Subject, look: &Look, mut options: Value) -> Value {
    let (name, stat) = (look.series.name(), look.stat.as_str());
    options["stat"] = stat.into();
    if options.get("id").is_none() && look.stat != Stat::Sum {
        options["label"] = format!("{name} {stat}").into();
    }
    json!([subject.namespace, name, "Cluster", subject.cluster, options])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn looks(line: &Line) -> Vec<Look> {
        match line {
            Line::Plain(look) | Line::EachPod(look) => vec![*look],
            Line::Percent { parts, whole, .. } => [parts.clone(), vec![*whole]].concat(),
        }
    }

    #[test]
    fn what_is_paid_for_is_shown_and_what_is_shown_makes_sense() {
        let lines = rows().concat().into_iter().flat_map(|graph| graph.lines);
        let looks: Vec<Look> = lines.flat_map(|line| looks(&line)).collect();
        for look in &looks {
            assert!(look.makes_sense(), "{look:?}");
        }
        let shown: BTreeSet<_> = looks.iter().map(|look| look.series.name()).collect();
        let all: BTreeSet<_> = series::ALL.iter().map(|series| series.name()).collect();
        assert_eq!(shown, all);
    }

    #[test]
    fn it_is_within_the_limits_of_dashboards_and_nothing_overlaps() {
        let body = body(&Subject::new("Koorde", "web/koorde", "eu-west-1"));
        let widgets = body["widgets"].as_array().expect("widgets");
        assert!(widgets.len() <= 500 && body.to_string().len() < 100_000);
        let mut taken = BTreeSet::new();
        for widget in widgets {
            let of = |key: &str| widget[key].as_u64().expect("a number");
            let (x, y, wide, high) = (of("x"), of("y"), of("width"), of("height"));
            assert!(x + wide <= 24, "{widget}");
            for place in (x..x + wide).flat_map(|x| (y..y + high).map(move |y| (x, y))) {
                assert!(taken.insert(place), "{place:?} is taken: {widget}");
            }
        }
    }
}
