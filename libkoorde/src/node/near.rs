//! The short way: a fresh response of the stores here, at once, for requests that ask for nothing
//! special. Most are of that kind, and most are hits.
//!
//! It decides nothing by itself: what it finds is what [`Inner::look_up`] would find, by the same
//! functions. Where that might wait, or has to know more, this says nothing.

use std::sync::Arc;

use http::{HeaderMap, Method, Response, Uri, Version, header};

use super::{
    Body, Inner, Node, Overrides, Request, StoredBody, answer::Answer, clock, miss::decide,
    worded::Said,
};
use crate::{
    outcome::{CacheResult, Outcome, Tier},
    policy::{CacheKey, Now, Reuse, Target, forwarding, plain},
    store::{Stored, Variants},
};

/// A fresh stored response.
#[derive(Debug)]
pub struct Near {
    /// With Age, Cache-Status and Via.
    pub response: Response<StoredBody>,
    /// Seconds for which it is fresh.
    pub ttl: i64,
    /// How it came about.
    pub outcome: Outcome,
}

impl Near {
    /// As a fetch answers it.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = self.response.map(Body::from);
        response.extensions_mut().insert(self.outcome);
        response
    }
}

/// What is known of a client's request before anybody is asked.
#[derive(Debug)]
pub(super) enum AtHand {
    Fresh(Near),
    /// It is the origin's alone.
    Bypassed,
    Nothing,
}

/// What was found, and when.
pub(crate) struct Fresh {
    stored: Arc<Stored>,
    tier: Tier,
    now: Now,
}

impl Node {
    /// Looks for a fresh response in the stores of this node, for a caller that would else ask
    /// [`Node::look_aside`]: it does not wait and asks nobody. None: all else, also what takes more
    /// than a look.
    #[must_use]
    pub fn near(
        &self,
        method: &Method,
        uri: &Uri,
        fields: &HeaderMap,
        overrides: &Overrides,
    ) -> Option<Near> {
        let inner = &self.inner;
        let target = Target::of_uri(uri).ok().filter(Target::is_as_written)?;
        let fresh = inner.near((method, fields), &target, overrides)?;
        inner.popular.note(&target, &inner.hasher);
        Some(inner.word(method, &fresh))
    }
}

impl Inner {
    /// What the stores here have for a client's request, as it would be looked up.
    pub(crate) fn near(
        &self,
        (method, fields): (&Method, &HeaderMap),
        target: &Target,
        overrides: &Overrides,
    ) -> Option<Fresh> {
        if !matches!(*method, Method::GET | Method::HEAD) || !plain::is_plain(fields) {
            return None;
        }
        let now = clock::now();
        if !self.gate.is_open(now.instant) || !self.hears_of_purges() {
            return None;
        }
        let route = self.routes.find(target);
        if route.slice.is_some() || route.bypass.applies(target, fields) {
            return None;
        }
        let place = overrides.place(target);
        let rules = self.routes.find(place);
        let key = rules.key_at(place, overrides, fields, None);
        self.fresh((method, fields), &key, now)
    }

    /// Prepares a client's request, and looks for what answers it at once.
    pub(super) fn at_hand(&self, request: &mut Request) -> AtHand {
        let route = self.routes.find(&request.target);
        route.prepare(request);
        if !matches!(request.method, Method::GET | Method::HEAD)
            || route.bypass.applies(&request.target, &request.fields)
        {
            return AtHand::Bypassed;
        }
        self.popular.note(&request.target, &self.hasher);
        let asked = (&request.method, &request.fields);
        match self.near(asked, &request.target, &request.overrides) {
            Some(fresh) => AtHand::Fresh(self.word(&request.method, &fresh)),
            None => AtHand::Nothing,
        }
    }

