//! Look-aside over real sockets: `koorde.cache.v1` over gRPC, and the fields that go with it.
#![allow(clippy::disallowed_methods, reason = "tests start tasks of their own")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use koorde_proto::cache::v1::{
    Chunk, End, Field, GetRequest, Granted, LeaseReply, LeaseRequest, PurgeRequest, PutHead,
    PutRequest, Target, Urls, cache_client::CacheClient, get_reply, lease_reply::Part,
    purge_request, put_reply::Result as Outcome, put_request,
};
use koorde_sidecar::{app::App, settings::LookAside};
use support::{Client, Origin, cache, settings, start};
use tonic::{Code, Request, Streaming, transport::Channel};

async fn client(app: &App) -> CacheClient<Channel> {
    let address = format!("http://{}", app.addresses().http);
    let endpoint = Channel::from_shared(address).expect("a URL");
    CacheClient::new(endpoint.connect().await.expect("it listens"))
}

fn target(url: &str) -> Option<Target> {
    Some(Target {
        method: "GET".to_owned(),
        url: url.to_owned(),
        ..Target::default()
    })
}

fn lease_for(url: &str) -> LeaseRequest {
    LeaseRequest {
        target: target(url),
    }
}

async fn part(replies: &mut Streaming<LeaseReply>) -> Option<Part> {
    let next = tokio::time::timeout(support::SOON, replies.message()).await;
    let reply = next.expect("in time").expect("no error");
    reply.and_then(|reply| reply.part)
}

async fn granted(client: &mut CacheClient<Channel>, url: &str) -> (Granted, Streaming<LeaseReply>) {
    let replies = client.lease(lease_for(url)).await.expect("a reply");
    let mut replies = replies.into_inner();
    match part(&mut replies).await {
        Some(Part::Granted(granted)) => (granted, replies),
        other => panic!("no lease but {other:?}"),
    }
}

/// The rest of a reply from its head on: status and body.
async fn read(replies: &mut Streaming<LeaseReply>) -> (u32, Bytes) {
    let Some(Part::Head(head)) = part(replies).await else {
        panic!("no head")
    };
    let mut body = Vec::new();
    loop {
        match part(replies).await {
            Some(Part::Chunk(chunk)) => body.extend_from_slice(&chunk.data),
            Some(Part::End(end)) => {
                assert_eq!(end.length, body.len() as u64);
                return (head.status, body.into());
            }
            other => panic!("cut by {other:?}"),
        }
    }
}

fn head(lease: &Bytes, status: u32, fields: &[(&str, &str)]) -> put_request::Part {
    let field = |(name, value): &(&str, &str)| Field {
        name: (*name).to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    put_request::Part::Head(PutHead {
        lease: lease.clone(),
        status,
        fields: fields.iter().map(field).collect(),
        lifetime_ms: 0,
    })
}

/// Puts a head, chunks, and an end that says `length`.
async fn put(
    client: &mut CacheClient<Channel>,
    head: put_request::Part,
    chunks: &[&'static str],
    length: u64,
) -> Outcome {
    let mut parts = vec![head];
    parts.extend(chunks.iter().map(|chunk| {
        put_request::Part::Chunk(Chunk {
            data: Bytes::from_static(chunk.as_bytes()),
        })
    }));
    parts.push(put_request::Part::End(End { length }));
    let requests = parts
        .into_iter()
        .map(|part| PutRequest { part: Some(part) });
    let reply = client.put(tokio_stream::iter(requests)).await;
    reply.expect("a reply").into_inner().result()
}

const FRESH: (&str, &str) = ("cache-control", "max-age=60");

#[tokio::test]
async fn what_a_client_puts_is_what_others_who_wait_and_who_come_later_have() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/put";
    let (mut holder, mut waiter) = (client(&app).await, client(&app).await);
    let (granted, _open) = granted(&mut holder, url).await;
    assert!(granted.valid_ms > 0 && granted.conditions.is_empty() && !granted.renews);
    let waiting = tokio::spawn(async move {
        let replies = waiter.lease(lease_for(url)).await.expect("a reply");
        read(&mut replies.into_inner()).await
    });
    let plain = tokio::spawn({
        let url = cache(&app, url);
        async move { Client::default().get(&url).await }
    });
    // Whoever comes too late for the fill has it from the store.
    let head = head(&granted.lease, 200, &[FRESH]);
    let outcome = put(&mut holder, head.clone(), &["one ", "two"], 7).await;
    assert_eq!(outcome, Outcome::Stored);
    let (status, body) = waiting.await.expect("no panic");
    assert_eq!((status, &body[..]), (200, &b"one two"[..]));
    assert_eq!(plain.await.expect("no panic").body, "one two");
    let again = put(&mut holder, head, &[], 0).await;
    assert_eq!(again, Outcome::LeaseLost, "a lease is used once");
    let got = holder
        .get(GetRequest {
            target: target(url),
        })
        .await;
    let mut got = got.expect("a reply").into_inner();
    let first = got
        .message()
        .await
        .expect("no error")
        .and_then(|got| got.part);
    let Some(get_reply::Part::Head(head)) = first else {
        panic!("it is stored: {first:?}")
    };
    let told = head
        .fields
        .iter()
        .find(|field| field.name == "cache-status");
    assert!(told.expect("it is told").value.starts_with(b"koorde; hit"));
    drop(app);
}

#[tokio::test]
async fn a_client_that_hangs_up_gives_its_lease_to_the_next() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/hangs-up";
    let (mut holder, mut waiter) = (client(&app).await, client(&app).await);
    let (first, open) = granted(&mut holder, url).await;
    let waiting = tokio::spawn(async move { granted(&mut waiter, url).await });
    drop(open);
    let (second, _open) = waiting.await.expect("no panic");
    assert_ne!(first.lease, second.lease);
    let outcome = put(&mut holder, head(&first.lease, 200, &[FRESH]), &[], 0).await;
    assert_eq!(outcome, Outcome::LeaseLost);
    drop(app);
}

