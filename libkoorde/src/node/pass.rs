//! Requests that only the origin can answer: unsafe methods, requests with a body, and what a route
//! keeps out of the cache. They go from the node that was asked straight to the origin and are
//! never held: a body streams in both directions.

use std::sync::Arc;

use http::{HeaderMap, Method};
use tracing::Instrument;

use super::{
    Inner,
    answer::Answer,
    body::Body,
    clock,
    origin::Outgoing,
    request::{Request, RequestBody},
    spans,
};
use crate::{
    error::FetchError,
    outcome::{CacheResult, Outcome, Tier},
    policy::{Forward, Member, NotForwarded, fields::connection, forwarding, invalidation},
};

impl Inner {
    /// Sends one request to the origin and counts it.
    pub(crate) async fn pass(
        self: &Arc<Self>,
        request: Request,
        body: RequestBody,
    ) -> Result<Answer, FetchError> {
        let asked = self.metrics.asked();
        let answer = if invalidation::is_safe(&request.method) {
            self.ask_origin_alone(request, body).await
        } else {
            // What was sent may change things although its client is gone: then what is stored of
            // them has to go all the same.
            let node = Arc::clone(self);
            let sent = async move { node.ask_origin_alone(request, body).await };
            let answer = self.tasks.finish(sent).await;
            answer.unwrap_or(Err(FetchError::Stopping))
        };
        let result = answer
            .as_ref()
            .map_or(CacheResult::Error, |answer| answer.outcome.result);
        asked.answered(Outcome {
            result,
            tier: Tier::Origin,
            collapsed: false,
        });
        if let Err(error) = &answer {
            self.metrics.failed(error);
        }
        answer
    }

    /// Makes these fields of a request ready for the next hop (RFC 9110 §7.6).
    pub(crate) fn forwarded(
        &self,
        request: &Request,
        fields: &mut HeaderMap,
    ) -> Result<(), FetchError> {
        let done = forwarding::request(&request.method, fields, &self.hop, request.version, None);
        done.map_err(|why| match why {
            NotForwarded::Loop => FetchError::Loop,
            NotForwarded::MaxForwards => FetchError::MaxForwards,
        })
    }

    async fn ask_origin_alone(
        self: &Arc<Self>,
        request: Request,
        body: RequestBody,
    ) -> Result<Answer, FetchError> {
        let mut fields = request.fields.clone();
        self.forwarded(&request, &mut fields)?;
        let span = spans::origin(&request.method, &request.target);
        (self.propagation.inject)(&span, &mut fields);
        let outgoing = Outgoing {
            method: &request.method,
            target: &request.target,
            fields,
            body,
            routes: &self.routes,
            interim: request.interim.as_ref(),
            deadline: clock::now().instant + self.config.fetch.timeout,
            is_own: true,
        };
        let sent = self.origin.send(outgoing).instrument(span.clone()).await;
        spans::answered(&span, &sent);
        drop(span);
        let answer = sent?;
        let head = answer.head;
        let (method, status) = (&request.method, head.status);
        let mut stale = invalidation::invalidated(method, &request.target, status, &head.headers);
        let groups = invalidation::groups(method, status, &head.headers);
        if !stale.is_empty() {
            // What a GET of it is stored as, if it says that it is stored elsewhere.
            if !stale.contains(request.place()) {
                stale.push(request.place().clone());
            }
            let tenant = request.overrides.tenant();
            self.invalidate(&request.target, &stale, &groups, tenant)
                .await;
        }
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
