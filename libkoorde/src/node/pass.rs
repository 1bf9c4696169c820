//! Requests that only the origin can answer: unsafe methods, requests with a body, and what a route
//! keeps out of the cache. They go from the node that was asked straight to the origin and are
//! never held: a body streams in both directions.

use std::sync::Arc;

use http::Method;
use tracing::{Instrument, info_span};

use super::{
    Inner,
    answer::{Answer, Body},
    clock,
    origin::Outgoing,
    request::{Request, RequestBody},
};
use crate::{
    error::FetchError,
    outcome::{CacheResult, Outcome, Tier},
    policy::{Forward, Member, fields::connection, invalidation},
};

impl Inner {
    /// Sends one request to the origin and counts it.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        request: Request,
        body: RequestBody,
    ) -> Result<Answer, FetchError> {
        let answer = self.ask_origin_alone(request, body).await;
        let result = answer
            .as_ref()
            .map_or(CacheResult::Error, |answer| answer.outcome.result);
        self.metrics.answered(Outcome {
            result,
            tier: Tier::Origin,
            collapsed: false,
        });
        answer
    }

    async fn ask_origin_alone(
        self: &Arc<Self>,
        request: Request,
        body: RequestBody,
    ) -> Result<Answer, FetchError> {
        let route = self.routes.find(&request.target);
        let mut fields = request.fields.clone();
        connection::strip_request(&mut fields);
        let span = info_span!("origin", server.address = %request.target.authority());
        (self.propagation.inject)(&span, &mut fields);
        let outgoing = Outgoing {
            method: &request.method,
            target: &request.target,
            fields,
            body,
            upstream: route.upstream.as_deref(),
            interim: request.interim.as_ref(),
            deadline: clock::now().instant + self.config.fetch.timeout,
        };
        let answer = self.origin.send(outgoing).instrument(span).await?;
        let head = answer.head;
        let _stale =
            invalidation::invalidated(&request.method, &request.target, head.status, &head.headers);
        let forward = if matches!(request.method, Method::GET | Method::HEAD) {
            Forward::Bypass
        } else {
            Forward::Method
        };
        let member = Member {
            fwd_status: Some(head.status),
            detail: Some(self.name.detail(None)),
            ..Member::forwarded(self.name.cache.as_str(), forward)
        };
        let mut fields = head.headers;
        connection::strip_response(&mut fields);
        Ok(Answer {
            status: head.status,
            fields,
            body: Body::origin(answer.body),
            outcome: Outcome {
                result: CacheResult::Bypass,
                tier: Tier::Origin,
                collapsed: false,
            },
            carried: None,
            cache_status: vec![member.value()],
        })
    }
}
