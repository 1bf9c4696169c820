//! The page as HTTP sees it: its fields, its events, its bounds. `tests/ui` looks at it in a browser.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client as Legacy, connect::HttpConnector},
    rt::TokioExecutor,
};
use koorde_sidecar::{admin::MAX_VIEWERS, app::App};
use serde_json::Value;
use support::{Client, SOON, settings, start};

const FILES: [&str; 12] = [
    "",
    "style.css",
    "app.js",
    "ask.js",
    "charts.js",
    "dom.js",
    "explain.js",
    "members.js",
    "purge.js",
    "ring.js",
    "units.js",
    "nowhere",
];

fn page(app: &App, file: &str) -> String {
    format!("http://{}/ui/{file}", app.addresses().admin)
}

#[tokio::test]
async fn every_file_of_the_page_has_a_strict_policy_and_is_sent_once() {
    let (app, client) = (start(settings()).await, Client::default());
    for file in FILES {
        let answer = client.get(&page(&app, file)).await;
        assert_eq!(answer.field("x-content-type-options"), "nosniff", "{file}");
        if file == "nowhere" {
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            continue;
        }
        assert_eq!(answer.status, StatusCode::OK, "{file}");
        let policy = answer.field("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ] {
            assert!(
                policy.split("; ").any(|one| one == part),
                "{part}: {policy}"
            );
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let kind = match file.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.field("content-type"), kind, "{file}");
        let tag = answer.field("etag").to_owned();
        let known = [("if-none-match", tag.as_str())];
        let again = client.send(Method::GET, &page(&app, file), &known).await;
        assert_eq!((again.status, &*again.body), (StatusCode::NOT_MODIFIED, ""));
        let other = [("if-none-match", "\"another\"")];
        let again = client.send(Method::GET, &page(&app, file), &other).await;
        assert_eq!((again.status, again.body), (StatusCode::OK, answer.body));
    }
    app.shutdown().await;
}

#[tokio::test]
async fn the_page_is_on_the_admin_listener_only() {
    let (app, client) = (start(settings()).await, Client::default());
    let redirect = client
        .get(&format!("http://{}/ui", app.addresses().admin))
        .await;
    assert_eq!(redirect.status, StatusCode::PERMANENT_REDIRECT);
    assert_eq!(redirect.field("location"), "ui/", "also behind a prefix");
    for path in ["/ui", "/ui/", "/ui/events"] {
        let answer = client
            .get(&format!("http://{}{path}", app.addresses().http))
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let posted = client.send(Method::POST, &page(&app, ""), &[]).await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    app.shutdown().await;
}

#[tokio::test]
async fn another_sites_page_can_neither_purge_nor_look() {
    let (app, client) = (start(settings()).await, Client::default());
    let admin = app.addresses().admin;
    let purge = format!("http://{admin}/purge?all=true");
    let origin = format!("http://{admin}");
    for fields in [
        [
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://evil.example"),
        ],
        [("accept", "*/*"), ("origin", "https://evil.example")],
    ] {
        let answer = client.send(Method::POST, &purge, &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        let answer = client
            .send(Method::GET, &page(&app, "events"), &fields)
            .await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    }
    let own = [("sec-fetch-site", "same-origin"), ("origin", &*origin)];
    assert_eq!(
        client.send(Method::POST, &purge, &own).await.status,
        StatusCode::OK
    );
    assert_eq!(
        client.send(Method::POST, &purge, &[]).await.status,
        StatusCode::OK
    );
    app.shutdown().await;
}

/// One who looks: the body of `/ui/events`.
struct Viewer(Incoming);

impl Viewer {
    async fn open(app: &App) -> Result<Self, StatusCode> {
        // A connection for each, as browsers have.
        let client: Legacy<HttpConnector, Empty<Bytes>> =
            Legacy::builder(TokioExecutor::new()).build_http();
        let request = Request::builder().uri(page(app, "events"));
        let request = request.body(Empty::new()).expect("well-formed");
        let answer = tokio::time::timeout(SOON, client.request(request)).await;
        let answer = answer.expect("in time").expect("an answer");
        match answer.status() {
            StatusCode::OK => Ok(Self(answer.into_body())),
            status => Err(status),
        }
    }

    /// The next snapshot; none at the end.
    async fn next(&mut self) -> Option<Value> {
        let frame = tokio::time::timeout(SOON, self.0.frame()).await;
        let frame = frame.expect("an event in time")?.expect("no break");
        let text = String::from_utf8_lossy(frame.data_ref().expect("data")).into_owned();
        let data = text
            .strip_prefix("event: cluster\ndata: ")
            .expect("an event");
        let data = data.strip_suffix("\n\n").expect("a whole event");
        Some(serde_json::from_str(data).expect("JSON"))
    }
}

#[tokio::test]
async fn all_who_look_share_one_poll_and_it_ends_with_them() {
    let app = start(settings()).await;
    let mut first = Viewer::open(&app).await.expect("there is room");
    let event = first.next().await.expect("an event");
    assert_eq!(
        (&event["asked"], &event["answered"]),
        (&1.into(), &1.into())
    );
    assert_eq!(event["members"][0]["name"], "node-a");
    assert!(
        event["lately"]["requests"].is_null(),
        "nothing to compare with"
    );
    assert!(first.next().await.expect("an event")["lately"]["requests"].is_number());
    // Who comes later sees at once what the others see.
    let mut second = Viewer::open(&app).await.expect("there is room");
    assert!(second.next().await.expect("an event")["lately"]["requests"].is_number());
    drop((first, second));
    // Once nobody looks the poll ends, and the next one begins anew.
    let looked = async {
        loop {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let mut third = Viewer::open(&app).await.expect("there is room");
            if third.next().await.expect("an event")["lately"]["requests"].is_null() {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, looked).await.expect("it ends");
    app.shutdown().await;
}

#[tokio::test]
async fn viewers_are_bounded_and_who_goes_makes_room() {
    let app = start(settings()).await;
    let mut viewers = Vec::new();
    for _ in 0..MAX_VIEWERS {
        viewers.push(Viewer::open(&app).await.expect("there is room"));
    }
    assert_eq!(
        Viewer::open(&app).await.err(),
        Some(StatusCode::SERVICE_UNAVAILABLE)
    );
    for viewer in &mut viewers {
        assert!(viewer.next().await.is_some(), "all see it");
    }
    viewers.truncate(MAX_VIEWERS - 1);
    let room = async {
        while Viewer::open(&app).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, room)
        .await
        .expect("a place is free");
    app.shutdown().await;
}

#[tokio::test]
async fn a_viewer_does_not_hold_up_the_end() {
    let app = start(settings()).await;
    let mut viewer = Viewer::open(&app).await.expect("there is room");
    viewer.next().await.expect("an event");
    // The settings of these tests wait this long for what is under way.
    let end = tokio::time::timeout(SOON / 2, app.shutdown());
    end.await.expect("it ends before");
    while viewer.next().await.is_some() {}
}
