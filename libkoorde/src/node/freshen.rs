//! What a 304, or the answer to a HEAD, says of stored responses.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::{Request, fill::Fill, origin};
use crate::{
    metrics::count,
    outcome::CacheResult,
    policy::{Exchange, HeadUpdate, NotStored, StoredHead, range, validation},
    store::Stored,
};

impl Fill {
    /// RFC 9111 §4.3.4. A 304 that does not fit the stored response answers a question that was
    /// not asked; then the response is fetched whole.
    pub(super) async fn on_not_modified(
        &mut self,
        stale: &Arc<Stored>,
        answer: origin::Answer,
        exchange: &Exchange,
    ) {
        let fields = self.miss.request.fields.clone();
        let settings = &self.miss.route.policy;
        let fresh = validation::freshen(&stale.head, &fields, &answer.head, exchange, settings);
        // The 304 may have changed what an If-Range is compared with: then the part is no answer.
        let is_enough = |head: &StoredHead| {
            head.part.is_none() || range::is_within_part(&Method::GET, &fields, head)
        };
        match fresh.filter(is_enough) {
            Some(mut head) => {
                self.jitter(&mut head);
                count(&self.node.metrics.fills, "freshened");
                let leaves = head.refused().is_some_and(|reason| !reason.is_of_request());
                let keeps = head.refused().is_none();
                self.learn(StatusCode::OK, Some(&head));
                let stored = Arc::new(self.stored(head, stale));
                if leaves {
                    self.node.store.remove(&self.miss.key);
                } else if keeps {
                    self.keep(&self.node.store, &stored);
                }
                self.publish_stored(
                    stored,
                    CacheResult::Validated,
                    Some(StatusCode::NOT_MODIFIED),
                );
            }
            None if self.is_lent => {
                // Then the next lease is for the whole.
                self.node.store.remove(&self.miss.key);
                self.lose();
            }
            None => {
                drop(answer);
                self.miss.stale = None;
                Box::pin(self.ask_origin()).await;
            }
        }
    }

    /// RFC 9111 §4.3.5: what a HEAD brings may freshen or invalidate each stored response that could
    /// have been chosen for that request.
    pub(super) fn on_head_answer(
        &self,
        request: &Request,
        answer: &origin::Answer,
        exchange: &Exchange,
    ) {
        let now = exchange.response_received.instant;
        let Some(variants) = self.node.store.get(&self.miss.key, now) else {
            return;
        };
        let (fields, settings) = (&request.fields, &self.miss.route.policy);
        let update = |head| validation::head_update(head, fields, &answer.head, exchange, settings);
        // A HEAD says too little to bring back what somebody has declared stale.
        let chosen = variants.all.iter();
        let chosen = chosen.filter(|one| one.head.selected_by(fields) && !one.purged);
        let (mut fresh, mut gone) = (Vec::new(), Vec::new());
        for stored in chosen {
            match update(&stored.head) {
                HeadUpdate::Freshen(head) if head.refused().is_none() => {
                    fresh.push(Arc::new(self.stored(head, stored)));
                }
                // It is about this client: what is stored stays as it was.
                HeadUpdate::Freshen(head)
                    if head.refused().is_some_and(NotStored::is_of_request) => {}
                HeadUpdate::Freshen(_) | HeadUpdate::Invalidate => gone.push(Arc::clone(stored)),
                HeadUpdate::Nothing => (),
            }
        }
        // First: a part that is kept may grow together with what is there.
        self.node.store.take_out(&self.miss.key, &gone);
        for stored in fresh {
            self.keep(&self.node.store, &stored);
        }
    }
}
