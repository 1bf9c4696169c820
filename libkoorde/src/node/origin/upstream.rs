//! Upstreams: several servers that answer for an origin.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, Response, Uri, uri::Authority};
use hyper::body::Incoming;
use tokio::time;
use tracing::{info, warn};

use super::{
    super::{clock, connector::Connector, request::no_body, resolver::Resolver, tasks::Tasks},
    balance::Balance,
    exchange::{Outbound, Pool, pool},
    failure::NoAnswer,
    retry::RetryBudget,
    upload::Unsent,
};
use crate::{
    config::{OriginConfig, UpstreamConfig},
    error::StartError,
    metrics::{Metrics, count},
    policy::Target,
    ring::Rng,
};

/// The servers of one upstream, with a pool of connections each.
#[derive(Debug)]
pub(super) struct Upstream {
    name: String,
    is_tls: bool,
    /// In place of the target's authority.
    host: Option<Authority>,
    servers: Vec<Server>,
    balance: Mutex<Balance>,
    retries: Mutex<RetryBudget>,
    config: OriginConfig,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Server {
    authority: Authority,
    pool: Pool,
}

impl Upstream {
    /// # Errors
    /// A server can't be read, or `ca_file`.
    pub(super) fn new(
        name: &str,
        upstream: &UpstreamConfig,
        resolver: &Resolver,
        config: &OriginConfig,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let key = format!("upstreams.{name}");
        let wrong = |server: &str| StartError::Config(format!("{key}.servers = {server}"));
        let ca_file = upstream.ca_file.as_deref();
        let ca_file = ca_file.map(|path| (format!("{key}.ca_file"), path));
        let mut servers = Vec::new();
        let mut is_tls = true;
        for server in &upstream.servers {
            let target = Target::parse(server).map_err(|_| wrong(server))?;
            is_tls &= target.scheme() == "https";
            let fixed = (bare(target.host()), target.port());
            let (resolver, timeout) = (resolver.clone(), config.connect_timeout);
            let connector = Connector::to(fixed, resolver, timeout, ca_file.as_ref())?;
            let authority = target.authority().parse().map_err(|_| wrong(server))?;
            let pool = pool(connector, config, upstream.h2c);
            servers.push(Server { authority, pool });
        }
        let host = upstream.host.as_deref().map(str::parse).transpose();
        let host = host.map_err(|_| StartError::Config(format!("{key}.host")))?;
        let now = clock::now();
        let seed = now.wall.duration_since(std::time::UNIX_EPOCH);
        let seed = u64::from(seed.unwrap_or_default().subsec_nanos());
        let (fails, out) = (upstream.max_fails, upstream.fail_timeout);
        Ok(Self {
            name: name.to_owned(),
            is_tls,
            host,
            balance: Mutex::new(Balance::new(servers.len(), fails, out, seed)),
            servers,
            retries: Mutex::new(RetryBudget::new(upstream.retry_percent, now.instant)),
            config: config.clone(),
            metrics: Arc::clone(metrics),
        })
    }

    /// What the servers are asked for: the target, by the upstream's scheme and host.
    pub(super) fn uri(&self, target: &Target) -> Uri {
        let authority = self.host.clone();
        let authority = authority.or_else(|| target.uri().authority().cloned());
        self.at(authority, target.path_and_query())
    }

    fn at(&self, authority: Option<Authority>, path: &str) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.is_tls {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        });
        parts.authority = authority;
        parts.path_and_query = path.parse().ok();
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Asks one server, and others as long as nothing of the request was sent and whoever asked
    /// still waits.
    pub(super) async fn send(
        self: &Arc<Self>,
        outbound: &Outbound<'_>,
        deadline: Instant,
    ) -> Result<(Response<Incoming>, Turn), NoAnswer> {
        self.retries().sent();
        let mut tried = Vec::new();
        let mut last = None;
        loop {
            let now = clock::now().instant;
            let Some(turn) = self.choose(now, &tried) else {
                return Err(last.unwrap_or_else(NoAnswer::nobody));
            };
            let index = turn.index;
            let pool = &self.servers[index].pool;
            let sent = outbound.send(pool, &self.config, &self.metrics).await;
            let failure = match sent {
                Some(Ok(response)) => {
                    self.balance().answered(index);
                    return Ok((response, turn));
                }
                Some(Err(failure)) => failure,
                None => return Err(last.unwrap_or_else(NoAnswer::nobody)),
            };
            let now = clock::now().instant;
            if failure.is_the_origins() && self.balance().failed(index, now) {
                count(&self.metrics.upstream_servers, "out");
                let server = &self.servers[index].authority;
                info!(upstream = self.name, %server, error = %failure.error, "Server is left out.");
            }
            tried.push(index);
            let is_last = tried.len() == self.servers.len() || now >= deadline;
            if !failure.is_unsent || is_last || !self.may_retry() {
                return Err(failure);
            }
            last = Some(failure);
        }
    }

