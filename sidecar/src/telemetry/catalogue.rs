//! Every metric of the process besides those of its node, and the table of all.

use crate::injector::catalogue::ALL as INJECTOR;
use libkoorde::{
    catalogue,
    metrics::{
        SECONDS,
        catalogue::{ALL as NODE, BY_RESULT},
        describe::{Kind, Label, Metric, Statistic, Words, label, seen, sum},
    },
};

const LISTENER: Label = label("listener", &["http", "admin"]);
const ROUTES: &[&str] = &[
    "/cache",
    "path",
    "forward",
    "reverse",
    "look-aside",
    "connect",
    "options",
    "trace",
    "/livez",
    "/readyz",
    "/health",
    "/metrics",
    "/metrics/prometheus",
    "/metrics/json",
    "/debug/ring",
    "/debug/explain",
    "/debug/config",
    "/purge",
    "/ui",
    "/ui/events",
    "other",
];
const CLASSES: &[&str] = &["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];
const CLOSED: &[&str] = &[
    "done",
    "broken",
    "handshake",
    "max_connections",
    "max_connections_per_client",
    "first_byte_timeout",
    "header_timeout",
    "idle_timeout",
    "stall_timeout",
];
/// As the semantic conventions of OpenTelemetry word it: what is not known is `_OTHER`.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "_OTHER"];
/// Those that doors give or pass on most; others are `other`.
const STATUSES: &[&str] = &[
    "200", "204", "206", "301", "302", "304", "400", "401", "403", "404", "410", "416", "429",
    "500", "502", "503", "504", "other",
];
const DOORS: &[&str] = &["/cache", "path", "forward", "reverse"];
/// One of the boundaries of the semantic conventions: with all of them each method, status and route
/// would cost a scrape of 400 series 17 of them. Finer ones are by result.
const SEMCONV: &[f64] = &[0.5];

catalogue! {
    HTTP_REQUESTS = Metric::counter(
        "koorde_http_requests_total",
        "Requests by route and class of status; aborted: the client left before there was one",
    )
    .by(&[LISTENER, label("route", ROUTES), label("status", CLASSES)])
    .sparse_but(&[
        ("listener", "http"),
        ("status", "5xx"),
        ("route", "/cache"),
        ("route", "path"),
        ("route", "forward"),
        ("route", "reverse"),
        ("route", "other"),
    ])
    // What is asked for on the client listener is what alerts and autoscalers look at.
    .yielding_but(
        4,
        &[
            ("listener", "http"),
            ("route", "/cache"),
            ("route", "path"),
            ("route", "forward"),
            ("route", "reverse"),
            ("route", "look-aside"),
            ("route", "other"),
        ],
    )
    // Of clients' requests: a probe that is told "not ready" is no error.
    .told(&[sum(
        "ServerErrors",
        &[
            ("status", "5xx"),
            ("route", "/cache"),
            ("route", "path"),
            ("route", "forward"),
            ("route", "reverse"),
        ],
    )]);
    HTTP_SERVER_SECONDS = Metric::histogram(
        "http_server_request_duration_seconds",
        "Requests to the cache, to the head of the response (semantic conventions of OpenTelemetry)",
        SEMCONV,
    )
    .by(&[
        label("http_request_method", METHODS),
        label("http_response_status_code", STATUSES),
        label("http_route", DOORS),
    ])
    .yielding_but(4, &[]);
    REQUEST_SECONDS = Metric::histogram(
        "koorde_request_duration_seconds",
        "Requests to the cache, by any door, to the head of the response",
        SECONDS,
    )
    .by(BY_RESULT)
    .told(&[seen("RequestDuration", Statistic::P99)]);
    REQUESTS_INFLIGHT = Metric::gauge(
        "koorde_requests_inflight",
        "Requests to the cache under way, bodies included",
    );
    RESPONSE_BYTES = Metric::counter(
        "koorde_cache_response_bytes_total",
        "Bytes of bodies that clients were given, by result",
    )
    .by(BY_RESULT)
    .told(&[sum("ResponseBytes", &[])]);
    HTTP_CONNECTIONS = Metric::gauge("koorde_http_connections", "Connections open").by(&[LISTENER]);
    HTTP_CLOSED = Metric::counter(
        "koorde_http_connections_closed_total",
        "Connections by how they ended; refused ones among them",
    )
    .by(&[LISTENER, label("reason", CLOSED)])
    .sparse_but(&[])
    .yielding_but(2, &[]);
    HTTP_TUNNELS = Metric::gauge("koorde_http_tunnels", "Tunnels open (CONNECT)");
    EXPORTS = Metric::counter(
        "koorde_telemetry_exports_total",
        "Exports by outcome; unknown: sent, and no answer came, so it is not sent again",
    )
    .by(&[
        label("exporter", &["otlp_traces", "otlp_metrics", "cloudwatch"]),
        label("outcome", &["ok", "error", "unknown"]),
    ]);
    BUILD = Metric::info("koorde_build_info", "What this is").by(&[
        Label { name: "version", words: Words::Fixed },
        Label { name: "commit", words: Words::Fixed },
    ]);
    CPU = Metric::counter("process_cpu_seconds_total", "Processor time used");
    RESIDENT = Metric::gauge("process_resident_memory_bytes", "Memory in use")
        .told(&[seen("ResidentMemory", Statistic::Maximum)]);
    VIRTUAL = Metric::gauge("process_virtual_memory_bytes", "Memory reserved");
    OPEN_FDS = Metric::gauge("process_open_fds", "File descriptors open");
    MAX_FDS = Metric::gauge("process_max_fds", "File descriptors that may be open");
    THREADS = Metric::gauge("process_threads", "Threads");
    STARTED = Metric::gauge(
        "process_start_time_seconds",
        "When the process started, since 1970-01-01",
    );
    RUNTIME_BUSY = Metric::counter(
        "koorde_runtime_busy_seconds_total",
        "Time that the runtime's workers were busy, all together",
    );
    RUNTIME_WORKERS = Metric::gauge("koorde_runtime_workers", "Workers of the runtime");
    RUNTIME_TASKS = Metric::gauge("koorde_runtime_tasks", "Tasks alive");
    RUNTIME_QUEUE = Metric::gauge(
        "koorde_runtime_queue_depth",
        "Tasks that wait for any worker",
    );
}

/// Every metric of the process, its node's first, the injector's last.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    NODE.iter().chain(ALL).chain(INJECTOR).copied()
}

