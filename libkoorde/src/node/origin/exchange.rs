//! One request to one server, once: how long each part may take, and what can go wrong.

use std::{
    future::{Future, pending},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{sync::watch, time};

use super::{
    super::{connector::Connector, request::Interim},
    failure::NoAnswer,
    upload::{Progress, Unsent, Upload},
};
use crate::{config::OriginConfig, metrics::Metrics};

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

impl Outbound<'_> {
    /// Sends it and waits for the response's head; `None` if the body was begun before. Counts the
    /// request, and that there was no answer.
    pub(super) async fn send(
        &self,
        pool: &Pool,
        config: &OriginConfig,
        metrics: &Metrics,
    ) -> Option<Result<Response<Incoming>, NoAnswer>> {
        let body = self.body.attempt()?;
        metrics.origin_requests.inc();
        let sent = self.exchange(pool, config, body).await;
        Some(sent.inspect_err(|failure| failure.count(metrics, self.upstream)))
    }

    /// The same for what this node asks by itself: what is counted is what clients cause.
    pub(super) async fn send_uncounted(
        &self,
        pool: &Pool,
        config: &OriginConfig,
    ) -> Option<Result<Response<Incoming>, NoAnswer>> {
        let body = self.body.attempt()?;
        Some(self.exchange(pool, config, body).await)
    }

    async fn exchange(
        &self,
        pool: &Pool,
        config: &OriginConfig,
        (upload, mut progress): (Upload, watch::Receiver<Progress>),
    ) -> Result<Response<Incoming>, NoAnswer> {
        let response = pool.request(self.request(upload));
        let sent = within(config, &mut progress, response).await;
        let failure = match sent {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => NoAnswer::of(&error),
            Err(waited) => NoAnswer::timeout(waited),
        };
        // hyper hands a broken upload back as if the connection had failed, over HTTP/2 without a word
        // of why.
        let said = progress.borrow().broken.clone();
        Err(said.map_or(failure, NoAnswer::upload))
    }

    fn request(&self, upload: Upload) -> Request<Upload> {
        let size = (!upload.is_end_stream()).then(|| upload.size_hint().exact());
        let mut request = Request::new(upload);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.fields.clone();
        // The target's host, never the one of the door through which the request came.
        request.headers_mut().remove(header::HOST);
        frame(self.method, request.headers_mut(), size);
        if let Some(interim) = self.interim.cloned() {
            hyper::ext::on_informational(&mut request, move |response| {
                interim.send(response.status(), response.headers());
            });
        }
        request
    }
}

/// What the fields say of the body, which has this size if it is known, and is none without one.
fn frame(method: &Method, fields: &mut HeaderMap, body: Option<Option<u64>>) {
    // hyper frames what there is, by its size if that is known.
    fields.remove(header::TRANSFER_ENCODING);
    match body {
        // Where nothing of a body is sent, nothing may announce one: an origin that believed it would
        // take the next request on this connection for the body, and its answer for another's.
        None => {
            fields.remove(header::CONTENT_LENGTH);
            fields.remove(header::EXPECT);
            // Where content has a meaning, there may be 411 for not saying that it is empty
            // (RFC 9110 §8.6).
            if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
                fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        // hyper takes such a body for none, unless it is told. Over HTTP/2 it drops the field.
        Some(None) if matches!(*method, Method::GET | Method::HEAD) => {
            let chunked = HeaderValue::from_static("chunked");
            fields.insert(header::TRANSFER_ENCODING, chunked);
        }
        Some(_) => (),
    }
}

/// Waits for a response: while the body goes out, as long as the origin takes of it; then for as long
/// as an origin may think. More of the body is waited for without end: its sender's silence is not
/// the origin's, and who hands in the body bounds it.
///
/// # Errors
/// How long it was waited for.
async fn within<T>(
    config: &OriginConfig,
    progress: &mut watch::Receiver<Progress>,
    response: impl Future<Output = T>,
) -> Result<T, Duration> {
    tokio::pin!(response);
    let mut is_gone = false;
    loop {
        let (is_over, is_awaited) = {
            let progress = progress.borrow_and_update();
            (is_gone || progress.is_over, progress.is_awaited)
        };
        let patience = match (is_over, is_awaited) {
            (true, _) => Some(config.response_timeout),
            (false, false) => Some(config.idle_timeout),
            (false, true) => None,
        };
        tokio::select! {
            response = &mut response => return Ok(response),
            waited = silence(patience) => return Err(waited),
            // Dropped: hyper is done with it, whether or not it came to its end.
            changed = progress.changed(), if !is_over => is_gone = changed.is_err(),
        }
    }
}

/// Ends after so long, if ever.
async fn silence(patience: Option<Duration>) -> Duration {
    match patience {
        Some(patience) => {
            time::sleep(patience).await;
            patience
        }
        None => pending().await,
    }
}
