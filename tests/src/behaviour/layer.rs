//! koorde as an app has it: the layer in front of the app's own HTTP client.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header::HeaderName};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use koorde_client::{InvalidSetting, Koorde, KoordeLayer};
use libkoorde::Node;
use tokio::time;
use tower::{Layer, ServiceExt};

use super::{
    client::Response,
    story::Request,
    wire::{self, Head},
};

/// How long a response may take from beginning to end, and a sidecar that many stories keep busy until
/// it is asked whether it is alive.
const PATIENCE: Duration = Duration::from_secs(20);

type Http = legacy::Client<HttpConnector, Full<Bytes>>;
type Interims = Arc<Mutex<Vec<(u16, Head)>>>;

/// An app with the layer, in one of its modes.
#[derive(Clone, Debug)]
pub enum App {
    /// With the sidecar at this endpoint, which makes the requests.
    Delegate(String),
    /// The same, but the app makes them.
    LookAside(String),
    /// The app is this node.
    Embedded(Node),
}

impl App {
    /// Its client behind a layer that nobody else shares: one story's trouble opens no other's
    /// breaker.
    ///
    /// # Errors
    /// The endpoint is none.
    pub fn client(&self) -> Result<Layered, InvalidSetting> {
        let layer = match self {
            Self::Delegate(endpoint) => KoordeLayer::new(endpoint)?.patience(PATIENCE),
            Self::LookAside(endpoint) => {
                let layer = KoordeLayer::new(endpoint)?.patience(PATIENCE);
                layer.look_aside()?
            }
            Self::Embedded(node) => KoordeLayer::embedded(node.clone()),
        };
        let mut client = legacy::Client::builder(TokioExecutor::new());
        // A connection of its own for each request, as in the other doors.
        let client = client.pool_max_idle_per_host(0).build_http();
        Ok(Layered(layer.layer(client)))
    }
}

/// An app's client behind the layer. What makes its client fail it takes for 502, as a gateway does:
/// the layer has no errors of its own.
#[derive(Clone, Debug)]
pub struct Layered(Koorde<Http>);

impl Layered {
    /// Sends one request and reads its response to the end.
    ///
    /// # Errors
    /// Why there was no response.
    pub async fn ask(&self, url: &str, request: &Request) -> Result<Response, String> {
        time::timeout(PATIENCE, self.talk(url, request))
            .await
            .map_err(|_| format!("no response within {PATIENCE:?}"))?
    }

    async fn talk(&self, url: &str, request: &Request) -> Result<Response, String> {
        let interims = Interims::default();
        let request = message(url, request, &interims).map_err(|error| error.to_string())?;
        let answered = self.0.clone().oneshot(request).await;
        let mut response = Response::default();
        match answered {
            Ok(answered) => {
                let (head, mut body) = answered.into_parts();
                (response.status, response.fields) = (head.status.as_u16(), fields(&head.headers));
                response.is_whole = true;
                while let Some(frame) = body.frame().await {
                    match frame.map(|frame| frame.into_data()) {
                        Ok(Ok(data)) => response.body.extend_from_slice(&data),
                        Ok(Err(_trailers)) => {}
                        Err(_) => {
                            response.is_whole = false;
                            break;
                        }
                    }
                }
            }
            Err(_) => response.status = 502,
        }
        response.interims = interims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(response)
    }
}

fn message(
    url: &str,
    request: &Request,
    interims: &Interims,
) -> Result<http::Request<Full<Bytes>>, Box<dyn Error>> {
    let body = request.body.as_deref().map(wire::bytes).unwrap_or_default();
    let mut message = http::Request::new(Full::from(body));
    *message.method_mut() = Method::from_bytes(request.method.as_bytes())?;
    *message.uri_mut() = url.parse()?;
    for (name, value) in &request.fields {
        let value = HeaderValue::from_bytes(&wire::bytes(value))?;
        message
            .headers_mut()
            .append(HeaderName::from_bytes(name.as_bytes())?, value);
    }
    let interims = Arc::clone(interims);
    hyper::ext::on_informational(&mut message, move |interim| {
        let start = format!("HTTP/1.1 {}", interim.status());
        let fields = fields(interim.headers());
        let interim = (interim.status().as_u16(), Head { start, fields });
        let mut interims = interims.lock().unwrap_or_else(PoisonError::into_inner);
        interims.push(interim);
    });
    Ok(message)
}

fn fields(fields: &HeaderMap) -> Vec<(String, String)> {
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), wire::text(value.as_bytes()))
    };
    fields.iter().map(text).collect()
}