/// The Markdown table of all metrics.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| metric | kind | unit | labels | what it says | in CloudWatch |\n|---|---|---|---|---|---|\n",
    );
    for metric in all() {
        let labels: Vec<String> = metric.labels.iter().map(words).collect();
        let told = metric.cloudwatch.iter();
        let told: Vec<String> = told
            .map(|told| format!("`{}` ({})", told.name, told.statistic.as_str()))
            .collect();
        table.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} |\n",
            metric.name,
            metric.kind.as_str(),
            metric.unit.as_str(),
            labels.join("; "),
            metric.help,
            told.join(", "),
        ));
    }
    table
}

fn words(label: &Label) -> String {
    let name = label.name;
    match label.words {
        Words::Of(words) => format!("`{name}`: {}", words.join(", ")),
        Words::Upstreams => format!("`{name}`: names of `upstreams`, other"),
        Words::Fixed => format!("`{name}`"),
    }
}

/// The metric that a sample of Prometheus belongs to: of a histogram there are `_bucket`, `_sum` and
/// `_count`.
#[must_use]
pub fn find(sample: &str) -> Option<&'static Metric> {
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| sample.strip_suffix(part));
    all().find(|metric| {
        let is_histogram = matches!(metric.kind, Kind::Histogram(_));
        metric.name
            == if is_histogram {
                whole.unwrap_or("")
            } else {
                sample
            }
    })
}
