//! Real `koorde` processes on loopback.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    task::JoinSet,
};

/// A running `koorde serve`. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// For clients.
    pub http: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// For peers.
    pub peer: SocketAddr,
    log: JoinSet<Vec<serde_json::Value>>,
}

/// The `koorde` to test: `$KOORDE_BINARY` (tests/run sets it), else made by cargo now.
#[expect(
    clippy::disallowed_methods,
    reason = "how tests/run says which binary it has built"
)]
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        let me = std::env::current_exe().expect("a test has a path");
        // target/PROFILE/deps/TEST or target/PROFILE/BIN.
        let mut folders = me.ancestors().skip(1);
        let folder = folders
            .find(|folder| !folder.ends_with("deps"))
            .expect("inside target");
        let release = folder.ends_with("release").then_some("--release");
        let mut cargo = std::process::Command::new("cargo");
        cargo.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "koorde-sidecar",
            "--bin",
            "koorde",
        ]);
        cargo.args(release).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(
            cargo.status().expect("cargo runs").success(),
            "koorde builds"
        );
        folder.join("koorde")
    };
    BINARY
        .get_or_init(|| std::env::var_os("KOORDE_BINARY").map_or_else(build, PathBuf::from))
        .clone()
}

impl Process {
    /// Starts a node that may fetch from loopback and knows these peers, and waits until it has
    /// bound its addresses: any, unless `flags` say which.
    pub async fn start(name: &str, seeds: &[SocketAddr], flags: &[&str]) -> Self {
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        let mut command = Command::new(binary());
        command.args([
            "serve",
            "--node.name",
            name,
            "--egress.allow",
            "127.0.0.1",
            "--log.format",
            "json",
        ]);
        for listen in ["--http.listen", "--admin.listen", "--ring.listen"] {
            if !flags.contains(&listen) {
                command.args([listen, "127.0.0.1:0"]);
            }
        }
        if !flags.contains(&"--shutdown.delay") {
            command.args(["--shutdown.delay", "0s"]);
        }
        command.args(["--http.max_connections_per_client", "10000"]);
        if !seeds.is_empty() {
            command.args(["--ring.seeds", &seeds.join(",")]);
        }
        command
            .args(flags)
            // Who is told what is in `telemetry`, and nowhere else.
            .envs([
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "environment=yes"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ])
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("koorde starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
        let started = loop {
            let line = log
                .next_line()
                .await
                .expect("readable")
                .expect("it says that it has started");
            let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) else {
                continue;
            };
            if line["msg"] == "Started." {
                break line;
            }
        };
        let address = |key: &str| {
            started[key]
                .as_str()
                .expect("an address")
                .parse()
                .expect("an address")
        };
        let (http, admin, peer) = (address("http"), address("admin"), address("peer"));
        let mut reads = JoinSet::new();
        reads.spawn(read(log));
        Self {
            child,
            http,
            admin,
            peer,
            log: reads,
        }
    }

    /// Starts `n` nodes and waits until all know all.
    pub async fn ring(n: usize, flags: &[&str]) -> Vec<Self> {
        let mut nodes: Vec<Self> = Vec::new();
        for index in 0..n {
            let seeds: Vec<_> = nodes.iter().map(|node| node.peer).collect();
            nodes.push(Self::start(&format!("koorde-{index}"), &seeds, flags).await);
        }
        for node in &nodes {
            node.knows(n).await;
        }
        nodes
    }

    /// Waits until this node knows `n` members.
    pub async fn knows(&self, n: usize) {
        let started = now();
        loop {
            let ring = self.admin_json("/debug/ring").await;
            let members = ring["members"].as_array();
            // One that is still joining answers by itself what it owns or not.
            if ring["state"] != "joining" && members.is_some_and(|members| members.len() == n) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "never knew {n} members: {ring}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A JSON answer of the admin listener.
    pub async fn admin_json(&self, path: &str) -> serde_json::Value {
        let uri = format!("http://{}{path}", self.admin)
            .parse()
            .expect("a URI");
        let answer = client().get(uri).await.expect("an answer");
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a body")
            .to_bytes();
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// A text of the admin listener.
    pub async fn text(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.admin);
        let answer = fetch(&client(), &url).await.expect("an answer");
        String::from_utf8_lossy(answer.body()).into_owned()
    }

    /// A series as Prometheus sees it, a whole number; 0 without it.
    pub async fn series(&self, series: &str) -> u64 {
        let text = self.text("/metrics/prometheus").await;
        let mut found = text.lines().filter_map(|line| line.strip_prefix(series));
        let value = found.find_map(|rest| rest.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    /// What it has said since it had started, once it has ended.
    pub async fn logged(&mut self) -> Vec<serde_json::Value> {
        let lines = self.log.join_next().await.expect("asked for once");
        lines.expect("it ends with the process")
    }

    /// The URL that fetches `target` through this node.
    pub fn url(&self, target: &str) -> String {
        let target: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
        format!("http://{}/cache?url={target}", self.http)
    }

    /// Resident memory in KiB.
    pub fn rss(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or_default()
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// `kill -SIGNAL`.
    pub async fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill")
            .args([signal, &pid])
            .status()
            .await
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits for its end, and whether it was a success.
    pub async fn wait(&mut self) -> bool {
        self.child.wait().await.expect("it was started").success()
    }
}

/// Lines that are kept, at most: some tests make a node say a lot.
const LINES: usize = 10_000;

async fn read(mut log: Lines<BufReader<ChildStderr>>) -> Vec<serde_json::Value> {
    let mut lines = Vec::new();
    while let Ok(Some(line)) = log.next_line().await {
        if let Ok(line) = serde_json::from_str(&line)
            && lines.len() < LINES
        {
            lines.push(line);
        }
    }
    lines
}

/// An HTTP client that sends no bodies.
pub type Client = legacy::Client<HttpConnector, Empty<Bytes>>;

/// A client with connections of its own.
pub fn client() -> Client {
    legacy::Client::builder(TokioExecutor::new()).build_http()
}

/// Sends a GET and waits for the head of its answer.
///
/// # Errors
/// What kept it from coming.
pub async fn get(client: &Client, url: &str) -> Result<Response<Incoming>, String> {
    let request = Request::get(url)
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    client
        .request(request)
        .await
        .map_err(|error| format!("{error:?}"))
}

/// Sends a GET and reads its answer to the end.
///
/// # Errors
/// What kept it from coming whole.
pub async fn fetch(client: &Client, url: &str) -> Result<Response<Bytes>, String> {
    let (head, body) = get(client, url).await?.into_parts();
    let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// The time, for measuring.
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
pub fn now() -> Instant {
    Instant::now()
}
