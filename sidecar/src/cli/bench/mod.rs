//! `koorde bench`: a Zipf workload against nodes, measured without coordinated omission.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use libkoorde::config::ByteSize;

use super::{
    Endpoint, Failure,
    client::{self, Client},
    output,
};

mod origin;
mod report;
mod tally;
mod workload;
mod zipf;

pub(crate) use origin::ORIGIN_PORT;
use origin::Origin;
use report::{Parameters, Report};
use tally::Tally;
use workload::Workload;
use zipf::Zipf;

/// Measure: a Zipf workload with latency percentiles and hit rate
///
/// Asks for --requests URLs out of --urls, the n-th most wanted with probability proportional to
/// n^-zipf, from all --node in turn. The same --seed is the same workload.
///
/// With --rate the load is open: request i is due at i / rate, and its latency counts from then, also
/// if it could not begin because all --concurrency connections were stuck. Without, it is closed: each
/// connection asks again when its answer is complete.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    /// Different URLs
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    urls: u64,
    /// Requests in all
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    requests: u64,
    /// Requests a second, all nodes together; none: as fast as the answers come
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Exponent of the distribution; 0 is uniform, web traffic is 0.6 to 1.2
    #[arg(long, value_name = "A", default_value_t = 0.9, value_parser = exponent)]
    zipf: f64,
    /// Requests at once
    #[arg(long, value_name = "C", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// A node to ask; may be repeated [default: http://127.0.0.1:8080]
    #[arg(long = "node", value_name = "URL")]
    nodes: Vec<Endpoint>,
    /// URL of an item, {} for its number; none: a built-in origin on loopback
    #[arg(long, value_name = "TEMPLATE", value_parser = template)]
    origin: Option<String>,
    /// Bytes of an item of the built-in origin
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "4KiB",
        conflicts_with = "origin"
    )]
    size: ByteSize,
    /// Time the built-in origin takes for an answer
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = duration, conflicts_with = "origin")]
    origin_delay: Duration,
    /// Longest wait for one complete response
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Seed of the workload
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How to write the result
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Write a CSV row for each request to FILE as well
    #[arg(long, value_name = "FILE")]
    per_request: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  koorde dev &                        nodes that allow the built-in origin
  koorde bench
  koorde bench --rate 2000 --requests 60000 --urls 100000 --origin-delay 50ms
  koorde bench --node http://127.0.0.1:8080 --node http://127.0.0.1:8081 --output csv >> runs.csv
  koorde bench --origin 'http://127.0.0.1:9000/page?n={}' --json | jq .p99_ms

The built-in origin listens on 127.0.0.1:9001, which nodes refuse unless their egress.allow names it.

CSV columns (and JSON keys), in this order for good:
  requests errors errors_{connect,timeout,broken} status_{2xx,3xx,4xx,5xx}
  duration_s throughput_rps     complete responses a second
  target_rps                    --rate, empty without
  hit_rate                      (hit_local + hit_remote + stale) / requests
  hit_local hit_remote stale revalidated miss_origin bypass cache_error other    by X-Cache
  origin_requests               what the built-in origin got, empty with --origin
  bytes mean_ms p50_ms p90_ms p99_ms p999_ms max_ms    of complete responses
  urls zipf concurrency nodes seed";

/// How to write the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// A header and one row
    Csv,
    /// One object
    Json,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or_else(|| "it must be a number from 0.001 to 1000000".to_owned())
}

fn exponent(text: &str) -> Result<f64, String> {
    let exponent = text
        .parse()
        .ok()
        .filter(|exponent| (0.0..=10.0).contains(exponent));
    exponent.ok_or_else(|| "it must be a number from 0 to 10".to_owned())
}

