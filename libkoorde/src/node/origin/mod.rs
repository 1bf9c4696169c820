//! Requests to origins: protected by a gate each, sent straight or to an upstream's servers, and
//! every way to fail.
//!
//! What decides is pure and beside it: `bucket`, `breaker`, `retry`, `balance`, `ledger`, `share`.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use http::{HeaderMap, Method, header};
use http_body::Body as _;

use super::{
    clock,
    connector::Connector,
    egress::Guard,
    request::{Interim, RequestBody, no_body},
    resolver::Resolver,
    routes::Routes,
};
use crate::{
    config::{Config, OriginConfig},
    error::{FetchError, StartError},
    metrics::count,
    metrics::{Level, Metrics, OTHER},
    policy::{Exchange, Target},
};

mod balance;
mod body;
mod breaker;
mod bucket;
mod budget;
mod exchange;
mod failure;
mod gate;
mod leases;
mod ledger;
mod retry;
mod share;
mod upload;
mod upstream;

pub(crate) use body::{OriginBody, Piece};
pub(crate) use failure::NoAnswer;
pub(crate) use leases::Parts;
pub(crate) use ledger::{Ask, Grant, VALID};

use exchange::{Outbound, Pool};
use gate::{Gates, Permit};
use leases::Leases;
use upload::Unsent;
use upstream::{Turn, Upstream};

/// The client side of a node.
#[derive(Debug)]
pub(crate) struct Origin {
    pool: Pool,
    /// For what only this node's own clients may reach, if there is such a thing.
    own: Option<Pool>,
    upstreams: BTreeMap<String, Arc<Upstream>>,
    gates: Gates,
    leases: Arc<Leases>,
    config: OriginConfig,
    metrics: Arc<Metrics>,
}

/// One request on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) target: &'a Target,
    /// As they go out: nothing of the client's connection is left in them.
    pub(crate) fields: HeaderMap,
    pub(crate) body: RequestBody,
    /// Which upstream answers for the target, and for what redirects lead to.
    pub(crate) routes: &'a Routes,
    /// Who takes interim responses.
    pub(crate) interim: Option<&'a Interim>,
    /// When whoever asked stops waiting for the origin's limits.
    pub(crate) deadline: Instant,
    /// Whether only this node's own clients get what comes.
    pub(crate) is_own: bool,
}

/// The head of an origin's response, and its body to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: http::response::Parts,
    pub(crate) body: OriginBody,
    /// When the request was sent and when the head was there (RFC 9111 §4.2.3).
    pub(crate) exchange: Exchange,
    /// Redirects that were followed to get here, in order.
    pub(crate) redirects: Vec<(http::response::Parts, Exchange)>,
}

/// One request of those that redirects may make of an outgoing one.
struct Hop<'a> {
    method: &'a Method,
    target: Target,
    fields: HeaderMap,
    upstream: Option<&'a str>,
    interim: Option<&'a Interim>,
    deadline: Instant,
    /// GET or HEAD.
    is_safe: bool,
    is_own: bool,
}

impl Origin {
    /// # Errors
    /// A `ca_file` can't be read, or a server of an upstream.
    pub(crate) fn new(
        config: &Config,
        guard: Arc<Guard>,
        own: Option<&Arc<Guard>>,
        resolver: &Resolver,
        parts: Parts,
    ) -> Result<Self, StartError> {
        let (metrics, tasks) = (Arc::clone(&parts.metrics), parts.tasks.clone());
        let origin = &config.origin;
        let ca_file = origin.ca_file.as_deref();
        let ca_file = ca_file.map(|path| ("origin.ca_file".to_owned(), path));
        // Kept connections are not judged again: each guard has its own.
        let pool = |guard| {
            let (resolver, timeout) = (resolver.clone(), origin.connect_timeout);
            let connector = Connector::new(guard, resolver, timeout, ca_file.as_ref())?;
            Ok::<_, StartError>(exchange::pool(connector, origin, false))
        };
        let (pool, own) = (pool(guard)?, own.cloned().map(pool).transpose()?);
        // Names that clients make up take no place from those that the operator wrote.
        let servers = Resolver::new(origin.connect_timeout);
        let mut upstreams = BTreeMap::new();
        for (name, config) in &config.upstreams {
            let upstream = Arc::new(Upstream::new(name, config, &servers, origin, &metrics)?);
            upstream.watch(config, &tasks);
            upstreams.insert(name.clone(), upstream);
        }
        let leases = Arc::new(Leases::new(parts, origin));
        Ok(Self {
            pool,
            own,
            upstreams,
            gates: Gates::new(origin, Arc::clone(&leases), Arc::clone(&metrics)),
            leases,
            config: origin.clone(),
            metrics,
        })
    }

    /// Answers a peer that asks for a part of a budget which this node owns.
    pub(crate) fn lease(&self, origin: &str, holder: &str, ask: &Ask) -> Option<Grant> {
        self.leases.grant(origin, holder, ask)
    }

