//! One request to one server, once: how long each part may take, and what can go wrong.

use std::{future::Future, time::Duration};

use http::{HeaderMap, Method, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{sync::watch, time};

use super::{
    super::{
        connector::{ConnectTimeout, Connector, cause, denied},
        request::Interim,
    },
    chain,
    upload::{Progress, Unsent, Upload},
};
use crate::{
    config::OriginConfig,
    error::FetchError,
    metrics::{Metrics, count},
};

pub(super) type Pool = Client<Connector, Upload>;

/// A pool of connections. It sends a request again only where hyper gives it back unsent: when a
/// kept connection turned out to be closed before anything was written.
pub(super) fn pool(connector: Connector, config: &OriginConfig, h2c: bool) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(config.max_idle)
        .http2_only(h2c)
        .http2_initial_stream_window_size(1 << 20)
        .http2_initial_connection_window_size(8 << 20)
        .build(connector)
}

/// A request to be sent, maybe to several servers in turn.
#[derive(Debug)]
pub(super) struct Outbound<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: Uri,
    pub(super) fields: &'a HeaderMap,
    pub(super) body: Unsent,
    pub(super) interim: Option<&'a Interim>,
    /// The word for labels: the name of the upstream, or that there is none.
    pub(super) upstream: &'a str,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) error: FetchError,
    /// Whether the server can't have seen any of the request.
    pub(super) is_unsent: bool,
}

impl Outbound<'_> {
    /// Sends it and waits for the response's head; `None` if the body was begun before.
    pub(super) async fn send(
        &self,
        pool: &Pool,
        config: &OriginConfig,
        metrics: &Metrics,
    ) -> Option<Result<Response<Incoming>, NoAnswer>> {
        let (upload, progress) = self.body.attempt()?;
        metrics.origin_requests.inc();
        let failed = |kind| metrics.origin_errors.of(&[self.upstream, kind]).inc();
        let response = pool.request(self.request(upload));
        Some(match within(config, progress, response).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(no_answer(&error, metrics, failed)),
            Err(waited) => {
                failed("timeout");
                count(&metrics.deadline_exceeded, "origin");
                Err(NoAnswer {
                    error: FetchError::OriginTimeout(millis(waited)),
                    is_unsent: false,
                })
            }
        })
    }

    fn request(&self, upload: Upload) -> Request<Upload> {
        let has_body = !http_body::Body::is_end_stream(&upload);
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.fields.clone();
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
        if let Some(interim) = self.interim.cloned() {
            hyper::ext::on_informational(&mut request, move |response| {
                interim.send(response.status(), response.headers());
            });
        }
        request
    }
}

/// Waits for a response: while the body goes out, as long as it moves; then for as long as an
/// origin may think.
///
/// # Errors
/// How long it was waited for.
async fn within<T>(
    config: &OriginConfig,
    mut progress: watch::Receiver<Progress>,
    response: impl Future<Output = T>,
) -> Result<T, Duration> {
    tokio::pin!(response);
    let mut is_over = progress.borrow_and_update().is_over;
    loop {
        let patience = if is_over {
            config.response_timeout
        } else {
            config.idle_timeout
        };
        tokio::select! {
            response = &mut response => return Ok(response),
            () = time::sleep(patience) => return Err(patience),
            changed = progress.changed(), if !is_over => {
                // Dropped: hyper is done with it, whether or not it came to its end.
                is_over = changed.is_err() || progress.borrow_and_update().is_over;
            }
        }
    }
}

fn no_answer(error: &ClientError, metrics: &Metrics, failed: impl Fn(&'static str)) -> NoAnswer {
    if let Some(denied) = denied(error) {
        failed("denied");
        count(&metrics.origin_denied, denied.reason);
        let error = FetchError::Denied {
            reason: denied.reason,
            target: denied.target.clone(),
        };
        return NoAnswer {
            error,
            is_unsent: true,
        };
    }
    if let Some(ConnectTimeout(timeout)) = cause(error) {
        failed("timeout");
        count(&metrics.deadline_exceeded, "connect");
        return NoAnswer {
            error: FetchError::OriginTimeout(millis(*timeout)),
            is_unsent: true,
        };
    }
    // hyper cancels what it has not begun to write.
    let is_canceled = cause::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
    let kind = if error.is_connect() {
        "connect"
    } else {
        "broken"
    };
    failed(kind);
    NoAnswer {
        error: FetchError::Origin(chain(error)),
        is_unsent: error.is_connect() || is_canceled,
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
