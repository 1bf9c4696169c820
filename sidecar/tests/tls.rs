//! TLS of the client listener, with a certificate made for the occasion.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

use std::{convert::Infallible, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use koorde_sidecar::{
    http::{HttpMetrics, ListenError, Listener, ListenerName},
    settings::{HttpSettings, TlsSettings},
    shutdown::Phase,
};
use libkoorde::metrics::Book;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::watch};
use tokio_rustls::TlsConnector;

/// Longest wait for anything; what is waited for comes much sooner.
const SOON: Duration = Duration::from_secs(20);

/// Two PEM files that are gone after the test, and the certificate in them.
struct Files {
    settings: TlsSettings,
    certificate: CertificateDer<'static>,
}

impl Files {
    fn new(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("a certificate for localhost");
        let path =
            |end: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{end}"));
        let write = |end: &str, text: String| {
            fs::write(path(end), text).expect("the target directory is writable");
            Some(path(end).display().to_string())
        };
        let settings = TlsSettings {
            cert: write("cert.pem", made.cert.pem()),
            key: write("key.pem", made.signing_key.serialize_pem()),
            handshake_timeout: Duration::from_millis(300),
        };
        let certificate = made.cert.der().clone();
        Self {
            settings,
            certificate,
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.settings.cert, &self.settings.key]
            .into_iter()
            .flatten()
        {
            let _ = fs::remove_file(path);
        }
    }
}

struct Server {
    address: SocketAddr,
    metrics: Arc<HttpMetrics>,
    _phase: watch::Sender<Phase>,
}

async fn bind(tls: TlsSettings, metrics: &Arc<HttpMetrics>) -> Result<Listener, ListenError> {
    let listen = ([127, 0, 0, 1], 0).into();
    let settings = HttpSettings {
        listen,
        tls,
        ..HttpSettings::default()
    };
    Listener::bind(ListenerName::Http, &settings, metrics).await
}

async fn start(tls: TlsSettings) -> Server {
    let metrics = Arc::new(HttpMetrics::new(&mut Book::default()));
    let listener = bind(tls, &metrics)
        .await
        .expect("the files are well-formed");
    let address = listener.address();
    let (phase, phases) = watch::channel(Phase::Serving);
    let service = tower::service_fn(|_: Request<Incoming>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("hello"))))
    });
    tokio::spawn(listener.serve(service, phases, SOON));
    Server {
        address,
        metrics,
        _phase: phase,
    }
}

/// The body of an answer over the protocol that both sides agree on, and that protocol.
async fn get(address: SocketAddr, files: &Files, protocol: &[u8]) -> (Version, Bytes) {
    let mut roots = RootCertStore::empty();
    roots
        .add(files.certificate.clone())
        .expect("a well-formed certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address)
        .await
        .expect("the listener accepts");
    let name = ServerName::try_from("localhost").expect("a well-formed name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await;
    let stream = stream.expect("the handshake is done");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    let request = Request::get("https://localhost/").header("host", "localhost");
    let request = request
        .body(Empty::<Bytes>::new())
        .expect("a well-formed request");
    let io = TokioIo::new(stream);
    let response = if protocol == b"h2" {
        let client = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut client, connection) = client.expect("HTTP/2 is spoken");
        tokio::spawn(connection);
        client.send_request(request).await
    } else {
        let client = hyper::client::conn::http1::handshake(io).await;
        let (mut client, connection) = client.expect("HTTP/1.1 is spoken");
        tokio::spawn(connection);
        client.send_request(request).await
    };
    let response = response.expect("an answer");
    let version = response.version();
    (
        version,
        response
            .into_body()
            .collect()
            .await
            .expect("a whole body")
            .to_bytes(),
    )
}

#[tokio::test]
async fn both_protocols_are_offered_over_tls() {
    let files = Files::new("both");
    let server = start(files.settings.clone()).await;
    let http2 = get(server.address, &files, b"h2").await;
    assert_eq!(http2, (Version::HTTP_2, Bytes::from("hello")));
    let http1 = get(server.address, &files, b"http/1.1").await;
    assert_eq!(http1, (Version::HTTP_11, Bytes::from("hello")));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let files = Files::new("handshake");
    let server = start(files.settings.clone()).await;
    let mut stream = TcpStream::connect(server.address)
        .await
        .expect("the listener accepts");
    let read = tokio::time::timeout(SOON, stream.read_u8()).await;
    assert!(read.expect("the listener closes").is_err());
    assert_eq!(
        server.metrics.closed_count(ListenerName::Http, "handshake"),
        1
    );
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_with_its_key() {
    let files = Files::new("wrong");
    let metrics = Arc::new(HttpMetrics::new(&mut Book::default()));
    let missing = Some("missing.pem".to_owned());
    for (tls, key) in [
        (
            TlsSettings {
                cert: missing.clone(),
                ..files.settings.clone()
            },
            "http.tls.cert",
        ),
        (
            TlsSettings {
                key: missing.clone(),
                ..files.settings.clone()
            },
            "http.tls.key",
        ),
    ] {
        let error = bind(tls, &metrics)
            .await
            .err()
            .expect("there is no such file")
            .to_string();
        assert!(
            error.starts_with(&format!("{key} = missing.pem: ")),
            "{error}"
        );
    }
}
