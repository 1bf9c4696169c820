//! What a node tells an operator: the ring, its numbers, and why a request is a hit or a miss.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all, stream};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use koorde_proto::peer::v1::{InspectReply, InspectRequest, Variant};

use super::{
    Inner, Request, clock,
    fetch::REPLICAS,
    report::{Explanation, MemberReport, RingReport, Stats, VariantReport},
    wire,
};
use crate::{
    id::Id,
    outcome::{CacheResult, Tier},
    policy::{Carried, Forward, Reuse, Selecting, Settings, StoredHead, Target, reuse},
    ring::{Member, RingView, Role},
};

/// How long an operator waits for the owner and its replicas, all in all.
const ASK: Duration = Duration::from_secs(1);
/// A key that nobody asks for: inspecting it costs a peer a look into an empty place.
const NOBODYS: &str = "http://ring.invalid/";
/// Members asked for a round trip, at most.
const MAX_PROBES: usize = 257;

impl Inner {
    pub(crate) fn ring_report(&self) -> RingReport {
        let view = self.view.load();
        let me = view.me();
        let mut members: Vec<&Member> = view.members().iter().collect();
        members.sort_by_key(|member| me.id.distance(member.id));
        RingReport {
            node: me.name.to_string(),
            id: me.id.to_string(),
            state: view.state().as_str().to_owned(),
            complete: view.is_complete(),
            degree: self.config.ring.degree,
            members: members
                .into_iter()
                .map(|member| member_report(&view, member))
                .collect(),
            de_bruijn: view
                .pointers()
                .iter()
                .map(|member| member.name.to_string())
                .collect(),
        }
    }

    /// The same, with each member asked right now whether it answers, all at once.
    pub(crate) async fn probed_ring_report(&self) -> RingReport {
        let mut report = self.ring_report();
        let view = self.view.load_full();
        let others = view
            .members()
            .iter()
            .filter(|member| member.id != view.me().id);
        let nobodys = Target::parse(NOBODYS).expect("a test parses it");
        let request = &Request::new(Method::GET, nobodys, HeaderMap::new());
        let probes = others.take(MAX_PROBES).map(|member| async move {
            // The first may have to connect; what an operator wants to know is the second.
            let answers = self.inspect_at(member, request).await.is_ok();
            let started = clock::now().instant;
            let answers = answers && self.inspect_at(member, request).await.is_ok();
            let elapsed = clock::now().instant - started;
            (member.id.to_string(), answers.then_some(elapsed))
        });
        for (id, round_trip) in join_all(probes).await {
            let Some(row) = report.members.iter_mut().find(|row| row.id == id) else {
                continue;
            };
            match round_trip {
                Some(time) => row.round_trip_ms = Some(time.as_secs_f64() * 1000.0),
                None => row.state = "unreachable".to_owned(),
            }
        }
        report
    }

    pub(crate) fn stats(&self) -> Stats {
        let metrics = &self.metrics;
        let stats = Stats {
            hits_local: metrics.requests(CacheResult::Hit, Tier::Local).get()
                + metrics.requests(CacheResult::Hit, Tier::Hot).get(),
            hits_remote: metrics.requests(CacheResult::Hit, Tier::Peer).get(),
            validated: metrics.total(CacheResult::Validated),
            misses: metrics.total(CacheResult::Miss),
            stale: metrics.total(CacheResult::Stale),
            bypass: metrics.total(CacheResult::Bypass),
            errors: metrics.total(CacheResult::Error),
            collapsed: metrics.collapsed.get(),
            stores: metrics.stores.get(),
            evictions: crate::metrics::counted(&metrics.evictions, "size"),
            stored_responses: self.store.len(),
            stored_bytes: self.store.bytes() + self.hot.bytes(),
            capacity_bytes: self.store.capacity() + self.hot.capacity(),
            origin_requests: metrics.origin_requests.get(),
            members: self.view.load().members().len() as u64,
            hot_copies: self.hot.len(),
        };
        let (hottest, requests) = self.popular.top(1);
        let hottest = hottest.first().map_or(0, |key| key.count);
        metrics.hot_share.at(0).set_part(hottest, requests);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.stored_responses.set(gauge(stats.stored_responses));
        metrics.stored_bytes.set(gauge(stats.stored_bytes));
        metrics.hot_copies.set(gauge(stats.hot_copies));
        // Here and nowhere else: of two that had just heard of a purge, the one that knew less might
        // be the last to set it.
        let generation = self.purges.generation();
        metrics.purge_generation.set(gauge(generation));
        stats
    }

