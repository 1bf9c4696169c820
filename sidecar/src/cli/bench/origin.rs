//! The built-in origin of `koorde bench`: every item is there, cacheable, and counted.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;

use crate::cli::{
    Failure,
    loopback::{Loopback, body},
};

/// Where it listens if nobody else does. Fixed, so that an allow-list can name it.
pub(crate) const ORIGIN_PORT: u16 = 9001;

/// A running origin; ends when dropped.
#[derive(Debug)]
pub(crate) struct Origin {
    server: Loopback,
    /// New each time, so that no run finds what an earlier one left in the caches.
    run: String,
    requests: Arc<AtomicU64>,
}

impl Origin {
    /// Starts one whose items have `size` bytes and take `delay`.
    pub(crate) async fn start(size: usize, delay: Duration) -> Result<Self, Failure> {
        let requests = Arc::new(AtomicU64::new(0));
        let counter = requests.clone();
        let item = Bytes::from(vec![b'.'; size]);
        let handler = move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            let item = item.clone();
            async move {
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                let mut response = Response::new(body(Full::new(item)));
                let fields = response.headers_mut();
                fields.insert(
                    header::CACHE_CONTROL,
                    HeaderValue::from_static("max-age=3600"),
                );
                fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            }
        };
        let server = Loopback::start_near(ORIGIN_PORT, handler)
            .await
            .map_err(|error| {
                Failure::Work(format!(
                    "the built-in origin could not listen on loopback: {error}"
                ))
            })?;
        let run = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
        Ok(Self {
            server,
            run,
            requests,
        })
    }

    /// The URL of an item; `{}` stands for its rank.
    pub(crate) fn template(&self) -> String {
        format!("http://{}/{}/{{}}", self.address(), self.run)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}