#[tokio::test]
async fn a_body_of_another_length_than_it_says_is_not_stored() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/short";
    let mut client = client(&app).await;
    let (lease, _open) = granted(&mut client, url).await;
    let outcome = put(&mut client, head(&lease.lease, 200, &[FRESH]), &["half"], 8).await;
    assert_eq!(outcome, Outcome::NotStored);
    let (_next, _open) = granted(&mut client, url).await;
    drop(app);
}

#[tokio::test]
async fn what_is_stored_follows_a_304_an_error_and_no_response_at_all() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/follows";
    let mut client = client(&app).await;
    let stale = ("cache-control", "max-age=0, stale-if-error=60");
    let (lease, _open) = granted(&mut client, url).await;
    let first = head(&lease.lease, 200, &[stale, ("etag", "\"1\"")]);
    assert_eq!(put(&mut client, first, &["body"], 4).await, Outcome::Stored);
    for status in [304, 503, 0] {
        let (lease, mut open) = granted(&mut client, url).await;
        assert_eq!(lease.conditions[0].name, "if-none-match");
        assert_eq!(lease.conditions[0].value, "\"1\"");
        let fields = [stale, ("etag", "\"1\"")];
        let outcome = put(&mut client, head(&lease.lease, status, &fields), &[], 0).await;
        assert_eq!(outcome, Outcome::AnswerFollows, "{status}");
        let (status, body) = read(&mut open).await;
        assert_eq!((status, &body[..]), (200, &b"body"[..]));
    }
    drop(app);
}

#[tokio::test]
async fn a_stale_answer_comes_with_the_lease_to_renew_it() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/renewed";
    let mut client = client(&app).await;
    let stale = ("cache-control", "max-age=0, stale-while-revalidate=60");
    let (lease, _open) = granted(&mut client, url).await;
    let first = head(&lease.lease, 200, &[stale]);
    assert_eq!(put(&mut client, first, &["old"], 3).await, Outcome::Stored);
    let (lease, mut open) = granted(&mut client, url).await;
    assert!(lease.renews);
    assert_eq!(read(&mut open).await.1, "old");
    let second = head(&lease.lease, 200, &[FRESH]);
    assert_eq!(put(&mut client, second, &["new"], 3).await, Outcome::Stored);
    let replies = client.lease(lease_for(url)).await.expect("a reply");
    assert_eq!(read(&mut replies.into_inner()).await.1, "new");
    drop(app);
}

