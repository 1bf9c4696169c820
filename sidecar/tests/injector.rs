//! `koorde injector` as a real process over TLS: reviews, certificates, Events.
#![allow(
    clippy::disallowed_methods,
    reason = "tests start tasks and look at the clock"
)]

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

mod webhook;

use webhook::{Injector, NAME, api_server::ApiServer, connect, eventually, patch, post, review};

/// Two replicas, whose certificates are valid for seconds; four clients that trust what the API server
/// trusts at the time, with connections that are new, and others that outlive certificates.
#[tokio::test(flavor = "multi_thread")]
async fn four_clients_post_while_certificates_and_their_authority_rotate_and_none_fails() {
    let api = Arc::new(ApiServer::start("rotation").await);
    let short = ["--cert-lifetime", "9s", "--authority-lifetime", "27s"];
    let replicas = [
        Injector::own(&api, &short).await,
        Injector::own(&api, &short).await,
    ];
    for replica in &replicas {
        replica.ready().await;
    }
    let (stop, stopped) = watch::channel(false);
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let (api, stopped) = (Arc::clone(&api), stopped.clone());
        let addresses = [replicas[0].webhook, replicas[1].webhook];
        clients.spawn(async move {
            let (mut leaves, mut reviews) = (BTreeSet::new(), 0);
            let old = connect(addresses[client % 2], &api.bundle()).await;
            let mut old = old.expect("at first");
            while !*stopped.borrow() {
                let address = addresses[reviews % 2];
                let mut new = connect(address, &api.bundle())
                    .await
                    .unwrap_or_else(|error| {
                        panic!("client {client}, review {reviews}: {error}");
                    });
                leaves.insert(new.leaf.to_vec());
                for connection in [&mut new, &mut old] {
                    let uid = format!("{client}-{reviews}");
                    let response = connection.review(&review(&uid)).await;
                    let response = response.unwrap_or_else(|error| panic!("{uid}: {error}"));
                    assert_eq!(
                        (&response["uid"], &response["allowed"]),
                        (&json!(uid), &json!(true))
                    );
                    assert!(!patch(&response).is_empty(), "{response}");
                    reviews += 1;
                }
            }
            (leaves, reviews)
        });
    }
    // Certificates are renewed after 6 s; the authority after 18 s. In between somebody damages the Secret.
    let first = api.kept("ca.crt");
    api.forget("tls.crt");
    eventually("the certificate is made anew", async || {
        !api.kept("tls.crt").is_empty()
    })
    .await;
    eventually("there is a second authority", async || {
        let authorities = api.bundle();
        authorities.contains(&first) && authorities.len() > first.len()
    })
    .await;
    let by_old = api.kept("tls.crt");
    eventually("it signs", async || api.kept("tls.crt") != by_old).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.send_replace(true);
    let (mut leaves, mut reviews) = (BTreeSet::new(), 0);
    while let Some(client) = clients.join_next().await {
        let (seen, done) = client.expect("no client failed");
        leaves.extend(seen);
        reviews += done;
    }
    println!(
        "{reviews} reviews, {} certificates, {} conflicts",
        leaves.len(),
        api.state().conflicts
    );
    assert!(
        leaves.len() >= 4 && reviews > 100,
        "{} certificates, {reviews} reviews",
        leaves.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundle_is_set_on_both_webhooks_and_nothing_else_of_them_changes() {
    let api = ApiServer::start("bundle").await;
    let before = api.state().configuration.clone();
    let injector = Injector::own(&api, &[]).await;
    injector.ready().await;
    assert_eq!(api.bundle(), api.kept("ca.crt"));
    let mut after = api.state().configuration.clone();
    for webhook in after["webhooks"].as_array_mut().expect("there are two") {
        webhook["clientConfig"]
            .as_object_mut()
            .expect("it is one")
            .remove("caBundle");
    }
    assert_eq!(after, before);
    // A second replica serves the same, and makes nothing.
    let version = api.state().secret.clone();
    let second = Injector::own(&api, &[]).await;
    second.ready().await;
    assert_eq!(api.state().secret, version);
    let bundle = api.bundle();
    let leaf = async |injector: &Injector| {
        connect(injector.webhook, &bundle)
            .await
            .expect("it is trusted")
            .leaf
    };
    assert_eq!(leaf(&injector).await, leaf(&second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_server_it_lives_and_gets_ready_when_that_is_back() {
    let api = ApiServer::start("away").await;
    api.state().refuses = Some(StatusCode::SERVICE_UNAVAILABLE);
    let injector = Injector::own(&api, &[]).await;
    assert_eq!(injector.admin("/livez").await.0, StatusCode::OK);
    assert_eq!(
        injector.admin("/readyz").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    eventually("it has tried", async || {
        let metrics = injector.admin("/metrics").await.1;
        !metrics.contains("koorde_injector_renewals_total{result=\"failed\"} 0\n")
    })
    .await;
    api.state().refuses = None;
    injector.ready().await;
    // Reviews need no API server.
    api.state().refuses = Some(StatusCode::SERVICE_UNAVAILABLE);
    let mut connection = connect(injector.webhook, &api.bundle())
        .await
        .expect("it serves");
    assert_eq!(
        connection.review(&review("u")).await.expect("an answer")["allowed"],
        true
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_again_when_they_change_and_a_broken_pair_changes_nothing() {
    let folder = webhook::folder("files");
    let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    let make = || rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let write = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        fs::write(&key, made.signing_key.serialize_pem()).expect("writable");
        fs::write(&cert, made.cert.pem()).expect("writable");
    };
    let (first, second) = (make(), make());
    write(&first);
    let flags = [
        "--cert",
        cert.to_str().expect("a path"),
        "--key",
        key.to_str().expect("a path"),
    ];
    let injector = Injector::start(&flags).await;
    injector.ready().await;
    let serves = async |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        connect(injector.webhook, &made.cert.pem()).await.is_ok()
    };
    assert!(serves(&first).await && !serves(&second).await);
    // The certificate of one and the key of another.
    fs::write(&cert, second.cert.pem()).expect("writable");
    eventually("it has noticed", async || {
        let metrics = injector.admin("/metrics").await.1;
        !metrics.contains("koorde_injector_renewals_total{result=\"failed\"} 0\n")
    })
    .await;
    assert!(serves(&first).await);
    write(&second);
    eventually("it serves the second", async || serves(&second).await).await;
    let (_, metrics) = injector.admin("/metrics").await;
    assert!(
        metrics.contains("koorde_injector_cert_not_after_seconds 6"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_review_is_told_so() {
    let api = ApiServer::start("bad").await;
    let injector = Injector::own(&api, &[]).await;
    injector.ready().await;
    let bundle = api.bundle();
    let ask = async |request: Request<Full<bytes::Bytes>>| {
        let mut connection = connect(injector.webhook, &bundle).await.expect("it serves");
        let answer = connection.send(request).await.expect("an answer");
        (
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body()).into_owned(),
        )
    };
    let get = |path: &str| {
        Request::get(path)
            .header("host", NAME)
            .body(Full::default())
            .expect("a request")
    };
    for (request, status, message) in [
        (get("/inject"), 405, "must be POST"),
        (get("/elsewhere"), 404, "POST /inject"),
        (get("/readyz"), 200, "ready"),
        (post(""), 400, "no JSON"),
        (post("{}"), 400, "must be an AdmissionReview"),
        (
            post(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#),
            400,
            "request.uid",
        ),
        (post(vec![b' '; (3 << 20) + 1]), 413, "3145728"),
    ] {
        let (code, text) = ask(request).await;
        assert!(code == status && text.contains(message), "{code} {text}");
    }
    let (_, metrics) = injector.admin("/metrics").await;
    for line in [
        "koorde_injector_reviews_total{outcome=\"bad_request\",reason=\"no_review\"} 3",
        "koorde_injector_reviews_total{outcome=\"bad_request\",reason=\"too_large\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// Bodies that do not come take all turns; what waits too long for one is told so, and the turns come back.
#[tokio::test(flavor = "multi_thread")]
async fn more_reviews_than_there_is_room_for_wait_a_moment_and_are_turned_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let api = ApiServer::start("busy").await;
    let injector = Injector::own(&api, &[]).await;
    injector.ready().await;
    let bundle = api.bundle();
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut stream = webhook::tls(injector.webhook, &bundle)
            .await
            .expect("it serves");
        let head = b"POST /inject HTTP/1.1\r\nhost: webhook\r\ncontent-length: 1000\r\n\r\n{";
        stream.write_all(head).await.expect("it reads");
        slow.push(stream);
    }
    // A review that is answered at once says that not all of them have begun yet.
    eventually("all turns are taken", async || {
        let mut connection = connect(injector.webhook, &bundle).await.expect("it serves");
        let answer = connection
            .send(post(review("u").to_string()))
            .await
            .expect("an answer");
        answer.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    // They are all of one address, which has half of the turns: another one's reviews are answered.
    let other = std::net::Ipv4Addr::new(127, 0, 0, 2);
    let connection = webhook::connect_from(other, injector.webhook, &bundle).await;
    let answer = connection.expect("it serves").review(&review("u")).await;
    assert!(answer.is_ok(), "{answer:?}");
    // Their time is over: each is told, and there is room again.
    let mut text = [0; 12];
    slow[0].read_exact(&mut text).await.expect("an answer");
    assert_eq!(&text, b"HTTP/1.1 408");
    eventually("there is room", async || {
        let mut connection = connect(injector.webhook, &bundle).await.expect("it serves");
        connection.review(&review("u")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_are_told_once_and_reasons_are_counted() {
    let api = ApiServer::start("events").await;
    let injector = Injector::own(&api, &[]).await;
    injector.ready().await;
    let mut connection = connect(injector.webhook, &api.bundle())
        .await
        .expect("it serves");
    let mut host = review("host");
    host["request"]["object"]["spec"]["hostNetwork"] = true.into();
    let mut dry = review("dry");
    dry["request"]["dryRun"] = true.into();
    let mut typo = review("typo");
    typo["request"]["object"]["metadata"]["annotations"] =
        json!({"config.koorde.dev/roll": "edge"});
    for request in [&dry, &host, &host, &host, &typo] {
        let response = connection.review(request).await.expect("an answer");
        assert_eq!(
            response["allowed"],
            request["request"]["uid"] != "typo",
            "{response}"
        );
    }
    eventually("both are there", async || api.state().events.len() == 2).await;
    let events = api.state().events.clone();
    for (event, reason, words) in [
        (&events[0], "InjectionSkipped", "it uses its host's network"),
        (
            &events[1],
            "InjectionRefused",
            "annotation config.koorde.dev/roll",
        ),
    ] {
        assert_eq!(
            (&event["reason"], &event["type"]),
            (&json!(reason), &json!("Warning"))
        );
        assert_eq!(event["involvedObject"]["kind"], "ReplicaSet");
        assert!(
            event["message"]
                .as_str()
                .is_some_and(|message| message.contains(words)),
            "{event}"
        );
    }
    let (_, metrics) = injector.admin("/metrics").await;
    for line in [
        "koorde_injector_reviews_total{outcome=\"skipped\",reason=\"host_network\"} 3",
        "koorde_injector_reviews_total{outcome=\"injected\",reason=\"\"} 1",
        "koorde_injector_reviews_total{outcome=\"refused\",reason=\"\"} 1",
        "koorde_injector_events_total{result=\"same\"} 2",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_in_order() {
    let api = ApiServer::start("sigterm").await;
    let mut injector = Injector::own(&api, &["--drain-delay", "2s"]).await;
    injector.ready().await;
    let mut connection = connect(injector.webhook, &api.bundle())
        .await
        .expect("it serves");
    let pid = injector.child.id().expect("it runs").to_string();
    let killed = tokio::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .await;
    assert!(killed.expect("kill runs").success());
    eventually("it is not ready", async || {
        injector.admin("/readyz").await.0 == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    let response = connection
        .review(&review("late"))
        .await
        .expect("it still answers");
    assert_eq!(response["allowed"], true);
    assert!(
        injector
            .child
            .wait()
            .await
            .expect("it was started")
            .success()
    );
}
