//! Look-aside: whoever asks makes the origin's request by its own means, under a lease of the fill
//! that all others wait for, and puts what came.
//!
//! A lease is the far end of a fill ([`Lender`]): the fill waits for an [`Offer`] where it would else
//! ask the origin, and treats it as the origin's answer. Dropping the far end gives the lease back;
//! so whoever holds it can die at any point without holding up others.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, response};
use tokio::sync::{mpsc, oneshot};

use super::{
    Body, Inner, Node, Request,
    answer::{Answer, Head},
    clock,
    fetch::Hop,
    miss::Miss,
    origin::Piece,
    relay::{Failure, Reader},
    seat::{Flight, Seat},
};
use crate::{
    error::FetchError,
    metrics::Metrics,
    outcome::{CacheResult, Outcome, Tier},
    policy::Member,
};

mod ask;
mod borrow;
mod desk;
mod door;
mod lend;
mod peer;

pub(crate) use desk::Desk;
pub use door::CacheService;

/// Chunks of a put body that wait for the fill to take them.
const CHUNKS: usize = 2;

/// What a look-aside ends in.
#[derive(Debug)]
pub enum Aside {
    /// A stored response, or one that another's fill brought. With a lease, it is stale but may be
    /// used (RFC 5861 §3), and whoever asked is to renew it, in the background.
    Answer(Response<Body>, Option<Lease>),
    /// Nothing that can be used: make the request; others wait for what is put.
    Lease(Lease),
    /// Make the request and put nothing: what comes is nobody else's, as far as is known. With the
    /// member of Cache-Status (RFC 9211) that says why.
    Alone(HeaderValue),
}

/// What became of a response's head that was put.
#[derive(Debug)]
pub enum Put {
    /// Not the answer by itself (a 304, an error that a stale response stands in for): here is the
    /// stored one.
    Answer(Response<Body>),
    /// Others have it from here on: write the body as it comes.
    Body(PutBody),
    /// The caller keeps it for itself: it may not be shared (RFC 9111 §3). No body is wanted.
    Unwanted,
    /// The lease was lost before: others may have made the request again. The caller keeps what it
    /// has; after a 304 to the conditions of the lease it makes the request again without them.
    Lost,
}

/// The right, and the duty, to make the request that others wait for. Dropping it gives it back: the
/// next who waits gets it.
#[derive(Debug)]
pub struct Lease {
    miss: Box<Miss>,
    granted: Granted,
    waiting: Waiting,
}

/// A body under a lease, on its way to all who wait. Dropping it before [`PutBody::end`] tells them
/// that it is incomplete, and nothing is stored.
#[derive(Debug)]
pub struct PutBody {
    pieces: mpsc::Sender<Piece>,
    flight: Arc<Flight>,
    /// Ends with the fill.
    done: oneshot::Receiver<()>,
}

/// Nobody needs the rest of a body any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody needs the rest of the body")]
pub struct NotWanted;

impl Node {
    /// Looks for a response, for a caller that can make the request itself: where [`Node::fetch`]
    /// would ask the origin, the caller gets a lease to do so, one at a time of all callers on all
    /// nodes that one response would answer. The others wait for what is put, and so does
    /// [`Node::fetch`].
    ///
    /// The request's fields are those that would go to the origin. A target that was written in another
    /// way than it reads ([`Target::is_as_written`](crate::policy::Target::is_as_written)) is asked for alone: what would come under that
    /// text is not what is stored under this one. A request with a Range, or for
    /// what is stored in slices, is answered from the stores or not at all ([`Aside::Alone`]).
    ///
    /// # Errors
    /// A bound of this node, or `only-if-cached` and nothing stored.
    pub async fn look_aside(&self, request: Request) -> Result<Aside, FetchError> {
        let inner = &self.inner;
        inner.popular.note(&request.target, &inner.hasher);
        let asked = inner.look_aside(request, Hop::Client, inner.config.fetch.timeout);
        let asked = asked.await;
        let tally = |result| {
            inner.metrics.answered(Outcome {
                result,
                tier: Tier::Origin,
                collapsed: false,
            });
        };
        match asked {
            Ok(Asked::Answer(answer, lease)) => {
                inner.metrics.answered(answer.outcome);
                Ok(Aside::Answer(answer.into_response(&inner.hop), lease))
            }
            Ok(Asked::Lease(mut lease)) => {
                lease.waiting.tally = Some(Tally::new(&inner.metrics));
                Ok(Aside::Lease(lease))
            }
            Ok(Asked::Alone(member, result)) => {
                tally(result);
                Ok(Aside::Alone(member))
            }
            Err(error) => {
                tally(CacheResult::Error);
                inner.metrics.failed(&error);
                Err(error)
            }
        }
    }
}

