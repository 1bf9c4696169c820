//! What a run measured, as text, CSV or JSON: one list of columns feeds them all.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::tally::{Sample, Tally, Trouble, XCache};
use crate::cli::output;

/// The parameters of a run that its report repeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    pub(crate) urls: u64,
    pub(crate) zipf: f64,
    pub(crate) concurrency: usize,
    pub(crate) nodes: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) seed: u64,
}

/// A run's result.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) tally: Tally,
    pub(crate) duration: Duration,
    /// Known for the built-in origin only.
    pub(crate) origin_requests: Option<u64>,
    pub(crate) parameters: Parameters,
}

/// The value of a column. A number that is not finite or not known is empty in CSV, null in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Cell {
    Count(Option<u64>),
    Number(Option<f64>),
}

impl Cell {
    fn csv(self) -> String {
        match self {
            Self::Count(count) => count.map_or_else(String::new, |count| count.to_string()),
            Self::Number(number) => number
                .filter(|n| n.is_finite())
                .map_or_else(String::new, |n| format!("{n:.3}")),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.columns())
    }
}

impl Report {
    /// The columns, in order. Scripts read them: new ones go to the end, and none ever changes.
    pub(crate) fn columns(&self) -> Vec<(&'static str, Cell)> {
        let (tally, parameters) = (&self.tally, &self.parameters);
        let count = |n: u64| Cell::Count(Some(n));
        let number = |n: f64| Cell::Number(Some(n));
        vec![
            ("requests", count(tally.requests)),
            ("errors", count(tally.errors())),
            ("errors_connect", count(tally.trouble(Trouble::Connect))),
            ("errors_timeout", count(tally.trouble(Trouble::Timeout))),
            ("errors_broken", count(tally.trouble(Trouble::Broken))),
            ("status_2xx", count(tally.status(2))),
            ("status_3xx", count(tally.status(3))),
            ("status_4xx", count(tally.status(4))),
            ("status_5xx", count(tally.status(5))),
            ("duration_s", number(self.duration.as_secs_f64())),
            ("throughput_rps", number(self.throughput())),
            ("target_rps", Cell::Number(parameters.rate)),
            ("hit_rate", number(self.hit_rate())),
            ("hit_local", count(tally.x_cache(XCache::HitLocal))),
            ("hit_remote", count(tally.x_cache(XCache::HitRemote))),
            ("stale", count(tally.x_cache(XCache::Stale))),
            ("revalidated", count(tally.x_cache(XCache::Revalidated))),
            ("miss_origin", count(tally.x_cache(XCache::Miss))),
            ("bypass", count(tally.x_cache(XCache::Bypass))),
            ("cache_error", count(tally.x_cache(XCache::Error))),
            ("other", count(tally.x_cache(XCache::Other))),
            ("origin_requests", Cell::Count(self.origin_requests)),
            ("bytes", count(tally.bytes)),
            ("mean_ms", number(tally.mean_ms())),
            ("p50_ms", number(tally.latency_ms(0.5))),
            ("p90_ms", number(tally.latency_ms(0.9))),
            ("p99_ms", number(tally.latency_ms(0.99))),
            ("p999_ms", number(tally.latency_ms(0.999))),
            ("max_ms", number(tally.max_ms())),
            ("urls", count(parameters.urls)),
            ("zipf", number(parameters.zipf)),
            ("concurrency", count(parameters.concurrency as u64)),
            ("nodes", count(parameters.nodes as u64)),
            ("seed", count(parameters.seed)),
        ]
    }

    /// Of all requests, those answered without asking the origin, here or on another node.
    fn hit_rate(&self) -> f64 {
        output::ratio(self.tally.hits(), self.tally.requests)
    }

    /// Complete responses a second.
    fn throughput(&self) -> f64 {
        let complete = self.tally.requests - self.tally.errors();
        complete as f64 / self.duration.as_secs_f64().max(1e-9)
    }

    /// The header line and the summary row.
    pub(crate) fn csv(&self) -> String {
        let (names, cells): (Vec<_>, Vec<_>) = self.columns().into_iter().unzip();
        let cells: Vec<String> = cells.into_iter().map(Cell::csv).collect();
        format!("{}\n{}", names.join(","), cells.join(","))
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let tally = &self.tally;
        let requests = output::counted(tally.requests, "request");
        let nodes = output::counted(self.parameters.nodes as u64, "node");
        let (seconds, rate) = (
            self.duration.as_secs_f64(),
            output::count(self.throughput() as u64),
        );
        let asked = self
            .parameters
            .rate
            .map_or_else(String::new, |rate| format!(" of {rate} asked for"));
        let ms = |ms: f64| output::millis(Duration::from_secs_f64(ms.max(0.0) / 1000.0));
        let percentiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
        let latency: Vec<String> = percentiles
            .iter()
            .map(|(name, part)| format!("{name} {}", ms(tally.latency_ms(*part))))
            .collect();
        let kinds = XCache::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), tally.x_cache(kind)));
        let statuses = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(1..);
        let troubles = Trouble::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), tally.trouble(kind)));
        let mut lines = vec![
            format!("{requests} to {nodes} in {seconds:.2} s: {rate} a second{asked}"),
            format!(
                "hit rate  {} (hits on other nodes counted)",
                output::percent(self.hit_rate())
            ),
            format!("X-Cache   {}", list(kinds, tally.requests)),
            format!(
                "status    {}",
                list(
                    statuses.map(|(name, n)| (name, tally.status(n))),
                    tally.requests
                )
            ),
            format!(
                "latency   {}, max {}",
                latency.join(", "),
                ms(tally.max_ms())
            ),
            format!("body      {}", output::bytes(tally.bytes)),
        ];
        if let Some(origin) = self.origin_requests {
            let saved = output::percent(1.0 - output::ratio(origin, tally.requests).min(1.0));
            lines.push(format!(
                "origin    {}, {saved} saved",
                output::counted(origin, "request")
            ));
        }
        if tally.errors() > 0 {
            lines.push(format!("errors    {}", list(troubles, tally.requests)));
        }
        lines.join("\n")
    }
}

