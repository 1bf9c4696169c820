//! The small HTTP client that all commands share.

use std::{fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::Failure;

/// A node that accepts no connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the request to the head of an administrative answer.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// No report of a node is larger; a wrong URL may lead anywhere.
const REPORT_LIMIT: usize = 64 << 20;

/// Where a node listens: `http://127.0.0.1:8080`, with or without the scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let wrong = |why: &dyn fmt::Display| {
            format!("{text:?} is not the address of a node such as http://127.0.0.1:8080: {why}")
        };
        let url = Url::parse(&full).map_err(|error| wrong(&error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&format_args!(
                "the scheme {} is neither http nor https",
                url.scheme()
            )));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(wrong(
                &"only scheme, host, port and a path prefix belong here",
            ));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Endpoint {
    /// `path` at this node.
    pub(crate) fn at(&self, path: &str) -> Result<Uri, Failure> {
        let text = format!("{}{path}", self.0);
        text.parse()
            .map_err(|error| Failure::Usage(format!("{} is no usable URL: {error}", clip(&text))))
    }

    /// `path` at this node, asked about `target`.
    pub(crate) fn about(&self, path: &str, target: &str) -> Result<Uri, Failure> {
        let encoded: String = form_urlencoded::byte_serialize(target.as_bytes()).collect();
        self.at(&format!("{path}?url={encoded}"))
    }
}

/// The start of a text that may be long.
pub(crate) fn clip(text: &str) -> String {
    const LENGTH: usize = 200;
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Reads the URL of a resource to fetch: absolute, http or https, its fragment left away.
pub(crate) fn target(text: &str) -> Result<String, String> {
    let mut url = Url::parse(text).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => {
            format!("it has no scheme; did you mean https://{text}?")
        }
        error => error.to_string(),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "the scheme {} cannot be fetched; http and https can",
            url.scheme()
        ));
    }
    url.set_fragment(None);
    Ok(url.into())
}

/// Why an exchange with a node failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is nobody at the address.
    #[error("{0}")]
    Connect(String),
    /// The head of the response did not come in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The exchange broke.
    #[error("{0}")]
    Broken(String),
}

impl ClientError {
    /// The failure to tell: which node, and what can be done.
    pub(crate) fn at(&self, endpoint: &Endpoint, flag: &str) -> Failure {
        Failure::Work(match self {
            Self::Connect(cause) => format!(
                "no node answers at {endpoint} ({cause}); start some with `koorde dev`, or name another with {flag}"
            ),
            Self::Timeout(_) | Self::Broken(_) => format!("{endpoint}: {self}"),
        })
    }
}