    /// What was found, as it goes out. Counts it, too.
    fn word(&self, method: &Method, fresh: &Fresh) -> Near {
        let (stored, outcome) = (&fresh.stored, fresh.outcome());
        let carried = stored.head.carried(fresh.now.instant);
        self.metrics.answered(outcome);
        self.metrics.stored_age.took(carried.age);
        let (age, ttl) = (carried.age.as_secs(), carried.ttl());
        let fields = self.worded.fields(stored, Said { age, ttl }, || {
            // Neither conditions nor ranges are in a plain request.
            let asked = (&Method::HEAD, &HeaderMap::new());
            let answer = Answer::from_stored(asked, stored, outcome, Vec::new(), fresh.now);
            let mut fields = answer.fields;
            fields.append(header::CACHE_STATUS, self.name.hit(ttl));
            forwarding::sign(&mut fields, &self.hop, Version::HTTP_11);
            fields
        });
        let mut response = Response::new(match *method {
            Method::GET => StoredBody::of(stored),
            _ => StoredBody::default(),
        });
        *response.status_mut() = stored.head.status;
        *response.headers_mut() = fields;
        Near {
            response,
            ttl,
            outcome,
        }
    }

    fn fresh(&self, asked: (&Method, &HeaderMap), key: &CacheKey, now: Now) -> Option<Fresh> {
        if let Some(variants) = self.store.get(key, now.instant)
            && self.is_among_owners(key, &variants)
            && let Some(stored) = fresh_of(asked, &variants, now)
        {
            let (stored, tier) = (Arc::clone(stored), Tier::Local);
            return Some(Fresh { stored, tier, now });
        }
        let (stored, tier) = (self.hot_copy(asked, key, now)?, Tier::Hot);
        let view = self.view.load();
        let owners = view.owners(self.hasher.key_id(key.as_bytes()), 1);
        let me = view.me().id;
        let is_ours = owners.first().is_none_or(|owner| owner.id == me);
        (view.is_complete() && !is_ours).then_some(Fresh { stored, tier, now })
    }
}

impl Fresh {
    fn outcome(&self) -> Outcome {
        Outcome {
            result: CacheResult::Hit,
            tier: self.tier,
            collapsed: false,
        }
    }
}