/// Those that occurred, with their part of `whole`.
fn list<'a>(items: impl Iterator<Item = (&'a str, u64)>, whole: u64) -> String {
    let occurred = items.filter(|(_, n)| *n > 0);
    let texts: Vec<String> = occurred
        .map(|(name, n)| {
            format!(
                "{name} {} ({})",
                output::count(n),
                output::percent(output::ratio(n, whole))
            )
        })
        .collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

/// The header of `--per-request`.
pub(crate) const PER_REQUEST: &str =
    "index,node,rank,start_ms,latency_ms,status,x_cache,bytes,error";

/// The row of one request, under [`PER_REQUEST`].
pub(crate) fn row(sample: &Sample) -> String {
    let (status, x_cache, error) = match sample.result {
        Ok((status, x_cache)) => (status.to_string(), x_cache.as_str(), ""),
        Err(trouble) => (String::new(), "", trouble.as_str()),
    };
    let Sample {
        index,
        node,
        rank,
        bytes,
        ..
    } = sample;
    let (start, latency) = (
        sample.start.as_secs_f64() * 1000.0,
        sample.latency.as_secs_f64() * 1000.0,
    );
    format!("{index},{node},{rank},{start:.3},{latency:.3},{status},{x_cache},{bytes},{error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::tally::tests::sample;

    fn report() -> Report {
        let mut tally = Tally::new();
        for index in 0..8 {
            tally.add(&sample(index, 1, Ok((200, XCache::HitRemote))));
        }
        tally.add(&sample(8, 500, Ok((200, XCache::Miss))));
        tally.add(&sample(9, 500, Err(Trouble::Broken)));
        let parameters = Parameters {
            urls: 2,
            zipf: 0.9,
            concurrency: 4,
            nodes: 5,
            rate: None,
            seed: 1,
        };
        Report {
            tally,
            duration: Duration::from_secs(3),
            origin_requests: Some(1),
            parameters,
        }
    }

    #[test]
    fn the_csv_is_a_header_and_one_row_of_the_same_width() {
        let csv = report().csv();
        let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), lines[1].len());
        let value = |name| lines[1][lines[0].iter().position(|n| *n == name).expect(name)];
        assert_eq!(
            (value("requests"), value("errors"), value("hit_rate")),
            ("10", "1", "0.800")
        );
        assert_eq!(
            (value("throughput_rps"), value("target_rps")),
            ("3.000", "")
        );
        assert_eq!((value("origin_requests"), value("hit_remote")), ("1", "8"));
    }

    #[test]
    fn the_columns_that_scripts_read_stay_where_they_are() {
        let names: Vec<_> = report()
            .columns()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            names.join(","),
            "requests,errors,errors_connect,errors_timeout,errors_broken,status_2xx,status_3xx,status_4xx,\
             status_5xx,duration_s,throughput_rps,target_rps,hit_rate,hit_local,hit_remote,stale,revalidated,\
             miss_origin,bypass,cache_error,other,origin_requests,bytes,mean_ms,p50_ms,p90_ms,p99_ms,p999_ms,\
             max_ms,urls,zipf,concurrency,nodes,seed"
        );
    }

    #[test]
    fn json_has_the_columns_and_null_for_what_is_not_known() {
        let json = serde_json::to_value(Report {
            origin_requests: None,
            ..report()
        })
        .expect("serialises");
        assert_eq!(json["hit_rate"], 0.8);
        assert!(json["origin_requests"].is_null() && json["target_rps"].is_null());
    }

    #[test]
    fn the_text_counts_remote_hits_and_saved_requests() {
        let text = report().text();
        for part in [
            "10 requests to 5 nodes",
            "hit rate  80.0 %",
            "HIT-REMOTE 8 (80.0 %)",
            "1 request, 90.0 % saved",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(text.contains("errors    broken 1"), "{text}");
    }

    #[test]
    fn a_run_without_requests_divides_by_nothing() {
        let empty = Report {
            tally: Tally::new(),
            duration: Duration::ZERO,
            ..report()
        };
        assert!(empty.text().contains("0 requests") && !empty.csv().contains("NaN"));
    }

    #[test]
    fn a_request_row_has_the_width_of_its_header() {
        let width = PER_REQUEST.split(',').count();
        for result in [Ok((200, XCache::Miss)), Err(Trouble::Connect)] {
            assert_eq!(row(&sample(1, 5, result)).split(',').count(), width);
        }
    }
}
