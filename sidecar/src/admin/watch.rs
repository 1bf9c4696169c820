//! Who looks at the cluster, and the one poll for all of them: as long as somebody looks, once a
//! second; else never.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, MissedTickBehavior},
};

use super::snapshot::Rounds;
use crate::{
    http::{
        Accept, State,
        respond::{Answer, Failure},
    },
    shutdown::Phase,
};

/// Who may look at one node at once.
pub const MAX_VIEWERS: usize = 32;
/// Between two polls.
const EVERY: Duration = Duration::from_secs(1);

/// The viewers of one node, and what they see.
#[derive(Debug)]
pub struct Watch {
    /// The newest event, ready to be sent; none while nobody looks.
    shown: watch::Sender<Option<Bytes>>,
    wakes: Notify,
    places: Arc<Semaphore>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            shown: watch::Sender::new(None),
            wakes: Notify::new(),
            places: Arc::new(Semaphore::new(MAX_VIEWERS)),
        }
    }
}

/// Polls the cluster while somebody looks. Never ends.
pub async fn run(state: Arc<State>) {
    let watch = &state.watch;
    loop {
        while watch.shown.receiver_count() == 0 {
            watch.wakes.notified().await;
        }
        let (mut rounds, began) = (Rounds::default(), Instant::now());
        let mut pace = tokio::time::interval(EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while watch.shown.receiver_count() > 0 {
            pace.tick().await;
            let cluster = state.node.cluster().await;
            let mut snapshot = rounds.next(&cluster, began.elapsed());
            snapshot.needs_token = state.token.is_some();
            let json = serde_json::to_string(&snapshot).expect("it has only string keys");
            // JSON has no line ends of its own.
            let event = format!("event: cluster\ndata: {json}\n\n");
            watch.shown.send_replace(Some(Bytes::from(event)));
        }
        // Who comes next sees nothing that is old.
        watch.shown.send_replace(None);
    }
}

/// One who looks.
struct Viewer {
    shown: watch::Receiver<Option<Bytes>>,
    phase: watch::Receiver<Phase>,
    _place: OwnedSemaphorePermit,
}

impl Viewer {
    /// The next event; none when the process stops. Who is slow misses some.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                _ = self.phase.wait_for(|phase| *phase == Phase::Stopping) => return None,
                changed = self.shown.changed() => changed.ok()?,
            }
            let event = self.shown.borrow_and_update().clone();
            if event.is_some() {
                return event;
            }
        }
    }
}

/// Answers `/ui/events`: server-sent events, one a second, each a whole
/// [`Snapshot`](super::snapshot::Snapshot).
pub(crate) fn events(state: &State, accept: &Accept) -> Answer {
    let watch = &state.watch;
    let Ok(place) = Arc::clone(&watch.places).try_acquire_owned() else {
        let message = format!("{MAX_VIEWERS} look at this node already; ask another one");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let failure = Failure {
            retry_after: Some(5),
            ..Failure::new(status, "viewers", message)
        };
        return failure.answer(accept);
    };
    let mut shown = watch.shown.subscribe();
    // What others see now, at once.
    shown.mark_changed();
    let viewer = Viewer {
        shown,
        phase: state.phase.clone(),
        _place: place,
    };
    watch.wakes.notify_one();
    let events = stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(event)), viewer))
    });
    let body = StreamBody::new(events).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    let fields = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    answer
}
