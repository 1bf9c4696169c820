//! The method PURGE at the clients' doors.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use koorde_sidecar::settings::LookAside;
use support::{
    echo::{Echo, ask, nothing, request, status},
    encode, settings, start,
};

#[tokio::test]
async fn the_method_purge_purges_its_target_if_that_is_configured() {
    let origin = Echo::start().await;
    let mut with = settings();
    with.http.purge = true;
    let app = start(with).await;
    let (address, host) = (app.addresses().http, "koorde.example");
    let target = format!("/cache?url={}", encode(&origin.url("/page")));
    let ask_with = |method: &'static str, field: Option<&'static str>| {
        let mut request = request(method, &target, host);
        if let Some(value) = field {
            request = request.header("koorde-purge", value);
        }
        ask(
            address,
            request.body(nothing()).expect("a well-formed request"),
        )
    };
    let _first = ask_with("GET", None).await;
    let hit = ask_with("GET", None).await;
    assert_eq!((origin.seen().len(), hit.status), (1, status(200)));
    let receipt = ask_with("PURGE", Some("hard")).await;
    assert_eq!(receipt.status, status(200), "{receipt:?}");
    assert!(receipt.body.contains("\"kind\":\"hard\""), "{receipt:?}");
    assert_eq!(origin.seen().len(), 1, "the origin is not asked to purge");
    let _again = ask_with("GET", None).await;
    assert_eq!(origin.seen().len(), 2, "nothing of it was left");
    let refused = ask_with("PURGE", Some("harder")).await;
    assert_eq!(refused.status, status(400));
    assert!(refused.body.contains("Koorde-Purge"), "{refused:?}");
    app.shutdown().await;
}

#[tokio::test]
async fn without_being_configured_purge_is_the_origins_word() {
    let origin = Echo::start().await;
    let mut with = settings();
    with.http.look_aside = LookAside::None;
    let app = start(with).await;
    let target = format!("/cache?url={}", encode(&origin.url("/page")));
    let request = request("PURGE", &target, "koorde.example").body(nothing());
    let answer = ask(app.addresses().http, request.expect("well-formed")).await;
    assert_eq!(answer.status, status(200));
    assert_eq!(origin.seen()[0].method, "PURGE");
    app.shutdown().await;
}

#[tokio::test]
async fn who_may_look_aside_may_purge_and_invalidate() {
    let origin = Echo::start().await;
    let app = start(settings()).await;
    let address = app.addresses().http;
    let target = format!("/cache?url={}", encode(&origin.url("/page")));
    let ask_with = |method: &'static str, fields: &[(&'static str, &'static str)]| {
        let mut request = request(method, &target, "koorde.example");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        ask(address, request.body(nothing()).expect("well-formed"))
    };
    let tenant = ("koorde-tenant", "t");
    for _ in 0..2 {
        ask_with("GET", &[]).await;
        ask_with("GET", &[tenant]).await;
    }
    assert_eq!(origin.seen().len(), 2, "one for each tenant");
    let told = ask_with("PURGE", &[("koorde-purge", "invalidate"), tenant]).await;
    assert_eq!(told.status, status(204));
    ask_with("GET", &[]).await;
    ask_with("GET", &[tenant]).await;
    assert_eq!(origin.seen().len(), 3, "the other tenant's is as it was");
    let told = ask_with("PURGE", &[("koorde-purge", "hard")]).await;
    assert_eq!(told.status, status(200));
    ask_with("GET", &[]).await;
    ask_with("GET", &[tenant]).await;
    assert_eq!(origin.seen().len(), 5, "of all tenants");
    assert!(!origin.seen()[1].fields.contains_key("koorde-tenant"));
    app.shutdown().await;
}