/// As [`Aside`], before a door words it.
#[derive(Debug)]
pub(crate) enum Asked {
    Answer(Answer, Option<Lease>),
    Lease(Lease),
    Alone(HeaderValue, CacheResult),
}

impl Lease {
    pub(crate) fn new(node: &Arc<Inner>, miss: Miss, granted: Granted, seat: Seat) -> Self {
        let waiting = Waiting {
            node: Arc::clone(node),
            reader: seat.reader,
            flight: seat.flight,
            tally: None,
        };
        Self {
            miss: Box::new(miss),
            granted,
            waiting,
        }
    }

    /// The fields to make the request with in place of its own conditions (If-None-Match and the
    /// others of RFC 9110 §13.1, If-Range): validators of what is stored, or none. Conditions of the
    /// caller's own would bring what answers nobody else.
    #[must_use]
    pub fn conditions(&self) -> &HeaderMap {
        &self.granted.conditions
    }

    /// How much longer a put may begin.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        let until = self.granted.until;
        until.saturating_duration_since(clock::now().instant)
    }

    /// Puts the head of the origin's response, whatever its status. `lifetime` is the freshness
    /// lifetime to store it with in place of what its fields say, at most a year; it makes nothing
    /// storable that says `no-store` or `private`, and an error (400 and above) keeps what its own
    /// fields say.
    pub async fn put(self, head: Response<()>, lifetime: Option<Duration>) -> Put {
        let (pieces, body) = mpsc::channel(CHUNKS);
        let (end, done) = oneshot::channel();
        let (head, ()) = head.into_parts();
        let offer = Offer {
            head,
            lifetime,
            body,
            done: end,
        };
        let Self {
            miss,
            granted,
            mut waiting,
        } = self;
        if granted.offers.send(Some(Box::new(offer))).is_err() {
            return Put::Lost;
        }
        match waiting.head(&miss).await {
            Ok(head) if is_stored(&head) => Put::Answer(waiting.answer(&miss, &head)),
            Ok(head) if head.shared.is_some() => Put::Body(PutBody {
                pieces,
                flight: waiting.flight,
                done,
            }),
            Ok(_) | Err(Failure::Fetch(FetchError::NotShared { .. })) => Put::Unwanted,
            Err(_) => Put::Lost,
        }
    }

    /// No response came. A stale stored response that may stand in (stale-if-error, RFC 5861 §4), if
    /// there is one; else the next who waits makes the request.
    pub async fn fail(self) -> Option<Response<Body>> {
        let Self {
            miss,
            granted,
            mut waiting,
        } = self;
        granted.offers.send(None).ok()?;
        let head = waiting.head(&miss).await.ok()?;
        Some(waiting.answer(&miss, &head))
    }

    /// The member of Cache-Status (RFC 9211) for the response that its holder has in the end.
    pub(crate) fn member(&self, status: Option<StatusCode>) -> Member {
        let name = &self.waiting.node.name;
        Member {
            fwd_status: status,
            detail: Some(name.detail(None)),
            ..Member::forwarded(name.cache.as_str(), self.miss.forward)
        }
    }

    /// One more who waits for what is put: for a peer whose client has the lease.
    pub(crate) fn follow(&self) -> Option<Follower> {
        let waiting = Waiting {
            node: Arc::clone(&self.waiting.node),
            reader: self.waiting.flight.relay.read()?,
            flight: Arc::clone(&self.waiting.flight),
            tally: None,
        };
        let miss = Miss::clone(&self.miss);
        Some(Follower { miss, waiting })
    }
}

