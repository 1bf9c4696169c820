//! Requests to origins: one pool of connections, bounds for each origin, and every way to fail.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time;

use super::{
    clock,
    connector::{ConnectTimeout, Connector, cause, denied},
    egress::Guard,
    request::{Interim, RequestBody, no_body},
};
use crate::{
    config::{Config, OriginConfig},
    error::{BodyError, FetchError, StartError},
    metrics::{Metrics, count},
    policy::{Exchange, Target},
};

/// The client side of a node.
#[derive(Debug)]
pub(crate) struct Origin {
    client: Client<Connector, RequestBody>,
    config: OriginConfig,
    /// Requests under way by authority. An authority is here only while it has one, so the table
    /// is as small as the work.
    under_way: Arc<Mutex<HashMap<String, usize>>>,
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
    /// The upstream that answers for the target, by its name.
    pub(crate) upstream: Option<&'a str>,
    /// Who takes interim responses.
    pub(crate) interim: Option<&'a Interim>,
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

impl Origin {
    pub(crate) fn new(
        config: &Config,
        guard: Arc<Guard>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let config = &config.origin;
        let connector = Connector::new(guard, config.connect_timeout, config.ca_file.as_deref())?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(config.max_idle)
            .http2_initial_stream_window_size(1 << 20)
            .http2_initial_connection_window_size(8 << 20)
            .build(connector);
        Ok(Self {
            client,
            config: config.clone(),
            under_way: Arc::default(),
            metrics,
        })
    }

    /// Sends one request, follows redirects if configured, and waits for the response's head.
    pub(crate) async fn send(&self, outgoing: Outgoing<'_>) -> Result<Answer, FetchError> {
        let Outgoing {
            method,
            target,
            mut fields,
            mut body,
            interim,
            ..
        } = outgoing;
        let mut target = target.clone();
        let mut redirects = Vec::new();
        let is_safe = matches!(*method, Method::GET | Method::HEAD) && body.is_end_stream();
        loop {
            let body = std::mem::replace(&mut body, no_body());
            let mut answer = self
                .send_once(method, &target, &fields, body, interim)
                .await?;
            let may_follow = is_safe && redirects.len() < usize::from(self.config.max_redirects);
            match redirect(&target, &answer.head).filter(|_| may_follow) {
                Some(next) => {
                    if !next.same_origin(&target) {
                        // Meant for the origin that the client named, and for no other.
                        fields.remove(header::AUTHORIZATION);
                        fields.remove(header::COOKIE);
                    }
                    // Asked about the first URL's response, not about this one's.
                    fields.remove(header::IF_NONE_MATCH);
                    fields.remove(header::IF_MODIFIED_SINCE);
                    redirects.push((answer.head, answer.exchange));
                    target = next;
                }
                None => {
                    answer.redirects = redirects;
                    return Ok(answer);
                }
            }
        }
    }

    async fn send_once(
        &self,
        method: &Method,
        target: &Target,
        fields: &HeaderMap,
        body: RequestBody,
        interim: Option<&Interim>,
    ) -> Result<Answer, FetchError> {
        let permit = self.permit(target.authority())?;
        let has_body = !body.is_end_stream();
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = target.uri().clone();
        *request.headers_mut() = fields.clone();
        // The target's host, never the one of the door through which the request came.
        request.headers_mut().remove(header::HOST);
        // Where nothing of a body is sent, nothing may announce one: an origin that believed it would
        // take the next request on this connection for the body, and its answer for another's.
        // hyper frames what there is, by its size if that is known.
        request.headers_mut().remove(header::TRANSFER_ENCODING);
        if !has_body {
            request.headers_mut().remove(header::CONTENT_LENGTH);
            request.headers_mut().remove(header::EXPECT);
        }
        if let Some(interim) = interim.cloned() {
            hyper::ext::on_informational(&mut request, move |response| {
                interim.send(response.status(), response.headers());
            });
        }
        self.metrics.origin_requests.inc();
        let request_sent = clock::now().instant;
        let timeout = self.config.response_timeout;
        let response = match time::timeout(timeout, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.failure(&error)),
            Err(_elapsed) => {
                count(&self.metrics.origin_errors, "timeout");
                return Err(FetchError::OriginTimeout(millis(timeout)));
            }
        };
        let received = clock::now();
        self.metrics
            .origin_seconds
            .observe((received.instant - request_sent).as_secs_f64());
        let (head, body) = Response::into_parts(response);
        let idle = self.config.idle_timeout;
        Ok(Answer {
            head,
            body: OriginBody {
                body,
                idle,
                silence: None,
                _permit: permit,
            },
            exchange: Exchange {
                request_sent,
                response_received: received,
            },
            redirects: Vec::new(),
        })
    }

    fn failure(&self, error: &ClientError) -> FetchError {
        if let Some(denied) = denied(error) {
            count(&self.metrics.origin_errors, "denied");
            count(&self.metrics.origin_denied, denied.reason);
            return FetchError::Denied {
                reason: denied.reason,
                target: denied.target.clone(),
            };
        }
        if let Some(ConnectTimeout(timeout)) = cause(error) {
            count(&self.metrics.origin_errors, "timeout");
            return FetchError::OriginTimeout(millis(*timeout));
        }
        count(
            &self.metrics.origin_errors,
            if error.is_connect() {
                "connect"
            } else {
                "broken"
            },
        );
        FetchError::Origin(chain(error))
    }

    fn permit(&self, authority: &str) -> Result<Permit, FetchError> {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let requests = under_way.entry(authority.to_owned()).or_default();
        if *requests >= self.config.max_concurrent {
            count(&self.metrics.origin_errors, "overloaded");
            return Err(FetchError::Overloaded("origin.max_concurrent"));
        }
        *requests += 1;
        Ok(Permit {
            under_way: Arc::clone(&self.under_way),
            authority: authority.to_owned(),
        })
    }
}

/// Where a redirect leads, if it is one that a cache may follow for its client: with a Location
/// that is a target, and not from TLS to plain text.
fn redirect(from: &Target, head: &http::response::Parts) -> Option<Target> {
    // 300 is a choice for people, 304 an answer, 305 and 306 are history (RFC 9110 §15.4).
    if !matches!(head.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = head.headers.get(header::LOCATION)?.to_str().ok()?;
    let next = from.join(location).ok()?;
    (from.scheme() == "http" || next.scheme() == "https").then_some(next)
}

/// One of the requests under way to an origin; held until its body ends, because a response is
/// not over at its head.
#[derive(Debug)]
struct Permit {
    under_way: Arc<Mutex<HashMap<String, usize>>>,
    authority: String,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.authority) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.authority);
            }
        }
    }
}

/// An origin's body. Trailers are dropped: a cache need not keep them (RFC 9110 §6.5.1).
#[derive(Debug)]
pub(crate) struct OriginBody {
    body: Incoming,
    idle: Duration,
    /// Runs while a frame is waited for.
    silence: Option<Pin<Box<time::Sleep>>>,
    _permit: Permit,
}

impl OriginBody {
    /// The next chunk; `None` at the announced end.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                let idle = self.idle;
                let silence = self
                    .silence
                    .get_or_insert_with(|| Box::pin(time::sleep(idle)));
                ready!(silence.as_mut().poll(cx));
                return Poll::Ready(Some(Err(BodyError::Cut(format!("silent for {idle:?}")))));
            };
            self.silence = None;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(BodyError::Cut(chain(&error))))),
                None => return Poll::Ready(None),
            }
        }
    }

    /// What is known of its length.
    pub(crate) fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