    fn may_retry(&self) -> bool {
        let may = self.retries().retry(clock::now().instant);
        let kind = if may { "retried" } else { "refused" };
        count(&self.metrics.origin_retries, kind);
        may
    }

    fn choose(self: &Arc<Self>, now: Instant, tried: &[usize]) -> Option<Turn> {
        let index = self.balance().choose(now, tried)?;
        Some(Turn {
            upstream: Arc::clone(self),
            index,
        })
    }

    fn balance(&self) -> MutexGuard<'_, Balance> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retries(&self) -> MutexGuard<'_, RetryBudget> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every server from time to time whether it is well, if that is configured.
    pub(super) fn watch(self: &Arc<Self>, config: &UpstreamConfig, tasks: &Tasks) {
        let Some(path) = &config.health_path else {
            return;
        };
        for index in 0..self.servers.len() {
            let (upstream, path) = (Arc::clone(self), path.clone());
            let interval = config.health_interval;
            tasks.spawn(async move { upstream.check(index, &path, interval).await });
        }
    }

    async fn check(&self, index: usize, path: &str, interval: Duration) {
        let server = &self.servers[index].authority;
        let mut rng = Rng::new(index as u64 + 1);
        let mut was_well = true;
        loop {
            let is_well = self.is_well(index, path, interval).await;
            self.balance().checked(index, is_well);
            if is_well != was_well {
                if is_well {
                    info!(upstream = self.name, %server, "Server is well again.");
                } else {
                    count(&self.metrics.upstream_servers, "sick");
                    warn!(upstream = self.name, %server, "Server failed its health check.");
                }
            }
            was_well = is_well;
            // Up to a tenth more or less, so that nodes do not all ask in one moment.
            let jitter = u32::try_from(rng.below(200)).unwrap_or_default();
            time::sleep(interval / 1000 * (900 + jitter)).await;
        }
    }

    async fn is_well(&self, index: usize, path: &str, patience: Duration) -> bool {
        let server = &self.servers[index];
        let authority = self.host.as_ref().unwrap_or(&server.authority).clone();
        let outbound = Outbound {
            method: &Method::GET,
            uri: self.at(Some(authority), path),
            fields: &HeaderMap::new(),
            body: Unsent::new(no_body()),
            interim: None,
            upstream: &self.name,
        };
        let answer = outbound.send_uncounted(&server.pool, &self.config);
        match time::timeout(patience, answer).await {
            Ok(Some(Ok(response))) => (200..400).contains(&response.status().as_u16()),
            _ => false,
        }
    }
}

/// One request under way to one server, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    upstream: Arc<Upstream>,
    index: usize,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.upstream.balance().ended(self.index);
    }
}

/// A host as the resolver takes it: an IPv6 address stands in brackets only in URLs.
fn bare(host: &str) -> String {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_in_capitals_is_the_scheme() {
        for (server, scheme) in [
            ("HTTPS://10.0.0.2", "https"),
            ("https://10.0.0.2:80", "https"),
            ("HTTP://10.0.0.2:443", "http"),
        ] {
            let config = UpstreamConfig {
                servers: vec![server.to_owned()],
                ..UpstreamConfig::default()
            };
            let (origin, metrics) = (
                OriginConfig::default(),
                Metrics::new(&mut Default::default()),
            );
            let resolver = Resolver::new(origin.connect_timeout);
            let upstream = Upstream::new("name", &config, &resolver, &origin, &metrics);
            let target = Target::parse("http://api.example/path").expect("a URL");
            let uri = upstream.expect("a server").uri(&target);
            assert_eq!(uri, *format!("{scheme}://api.example/path"), "{server}");
        }
    }
}
