//! Real nodes on loopback, in this process: their own sockets each, nothing mocked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt;
use libkoorde::{
    BodyError, Config, FetchError, Metrics, Node, Propagation, Request, policy::Target,
};

/// How long a condition may take to come true before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Some nodes that form one ring.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, `node-0` first.
    pub nodes: Vec<Node>,
    /// What each counts.
    pub metrics: Vec<Arc<Metrics>>,
}

impl Cluster {
    /// Starts `n` nodes that may fetch from loopback, and waits until all know all.
    pub async fn start(n: usize) -> Self {
        Self::with(n, |_| ()).await
    }

    /// The same, with a change to each node's configuration.
    pub async fn with(n: usize, change: impl Fn(&mut Config)) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            metrics: Vec::new(),
        };
        for index in 0..n {
            let mut config = config(&format!("node-{index}"));
            change(&mut config);
            cluster.add(config).await;
        }
        cluster.meet(n).await;
        cluster
    }

    /// Adds a node that knows the others as seeds; does not wait for it to join.
    pub async fn add(&mut self, config: Config) -> Node {
        let metrics = Metrics::new(&mut Default::default());
        let node = Node::start(config, Arc::clone(&metrics), Propagation::default())
            .await
            .expect("loopback has a free port");
        node.seeds(self.nodes.iter().map(Node::peer_address).collect());
        self.nodes.push(node.clone());
        self.metrics.push(metrics);
        node
    }

    /// Waits until every node knows `n` members.
    pub async fn meet(&self, n: usize) {
        eventually("all know all", || {
            self.nodes.iter().all(|node| {
                // One that is still joining answers by itself what it owns or not.
                let ring = node.ring();
                ring.members.len() == n && ring.state != "joining"
            })
        })
        .await;
    }

    /// The owner of a URL, and some node that is not.
    pub async fn owner_and_other(&self, url: &str) -> (usize, usize) {
        let explanation = self.nodes[0].explain(&get(url)).await;
        let owner = self
            .nodes
            .iter()
            .position(|node| node.name() == explanation.owners[0]);
        let owner = owner.expect("the owner is one of the nodes");
        (owner, (owner + 1) % self.nodes.len())
    }
}

/// A configuration for tests: loopback, any port.
pub fn config(name: &str) -> Config {
    let mut config = Config::default();
    config.node.name = name.to_owned();
    config.ring.listen = ([127, 0, 0, 1], 0).into();
    config.ring.stabilize = Duration::from_millis(200);
    config.egress.allow = vec!["127.0.0.1".to_owned()];
    // Lifetimes as they are said, so that a test can name them.
    config.cache.jitter_percent = 0;
    config
}

/// A GET of a URL.
pub fn get(url: &str) -> Request {
    let target = Target::parse(url).expect("a URL");
    Request::new(Method::GET, target, HeaderMap::new())
}

/// A GET with fields.
pub fn get_with(url: &str, fields: &[(&'static str, &'static str)]) -> Request {
    let mut request = get(url);
    for (name, value) in fields {
        request
            .fields
            .append(*name, value.parse().expect("a field value"));
    }
    request
}

/// Fetches and reads to the end.
///
/// # Errors
/// What kept the response from coming, as text.
pub async fn fetch(node: &Node, request: Request) -> Result<Response<Bytes>, String> {
    let response = node
        .fetch(request)
        .await
        .map_err(|error: FetchError| error.to_string())?;
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error: BodyError| error.to_string())?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// Waits for a condition that other tasks bring about.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("within {PATIENCE:?}, it never came true that {what}");
    }
}
