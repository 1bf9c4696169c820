//! What passes through to the origin: methods, bodies, interim responses.

use std::{sync::Mutex, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use koorde_tests::{
    cluster::{Cluster, fetch, get, get_with},
    origin::{Origin, response},
};
use libkoorde::{Interim, Request, policy::Target};
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

fn request(method: &str, url: &str) -> Request {
    let method = Method::from_bytes(method.as_bytes()).expect("a token");
    Request::new(method, Target::parse(url).expect("a URL"), HeaderMap::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_reaches_the_origin_with_its_body_and_is_never_stored() {
    let origin = Origin::start(|request| async move {
        let method = request.method().to_string();
        let length = request.headers().get("content-length").cloned();
        let body = request.into_body().collect().await.expect("a whole body");
        let mut answer = response(299, &[("cache-control", "max-age=60")], "");
        let fields = answer.headers_mut();
        fields.insert("x-method", method.parse().expect("a value"));
        fields.insert("x-read", body.to_bytes().len().into());
        if let Some(length) = length {
            fields.insert("x-length", length);
        }
        answer
    })
    .await;
    let cluster = Cluster::start(3).await;
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH", "GET",
    ] {
        for node in &cluster.nodes {
            let body = Full::from(vec![b'x'; 300_000])
                .map_err(|never| match never {})
                .boxed_unsync();
            let answer = node
                .fetch_with_body(request(method, &origin.url("/pass")), body)
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 299);
            assert_eq!(answer.headers()["x-method"], method);
            assert_eq!(answer.headers()["x-read"], "300000");
            assert_eq!(answer.headers()["x-length"], "300000");
        }
    }
    assert_eq!(origin.count("/pass"), 7 * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_without_a_body_announces_none() {
    let origin = Origin::fixed(Duration::ZERO, &[], "gone").await;
    let cluster = Cluster::start(1).await;
    let mut delete = request("DELETE", &origin.url("/one"));
    delete.fields.insert("content-length", 7.into());
    let answer = cluster.nodes[0].fetch(delete).await.expect("an answer");
    let body = answer.into_body().collect().await.expect("a whole body");
    assert_eq!(body.to_bytes(), "gone");
    assert!(origin.requests("/one")[0].get("content-length").is_none());
}

/// An origin that sends 102 and 103 before its response.
async fn hinting() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _read = stream.read(&mut head).await;
            let interim = "HTTP/1.1 102 Processing\r\n\r\n\
                           HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";
            let _sent = stream.write_all(interim.as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let last =
                "HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok";
            let _sent = stream.write_all(last.as_bytes()).await;
        }
    };
    let mut server = JoinSet::new();
    server.spawn(serve);
    (address, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_come_through_whichever_node_is_asked() {
    let (address, _server) = hinting().await;
    let cluster = Cluster::start(3).await;
    for (index, node) in cluster.nodes.iter().enumerate() {
        let seen = Arc::new(Mutex::new(Vec::<(StatusCode, HeaderMap)>::new()));
        let mut request = get(&format!("http://{address}/{index}"));
        request.interim = Some(Interim::new({
            let seen = Arc::clone(&seen);
            move |status, fields| {
                seen.lock()
                    .expect("one thread at a time")
                    .push((status, fields.clone()))
            }
        }));
        let again = request.clone();
        let answer = node.fetch(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a whole body");
        assert_eq!(body.to_bytes(), "ok");
        {
            let seen = seen.lock().expect("one thread at a time");
            let statuses: Vec<u16> = seen.iter().map(|(status, _)| status.as_u16()).collect();
            assert_eq!(statuses, [102, 103]);
            assert_eq!(seen[1].1["link"], "</a.css>; rel=preload");
        }
        let _hit = node.fetch(again).await.expect("an answer");
        assert_eq!(
            seen.lock().expect("one thread at a time").len(),
            2,
            "they are not stored"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_that_came_a_line_each_are_one_line_for_the_origin_and_for_vary() {
    let fields = &[("cache-control", "max-age=600"), ("vary", "cookie")];
    let origin = Origin::fixed(Duration::ZERO, fields, "body").await;
    let cluster = Cluster::start(2).await;
    let url = origin.url("/cookies");
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
    for node in &cluster.nodes {
        for cookies in [&crumbs[..], &[("cookie", "a=1; b=2")]] {
            fetch(node, get_with(&url, cookies))
                .await
                .expect("an answer");
        }
    }
    assert_eq!(origin.count("/cookies"), 1);
    let mut post = get_with(&url, &crumbs);
    post.method = Method::POST;
    let body = Full::from("x")
        .map_err(|never| match never {})
        .boxed_unsync();
    let posted = cluster.nodes[0].fetch_with_body(post, body).await;
    posted.expect("an answer");
    for asked in origin.requests("/cookies") {
        let lines: Vec<_> = asked.get_all("cookie").iter().collect();
        assert_eq!(lines, ["a=1; b=2"]);
    }
    assert_eq!(origin.count("/cookies"), 2);
}
