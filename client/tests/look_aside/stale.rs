//! Stale responses: renewed behind the app's back, standing in for errors, and a lease that is lost
//! while a response is validated.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use koorde_client::CacheResult;
use koorde_tests::origin::{Origin, response};
use tokio::sync::Notify;

use crate::{
    Place,
    support::{eventually, get, send},
};

wherever!(
    a_stale_answer_comes_at_once_and_the_app_renews_it_once,
    an_error_is_stood_in_for_by_what_is_stored_with_a_validator_and_without,
    what_is_stored_stands_in_for_an_origin_that_is_gone,
    a_lease_that_is_lost_before_its_304_costs_one_more_request,
);

async fn a_stale_answer_comes_at_once_and_the_app_renews_it_once(place: Place) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let origin = Origin::start(move |_| {
        let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if is_first {
                let lifetime = "max-age=1, stale-while-revalidate=60";
                return response(
                    200,
                    &[("cache-control", lifetime), ("etag", "\"1\"")],
                    "old",
                );
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            response(200, &[("cache-control", "max-age=60")], "new")
        }
    })
    .await;
    let client = place.client();
    let ask = || send(&client, get(&origin.url("/")));
    eventually(|| async {
        let answer = ask().await;
        assert_eq!(answer.body, "old");
        (answer.result() == Some(CacheResult::Stale)).then_some(())
    })
    .await;
    // All who ask while it is renewed have the old one.
    eventually(|| async {
        let answer = ask().await;
        match answer.result() {
            Some(CacheResult::Stale) => assert_eq!(answer.body, "old"),
            _ => assert_eq!(answer.body, "new"),
        }
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
    let requests = origin.requests("/");
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1]["if-none-match"], "\"1\"");
}

async fn an_error_is_stood_in_for_by_what_is_stored_with_a_validator_and_without(place: Place) {
    const STORED: (&str, &str) = ("cache-control", "max-age=1, stale-if-error=60");
    for fields in [&[STORED][..], &[STORED, ("etag", "\"1\"")]] {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let origin = Origin::start(move |_| {
            let is_first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if is_first {
                    response(200, fields, "stored")
                } else {
                    response(503, &[], "trouble")
                }
            }
        })
        .await;
        let client = place.client();
        eventually(|| async {
            let answer = send(&client, get(&origin.url("/"))).await;
            let got = (answer.status(), &answer.body[..]);
            assert_eq!(got, (StatusCode::OK, &b"stored"[..]), "{fields:?}");
            (answer.result() == Some(CacheResult::Stale)).then_some(())
        })
        .await;
        assert!(origin.count("/") >= 2, "the origin was asked before");
    }
}

async fn what_is_stored_stands_in_for_an_origin_that_is_gone(place: Place) {
    let stored = &[("cache-control", "max-age=1, stale-if-error=60")];
    let origin = Origin::fixed(Duration::ZERO, stored, "stored").await;
    let url = origin.url("/");
    let client = place.client();
    eventually(|| async {
        let answer = send(&client, get(&url)).await;
        (answer.result() == Some(CacheResult::Hit)).then_some(())
    })
    .await;
    drop(origin);
    eventually(|| async {
        let answer = send(&client, get(&url)).await;
        assert_eq!(answer.body, "stored");
        (answer.result() == Some(CacheResult::Stale)).then_some(())
    })
    .await;
}

async fn a_lease_that_is_lost_before_its_304_costs_one_more_request(place: Place) {
    let (seen, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&seen), Arc::clone(&go_on));
    let origin = Origin::start(move |request| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            let lifetime = ("cache-control", "max-age=0, must-revalidate");
            if !request.headers().contains_key("if-none-match") {
                return response(200, &[lifetime, ("etag", "\"1\"")], "stored");
            }
            tell.notify_one();
            wait.notified().await;
            response(304, &[lifetime, ("etag", "\"1\"")], "")
        }
    })
    .await;
    let client = place.client();
    let asking = loop {
        let (client, url) = (client.clone(), origin.url("/"));
        let mut asking = tokio::spawn(async move { send(&client, get(&url)).await });
        tokio::select! {
            () = seen.notified() => break asking,
            // It was not stored yet.
            answer = &mut asking => assert_eq!(answer.expect("no panic").body, "stored"),
        }
    };
    let before = origin.count("/");
    place.end().await;
    go_on.notify_one();
    let answer = asking.await.expect("no panic");
    let got = (answer.status(), &answer.body[..]);
    assert_eq!(got, (StatusCode::OK, &b"stored"[..]));
    let said = answer.said().and_then(|said| said.detail.as_deref());
    assert_eq!(said, Some("lease-lost"));
    let requests = origin.requests("/");
    assert_eq!(requests.len(), before + 1);
    assert!(!requests[before].contains_key("if-none-match"));
}
