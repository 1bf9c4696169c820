//! A whole process between a client and an origin.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use http::{Method, StatusCode};
use koorde_sidecar::settings::ShutdownSettings;
use support::{Client, Origin, SOON, cache, settings, start};

#[tokio::test]
async fn a_url_is_fetched_once_with_its_whole_query_and_then_found() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let url = cache(&app, &origin.url("/p?a=1&b=2%20c"));
    let first = client.get(&url).await;
    assert_eq!(
        (first.status, first.body.as_str()),
        (StatusCode::OK, "/p?a=1&b=2%20c")
    );
    assert_eq!(first.field("x-cache"), "MISS-ORIGIN");
    let second = client.get(&url).await;
    assert_eq!(
        (second.field("x-cache"), second.body.as_str()),
        ("HIT-LOCAL", "/p?a=1&b=2%20c")
    );
    for answer in [&first, &second] {
        assert_eq!(answer.field("x-node-id"), "node-a");
        assert!(
            answer.field("cache-status").starts_with("koorde"),
            "{answer:?}"
        );
    }
    assert!(!second.field("age").is_empty());
    assert_eq!(origin.seen().len(), 1);
    app.shutdown().await;
}

#[tokio::test]
async fn a_head_request_has_the_fields_and_no_body() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let url = cache(&app, &origin.url("/head"));
    client.get(&url).await;
    let answer = client.send(Method::HEAD, &url, &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(answer.field("x-cache"), "HIT-LOCAL");
    app.shutdown().await;
}

#[tokio::test]
async fn a_range_and_a_condition_reach_the_library() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let url = cache(&app, &origin.url("/ranges"));
    client.get(&url).await;
    let answer = client
        .send(Method::GET, &url, &[("range", "bytes=1-3")])
        .await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (206, "ran"));
    app.shutdown().await;
}

#[tokio::test]
async fn a_query_that_names_no_url_is_answered_400_with_what_is_wrong() {
    let (app, client) = (start(settings()).await, Client::default());
    let long = format!("url=http://a/{}", "x".repeat(9 << 10));
    for (query, part) in [
        ("", "url="),
        ("url=http://a/&url=http://b/", "more than once"),
        ("url=http://a/?b=1&c=2", "\"c\""),
        ("url=%zz", "%zz"),
        ("url=nonsense", "nonsense"),
        ("url=ftp%3A%2F%2Fa%2F", "ftp"),
        ("url=http%3A%2F%2Fuser%3Apassword%40a%2F", "password"),
        (long.as_str(), "too long"),
    ] {
        let url = format!("http://{}/cache?{query}", app.addresses().http);
        let answer = client.get(&url).await;
        assert_eq!(
            answer.status,
            StatusCode::BAD_REQUEST,
            "{query}: {answer:?}"
        );
        assert_eq!(answer.field("cache-status"), "koorde; detail=bad-request");
        assert_eq!(
            (answer.field("x-cache"), answer.field("x-node-id")),
            ("ERROR", "node-a")
        );
        let message = answer.json()["message"].to_string().replace("\\\"", "\"");
        assert!(message.contains(part), "{part:?} is not in {message}");
    }
    app.shutdown().await;
}

#[tokio::test]
async fn what_may_not_or_cannot_be_reached_has_its_status() {
    let (app, client) = (start(settings()).await, Client::default());
    let addresses = app.addresses();
    // Bound and dropped: nobody listens there.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let closed = closed.expect("a free port");
    for (url, status, detail) in [
        ("http://10.0.0.1/".to_owned(), 403, "denied"),
        (
            "http://169.254.169.254/latest/meta-data/".to_owned(),
            403,
            "denied",
        ),
        // Loopback is allowed here, but a node that is its own origin would wait for itself.
        (format!("http://{}/livez", addresses.http), 403, "denied"),
        (format!("http://{}/livez", addresses.admin), 403, "denied"),
        (format!("http://{}/livez", addresses.peer), 403, "denied"),
        (format!("http://{closed}/"), 502, "origin"),
    ] {
        let answer = client.get(&cache(&app, &url)).await;
        assert_eq!(answer.status.as_u16(), status, "{url}: {answer:?}");
        assert_eq!(answer.json()["error"], detail);
        let member = format!("koorde; detail={detail}");
        assert_eq!(answer.field("cache-status"), member);
    }
    let fields = [("cache-control", "only-if-cached")];
    let answer = client
        .send(Method::GET, &cache(&app, "http://127.0.0.1:1/"), &fields)
        .await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    app.shutdown().await;
}

