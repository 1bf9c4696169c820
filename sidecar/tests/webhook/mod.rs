//! The injector as a process, and clients that trust it as an API server does.
#![allow(dead_code, unreachable_pub, reason = "each user takes a part of it")]

pub mod api_server;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    process::{Child, Command},
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use api_server::ApiServer;

/// Longest wait for anything; what is waited for comes much sooner.
pub const SOON: Duration = Duration::from_secs(60);
/// The webhook's name in the cluster.
pub const NAME: &str = "koorde-injector.web.svc";

/// A folder of this test's own.
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("injector-{name}"));
    std::fs::create_dir_all(&folder).expect("the target directory is writable");
    folder
}

/// A running `koorde injector`. Killed when dropped.
pub struct Injector {
    pub child: Child,
    pub webhook: SocketAddr,
    pub admin: SocketAddr,
    _log: JoinSet<()>,
}

impl Injector {
    /// With certificates of its own, kept at an API server.
    pub async fn own(api: &ApiServer, flags: &[&str]) -> Self {
        let url = format!("https://{}", api.address);
        let (ca, token) = (
            api.ca_file.display().to_string(),
            api.token_file.display().to_string(),
        );
        let all = [
            "--namespace",
            "web",
            "--api-server",
            &url,
            "--api-ca",
            &ca,
            "--api-token",
            &token,
        ];
        Self::start(&[&all[..], flags].concat()).await
    }

    pub async fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_koorde"))
            .args([
                "injector",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(["--set", "seeds=[koorde-headless.web.svc:4000]"])
            .args(flags)
            .env("KOORDE_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("koorde starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
        let started = loop {
            let line = log
                .next_line()
                .await
                .expect("readable")
                .expect("it says that it has started");
            let Ok(line) = serde_json::from_str::<Value>(&line) else {
                panic!("{line}");
            };
            if line["msg"] == "Started." {
                break line;
            }
        };
        let address = |key: &str| {
            started[key]
                .as_str()
                .expect("an address")
                .parse()
                .expect("an address")
        };
        let (webhook, admin) = (address("webhook"), address("admin"));
        let mut drain = JoinSet::new();
        drain.spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self {
            child,
            webhook,
            admin,
            _log: drain,
        }
    }

    /// Status and body of a path of the admin listener.
    pub async fn admin(&self, path: &str) -> (StatusCode, String) {
        let stream = TcpStream::connect(self.admin).await.expect("it listens");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let request = Request::get(path)
            .header("host", "admin")
            .body(Full::<Bytes>::default())
            .expect("a request");
        let answer = whole(sender.send_request(request).await.expect("an answer"))
            .await
            .expect("whole");
        (
            answer.status(),
            String::from_utf8_lossy(answer.body()).into_owned(),
        )
    }

    pub async fn ready(&self) {
        eventually("it is ready", async || {
            self.admin("/readyz").await.0 == StatusCode::OK
        })
        .await;
    }
}

/// Waits until it is so.
pub async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let all = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, all)
        .await
        .unwrap_or_else(|_| panic!("not in {SOON:?}: {what}"));
}

/// One connection to the webhook, as an API server makes it.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The leaf that was served.
    pub leaf: CertificateDer<'static>,
    _task: JoinSet<()>,
}

/// Connects, trusting these authorities and no others.
pub async fn connect(address: SocketAddr, bundle: &str) -> Result<Connection, String> {
    connect_from(Ipv4Addr::LOCALHOST, address, bundle).await
}

/// The same from another address of this machine.
pub async fn connect_from(
    from: Ipv4Addr,
    address: SocketAddr,
    bundle: &str,
) -> Result<Connection, String> {
    let tls = tls_from(from, address, bundle).await?;
    let certificates = tls.get_ref().1.peer_certificates();
    let leaf = certificates.expect("it has one")[0].clone().into_owned();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls))
        .await
        .map_err(|error| error.to_string())?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let _ = connection.await;
    });
    Ok(Connection {
        sender,
        leaf,
        _task: task,
    })
}

/// The stream of a connection.
pub async fn tls(address: SocketAddr, bundle: &str) -> Result<TlsStream<TcpStream>, String> {
    tls_from(Ipv4Addr::LOCALHOST, address, bundle).await
}

async fn tls_from(
    from: Ipv4Addr,
    address: SocketAddr,
    bundle: &str,
) -> Result<TlsStream<TcpStream>, String> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let authority = authority.map_err(|error| error.to_string())?;
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpSocket::new_v4().map_err(|error| error.to_string())?;
    let bound = socket.bind((from, 0).into());
    bound.map_err(|error| error.to_string())?;
    let stream = socket.connect(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let _ = stream.set_nodelay(true);
    let name = ServerName::try_from(NAME).expect("a name");
    let tls = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    tls.map_err(|error| error.to_string())
}

impl Connection {
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, String> {
        self.sender
            .ready()
            .await
            .map_err(|error| error.to_string())?;
        whole(
            self.sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?,
        )
        .await
    }

    /// Asks for a review, and gives its `response`.
    pub async fn review(&mut self, review: &Value) -> Result<Value, String> {
        let answer = self.send(post(review.to_string())).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("{}: {:?}", answer.status(), answer.body()));
        }
        let mut review: Value =
            serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
        Ok(review["response"].take())
    }
}

pub fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post("/inject")
        .header("host", NAME)
        .header("content-type", "application/json");
    request.body(Full::new(body.into())).expect("a request")
}

async fn whole(answer: Response<hyper::body::Incoming>) -> Result<Response<Bytes>, String> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// A review as Kubernetes 1.33 sends it, of a pod of a Deployment.
pub fn review(uid: &str) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "web",
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": ["system:authenticated"]},
            "object": {
                "kind": "Pod",
                "apiVersion": "v1",
                "metadata": {
                    "generateName": "front-6d4b75cb6d-",
                    "creationTimestamp": null,
                    "labels": {"app": "front", "pod-template-hash": "6d4b75cb6d", "koorde.dev/inject": "true"},
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "front-6d4b75cb6d",
                        "uid": "8a2b64c2-0000-4000-8000-000000000001", "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {
                    "volumes": [{"name": "kube-api-access-x7x2k", "projected": {"sources": [], "defaultMode": 420}}],
                    "containers": [{
                        "name": "front", "image": "front:1", "resources": {},
                        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
                        "volumeMounts": [{"name": "kube-api-access-x7x2k", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
                        "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "IfNotPresent",
                    }],
                    "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "serviceAccountName": "default",
                    "securityContext": {}, "schedulerName": "default-scheduler", "enableServiceLinks": true,
                },
                "status": {},
            },
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// The patch in a response.
pub fn patch(response: &Value) -> json_patch::Patch {
    let patch = STANDARD
        .decode(response["patch"].as_str().expect("a patch"))
        .expect("base64");
    serde_json::from_slice(&patch).expect("a patch")
}