    /// Sends one request, follows redirects if configured, and waits for the response's head.
    pub(crate) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
        let Outgoing {
            method,
            target,
            fields,
            body,
            routes,
            interim,
            deadline,
            is_own,
        } = outgoing;
        let is_safe = matches!(*method, Method::GET | Method::HEAD);
        let most = usize::from(self.config.max_redirects);
        let follows = most > 0 && is_safe && body.is_end_stream();
        let mut body = Unsent::new(body);
        let mut hop = Hop {
            method,
            target: target.clone(),
            fields,
            upstream: routes.find(target).upstream.as_deref(),
            interim,
            deadline,
            is_safe,
            is_own,
        };
        let mut redirects = Vec::new();
        loop {
            let sent = std::mem::replace(&mut body, Unsent::new(no_body()));
            let mut answer = self.send_once(&hop, sent).await?;
            let leads = follows.then(|| redirect(&hop.target, &answer.head));
            match leads.flatten() {
                Some(Ok(to)) if redirects.len() < most => {
                    if !to.same_origin(&hop.target) {
                        // Meant for the origin that the client named, and for no other.
                        hop.fields.remove(header::AUTHORIZATION);
                        hop.fields.remove(header::COOKIE);
                    }
                    hop.upstream = routes.find(&to).upstream.as_deref();
                    // Asked about the first URL's response, not about this one's.
                    hop.fields.remove(header::IF_NONE_MATCH);
                    hop.fields.remove(header::IF_MODIFIED_SINCE);
                    redirects.push((answer.head, answer.exchange));
                    hop.target = to;
                }
                refused_or_none => {
                    if refused_or_none.is_some() {
                        count(&self.metrics.origin_denied, "redirect");
                    }
                    answer.redirects = redirects;
                    return Ok(answer);
                }
            }
        }
    }

    async fn send_once(&self, hop: &Hop<'_>, body: Unsent) -> Result<Answer, FetchError> {
        let (name, target) = (hop.upstream, &hop.target);
        let upstream = name.and_then(|name| self.upstreams.get(name));
        let gate = self.gates.of(name.unwrap_or(target.authority()));
        let mut permit = gate.enter(hop.deadline, hop.is_safe).await?;
        let outbound = Outbound {
            method: hop.method,
            uri: upstream.map_or_else(|| target.uri().clone(), |up| up.uri(target)),
            fields: &hop.fields,
            body,
            interim: hop.interim,
            upstream: name.unwrap_or(OTHER),
        };
        let inflight = Level::held(self.metrics.origin_inflight.of(&[outbound.upstream]));
        let request_sent = clock::now().instant;
        let sent = match upstream {
            Some(upstream) => upstream
                .send(&outbound, hop.deadline)
                .await
                .map(|(r, turn)| (r, Some(turn))),
            None => {
                let own = self.own.as_ref().filter(|_| hop.is_own);
                let sent = self.send_straight(&outbound, own.unwrap_or(&self.pool));
                sent.await.map(|r| (r, None))
            }
        };
        drop(inflight);
        let received = clock::now();
        let (response, turn) = match sent {
            Ok(sent) => sent,
            Err(failure) => {
                if failure.is_the_origins() {
                    permit.failed(received.instant);
                }
                return Err(failure.error);
            }
        };
        let exchange = Exchange {
            request_sent,
            response_received: received,
        };
        Ok(self.answer(response, exchange, permit, turn, outbound.upstream))
    }

    async fn send_straight(
        &self,
        outbound: &Outbound<'_>,
        pool: &Pool,
    ) -> Result<http::Response<hyper::body::Incoming>, NoAnswer> {
        let sent = outbound.send(pool, &self.config, &self.metrics).await;
        sent.expect("a body that was just made is not begun")
    }

    fn answer(
        &self,
        response: http::Response<hyper::body::Incoming>,
        exchange: Exchange,
        mut permit: Permit,
        turn: Option<Turn>,
        upstream: &str,
    ) -> Answer {
        let received = exchange.response_received;
        let elapsed = received.instant - exchange.request_sent;
        let (head, body) = response.into_parts();
        self.metrics.origin_seconds.took(elapsed);
        let labels = [upstream, status_class(head.status)];
        self.metrics.origin_responses.of(&labels).inc();
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let seconds = &self.metrics.origin_response_seconds;
        seconds.of(&[upstream]).inc_by(nanos);
        permit.answered(head.status, &head.headers, received.instant, received.wall);
        Answer {
            head,
            body: OriginBody::new(body, self.config.idle_timeout, permit, turn),
            exchange,
            redirects: Vec::new(),
        }
    }
}

/// The word for labels; a final response is never of class 1.
fn status_class(status: http::StatusCode) -> &'static str {
    match status.as_u16() {
        0..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

/// A redirect that a cache may not follow for its client.
struct NotFollowed;

/// Where a redirect leads, if it is one. A cache may follow it for its client if its Location is a
/// target, and not from TLS to plain text.
fn redirect(from: &Target, head: &http::response::Parts) -> Option<Result<Target, NotFollowed>> {
    // 300 is a choice for people, 304 an answer, 305 and 306 are history (RFC 9110 §15.4).
    if !matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = head.headers.get(header::LOCATION)?;
    let next = location.to_str().ok().and_then(|to| from.join(to).ok());
    let next = next.filter(|next| from.scheme() == "http" || next.scheme() == "https");
    Some(next.ok_or(NotFollowed))
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}