#[tokio::test]
async fn other_methods_and_paths_are_told_what_there_is() {
    let (app, client) = (start(settings()).await, Client::default());
    let (http, admin) = (app.addresses().http, app.addresses().admin);
    for path in ["/livez", "/metrics"] {
        let answer = client
            .send(Method::POST, &format!("http://{http}{path}"), &[])
            .await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.field("allow"), "GET, HEAD");
    }
    let answer = client.get(&format!("http://{http}/nothing")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(
        answer.body.contains("/cache") && answer.body.contains("/readyz"),
        "{}",
        answer.body
    );
    assert!(
        !answer.body.contains("/debug"),
        "operators' paths are not on this listener"
    );
    assert_eq!(
        client
            .get(&format!("http://{http}/debug/ring"))
            .await
            .status
            .as_u16(),
        404
    );
    assert_eq!(
        client
            .get(&format!("http://{admin}/cache?url=x"))
            .await
            .status
            .as_u16(),
        404
    );
    app.shutdown().await;
}

#[tokio::test]
async fn operators_see_ring_configuration_and_reasons() {
    let mut settings = settings();
    settings.ring.secret = "hunter2".into();
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings).await;
    let admin = app.addresses().admin;
    let ring = client
        .get(&format!("http://{admin}/debug/ring"))
        .await
        .json();
    assert_eq!(ring["node"], "node-a");
    let config = client.get(&format!("http://{admin}/debug/config")).await;
    assert_eq!(config.json()["ring"]["secret"], "(redacted)");
    assert!(!config.body.contains("hunter2"));
    let url = support::encode(&origin.url("/explained"));
    let reasons = client
        .get(&format!("http://{admin}/debug/explain?url={url}"))
        .await;
    assert_eq!(reasons.status, StatusCode::OK);
    assert_eq!(reasons.json()["owners"][0], "node-a");
    let missing = client.get(&format!("http://{admin}/debug/explain")).await;
    assert_eq!(missing.status, StatusCode::BAD_REQUEST);
    app.shutdown().await;
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let url = cache(&app, &origin.url("/counted"));
    for _ in 0..4 {
        client.get(&url).await;
    }
    let get = async |path: &str, accept: &str| {
        let url = format!("http://{}{path}", app.addresses().http);
        client.send(Method::GET, &url, &[("accept", accept)]).await
    };
    let json = get("/metrics", "*/*").await;
    assert_eq!(
        (json.field("content-type"), json.field("vary")),
        ("application/json", "Accept")
    );
    assert_eq!(json.json()["cache"]["hit_rate"], 0.75);
    assert_eq!(json.json()["scope"], "node");
    let text = get("/metrics/prometheus", "*/*").await;
    assert_eq!(
        text.field("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for line in [
        "# TYPE koorde_cache_requests_total counter\n",
        "koorde_cache_requests_total{result=\"hit\",tier=\"local\"} 3\n",
        "koorde_http_requests_total{listener=\"http\",route=\"/cache\",status=\"2xx\"} 4\n",
        "# TYPE koorde_build_info gauge\n",
        "koorde_request_duration_seconds_count{result=\"hit\"} 3\n",
    ] {
        assert!(text.body.contains(line), "{line:?} is not in {}", text.body);
    }
    assert!(!text.body.contains("# EOF"));
    let open = get(
        "/metrics",
        "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
    )
    .await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.field("content-type"), kind);
    assert!(open.body.ends_with("# EOF\n"));
    let forced = get("/metrics/json", "text/plain").await;
    assert_eq!(forced.field("content-type"), "application/json");
    app.shutdown().await;
}

