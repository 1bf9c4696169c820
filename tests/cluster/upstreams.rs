//! Upstreams: several servers that answer for an origin, over real sockets.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use koorde_tests::{
    cluster::{Cluster, config, eventually, fetch, get},
    origin::{Origin, response},
};
use libkoorde::{
    Config,
    config::{RouteConfig, UpstreamConfig},
    metrics::counted,
};
use tokio::{io::AsyncReadExt, net::TcpListener, task::JoinSet};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

const FRESH: (&str, &str) = ("cache-control", "max-age=600");

/// Sends everything for this host to these servers, and allows nothing else.
fn through(config: &mut Config, host: &str, upstream: UpstreamConfig) {
    config.egress.allow.clear();
    config.routes = vec![RouteConfig {
        host: Some(host.to_owned()),
        upstream: Some("servers".to_owned()),
        ..RouteConfig::default()
    }];
    config.upstreams.insert("servers".to_owned(), upstream);
}

fn servers(addresses: &[SocketAddr]) -> UpstreamConfig {
    UpstreamConfig {
        servers: addresses.iter().map(|a| format!("http://{a}")).collect(),
        ..UpstreamConfig::default()
    }
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound")
}

async fn two_origins() -> [Origin; 2] {
    let one = Origin::fixed(Duration::ZERO, &[FRESH], "body").await;
    [one, Origin::fixed(Duration::ZERO, &[FRESH], "body").await]
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_to_all_servers_under_the_targets_name() {
    let origins = two_origins().await;
    let addresses = [origins[0].address(), origins[1].address()];
    let upstream = servers(&addresses);
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let urls = (0..100).map(|n| format!("http://api.example/{n}"));
    let fetches = urls.map(|url| fetch(&cluster.nodes[0], get(&url)));
    for answer in join_all(fetches).await {
        assert_eq!(answer.expect("an answer").body(), "body");
    }
    let asked = |origin: &Origin| {
        let requests = (0..100).flat_map(|n| origin.requests(&format!("/{n}")));
        let hosts: Vec<_> = requests.map(|fields| fields["host"].clone()).collect();
        assert!(hosts.iter().all(|host| host == "api.example"), "{hosts:?}");
        hosts.len()
    };
    let (one, two) = (asked(&origins[0]), asked(&origins[1]));
    assert_eq!(one + two, 100);
    assert!(one >= 20 && two >= 20, "{one} and {two}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_host_is_what_servers_are_sent() {
    let [origin, _] = two_origins().await;
    let upstream = UpstreamConfig {
        host: Some("internal.example:8443".to_owned()),
        ..servers(&[origin.address()])
    };
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let url = "http://api.example/named?q=1";
    fetch(&cluster.nodes[0], get(url)).await.expect("an answer");
    let requests = origin.requests("/named?q=1");
    assert_eq!(requests[0]["host"], "internal.example:8443");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_costs_nobody_an_error_and_is_left_out() {
    let [origin, _] = two_origins().await;
    let upstream = UpstreamConfig {
        max_fails: 3,
        fail_timeout: Duration::from_secs(600),
        ..servers(&[nobody().await, origin.address()])
    };
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
    for n in 0..40 {
        let answer = fetch(node, get(&format!("http://api.example/{n}"))).await;
        assert_eq!(answer.expect("from the other").body(), "body");
    }
    assert_eq!(counted(&metrics.origin_retries, "retried"), 3);
    assert_eq!(counted(&metrics.upstream_servers, "out"), 1);
    // What was not sent may go on to the next server even if it is unsafe and has a body.
    let mut request = get("http://api.example/posted");
    request.method = http::Method::POST;
    let body = Full::from("text").map_err(|never: Infallible| match never {});
    let answer = node.fetch_with_body(request, body.boxed_unsync()).await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_not_begun_goes_to_the_next_server() {
    let origin = Origin::start(|request| async {
        let body = request.into_body().collect().await.expect("a body");
        let is_whole = body.to_bytes() == "all of it";
        response(if is_whole { 201 } else { 400 }, &[], "")
    })
    .await;
    let upstream = UpstreamConfig {
        max_fails: 1000,
        ..servers(&[nobody().await, origin.address()])
    };
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    for _ in 0..12 {
        let mut request = get("http://api.example/posted");
        request.method = http::Method::POST;
        let body = Full::from("all of it").map_err(|never: Infallible| match never {});
        let sent = cluster.nodes[0].fetch_with_body(request, body.boxed_unsync());
        assert_eq!(sent.await.expect("an answer").status().as_u16(), 201);
    }
    let retried = counted(&cluster.metrics[0].origin_retries, "retried");
    assert!(retried > 0, "the dead one was chosen first some time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_server_may_have_seen_goes_to_no_other() {
    let seen = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        addresses.push(listener.local_addr().expect("it is bound"));
        let seen = Arc::clone(&seen);
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("it accepts");
                let mut byte = [0; 4096];
                if stream.read(&mut byte).await.is_ok_and(|read| read > 0) {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    let upstream = servers(&addresses);
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let answer = fetch(&cluster.nodes[0], get("http://api.example/seen")).await;
    let error = answer.expect_err("both close");
    assert!(error.starts_with("origin: "), "{error}");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn if_all_servers_are_out_all_are_tried() {
    let addresses = [nobody().await, nobody().await];
    let upstream = UpstreamConfig {
        max_fails: 1,
        fail_timeout: Duration::from_secs(600),
        ..servers(&addresses)
    };
    let cluster = Cluster::with(1, |config| {
        through(config, "api.example", upstream.clone());
        config.origin.limits.breaker_failures = 0;
    })
    .await;
    let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
    fetch(node, get("http://api.example/a"))
        .await
        .expect_err("nobody is there");
    assert_eq!(counted(&metrics.upstream_servers, "out"), 2);
    let _back = Origin::at(addresses[1], |_| async { response(200, &[FRESH], "body") }).await;
    let answer = fetch(node, get("http://api.example/b")).await;
    assert_eq!(answer.expect("it was tried").body(), "body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_its_health_check_is_not_asked() {
    let is_sick = Arc::<AtomicUsize>::default();
    let told = Arc::clone(&is_sick);
    let sick = Origin::start(move |request| {
        let is_sick = told.load(Ordering::SeqCst) == 1 && request.uri().path() == "/healthz";
        async move { response(if is_sick { 503 } else { 200 }, &[FRESH], "body") }
    })
    .await;
    let [well, _] = two_origins().await;
    let upstream = UpstreamConfig {
        health_path: Some("/healthz".to_owned()),
        health_interval: Duration::from_millis(100),
        ..servers(&[sick.address(), well.address()])
    };
    is_sick.store(1, Ordering::SeqCst);
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let (node, metrics) = (&cluster.nodes[0], &cluster.metrics[0]);
    let count = |origin: &Origin, round: usize| {
        let paths = (0..20).map(|n| origin.count(&format!("/{round}/{n}")));
        paths.sum::<usize>()
    };
    let ask = async |round: usize| {
        for n in 0..20 {
            let url = format!("http://api.example/{round}/{n}");
            fetch(node, get(&url)).await.expect("an answer");
        }
    };
    eventually("it is found sick", || {
        counted(&metrics.upstream_servers, "sick") == 1
    })
    .await;
    ask(0).await;
    assert_eq!((count(&sick, 0), count(&well, 0)), (0, 20));
    is_sick.store(0, Ordering::SeqCst);
    let checks = sick.count("/healthz");
    eventually("it is asked again", || sick.count("/healthz") >= checks + 2).await;
    ask(1).await;
    assert!(count(&sick, 1) > 0, "it is back");
    assert_eq!(
        well.requests("/healthz")[0]["host"],
        *well.address().to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_are_no_requests_of_clients() {
    let [well, _] = two_origins().await;
    let upstream = UpstreamConfig {
        health_path: Some("/healthz".to_owned()),
        health_interval: Duration::from_millis(100),
        ..servers(&[nobody().await, well.address()])
    };
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let metrics = &cluster.metrics[0];
    eventually("both are checked", || {
        well.count("/healthz") >= 2 && counted(&metrics.upstream_servers, "sick") == 1
    })
    .await;
    let errors = || metrics.origin_errors.of(&["servers", "connect"]).get();
    assert_eq!((metrics.origin_requests.get(), errors()), (0, 0));
    let answer = fetch(&cluster.nodes[0], get("http://api.example/asked")).await;
    assert_eq!(answer.expect("from the well one").body(), "body");
    assert_eq!((metrics.origin_requests.get(), errors()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_servers_themselves_may_be_reached() {
    let secret = Origin::fixed(Duration::ZERO, &[FRESH], "secret").await;
    let location = secret.url("/secret");
    let origin = Origin::start(move |_| {
        let location = location.parse().expect("a field value");
        async move {
            let mut answer = response(302, &[], "");
            answer.headers_mut().insert("location", location);
            answer
        }
    })
    .await;
    let upstream = servers(&[origin.address()]);
    let cluster = Cluster::with(1, |config| {
        through(config, "api.example", upstream.clone());
        config.origin.max_redirects = 3;
    })
    .await;
    let node = &cluster.nodes[0];
    let error = fetch(node, get("http://api.example/moved")).await;
    assert_eq!(
        error.expect_err("a redirect"),
        "127.0.0.1 is refused: loopback"
    );
    let error = fetch(node, get(&origin.url("/straight"))).await;
    assert_eq!(
        error.expect_err("no upstream"),
        "127.0.0.1 is refused: loopback"
    );
    assert_eq!(secret.count("/secret"), 0);
}

/// A server that speaks whatever comes, and notes the version, the authority and the scheme.
struct Modern {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<(Version, String)>>>,
    names: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Modern {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let names = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::default();
        let (notes, sni) = (Arc::clone(&seen), Arc::clone(&names));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("it accepts");
                let (tls, notes, sni) = (tls.clone(), Arc::clone(&notes), Arc::clone(&sni));
                connections.spawn(async move {
                    let Some(tls) = tls else {
                        return serve(stream, notes).await;
                    };
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    let name = stream.get_ref().1.server_name().unwrap_or_default();
                    sni.lock().expect("no panic in here").push(name.to_owned());
                    serve(stream, notes).await;
                });
            }
        });
        Self {
            address,
            seen,
            names,
            _server: server,
        }
    }
}

async fn serve<S>(stream: S, notes: Arc<Mutex<Vec<(Version, String)>>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let host = request.headers().get("host");
        let host = host.map(|host| host.to_str().expect("text").to_owned());
        let authority = request.uri().authority().map(ToString::to_string);
        let name = authority.or(host).unwrap_or_default();
        let mut notes = notes.lock().expect("no panic in here");
        notes.push((request.version(), name));
        async { Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("body"))) }
    });
    let _ended = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_without_tls_is_spoken_where_that_is_known() {
    let server = Modern::start(None).await;
    let upstream = UpstreamConfig {
        h2c: true,
        ..servers(&[server.address])
    };
    let cluster = Cluster::with(1, |config| through(config, "api.example", upstream.clone())).await;
    let answer = fetch(&cluster.nodes[0], get("http://api.example/h2c")).await;
    assert_eq!(answer.expect("an answer").body(), "body");
    let seen = server.seen.lock().expect("no panic in there").clone();
    assert_eq!(seen, [(Version::HTTP_2, "api.example".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_agrees_on_http_2_under_the_targets_name_and_its_own_authority() {
    let made = rcgen::generate_simple_self_signed(["api.example".to_owned()]);
    let made = made.expect("a certificate");
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let ca_file = folder.join("upstream.pem");
    std::fs::write(&ca_file, made.cert.pem()).expect("the target directory is writable");
    let key = made.signing_key.serialize_der();
    let key = key.try_into().expect("a key that was just made");
    let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they belong together");
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = Modern::start(Some(Arc::new(tls).into())).await;
    let trusting = UpstreamConfig {
        servers: vec![format!("https://{}", server.address)],
        ca_file: Some(ca_file.display().to_string()),
        ..UpstreamConfig::default()
    };
    let strict = UpstreamConfig {
        ca_file: None,
        ..trusting.clone()
    };
    let cluster = Cluster::with(1, |config| through(config, "api.example", trusting.clone())).await;
    // The scheme of the target is the client's; the servers' is theirs.
    let answer = fetch(&cluster.nodes[0], get("http://api.example/tls")).await;
    assert_eq!(answer.expect("an answer").body(), "body");
    let seen = server.seen.lock().expect("no panic in there").clone();
    assert_eq!(seen, [(Version::HTTP_2, "api.example".to_owned())]);
    let names = server.names.lock().expect("no panic in there").clone();
    assert_eq!(names, ["api.example"]);
    let cluster = Cluster::with(1, |config| through(config, "api.example", strict.clone())).await;
    let error = fetch(&cluster.nodes[0], get("http://api.example/tls")).await;
    let error = error.expect_err("nobody vouches for it");
    assert!(error.contains("certificate"), "{error}");
    let _ = std::fs::remove_file(ca_file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_that_is_followed_leads_to_the_upstream_of_its_own_target() {
    let second = Origin::fixed(Duration::ZERO, &[FRESH], "second").await;
    let first = Origin::start(|request| async move {
        let location = match request.uri().path() {
            "/host" => ("location", "http://second.example/there"),
            _ => ("location", "/second/there"),
        };
        response(302, &[FRESH, location], "")
    })
    .await;
    let cluster = Cluster::with(2, |config| {
        through(config, "first.example", servers(&[first.address()]));
        config.origin.max_redirects = 3;
        let to = |host: &str, prefix: &str| RouteConfig {
            host: Some(host.to_owned()),
            prefix: prefix.to_owned(),
            upstream: Some("second".to_owned()),
            ..RouteConfig::default()
        };
        config.routes.insert(0, to("first.example", "/second"));
        config.routes.push(to("second.example", "/"));
        let second = servers(&[second.address()]);
        config.upstreams.insert("second".to_owned(), second);
    })
    .await;
    for node in &cluster.nodes {
        for path in ["host", "path"] {
            let answer = fetch(node, get(&format!("http://first.example/{path}"))).await;
            assert_eq!(answer.expect("an answer").body(), "second", "{path}");
        }
        let mut passed = get("http://first.example/host?passed");
        passed
            .fields
            .insert("if-match", "\"1\"".parse().expect("a value"));
        assert_eq!(
            fetch(node, passed).await.expect("an answer").body(),
            "second"
        );
    }
    assert_eq!(second.requests("/there")[0]["host"], "second.example");
    assert_eq!(second.requests("/second/there")[0]["host"], "first.example");
}

/// The name is a label of metrics, and a scrape has a bound.
#[test]
fn an_upstream_has_a_name_of_at_most_64_bytes() {
    for (name, is_taken) in [
        ("é".repeat(32), true),
        ("a".repeat(65), false),
        (String::new(), false),
        ("a\nb".to_owned(), false),
    ] {
        let mut config = config("node-0");
        let upstream = UpstreamConfig {
            servers: vec!["http://127.0.0.1:9".to_owned()],
            ..UpstreamConfig::default()
        };
        config.upstreams.insert(name.clone(), upstream);
        let checked = config.check();
        assert_eq!(checked.is_ok(), is_taken, "{name:?}: {checked:?}");
        let names_it = |why: &String| why.contains("1 to 64 bytes") && why.contains(&name);
        assert!(checked.err().as_ref().is_none_or(names_it));
    }
}