#[tokio::test]
async fn a_get_of_what_is_stale_has_it_and_leaves_the_renewal_to_others() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/stale";
    let mut client = client(&app).await;
    let stale = ("cache-control", "max-age=0, stale-while-revalidate=60");
    let (lease, _open) = granted(&mut client, url).await;
    let first = head(&lease.lease, 200, &[stale]);
    assert_eq!(put(&mut client, first, &["old"], 3).await, Outcome::Stored);
    let asked = GetRequest {
        target: target(url),
    };
    let mut got = client.get(asked).await.expect("a reply").into_inner();
    let mut parts = Vec::new();
    while let Some(reply) = got.message().await.expect("no error") {
        parts.push(reply.part.expect("a part"));
    }
    use get_reply::Part as Got;
    let [Got::Head(head), Got::Chunk(chunk), Got::End(_)] = &parts[..] else {
        panic!("no answer: {parts:?}")
    };
    assert_eq!((head.status, &chunk.data[..]), (200, &b"old"[..]));
    let (next, _open) = granted(&mut client, url).await;
    assert!(next.renews, "the lease is still to be had");
    drop(app);
}

#[tokio::test]
async fn a_callers_deadline_ends_its_wait_and_what_is_malformed_is_refused() {
    let app = start(settings()).await;
    let url = "http://127.0.0.1:9/waits";
    let mut client = client(&app).await;
    let (_lease, _open) = granted(&mut client, url).await;
    let mut waits = Request::new(lease_for(url));
    waits
        .metadata_mut()
        .insert("grpc-timeout", "50m".parse().expect("ASCII"));
    let status = client.lease(waits).await.expect_err("nobody puts");
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status}"
    );
    for (method, url, tenant) in [
        ("POST", "http://a/", ""),
        ("GET", "/a", ""),
        ("GET", "http://a/", "a/b"),
    ] {
        let target = Some(Target {
            method: method.to_owned(),
            url: url.to_owned(),
            tenant: tenant.to_owned(),
            ..Target::default()
        });
        let status = client.lease(LeaseRequest { target }).await;
        let code = status.expect_err("it is malformed").code();
        assert_eq!(code, Code::InvalidArgument);
    }
    drop(app);
}

#[tokio::test]
async fn a_get_asks_no_origin_and_a_purge_is_told_to_all() {
    let origin = Origin::start().await;
    let app = start(settings()).await;
    let (mut client, url) = (client(&app).await, origin.url("/page"));
    let got = client
        .get(GetRequest {
            target: target(&url),
        })
        .await;
    let first = got.expect("a reply").into_inner().message().await;
    let first = first.expect("no error").and_then(|got| got.part);
    assert!(matches!(first, Some(get_reply::Part::Miss(_))), "{first:?}");
    assert_eq!(origin.seen().len(), 0);
    for (times, kind) in [
        (1, purge_request::Kind::Soft),
        (2, purge_request::Kind::Hard),
        (3, purge_request::Kind::Invalidate),
    ] {
        for _ in 0..2 {
            Client::default().get(&cache(&app, &url)).await;
        }
        assert_eq!(origin.seen().len(), times, "{kind:?}");
        let urls = vec![url.clone()];
        let purge = PurgeRequest {
            kind: kind.into(),
            scope: Some(purge_request::Scope::Urls(Urls { urls })),
            tenant: String::new(),
        };
        let reply = client.purge(purge).await.expect("a receipt").into_inner();
        assert!(reply.unreachable.is_empty());
    }
    Client::default().get(&cache(&app, &url)).await;
    assert_eq!(origin.seen().len(), 4);
    drop(app);
}

#[tokio::test]
async fn nobody_puts_whom_the_setting_does_not_let() {
    let origin = Origin::start().await;
    let mut with = settings();
    with.http.look_aside = LookAside::None;
    let app = start(with).await;
    let status = client(&app)
        .await
        .lease(lease_for("http://127.0.0.1:9/"))
        .await;
    assert_eq!(
        status.expect_err("it is off").code(),
        Code::PermissionDenied
    );
    let url = cache(&app, &origin.url("/page"));
    for name in ["koorde-tenant", "koorde-stored-as", "koorde-lifetime"] {
        let answer = Client::default()
            .send(Method::GET, &url, &[(name, "1")])
            .await;
        assert_eq!(answer.status.as_u16(), 403, "{name}");
    }
    assert_eq!(origin.seen().len(), 0);
    drop(app);
}