/// Whether the head that all see is that of a stored response, and not the one put.
fn is_stored(head: &Head) -> bool {
    matches!(
        head.result,
        CacheResult::Validated | CacheResult::Stale | CacheResult::Hit
    )
}

impl PutBody {
    /// Hands one chunk on; waits while those who read it are behind.
    ///
    /// # Errors
    /// Nobody needs the rest: the caller goes on without.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), NotWanted> {
        let sent = self.pieces.send(Piece::Chunk(chunk)).await;
        sent.map_err(|_| NotWanted)
    }

    /// The body is whole. Returns when it is stored, and whether it is.
    pub async fn end(self) -> bool {
        let Self {
            pieces,
            flight,
            done,
        } = self;
        if pieces.send(Piece::End).await.is_err() {
            return false;
        }
        // Its sender is dropped, and nothing sent, when the fill is over.
        let _over = done.await;
        flight.is_stored.load(Ordering::Acquire)
    }
}

/// Who waits for what a lease brings.
#[derive(Debug)]
struct Waiting {
    node: Arc<Inner>,
    reader: Reader<Head>,
    flight: Arc<Flight>,
    /// Counts the request that the lease is for; none where that is counted already.
    tally: Option<Tally>,
}

impl Waiting {
    async fn head(&mut self, miss: &Miss) -> Result<Arc<Head>, Failure> {
        // Once the head is put, what decides is all here or at the owner: no origin is waited for.
        let deadline = miss.deadline.max(clock::now().instant + DECIDE);
        let head = self.node.head(&self.reader, None, deadline).await;
        if let (Ok(head), Some(tally)) = (&head, &mut self.tally) {
            tally.0 = head.result;
        }
        head
    }

    fn answer(self, miss: &Miss, head: &Head) -> Response<Body> {
        let node = &self.node;
        let answer = node.read(miss, head, self.reader, false, clock::now());
        answer.into_response(&node.hop)
    }
}

/// From the put of a head to what becomes of it, at most.
const DECIDE: Duration = Duration::from_secs(5);

/// How long a stale answer is held up by the question whether its asker is to renew it.
const RENEW: Duration = Duration::from_secs(1);

/// Counts one request when it is over: as a miss, unless something better came of it.
#[derive(Debug)]
struct Tally(CacheResult, Arc<Metrics>);

impl Tally {
    fn new(metrics: &Arc<Metrics>) -> Self {
        Self(CacheResult::Miss, Arc::clone(metrics))
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.1.answered(Outcome {
            result: self.0,
            tier: match self.0 {
                CacheResult::Miss => Tier::Origin,
                _ => Tier::Local,
            },
            collapsed: false,
        });
    }
}

/// Waits beside the holder of a lease for what it brings.
#[derive(Debug)]
pub(crate) struct Follower {
    miss: Miss,
    waiting: Waiting,
}

impl Follower {
    /// What was put, for others than its holder.
    pub(crate) async fn answer(mut self) -> Result<Answer, Failure> {
        let head = self.waiting.head(&self.miss).await?;
        if head.shared.is_none() {
            let lasts = !head.status.is_server_error();
            return Err(FetchError::NotShared { lasts }.into());
        }
        let Waiting { node, reader, .. } = self.waiting;
        Ok(node.read(&self.miss, &head, reader, true, clock::now()))
    }
}

/// Hands a fill's work to whoever asks.
#[derive(Debug)]
pub(crate) struct Lender {
    grant: oneshot::Sender<Granted>,
    /// Whether it is to renew what an answer that is out already was made of.
    renews: bool,
}

/// A lease, as a fill gives it.
#[derive(Debug)]
pub(crate) struct Granted {
    conditions: HeaderMap,
    until: Instant,
    /// Dropped: it is given back. None: no response came.
    offers: oneshot::Sender<Option<Box<Offer>>>,
}

/// The origin's response, as the holder of a lease brings it.
#[derive(Debug)]
pub(crate) struct Offer {
    head: response::Parts,
    lifetime: Option<Duration>,
    body: mpsc::Receiver<Piece>,
    /// Dropped when the fill is over.
    done: oneshot::Sender<()>,
}