    pub(crate) async fn explain(&self, request: &Request) -> Explanation {
        let rules = self.routes.find(&request.target);
        let mut prepared = request.clone();
        rules.prepare(&mut prepared);
        let bypasses = rules.bypass.applies(&prepared.target, &prepared.fields);
        self.slice_of(&mut prepared);
        let request = &prepared;
        let key = self.key(request);
        let id = self.hasher.key_id(key.as_bytes());
        let view = self.view.load_full();
        let mut route = vec![view.me().name.to_string()];
        let owners: Vec<Member> = if self.is_own(&key) {
            vec![view.me().clone()]
        } else if view.is_complete() {
            view.owners(id, REPLICAS).into_iter().cloned().collect()
        } else {
            let found = self.driver.trace(id, ASK).await;
            let passed = found.iter().flat_map(|found| &found.path);
            route.extend(passed.map(|id| name_of(&view, *id)));
            found.map(|found| found.owners).unwrap_or_default()
        };
        let me = view.me().id;
        let asked = owners.iter().take_while(|one| one.id != me);
        let asked: Vec<Member> = asked.cloned().collect();
        let ours = asked.is_empty();
        let (reply, silent) = self.inspect_first(asked.clone(), request).await;
        for one in asked.iter().take(silent.len() + 1) {
            if route.last().map(String::as_str) != Some(&*one.name) {
                route.push(one.name.to_string());
            }
        }
        let now = clock::now();
        let hot_copy = !ours
            && self
                .hot_copy((&request.method, &request.fields), &key, now)
                .is_some();
        let mut explanation = Explanation {
            url: request.target.to_string(),
            key: format!("{:032x}", id.0),
            node: view.me().name.to_string(),
            home: view
                .home(id)
                .map(|home| home.name.to_string())
                .unwrap_or_default(),
            owners: owners.iter().map(|owner| owner.name.to_string()).collect(),
            route,
            hot_copy,
            ..Explanation::default()
        };
        if bypasses {
            explanation.next = Forward::Bypass.as_str().to_owned();
            explanation.because = "its route keeps it out of the cache".to_owned();
            return explanation;
        }
        self.judge(request, &mut explanation, reply, now.instant);
        if !silent.is_empty() && !hot_copy {
            let instead = asked.get(silent.len());
            let instead = instead.map_or_else(|| view.me().name.clone(), |one| one.name.clone());
            let silent = silent.join(", ");
            explanation.because += &format!("; asked {instead}, as these do not answer: {silent}");
        }
        explanation
    }

    /// What the first of these has that answers, and why those before it do not. In the order in
    /// which a request would ask them; if none answers, the key is up to this node. All are asked at
    /// once, so that each has all the time there is.
    async fn inspect_first(
        &self,
        members: Vec<Member>,
        request: &Request,
    ) -> (InspectReply, Vec<String>) {
        let ask = |member: Member| async move {
            let reply = self.inspect_at(&member, request).await;
            reply.map_err(|why| format!("{} ({why})", member.name))
        };
        let mut replies = stream::iter(members).map(ask).buffered(REPLICAS);
        let mut silent = Vec::new();
        while let Some(reply) = replies.next().await {
            match reply {
                Ok(reply) => return (reply, silent),
                Err(why) => silent.push(why),
            }
        }
        (self.inspect(request), silent)
    }

    async fn inspect_at(&self, member: &Member, request: &Request) -> Result<InspectReply, String> {
        let request = InspectRequest {
            version: wire::VERSION,
            cluster: self.cluster.clone(),
            target: request.target.to_string(),
            fields: wire::fields(&request.fields),
            slice: request.slice.map_or(0, |slice| slice.saturating_add(1)),
            tenant: request.overrides.tenant().to_owned(),
            stored_as: wire::stored_as(request),
        };
        self.peers
            .inspect(member.addr, request, ASK)
            .await
            .map_err(|error| format!("{error:?}"))
    }

    /// The same decision that the next request will meet, on the owner's variants.
    fn judge(
        &self,
        request: &Request,
        explanation: &mut Explanation,
        reply: InspectReply,
        now: Instant,
    ) {
        let heads: Vec<StoredHead> = reply
            .variants
            .iter()
            .filter_map(|variant| head_of(variant, &self.routes.find(&request.target).policy, now))
            .collect();
        explanation.variants = reply
            .variants
            .iter()
            .zip(&heads)
            .map(|(v, h)| variant_report(v, h, now))
            .collect();
        explanation.filling = reply.filling;
        explanation.uncacheable = reply.uncacheable;
        let reuse = match reuse::decide(&request.method, &request.fields, &heads, now) {
            // As `miss::decide`: what a soft purge took is asked about first.
            Reuse::Fresh { index } | Reuse::StaleWhileRevalidate { index }
                if reply
                    .variants
                    .get(index)
                    .is_some_and(|variant| variant.purged) =>
            {
                let forward = Forward::Stale;
                Reuse::Validate { index, forward }
            }
            reuse => reuse,
        };
        let (next, because) = if explanation.hot_copy {
            ("hit", "this node has a fresh hot copy of it".to_owned())
        } else {
            words(reuse, &heads, &reply, now)
        };
        explanation.next = next.to_owned();
        explanation.because = because;
    }
}

