//! The fill's side of look-aside: in place of the origin's answer comes what the holder of its lease
//! puts.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::{sync::oneshot, time};
use tracing::debug;

use super::{Granted, Lender, Offer};
use crate::{
    metrics::count,
    node::{
        clock,
        fill::Fill,
        origin::{Answer, OriginBody},
    },
    outcome::CacheResult,
    policy::{Exchange, reuse, validation},
};

impl Fill {
    /// Lends the origin's request to whoever asked, and treats what is put as the origin's answer.
    pub(crate) async fn lend(&mut self, lender: Lender) {
        let mut conditions = HeaderMap::new();
        let request = self.miss.request.clone();
        let is_conditional = match &self.miss.stale {
            Some(stale) => validation::conditional(&mut conditions, &stale.head),
            None => false,
        };
        let lent = clock::now().instant;
        let Some(offers) = self.grant(lender, conditions, self.lasts()) else {
            return self.lost("given_back");
        };
        count(&self.node.metrics.look_aside, "granted");
        match time::timeout(self.lasts(), offers).await {
            Ok(Ok(Some(offer))) => {
                count(&self.node.metrics.look_aside, "put");
                let Offer {
                    head,
                    lifetime,
                    body,
                    done,
                } = *offer;
                self.done = Some(done);
                if head.status == StatusCode::NOT_MODIFIED && !is_conditional {
                    // It answers a condition of the holder's own.
                    return self.lose();
                }
                if let Some(lifetime) = lifetime.filter(|lifetime| !lifetime.is_zero()) {
                    let lifetime = lifetime.min(MAX_LIFETIME);
                    self.miss.route = self.miss.route.with_lifetime(lifetime).into();
                }
                let answer = Answer {
                    head,
                    body: OriginBody::offered(body, self.node.config.origin.idle_timeout),
                    // From when it could have been sent, and until we have it: no age is too small.
                    exchange: Exchange {
                        request_sent: lent,
                        response_received: clock::now(),
                    },
                    redirects: Vec::new(),
                };
                self.is_lent = true;
                self.on_answer(&request, answer, is_conditional).await;
            }
            Ok(Ok(None)) => self.stand_in(),
            Ok(Err(_)) => self.lost("given_back"),
            Err(_elapsed) => self.lost("expired"),
        }
    }

    /// As long as an origin may take for its head; shorter than the patience of those who wait, so
    /// that another gets it in time.
    fn lasts(&self) -> Duration {
        let origin = &self.node.config.origin;
        let lasts = origin.connect_timeout + origin.response_timeout;
        lasts.min(self.miss.left(clock::now().instant))
    }

    /// Hands a lease out; none if whoever asked is gone.
    pub(super) fn grant(
        &self,
        lender: Lender,
        conditions: HeaderMap,
        lasts: Duration,
    ) -> Option<oneshot::Receiver<Option<Box<Offer>>>> {
        let (offers, offered) = oneshot::channel();
        let granted = Granted {
            conditions,
            until: clock::now().instant + lasts,
            offers,
        };
        lender.grant.send(granted).is_ok().then_some(offered)
    }

    /// The holder got no response: a stale one stands in if that is allowed, else the next may try.
    fn stand_in(&self) {
        count(&self.node.metrics.look_aside, "failed");
        let now = clock::now().instant;
        let fields = &self.miss.request.fields;
        if let Some(stale) = &self.miss.stale
            && reuse::may_serve_stale_on_error(fields, &stale.head, now)
        {
            return self.publish_stored(stale.clone(), CacheResult::Stale, None);
        }
        self.lose();
    }

    fn lost(&self, how: &'static str) {
        debug!(how, "A lease is lost.");
        count(&self.node.metrics.look_aside, how);
        self.lose();
    }
}

/// Longest lifetime that is put: a year.
const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
