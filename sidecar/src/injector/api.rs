//! The calls of the API server that the injector needs: a Secret, the webhook's CA, Events.
//!
//! A client of our own over the hyper and rustls that are here anyway: four calls do not pay for the
//! kube crate, which is a third of the binary again.

use std::{fmt::Write as _, fs, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

/// From a call to the last byte of its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// Who has set a field, for server-side apply.
const MANAGER: &str = "koorde-injector";

/// Where the API server is, and how it knows us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// `https://host:port`.
    pub url: String,
    /// PEM file of the authority that it is known by.
    pub ca_file: PathBuf,
    /// File with our token; read at every call, as the kubelet renews it.
    pub token_file: PathBuf,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The CA's file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer came.
    #[error("{what}: {reason}")]
    NoAnswer {
        /// The call: method and path.
        what: String,
        /// What kept it from coming.
        reason: String,
    },
    /// The API server said no.
    #[error("{what}: {status}: {message}")]
    Status {
        /// The call: method and path.
        what: String,
        /// Its status.
        status: StatusCode,
        /// Its message.
        message: String,
    },
}

impl ApiError {
    pub(super) fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Status { status, .. } if *status == wanted)
    }
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Api {
    server: ApiServer,
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Api {
    pub(super) fn new(server: ApiServer) -> Result<Self, ApiError> {
        let file = |reason: String| ApiError::File {
            path: server.ca_file.display().to_string(),
            reason,
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(&server.ca_file);
        for certificate in certificates.map_err(|error| file(error.to_string()))? {
            let added = certificate.map_err(|error| file(error.to_string()))?;
            roots.add(added).map_err(|error| file(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(file("has no certificates".into()));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| file(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(TIMEOUT / 2));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(1)
            .build(connector);
        Ok(Self { server, http })
    }

    /// A Secret; none if there is none.
    pub(super) async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        let path = format!(
            "/api/v1/namespaces/{}/secrets/{}",
            escaped(namespace),
            escaped(name)
        );
        match self.call(Method::GET, &path, "", &Value::Null).await {
            Ok(secret) if secret.is_object() => Ok(Some(secret)),
            Ok(_) => Err(ApiError::NoAnswer {
                what: format!("GET {path}"),
                reason: "what came is no object".into(),
            }),
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a Secret: a new one, or the one that was read, if nobody has changed it since (else 409).
    pub(super) async fn write_secret(&self, secret: &Value) -> Result<(), ApiError> {
        let metadata = &secret["metadata"];
        let field = |name: &str| escaped(metadata[name].as_str().unwrap_or_default());
        let list = format!("/api/v1/namespaces/{}/secrets", field("namespace"));
        let json = "application/json";
        if metadata["resourceVersion"].is_string() {
            let path = format!("{list}/{}", field("name"));
            self.call(Method::PUT, &path, json, secret).await?;
        } else {
            self.call(Method::POST, &list, json, secret).await?;
        }
        Ok(())
    }

    /// Sets `caBundle` of some webhooks of a MutatingWebhookConfiguration, and nothing else of it: the rest
    /// is Helm's. One that is not there is not made, as what is applied here would be no valid one.
    pub(super) async fn apply_ca_bundle(
        &self,
        name: &str,
        webhooks: &[String],
        bundle: &str,
    ) -> Result<(), ApiError> {
        let bundle = STANDARD.encode(bundle);
        let webhook = |name: &String| json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": webhooks.iter().map(webhook).collect::<Vec<_>>(),
        });
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}?fieldManager={MANAGER}&force=true",
            escaped(name)
        );
        // JSON is YAML.
        self.call(
            Method::PATCH,
            &path,
            "application/apply-patch+yaml",
            &object,
        )
        .await?;
        Ok(())
    }

    /// Makes an Event.
    pub(super) async fn create_event(
        &self,
        namespace: &str,
        event: &Value,
    ) -> Result<(), ApiError> {
        let path = format!("/api/v1/namespaces/{}/events", escaped(namespace));
        self.call(Method::POST, &path, "application/json", event)
            .await?;
        Ok(())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &'static str,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let what = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let no_answer = |reason: String| ApiError::NoAnswer {
            what: what.clone(),
            reason,
        };
        let token = fs::read_to_string(&self.server.token_file);
        let token = token
            .map_err(|error| no_answer(format!("{}: {error}", self.server.token_file.display())))?;
        let mut token = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| no_answer("the token is no token".into()))?;
        token.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server.url))
            .header(header::AUTHORIZATION, token)
            .header(header::ACCEPT, "application/json");
        let mut bytes = Bytes::new();
        if !body.is_null() {
            request = request.header(header::CONTENT_TYPE, kind);
            bytes = body.to_string().into();
        }
        let request = request
            .body(Full::new(bytes))
            .map_err(|error| no_answer(error.to_string()))?;
        let exchange = async {
            let answer = self
                .http
                .request(request)
                .await
                .map_err(|error| no_answer(chain(&error)))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body
                .map_err(|error| no_answer(error.to_string()))?
                .to_bytes();
            Ok((
                status,
                serde_json::from_slice::<Value>(&body).unwrap_or_default(),
            ))
        };
        let answered = tokio::time::timeout(TIMEOUT, exchange).await;
        let (status, value) =
            answered.unwrap_or_else(|_| Err(no_answer(format!("none in {TIMEOUT:?}"))))?;
        if status.is_success() {
            return Ok(value);
        }
        let message = value["message"]
            .as_str()
            .unwrap_or("without a message")
            .to_owned();
        Err(ApiError::Status {
            what,
            status,
            message,
        })
    }
}

/// An error and what is behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// A name as a segment of a path; Kubernetes' names have nothing that would need it.
fn escaped(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect()
}
