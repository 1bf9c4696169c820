//! Connections to the sidecar: calls that wait for others must not hold up those that do not.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tonic::transport::{Channel, Endpoint};

/// Calls on one connection: below the streams that a sidecar allows one (`http.max_streams`, 128).
const CALLS: usize = 100;
/// Connections, at most.
const CONNECTIONS: usize = 16;

/// Connections that are opened as they are needed, which has to be within a runtime.
#[derive(Debug)]
pub(crate) struct Channels {
    endpoint: Endpoint,
    open: Mutex<Vec<Open>>,
}

#[derive(Clone, Debug)]
struct Open {
    channel: Channel,
    calls: Arc<AtomicUsize>,
}

/// One call's place on a connection.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Channels {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let open = Mutex::default();
        Self { endpoint, open }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// A connection with room for one more call; none if all are full.
    pub(crate) fn place(&self) -> Option<(Channel, Place)> {
        // Held for a few instructions, never across an await.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in &*open {
            if let Some(place) = Place::take(&connection.calls) {
                return Some((connection.channel.clone(), place));
            }
        }
        if open.len() == CONNECTIONS {
            return None;
        }
        let channel = self.endpoint.connect_lazy();
        let calls = Arc::new(AtomicUsize::new(0));
        let place = Place::take(&calls);
        open.push(Open {
            channel: channel.clone(),
            calls,
        });
        place.map(|place| (channel, place))
    }
}

impl Place {
    fn take(calls: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |calls| (calls < CALLS).then_some(calls + 1);
        let taken = calls.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken.is_ok().then(|| Self(Arc::clone(calls)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_is_room_for_so_many_calls_and_again_when_they_end() {
        let channels = Channels::new(Endpoint::from_static("http://127.0.0.1:9"));
        let mut places: Vec<_> = (0..CALLS * CONNECTIONS)
            .map(|_| channels.place().expect("room").1)
            .collect();
        assert!(channels.place().is_none());
        places.truncate(7);
        assert!(channels.place().is_some());
    }
}
