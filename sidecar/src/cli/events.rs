//! Server-sent events of a node's admin listener, as `koorde top` and `koorde ring --watch` read them.

use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;

use super::{
    Endpoint, Failure,
    client::{Client, clip},
};
use crate::admin::snapshot::Snapshot;

/// Without an event for so long, the node is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// No event is larger; a wrong URL may lead anywhere.
const LARGEST: usize = 8 << 20;

/// Snapshots of the whole cluster, one a second.
pub(crate) struct Events {
    admin: Endpoint,
    body: Incoming,
    read: Vec<u8>,
}

impl Events {
    /// Begins to look at the cluster through this node.
    pub(crate) async fn open(client: &Client, admin: &Endpoint) -> Result<Self, Failure> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = admin.at("/ui/events")?;
        let response = client.send(request).await;
        let response = response.map_err(|error| error.at(admin, "--admin"))?;
        let status = response.status();
        let body = response.into_body();
        if status != StatusCode::OK {
            let said = Limited::new(body, 64 << 10).collect().await;
            let said = said.map(|said| said.to_bytes()).unwrap_or_default();
            let said = clip(String::from_utf8_lossy(&said).trim());
            return Err(Failure::Work(format!(
                "{admin}/ui/events answered {status}: {said}"
            )));
        }
        Ok(Self {
            admin: admin.clone(),
            body,
            read: Vec::new(),
        })
    }

    /// The next one. Nothing is lost if the wait is given up.
    pub(crate) async fn next(&mut self) -> Result<Snapshot, Failure> {
        let failed = |why: &str| Failure::Work(format!("{}: {why}", self.admin));
        loop {
            if let Some(data) = take(&mut self.read) {
                return serde_json::from_slice(&data)
                    .map_err(|error| failed(&format!("/ui/events is not understood: {error}")));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| failed(&format!("no news for {SILENCE:?}")))?;
            let frame = frame.ok_or_else(|| failed("the node stops"))?;
            let frame = frame.map_err(|error| failed(&error.to_string()))?;
            self.read
                .extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if self.read.len() > LARGEST {
                return Err(failed("these are no events of a node"));
            }
        }
    }
}

/// Takes the data of the first whole event.
fn take(read: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = read.windows(2).position(|two| two == b"\n\n")?;
    let event: Vec<u8> = read.drain(..end + 2).collect();
    let lines = event.split(|byte| *byte == b'\n');
    let data = lines.filter_map(|line| line.strip_prefix(b"data: "));
    Some(data.collect::<Vec<_>>().join(&b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_whole_however_they_come() {
        let sent = b"event: cluster\ndata: {\"a\":1}\n\nevent: cluster\ndata: 2\n\nevent: c";
        let mut read = Vec::new();
        let mut seen = Vec::new();
        for byte in sent {
            read.push(*byte);
            seen.extend(take(&mut read));
        }
        assert_eq!(seen, [b"{\"a\":1}".to_vec(), b"2".to_vec()]);
        assert_eq!(read, b"event: c");
    }
}
