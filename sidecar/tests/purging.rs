//! The method PURGE at the clients' doors.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

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
    let app = start(settings()).await;
    let target = format!("/cache?url={}", encode(&origin.url("/page")));
    let request = request("PURGE", &target, "koorde.example").body(nothing());
    let answer = ask(app.addresses().http, request.expect("well-formed")).await;
    assert_eq!(answer.status, status(200));
    assert_eq!(origin.seen()[0].method, "PURGE");
    app.shutdown().await;
}