#[tokio::test]
async fn what_a_proxy_beside_us_sends_on_is_not_of_loopback() {
    let origin = Origin::start().await;
    let app = start(settings()).await;
    let url = cache(&app, &origin.url("/page"));
    let tenant = ("koorde-tenant", "t");
    for proxied in [
        ("via", "1.1 envoy"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
    ] {
        let fields = [tenant, proxied];
        let answer = Client::default().send(Method::GET, &url, &fields).await;
        assert_eq!(answer.status.as_u16(), 403, "{proxied:?}");
        let purge = Method::from_bytes(b"PURGE").expect("a token");
        let fields = [("koorde-purge", "hard"), proxied];
        let answer = Client::default().send(purge, &url, &fields).await;
        assert_eq!(answer.status.as_u16(), 403, "{proxied:?}");
        let mut call = Request::new(lease_for("http://127.0.0.1:9/"));
        let name: tonic::metadata::AsciiMetadataKey = proxied.0.parse().expect("a name");
        call.metadata_mut()
            .insert(name, proxied.1.parse().expect("a value"));
        let status = client(&app).await.lease(call).await;
        let code = status.expect_err("it is not let in").code();
        assert_eq!(code, Code::PermissionDenied, "{proxied:?}");
    }
    assert_eq!(origin.seen().len(), 0);
    let mine = Client::default().send(Method::GET, &url, &[tenant]).await;
    assert_eq!(mine.status.as_u16(), 200);
    drop(app);
}

#[tokio::test]
async fn only_so_many_calls_are_open_at_once() {
    let mut with = settings();
    with.http.max_look_aside = 1;
    let app = start(with).await;
    let mut client = client(&app).await;
    let (lease, open) = granted(&mut client, "http://127.0.0.1:9/one").await;
    let other = lease_for("http://127.0.0.1:9/other");
    let replies = client.lease(other.clone()).await.expect("a reply");
    let refused = part(&mut replies.into_inner()).await;
    assert!(matches!(refused, Some(Part::Failed(_))), "{refused:?}");
    let metrics = format!("http://{}/metrics/prometheus", app.addresses().http);
    let metrics = Client::default().send(Method::GET, &metrics, &[]).await;
    let counted = metrics
        .body
        .contains("koorde_shed_total{reason=\"overloaded\"} 1\n");
    assert!(counted, "{}", metrics.body);
    let head = head(&lease.lease, 200, &[FRESH]);
    assert_eq!(put(&mut client, head, &[], 0).await, Outcome::Stored);
    drop(open);
    let freed = async {
        loop {
            let replies = client.lease(other.clone()).await.expect("a reply");
            let mut replies = replies.into_inner();
            if let Some(Part::Granted(_)) = part(&mut replies).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(support::SOON, freed)
        .await
        .expect("there is room again");
    drop(app);
}

#[tokio::test]
async fn fields_say_where_a_response_is_stored_and_for_how_long() {
    let origin = Origin::start().await;
    let app = start(settings()).await;
    let client = Client::default();
    let ask = async |path: &str, fields: &[(&str, &str)]| {
        let url = cache(&app, &origin.url(path));
        client.send(Method::GET, &url, fields).await
    };
    let place = origin.url("/place");
    let stored_as = ("koorde-stored-as", place.as_str());
    let first = ask(
        "/place?session=1",
        &[stored_as, ("koorde-lifetime", "9000")],
    )
    .await;
    let told = first.field("cache-status").to_owned();
    // A little is taken off, so that not all expires at once.
    assert!(told.contains("ttl=8") && told.contains("stored"), "{told}");
    let second = ask("/place?session=2", &[stored_as]).await;
    assert!(second.field("cache-status").contains("hit"), "{second:?}");
    assert_eq!(
        ask("/place", &[("koorde-tenant", "t")]).await.body,
        "/place"
    );
    assert_eq!(origin.seen().len(), 2);
    for (path, fields) in origin.seen() {
        let ours = fields
            .keys()
            .any(|name| name.as_str().starts_with("koorde-"));
        assert!(!ours, "{path}: {fields:?}");
    }
    for wrong in [
        ("koorde-tenant", "a/b"),
        ("koorde-lifetime", "1.5"),
        ("koorde-lifetime", "99999999999"),
        ("koorde-stored-as", "http://other.example/"),
    ] {
        assert_eq!(
            ask("/wrong", &[wrong]).await.status.as_u16(),
            400,
            "{wrong:?}"
        );
    }
    drop(app);
}