fn template(text: &str) -> Result<String, String> {
    if !text.contains("{}") {
        return Err("it has no {} for the number of the item".to_owned());
    }
    client::target(&text.replace("{}", "1"))?;
    Ok(text.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// Runs the workload and reports.
///
/// # Errors
/// No node, a node that cannot reach the origin, a file that cannot be written, or not one response.
pub async fn run(mut args: BenchArgs) -> Result<(), Failure> {
    if args.nodes.is_empty() {
        args.nodes
            .push("http://127.0.0.1:8080".parse().map_err(Failure::Usage)?);
    }
    if args.size > ByteSize::mib(64) {
        return Err(Failure::Usage(format!(
            "--size {}: at most 64MiB",
            args.size
        )));
    }
    let client = Client::new(args.timeout, usize::from(args.concurrency))?;
    let origin = match args.origin {
        Some(_) => None,
        None => Some(Origin::start(args.size.len(), args.origin_delay).await?),
    };
    for node in &args.nodes {
        check(&client, node, origin.as_ref()).await?;
    }
    let before = origin.as_ref().map_or(0, Origin::requests);
    let workload = workload(&args, client, origin.as_ref());
    let (tally, ran) = measure(workload, &args).await?;
    let origin_requests = origin.map(|origin| origin.requests() - before);
    finish(
        &args,
        Report {
            tally,
            duration: ran.duration,
            origin_requests,
            parameters: parameters(&args),
        },
        &ran,
    )
}

fn workload(args: &BenchArgs, client: Client, origin: Option<&Origin>) -> Workload {
    let template = args.origin.clone().or_else(|| origin.map(Origin::template));
    Workload {
        client,
        nodes: args.nodes.clone(),
        template: template.expect("the built-in origin runs where --origin is not given"),
        zipf: Zipf::new(args.urls, args.zipf),
        seed: args.seed,
        requests: args.requests,
        rate: args.rate,
        concurrency: usize::from(args.concurrency),
        timeout: args.timeout,
    }
}

fn parameters(args: &BenchArgs) -> Parameters {
    Parameters {
        urls: args.urls,
        zipf: args.zipf,
        concurrency: usize::from(args.concurrency),
        nodes: args.nodes.len(),
        rate: args.rate,
        seed: args.seed,
    }
}

/// Whether `node` answers and reaches the built-in origin: better said once, before, than as ten
/// thousand errors. Item 0 is no part of the workload.
async fn check(client: &Client, node: &Endpoint, origin: Option<&Origin>) -> Result<(), Failure> {
    let Some(origin) = origin else {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = node.at("/readyz")?;
        return client
            .send(request)
            .await
            .map(drop)
            .map_err(|error| error.at(node, "--node"));
    };
    let mut request = Request::new(Empty::new());
    let item = origin.template().replace("{}", "0");
    *request.uri_mut() = node.about("/cache", &item)?;
    let response = client
        .send(request)
        .await
        .map_err(|error| error.at(node, "--node"))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let said = Limited::new(response.into_body(), 4096)
        .collect()
        .await
        .map(|body| body.to_bytes());
    let said = said
        .map(|said| client::clip(String::from_utf8_lossy(&said).trim()))
        .unwrap_or_default();
    let hint = match status {
        StatusCode::FORBIDDEN => format!(
            "it refuses loopback; add \"{}\" to its egress.allow (`koorde dev` does), or give --origin",
            origin.address()
        ),
        StatusCode::NOT_FOUND => {
            "is this the HTTP listener of a node (port 8080 by default)?".to_owned()
        }
        _ => "the built-in origin is on this machine only; for nodes elsewhere give --origin"
            .to_owned(),
    };
    Err(Failure::Work(format!(
        "{node} answered {status} for {item} of the built-in origin: {hint} [{said}]"
    )))
}

/// Runs the workload; samples are counted as they come and not kept.
async fn measure(workload: Workload, args: &BenchArgs) -> Result<(Tally, workload::Ran), Failure> {
    let bar = progress(args.requests);
    let mut tally = Tally::new();
    let mut rows = args.per_request.as_deref().map(Rows::create).transpose()?;
    let ran = workload.run(|sample| {
        tally.add(sample);
        bar.inc(1);
        rows.as_mut()
            .map_or(Ok(()), |rows| rows.write(&report::row(sample)))
    });
    let ran = ran.await;
    bar.finish_and_clear();
    if let Some(rows) = rows {
        rows.finish()?;
    }
    Ok((tally, ran?))
}

/// A bar on stderr, if that is a terminal.
fn progress(requests: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(requests), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// The file of `--per-request`.
struct Rows {
    file: BufWriter<File>,
    name: String,
}

impl Rows {
    fn create(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|error| Failure::write(&name, &error))?;
        let mut rows = Self {
            file: BufWriter::new(file),
            name,
        };
        rows.write(report::PER_REQUEST)?;
        Ok(rows)
    }

    fn write(&mut self, row: &str) -> Result<(), Failure> {
        writeln!(self.file, "{row}").map_err(|error| Failure::write(&self.name, &error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.file
            .flush()
            .map_err(|error| Failure::write(&self.name, &error))
    }
}

/// Writes the report, and remarks about what makes it worth less.
fn finish(args: &BenchArgs, report: Report, ran: &workload::Ran) -> Result<(), Failure> {
    if ran.interrupted {
        output::remark(format!(
            "interrupted after {} of {} requests",
            report.tally.requests, args.requests
        ));
    }
    match if args.json { Format::Json } else { args.output } {
        Format::Table => output::line(report.text())?,
        Format::Csv => output::line(report.csv())?,
        Format::Json => output::json(&report)?,
    }
    if let Some(error) = &ran.first_error {
        output::remark(format!("first error: {error}"));
    }
    if report.tally.requests > 0 && report.tally.errors() == report.tally.requests {
        return Err(Failure::Work("not one request was answered".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use http::Response;
    use http_body_util::Full;

    use super::*;
    use crate::cli::loopback::{Loopback, body};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    async fn bench(status: StatusCode, flags: &[&str]) -> Result<(), Failure> {
        let handler = move |_| {
            let mut response = Response::new(body(Full::from("said so")));
            *response.status_mut() = status;
            std::future::ready(response)
        };
        let node = Loopback::start(0, handler).await.expect("loopback");
        let endpoint = node.address().to_string();
        let line = [
            "bench",
            "--requests",
            "50",
            "--urls",
            "5",
            "--node",
            &endpoint,
        ];
        run(Line::try_parse_from(line.iter().chain(flags))
            .expect("valid")
            .bench)
        .await
    }

    #[tokio::test]
    async fn a_run_against_one_node_ends_well() {
        for format in ["table", "csv", "json"] {
            assert!(
                bench(StatusCode::OK, &["--output", format]).await.is_ok(),
                "{format}"
            );
        }
    }

    #[tokio::test]
    async fn a_refused_origin_says_which_setting_allows_it() {
        let failure = bench(StatusCode::FORBIDDEN, &[])
            .await
            .expect_err("refused");
        let message = failure.to_string();
        assert!(
            message.contains("\"127.0.0.1:") && message.contains("egress.allow"),
            "{message}"
        );
        assert!(message.contains("said so"), "{message}");
    }

    #[tokio::test]
    async fn every_request_has_its_row() {
        let path = std::env::temp_dir().join(format!("koorde-bench-{}.csv", std::process::id()));
        let file = path.display().to_string();
        let result = bench(StatusCode::OK, &["--per-request", &file]).await;
        let rows = std::fs::read_to_string(&path).expect("written");
        let _ = std::fs::remove_file(&path);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!(rows.lines().count(), 51);
        assert_eq!(rows.lines().next(), Some(report::PER_REQUEST));
    }

    #[test]
    fn flags_out_of_bounds_are_refused_by_name() {
        for flags in [
            ["--rate", "0"],
            ["--rate", "NaN"],
            ["--zipf", "11"],
            ["--urls", "0"],
            ["--concurrency", "0"],
            ["--origin", "http://a.example/"],
            ["--origin", "a/{}"],
        ] {
            let error = Line::try_parse_from(["bench"].iter().chain(&flags))
                .err()
                .expect("out of bounds");
            assert!(error.to_string().contains(flags[0]), "{error}");
        }
    }
}
