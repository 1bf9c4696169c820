//! What an unsafe request made stale is told to the other members a moment after its answer.
//!
//! The first owners know before the answer is sent (`invalidate.rs`). A member that was an owner once
//! may still hold the response, and would answer from it as soon as it is an owner again; and one that
//! was asked before the answer may have been too slow: so all are told that have not said that they
//! know. One task does it, many invalidations at a time, so that a flood of them is few messages.

use std::{collections::BTreeMap, collections::BTreeSet, net::SocketAddr, sync::Arc};

use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{
    Inner,
    invalidate::{PATIENCE, Stale},
    wire::MAX_URLS,
};

/// Invalidations that wait to be told. With four URLs of 16 KiB each, 16 MiB; beyond it they are
/// told before their answers.
const QUEUE: usize = 256;
/// Members told at once.
const AT_ONCE: usize = 64;

/// One invalidation.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) stale: Stale,
    /// The first owners of what is stale, who may be out of our view.
    pub(crate) first: BTreeSet<SocketAddr>,
    /// Who has said that it knows of it.
    pub(crate) to: BTreeSet<SocketAddr>,
}

/// Where invalidations wait until the other members are told.
#[derive(Debug)]
pub(crate) struct Later {
    queue: mpsc::Sender<Told>,
}

impl Later {
    /// And what [`Inner::tell_later`] reads.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Told>) {
        let (queue, told) = mpsc::channel(QUEUE);
        (Self { queue }, told)
    }

    /// Queues it; false if the queue is full, or the node is stopping.
    pub(crate) fn add(&self, told: Told) -> bool {
        self.queue.try_send(told).is_ok()
    }
}

impl Inner {
    /// Tells everybody what they have not been told. Ends with the node.
    pub(crate) async fn tell_later(self: Arc<Self>, mut queue: mpsc::Receiver<Told>) {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, QUEUE).await > 0 {
            let batch = std::mem::take(&mut batch);
            let first = batch.iter().flat_map(|told| told.first.iter().copied());
            let all: BTreeSet<SocketAddr> = self.others().into_iter().chain(first).collect();
            let news = all.into_iter().flat_map(|to| {
                let news = news(&batch, to).into_iter();
                news.map(move |stale| (to, stale))
            });
            let node = &*self;
            let tellings =
                stream::iter(news).for_each_concurrent(AT_ONCE, |(to, stale)| async move {
                    // Out of reach: it may use what it holds should it be an owner again.
                    if node.tell_one(to, &stale, PATIENCE).await.is_none() {
                        node.metrics.purges_unreachable.inc();
                    }
                });
            tellings.await;
        }
    }
}

/// What of these a member lacks, in as few messages as may be.
fn news(batch: &[Told], member: SocketAddr) -> Vec<Stale> {
    let mut lacks: BTreeMap<&str, BTreeSet<&[u8]>> = BTreeMap::new();
    for Told { stale, .. } in batch.iter().filter(|told| !told.to.contains(&member)) {
        let urls = lacks.entry(&stale.tenant).or_default();
        urls.extend(stale.urls.iter().map(Vec::as_slice));
    }
    let mut news = Vec::new();
    for (tenant, urls) in lacks {
        let urls: Vec<Vec<u8>> = urls.into_iter().map(<[u8]>::to_vec).collect();
        news.extend(urls.chunks(MAX_URLS).map(|urls| Stale {
            tenant: tenant.to_owned(),
            urls: urls.to_vec(),
        }));
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tenant: &str, urls: &[&str], to: &[u16]) -> Told {
        Told {
            stale: Stale {
                tenant: tenant.to_owned(),
                urls: urls.iter().map(|url| url.as_bytes().to_vec()).collect(),
            },
            first: BTreeSet::new(),
            to: to
                .iter()
                .map(|port| ([127, 0, 0, 1], *port).into())
                .collect(),
        }
    }

    #[test]
    fn a_member_is_told_each_url_that_it_lacks_once() {
        let many: Vec<String> = (0..40).map(|n| format!("/{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let batch = [
            told("", &["/a", "/b"], &[1, 2]),
            told("", &["/a"], &[2]),
            told("t", &many, &[3]),
            told("t", &many, &[2, 3]),
        ];
        let texts = |port: u16| -> Vec<(String, usize)> {
            let news = news(&batch, ([127, 0, 0, 1], port).into());
            let news = news.into_iter();
            news.map(|stale| (stale.tenant, stale.urls.len())).collect()
        };
        let t = || ["t"; 3].map(str::to_owned).into_iter().zip([16, 16, 8]);
        assert_eq!(
            texts(1),
            [(String::new(), 1)]
                .into_iter()
                .chain(t())
                .collect::<Vec<_>>()
        );
        assert_eq!(texts(2), t().collect::<Vec<_>>());
        assert_eq!(texts(3), [(String::new(), 2)]);
    }
}
