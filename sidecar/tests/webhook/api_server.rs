//! The part of the Kubernetes API that the injector calls, over real TLS: Secrets with their conflicts,
//! server-side apply of one kind of object, Events, tokens. What it does is what API servers were seen to
//! do; there is none here to test against.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::folder;

const TOKEN: &str = "the-token-of-the-injector";

/// What is in it.
#[derive(Default)]
pub struct State {
    /// The injector's Secret.
    pub secret: Option<Value>,
    /// The MutatingWebhookConfiguration.
    pub configuration: Value,
    /// Events, in order.
    pub events: Vec<Value>,
    /// How many writes met a newer version.
    pub conflicts: u64,
    /// Every call is answered with this.
    pub refuses: Option<StatusCode>,
    version: u64,
}

/// A running API server; it ends when dropped.
pub struct ApiServer {
    pub address: SocketAddr,
    pub ca_file: PathBuf,
    pub token_file: PathBuf,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

impl ApiServer {
    pub async fn start(name: &str) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let folder = folder(name);
        let (ca_file, token_file) = (folder.join("api-ca.pem"), folder.join("token"));
        std::fs::write(&ca_file, made.cert.pem()).expect("writable");
        std::fs::write(&token_file, format!("{TOKEN}\n")).expect("writable");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("they match");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let webhook = |name: &str| {
            let service = json!({"name": "koorde-injector", "namespace": "web", "path": "/inject", "port": 443});
            json!({"name": name, "clientConfig": {"service": service}, "failurePolicy": "Ignore", "sideEffects": "NoneOnDryRun"})
        };
        let state = Arc::new(Mutex::new(State {
            configuration: json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": "koorde-injector", "labels": {"app.kubernetes.io/managed-by": "Helm"}},
                "webhooks": [webhook("namespace.koorde.dev"), webhook("pod.koorde.dev")],
            }),
            ..State::default()
        }));
        let mut tasks = JoinSet::new();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tasks.spawn(accept(listener, acceptor, Arc::clone(&state)));
        Self {
            address,
            ca_file,
            token_file,
            state,
            _tasks: tasks,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    /// What API servers trust of the webhook by now; empty before it was set.
    pub fn bundle(&self) -> String {
        let state = self.state();
        let webhooks = state.configuration["webhooks"]
            .as_array()
            .expect("there are two");
        let bundles: Vec<_> = webhooks
            .iter()
            .map(|webhook| &webhook["clientConfig"]["caBundle"])
            .collect();
        assert_eq!(bundles[0], bundles[1], "both are set at once");
        let bundle = STANDARD
            .decode(bundles[0].as_str().unwrap_or_default())
            .expect("base64");
        String::from_utf8(bundle).expect("PEM")
    }

    /// The injector's Secret, decoded.
    pub fn kept(&self, key: &str) -> String {
        let state = self.state();
        let data = state
            .secret
            .as_ref()
            .map(|secret| secret["data"][key].clone());
        let text = data
            .and_then(|text| text.as_str().map(str::to_owned))
            .unwrap_or_default();
        String::from_utf8(STANDARD.decode(text).expect("base64")).expect("text")
    }

    /// Somebody takes a key out of the Secret.
    pub fn forget(&self, key: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version.to_string();
        let secret = state.secret.as_mut().expect("it is there");
        secret["data"].as_object_mut().expect("data").remove(key);
        secret["metadata"]["resourceVersion"] = version.into();
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |name| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let mut state = state.lock().expect("nobody panics with it");
    let (status, value) = if let Some(status) = state.refuses {
        (
            status,
            json!({"kind": "Status", "message": "refused by the test"}),
        )
    } else if field(header::AUTHORIZATION) != format!("Bearer {TOKEN}") {
        (
            StatusCode::UNAUTHORIZED,
            json!({"kind": "Status", "message": "Unauthorized"}),
        )
    } else {
        let kind = field(header::CONTENT_TYPE).to_owned();
        state.call(
            &head.method,
            head.uri.path(),
            head.uri.query().unwrap_or_default(),
            &kind,
            body,
        )
    };
    let mut response = Response::new(Full::from(value.to_string()));
    *response.status_mut() = status;
    Ok(response)
}

impl State {
    fn call(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        kind: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        const SECRETS: &str = "/api/v1/namespaces/web/secrets";
        const SECRET: &str = "/api/v1/namespaces/web/secrets/koorde-injector-certs";
        const WEBHOOK: &str =
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/koorde-injector";
        let status =
            |code: StatusCode, message: &str| (code, json!({"kind": "Status", "message": message}));
        match (method.as_str(), path) {
            ("GET", SECRET) => match &self.secret {
                Some(secret) => (StatusCode::OK, secret.clone()),
                None => status(
                    StatusCode::NOT_FOUND,
                    "secrets \"koorde-injector-certs\" not found",
                ),
            },
            ("POST", SECRETS) if self.secret.is_some() => {
                self.conflicts += 1;
                status(
                    StatusCode::CONFLICT,
                    "secrets \"koorde-injector-certs\" already exists",
                )
            }
            ("POST", SECRETS) => (StatusCode::CREATED, self.write(body)),
            ("PUT", SECRET) => {
                let known = self
                    .secret
                    .as_ref()
                    .map(|secret| secret["metadata"]["resourceVersion"].clone());
                if known.as_ref() == Some(&body["metadata"]["resourceVersion"]) {
                    (StatusCode::OK, self.write(body))
                } else {
                    self.conflicts += 1;
                    status(StatusCode::CONFLICT, "the object has been modified")
                }
            }
            ("PATCH", WEBHOOK)
                if kind == "application/apply-patch+yaml"
                    && query == "fieldManager=koorde-injector&force=true" =>
            {
                self.apply(&body)
            }
            ("POST", path)
                if path.starts_with("/api/v1/namespaces/") && path.ends_with("/events") =>
            {
                self.events.push(body.clone());
                (StatusCode::CREATED, body)
            }
            _ => status(StatusCode::FORBIDDEN, "the injector may not do that"),
        }
    }

    fn write(&mut self, mut secret: Value) -> Value {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secret = Some(secret.clone());
        secret
    }

    /// Server-side apply: webhooks are merged by name; what is not named is left alone.
    fn apply(&mut self, body: &Value) -> (StatusCode, Value) {
        let known = self.configuration["webhooks"]
            .as_array_mut()
            .expect("there are two");
        for applied in body["webhooks"].as_array().expect("a list") {
            let Some(webhook) = known
                .iter_mut()
                .find(|webhook| webhook["name"] == applied["name"])
            else {
                let message = "webhooks[2].sideEffects: Required value";
                return (
                    StatusCode::UNPROCESSABLE_ENTITY,
                    json!({"kind": "Status", "message": message}),
                );
            };
            assert_eq!(
                applied.as_object().map(serde_json::Map::len),
                Some(2),
                "{applied}"
            );
            webhook["clientConfig"]["caBundle"] = applied["clientConfig"]["caBundle"].clone();
        }
        (StatusCode::OK, self.configuration.clone())
    }
}