/// The innermost cause says what happened; the layers around it only who noticed.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// HTTP/1.1 to nodes, with or without TLS.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// A client that waits `timeout` for the head of a response and keeps up to `idle` connections
    /// to a node.
    pub(crate) fn new(timeout: Duration, idle: usize) -> Result<Self, Failure> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = rustls::crypto::ring::default_provider().into();
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Work(format!("TLS could not be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(idle)
            .build(connector);
        Ok(Self { http, timeout })
    }

    /// A client for administrative answers.
    pub(crate) fn for_reports() -> Result<Self, Failure> {
        Self::new(REPORT_TIMEOUT, 1)
    }

    /// Sends `request`; the body of the response is still to come.
    pub(crate) async fn send(
        &self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        match tokio::time::timeout(self.timeout, self.http.request(request)).await {
            Err(_) => Err(ClientError::Timeout(self.timeout)),
            Ok(Err(error)) if error.is_connect() => Err(ClientError::Connect(root_cause(&error))),
            Ok(Err(error)) => Err(ClientError::Broken(root_cause(&error))),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// The JSON at `uri`, a report of the admin listener `admin`.
    pub(crate) async fn report(&self, admin: &Endpoint, uri: Uri) -> Result<Value, Failure> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        self.ask(admin, request).await
    }

    /// The JSON that the admin listener `admin` answers a request with.
    pub(crate) async fn ask(
        &self,
        admin: &Endpoint,
        request: Request<Empty<Bytes>>,
    ) -> Result<Value, Failure> {
        let path = request.uri().path().to_owned();
        let response = self
            .send(request)
            .await
            .map_err(|error| error.at(admin, "--admin"))?;
        let status = response.status();
        let collect = Limited::new(response.into_body(), REPORT_LIMIT).collect();
        let body = tokio::time::timeout(self.timeout, collect)
            .await
            .map_err(|_| ClientError::Timeout(self.timeout).at(admin, "--admin"))?
            .map_err(|error| {
                Failure::Work(format!("{admin}{path}: the report was cut off: {error}"))
            })?
            .to_bytes();
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            let said = clip(String::from_utf8_lossy(&body).trim());
            return Err(Failure::Work(format!(
                "{admin}{path} answered {status}: {said}"
            )));
        }
        serde_json::from_slice(&body).ok().filter(|_| status.is_success()).ok_or_else(|| {
            Failure::Work(format!(
                "{admin}{path} is no report ({status}); is {admin} the admin listener of a node (port 9090 by default)?"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::cli::loopback::{Loopback, body};

    #[test]
    fn an_endpoint_reads_with_and_without_scheme_and_slash() {
        for text in [
            "http://127.0.0.1:8080",
            "127.0.0.1:8080",
            " http://127.0.0.1:8080/ ",
        ] {
            assert_eq!(
                text.parse(),
                Ok(Endpoint("http://127.0.0.1:8080".to_owned())),
                "{text}"
            );
        }
        let prefixed: Endpoint = "https://cache.example/koorde/".parse().expect("valid");
        assert_eq!(prefixed.to_string(), "https://cache.example/koorde");
        for text in [
            "",
            "ftp://a",
            "http://a/?b=c",
            "http://user@a",
            "http://a:99999",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_keeps_its_query_through_the_encoding() {
        let endpoint: Endpoint = "127.0.0.1:1".parse().expect("valid");
        let url = target("http://a.example/x y?q=1&r=ä+b%20c#part").expect("valid");
        let uri = endpoint.about("/cache", &url).expect("valid");
        let query = uri.query().expect("it was given");
        assert!(
            !query.contains('+'),
            "a plus would be read as a blank by some and not by others: {query}"
        );
        let decoded: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        assert_eq!(decoded.len(), 1, "{query}");
        assert_eq!(decoded[0].1, "http://a.example/x%20y?q=1&r=%C3%A4+b%20c");
    }

    #[test]
    fn a_target_without_scheme_is_answered_with_a_suggestion() {
        assert!(
            target("example.com/a")
                .expect_err("relative")
                .contains("https://example.com/a")
        );
        assert!(
            target("ftp://example.com/")
                .expect_err("ftp")
                .contains("ftp")
        );
    }

    #[tokio::test]
    async fn a_missing_node_is_named_with_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let endpoint: Endpoint = address.to_string().parse().expect("valid");
        let client = Client::for_reports().expect("client");
        let uri = endpoint.at("/debug/ring").expect("valid");
        let failure = client
            .report(&endpoint, uri)
            .await
            .expect_err("nobody listens");
        let message = failure.to_string();
        assert!(
            message.contains(&endpoint.to_string()) && message.contains("koorde dev"),
            "{message}"
        );
        assert!(message.contains("--admin"), "{message}");
    }

    #[tokio::test]
    async fn a_listener_without_reports_is_told_from_a_node() {
        let page = || async { http::Response::new(body(Full::from("<html>"))) };
        let server = Loopback::start(0, move |_| page()).await.expect("loopback");
        let endpoint: Endpoint = server.address().to_string().parse().expect("valid");
        let client = Client::for_reports().expect("client");
        let uri = endpoint.at("/debug/ring").expect("valid");
        let failure = client.report(&endpoint, uri).await.expect_err("no JSON");
        assert!(failure.to_string().contains("admin listener"), "{failure}");
    }
}