/// The variant that answers a plain request at once. Of its fields only those count that Vary names.
fn fresh_of<'a>(
    (method, fields): (&Method, &HeaderMap),
    variants: &'a Variants,
    now: Now,
) -> Option<&'a Arc<Stored>> {
    let mut all = variants.all.iter();
    let varies = all.any(|stored| stored.head.selecting.names().next().is_some());
    let none = HeaderMap::new();
    let asked = (method, if varies { fields } else { &none });
    match decide(asked, Some(variants), now) {
        // A part answers nobody who asks for the whole.
        Reuse::Fresh { index } => variants.all.get(index).filter(|s| s.head.part.is_none()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use bytes::Bytes;
    use http::StatusCode;
    use http_body_util::BodyExt;

    use super::*;
    use crate::{
        Aside, Config, Kind, Metrics, Propagation, PurgeRequest, Put, Request, Scope,
        node::fetch::{Found, Hop},
    };

    type Answered = (StatusCode, HeaderMap, Bytes);

    async fn node() -> Node {
        let mut config = Config::default();
        config.node.name = "near-0".to_owned();
        config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
        let metrics = Metrics::new(&mut Default::default());
        let node = Node::start(config, metrics, Propagation::default()).await;
        node.expect("a node alone")
    }

    fn request(method: &Method, url: &str, fields: &[(&'static str, &str)]) -> Request {
        let target = Target::parse(url).expect("a URL");
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, value.parse().expect("a field value"));
        }
        Request::new(method.clone(), target, map)
    }

    async fn store(node: &Node, asked: Request, fields: &[(&'static str, &str)]) {
        let Ok(Aside::Lease(lease)) = node.look_aside(asked).await else {
            panic!("nothing is stored yet");
        };
        let mut head = Response::new(());
        *head.headers_mut() = request(&Method::GET, "http://a.example/", fields).fields;
        let Put::Body(mut body) = lease.put(head, None).await else {
            panic!("it may be stored");
        };
        for chunk in ["a stored ", "body"] {
            body.write(chunk.into()).await.expect("it is wanted");
        }
        assert!(body.end().await, "it is stored");
    }

    async fn near(node: &Node, asked: &Request) -> Option<Answered> {
        let uri = asked.target.uri();
        let near = node.near(&asked.method, uri, &asked.fields, &asked.overrides)?;
        let (head, body) = near.response.into_parts();
        let body = body.collect().await.expect("it can't break off").to_bytes();
        Some((head.status, head.headers, body))
    }

    async fn looked_up(node: &Node, asked: &Request) -> Option<Answered> {
        let (inner, second) = (&node.inner, Duration::from_secs(1));
        let found = inner.look_up(asked.clone(), Hop::Client, second).await;
        let Ok(Found::Answer(answer)) = found else {
            return None;
        };
        let (head, body) = answer.into_response(&inner.hop).into_parts();
        let body = body.collect().await.expect("a stored body").to_bytes();
        Some((head.status, head.headers, body))
    }

    const PAGE: &str = "http://a.example/page?x=1";

    #[tokio::test]
    async fn what_is_near_is_what_a_whole_look_up_would_find() {
        let node = node().await;
        let page = || request(&Method::GET, PAGE, &[]);
        let long = ("cache-control", "max-age=600");
        store(&node, page(), &[long, ("etag", "\"1\""), ("set-x", "1")]).await;
        let varied = "http://a.example/varied";
        let german = request(&Method::GET, varied, &[("accept-language", "de")]);
        store(&node, german, &[long, ("vary", "accept-language")]).await;
        let mut of_tenant = page();
        of_tenant.overrides =
            Overrides::new(&of_tenant.target, "team", "", None).expect("a tenant");
        let mut renamed = request(&Method::GET, "http://a.example/other", &[]);
        renamed.overrides =
            Overrides::new(&renamed.target, "", PAGE, None).expect("of the same origin");
        let get = |fields| request(&Method::GET, PAGE, fields);
        for (asked, is_near) in [
            (page(), true),
            (request(&Method::HEAD, PAGE, &[]), true),
            (get(&[("accept", "*/*"), ("authorization", "x")]), true),
            (
                request(&Method::GET, "HTTP://A.example:80/page?x=1", &[]),
                true,
            ),
            (renamed, true),
            (
                request(&Method::GET, varied, &[("accept-language", "de")]),
                true,
            ),
            (
                request(&Method::GET, varied, &[("accept-language", "fr")]),
                false,
            ),
            (of_tenant, false),
            (request(&Method::POST, PAGE, &[]), false),
            (
                request(&Method::GET, "http://a.example/page?x=2", &[]),
                false,
            ),
            (get(&[("cache-control", "no-cache")]), false),
            (get(&[("cache-control", "max-age=100")]), false),
            (get(&[("range", "bytes=0-1")]), false),
            (get(&[("if-none-match", "\"1\"")]), false),
            (get(&[("x-forwarded-host", "b.example")]), false),
        ] {
            let mut pair = (near(&node, &asked).await, looked_up(&node, &asked).await);
            if pair.0 != pair.1 {
                // A second may have passed between the two.
                pair = (near(&node, &asked).await, looked_up(&node, &asked).await);
            }
            assert_eq!(pair.0.is_some(), is_near, "{asked:?}");
            if is_near {
                assert_eq!(pair.0, pair.1, "{asked:?}");
            }
            // The third is a copy of how the second was worded, unless a second has passed.
            for _ in 0..2 {
                pair = (near(&node, &asked).await, looked_up(&node, &asked).await);
            }
            if is_near && pair.0 != pair.1 {
                pair = (near(&node, &asked).await, looked_up(&node, &asked).await);
                assert_eq!(pair.0, pair.1, "{asked:?}");
            }
        }
        node.stop(Duration::from_secs(1)).await;
    }

    #[tokio::test]
    async fn nothing_is_near_once_it_was_purged() {
        let node = node().await;
        for kind in [Kind::Soft, Kind::Hard] {
            let page = request(&Method::GET, &format!("{PAGE}&{kind:?}"), &[]);
            store(&node, page.clone(), &[("cache-control", "max-age=600")]).await;
            assert!(near(&node, &page).await.is_some());
            let scope = Scope::Url(page.target.clone());
            let tenant = None;
            node.purge(&PurgeRequest {
                scope,
                kind,
                tenant,
            })
            .await;
            assert!(near(&node, &page).await.is_none(), "{kind:?}");
        }
        node.stop(Duration::from_secs(1)).await;
    }
}
