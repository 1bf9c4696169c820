//! What an app's metrics are told.

use std::{fmt, sync::Arc};

use tracing::{debug, info, warn};

use crate::CacheStatus;

/// Something that a layer did; see [`KoordeLayer::on_event`](crate::KoordeLayer::on_event).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// koorde answered a request.
    Answered(CacheStatus),
    /// koorde could not be used; the request went through the inner service, directly.
    FailedOpen(Reason),
    /// A body broke off and goes on from the origin.
    Resumed {
        /// Bytes that had been read before.
        at: u64,
    },
    /// The sidecar failed several times in a row and is left alone for a moment.
    BreakerOpened,
    /// It answered again.
    BreakerClosed,
    /// After an unsafe request: whether the sidecar has confirmed that what is stored is stale.
    Invalidated {
        /// Whether it has; if not, what is stored may be reused until it is no longer fresh.
        confirmed: bool,
    },
}

/// Why koorde could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The sidecar has failed before and is left alone for a moment.
    BreakerOpen,
    /// No connection to the sidecar, or it broke.
    Unreachable,
    /// No head within the layer's patience, nor an answer to the question whether it is alive.
    Unresponsive,
    /// The inner service had no room to ask whether the sidecar is alive.
    Busy,
    /// Who answered is not koorde.
    NotKoorde,
    /// The sidecar could not answer, in its word: `overloaded`, `stopping`, `origin`, `denied`…
    Refused(String),
}

impl Reason {
    /// The word for labels: a closed set, except for the sidecar's own words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::BreakerOpen => "breaker-open",
            Self::Unreachable => "unreachable",
            Self::Unresponsive => "unresponsive",
            Self::Busy => "busy",
            Self::NotKoorde => "not-koorde",
            Self::Refused(word) => word,
        }
    }

    /// Whether the sidecar itself is at fault: refusals are about the target.
    pub(crate) fn counts(&self) -> bool {
        match self {
            Self::Unreachable | Self::Unresponsive | Self::NotKoorde => true,
            Self::Refused(word) => word == "stopping",
            Self::BreakerOpen | Self::Busy => false,
        }
    }
}

/// Where events go: to tracing, and to who asked for them.
#[derive(Clone, Default)]
pub(crate) struct Events(Option<Arc<Listener>>);

type Listener = dyn Fn(&Event) + Send + Sync;

impl Events {
    pub(crate) fn to(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// koorde answered. The event is made only if somebody wants it.
    pub(crate) fn answered(&self, status: &CacheStatus) {
        if self.0.is_some() {
            self.tell(&Event::Answered(status.clone()));
        } else {
            trace_answer(status);
        }
    }

    pub(crate) fn tell(&self, event: &Event) {
        match event {
            Event::Answered(status) => trace_answer(status),
            Event::FailedOpen(why) => debug!(why = why.as_str(), "Went past koorde."),
            Event::Resumed { at } => info!(at, "A body that broke off goes on from the origin."),
            Event::BreakerOpened => warn!("koorde does not answer; requests go past it."),
            Event::BreakerClosed => info!("koorde answers again."),
            Event::Invalidated { confirmed } => debug!(confirmed, "Invalidated."),
        }
        if let Some(listener) = &self.0 {
            listener(event);
        }
    }
}

fn trace_answer(status: &CacheStatus) {
    debug!(result = ?status.result, "Answered by koorde.");
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Events(callback)"
        } else {
            "Events"
        })
    }
}