#[tokio::test]
async fn a_process_told_to_end_is_not_ready_serves_on_and_finishes_what_is_under_way() {
    let (origin, client) = (Origin::start().await, Client::default());
    let mut settings = settings();
    // Ended by this test, not by the clock.
    settings.shutdown = ShutdownSettings {
        delay: SOON / 40,
        finish: SOON,
        ..ShutdownSettings::at_once()
    };
    let app = start(settings).await;
    let (http, slow) = (app.addresses().http, cache(&app, &origin.url("/slow")));
    let under_way = tokio::spawn({
        let client = client.clone();
        async move { client.get(&slow).await }
    });
    origin.asked(1).await;
    let ended = tokio::spawn(app.shutdown());
    let draining = async {
        loop {
            let ready = client.get(&format!("http://{http}/readyz")).await;
            if ready.status == StatusCode::SERVICE_UNAVAILABLE {
                break ready;
            }
        }
    };
    let answer = tokio::time::timeout(SOON, draining)
        .await
        .expect("it drains");
    assert_eq!(
        (answer.body.as_str(), answer.field("connection")),
        ("not ready: draining\n", "close")
    );
    assert_eq!(
        client.get(&format!("http://{http}/livez")).await.status,
        StatusCode::OK
    );
    assert_eq!(
        client.get(&format!("http://{http}/health")).await.json()["phase"],
        "draining"
    );
    origin.go.add_permits(1);
    assert_eq!(under_way.await.expect("no panic").body, "/slow");
    tokio::time::timeout(SOON, ended)
        .await
        .expect("it ends")
        .expect("no panic");
    assert!(
        tokio::net::TcpStream::connect(http).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn a_purge_through_the_admin_listener_is_answered_with_a_receipt() {
    let (origin, client) = (Origin::start().await, Client::default());
    let app = start(settings()).await;
    let admin = format!("http://{}/purge", app.addresses().admin);
    let url = origin.url("/purged");
    for method in [Method::POST, Method::DELETE] {
        let before = client.get(&cache(&app, &url)).await;
        assert_eq!(before.status, StatusCode::OK);
        let asked = format!("{admin}?hard=true&url={}", support::encode(&url));
        let answer = client.send(method, &asked, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.field("cache-control"), "no-store");
        let receipt = answer.json();
        assert_eq!(receipt["kind"], "hard");
        assert_eq!(receipt["scope"], format!("url {url}"));
        assert_eq!(receipt["unreachable"].as_array().map(Vec::len), Some(0));
        assert_eq!(receipt["generation"], app.node().purge_generation());
        let after = client.get(&cache(&app, &url)).await;
        assert_eq!(after.field("x-cache"), "MISS-ORIGIN");
        let again = client.get(&cache(&app, &url)).await;
        assert_eq!(again.field("x-cache"), "HIT-LOCAL");
    }
    let answer = client.send(Method::POST, &admin, &[]).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.body.contains("name one of url="), "{}", answer.body);
    let answer = client.get(&format!("{admin}?all=true")).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.field("allow"), "POST, DELETE");
    let http = format!("http://{}/purge?all=true", app.addresses().http);
    let answer = client.send(Method::POST, &http, &[]).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "operators' alone");
    app.shutdown().await;
}

/// An app could otherwise purge for the whole ring through its own sidecar, token or no token.
#[tokio::test]
async fn a_node_that_takes_no_purges_takes_none_by_any_door() {
    let mut settings = settings();
    settings.admin.purge = false;
    settings.http.purge = true;
    let app = start(settings).await;
    let client = Client::default();
    let url = format!("http://{}/purge?all=true&hard=true", app.addresses().admin);
    let answer = client.send(Method::POST, &url, &[]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
    assert!(answer.body.contains("admin.purge"), "{}", answer.body);
    let purge = Method::from_bytes(b"PURGE").expect("a token");
    let url = format!(
        "http://{}/cache?url=http://a.example/",
        app.addresses().http
    );
    let answer = client.send(purge, &url, &[]).await;
    assert!(
        answer.status.is_client_error(),
        "{} {}",
        answer.status,
        answer.body
    );
    assert_eq!(app.node().purge_generation(), 0);
    app.shutdown().await;
}

#[tokio::test]
async fn with_a_token_file_a_purge_needs_the_token() {
    let path = std::env::temp_dir().join(format!("koorde-token-{}", std::process::id()));
    std::fs::write(&path, "0123456789abcdef\n").expect("a temporary file");
    let mut settings = settings();
    settings.admin.token_file = Some(path.display().to_string());
    let app = start(settings).await;
    std::fs::remove_file(&path).expect("it was there");
    let client = Client::default();
    let url = format!("http://{}/purge?all=true", app.addresses().admin);
    for (fields, status) in [
        (&[][..], 401),
        (&[("authorization", "Bearer 0123456789abcdeX")], 401),
        (&[("authorization", "Bearer 0123456789abcdef")], 200),
    ] {
        let answer = client.send(Method::POST, &url, fields).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
        if status == 401 {
            assert_eq!(answer.field("www-authenticate"), "Bearer");
        }
    }
    assert_eq!(app.node().purge_generation(), 1);
    app.shutdown().await;
}