fn head_of(variant: &Variant, settings: &Settings, now: Instant) -> Option<StoredHead> {
    let status = u16::try_from(variant.status).ok()?;
    let mut fields = wire::field_map(variant.fields.clone()).ok()?;
    let selecting = variant.selecting.iter().map(|field| {
        let name = http::HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        Some((
            name,
            (!field.value.is_empty()).then(|| field.value.to_vec()),
        ))
    });
    let selecting = Selecting::from_pairs(selecting.collect::<Option<Vec<_>>>()?);
    let carried = Carried {
        age: Duration::from_millis(variant.age_ms),
        lifetime: Duration::from_millis(variant.lifetime_ms),
    };
    let mut status = StatusCode::from_u16(status).ok()?;
    if !variant.content_range.is_empty() {
        // As a part travels: as the 206 that it was.
        status = StatusCode::PARTIAL_CONTENT;
        let range = HeaderValue::try_from(&variant.content_range).ok()?;
        fields.insert(header::CONTENT_RANGE, range);
    }
    Some(StoredHead::from_peer(
        status, fields, selecting, carried, now, settings,
    ))
}

fn words(
    reuse: Reuse,
    heads: &[StoredHead],
    reply: &InspectReply,
    now: Instant,
) -> (&'static str, String) {
    let sum = |index: usize| {
        heads.get(index).map_or_else(String::new, |head| {
            format!(
                "its age is {} s of {} s",
                head.current_age(now).as_secs(),
                head.lifetime.as_secs()
            )
        })
    };
    match reuse {
        Reuse::Fresh { index } => (
            "hit",
            format!("the owner has a fresh response: {}", sum(index)),
        ),
        Reuse::StaleWhileRevalidate { index } => (
            "hit",
            format!(
                "the owner may serve it stale while it validates: {}",
                sum(index)
            ),
        ),
        Reuse::Validate { index, forward } => (
            forward.as_str(),
            format!(
                "the owner has to validate it with the origin: {}",
                sum(index)
            ),
        ),
        Reuse::Forward(Forward::UriMiss) if reply.filling => (
            Forward::UriMiss.as_str(),
            "a fill is under way; the next request waits for it".to_owned(),
        ),
        Reuse::Forward(Forward::UriMiss) if reply.uncacheable => {
            let text = "the last response could not be shared, so each request goes to the origin";
            (Forward::UriMiss.as_str(), text.to_owned())
        }
        Reuse::Forward(forward) => {
            let text = match forward {
                Forward::UriMiss => "nothing is stored under this key",
                Forward::VaryMiss => "responses are stored, but none for fields like these (Vary)",
                Forward::Method => "this method is not answered from the store",
                _ => "the request asks to go past the store",
            };
            (forward.as_str(), text.to_owned())
        }
        Reuse::OnlyIfCached => (
            "only-if-cached",
            "nothing fresh is stored, and nothing else is wanted".to_owned(),
        ),
    }
}

fn variant_report(variant: &Variant, head: &StoredHead, now: Instant) -> VariantReport {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    VariantReport {
        status: head.status.as_u16(),
        selecting: variant
            .selecting
            .iter()
            .map(|f| format!("{}: {}", f.name, text(&f.value)))
            .collect(),
        length: variant.length,
        age: head.current_age(now).as_secs(),
        lifetime: head.lifetime.as_secs(),
        ttl: head.ttl(now),
        etag: head
            .fields
            .get(http::header::ETAG)
            .map(|value| text(value.as_bytes())),
        last_modified: head.last_modified().map(|value| text(value.as_bytes())),
    }
}

fn member_report(view: &RingView, member: &Member) -> MemberReport {
    let is_me = member.id == view.me().id;
    MemberReport {
        name: member.name.to_string(),
        id: member.id.to_string(),
        address: member.addr.to_string(),
        role: match member.role {
            Role::Member => "member",
            Role::Edge => "edge",
        }
        .to_owned(),
        state: if is_me { "self" } else { "alive" }.to_owned(),
        incarnation: member.incarnation,
        share: view.share(member.id),
        round_trip_ms: view.rtt(member.id).map(|rtt| rtt.as_secs_f64() * 1000.0),
    }
}

fn name_of(view: &RingView, id: Id) -> String {
    view.member(id)
        .map_or_else(|| id.to_string(), |member| member.name.to_string())
}
