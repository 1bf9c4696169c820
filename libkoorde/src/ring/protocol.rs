//! The whole vocabulary of the ring: what goes in, what comes out, what travels. Read this first.
//!
//! Messages are one-way. An answer is a message of its own, sent straight to the asker, so no call
//! is held open along a path and the simulator needs no sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::id::{Id, KeyId};

/// What a participant is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Owns keys and is in everybody's view.
    #[default]
    Member,
    /// Routes and fetches but owns nothing and is in nobody's view (short-lived pods, Jobs).
    Edge,
}

/// One participant, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its place on the ring: the hash of `name`.
    pub id: Id,
    /// Its stable name, at most 253 bytes (a pod's name): the same after a restart.
    pub name: Arc<str>,
    /// Where it takes messages.
    pub addr: SocketAddr,
    /// Higher wins. Starts at the process's start in milliseconds, grows by one with every
    /// refutation, never falls.
    pub incarnation: u64,
    /// Share of keys relative to the others: 100 is normal, 1..=[`Member::MAX_WEIGHT`]; 0 counts
    /// as 1. To own nothing, be an [`Role::Edge`].
    pub weight: u16,
    /// Member or edge.
    pub role: Role,
}

impl Member {
    /// The largest weight that counts; more is taken as this.
    pub const MAX_WEIGHT: u16 = 10_000;
}

/// Names one look-up among those of the same asker. Chosen by whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// What [`Ring::handle`](super::Ring::handle) takes.
#[derive(Clone, Debug)]
pub enum Input {
    /// `message` arrived; `from` is the address the sender gives as its own ([`Member::addr`]).
    Message {
        /// The sender.
        from: SocketAddr,
        /// What it says.
        message: Message,
    },
    /// The transport could not deliver to `to` (refused, reset, gone): quicker than silence.
    Unreachable {
        /// The address that did not answer.
        to: SocketAddr,
    },
    /// The node asks for something.
    Command(Command),
    /// [`Ring::deadline`](super::Ring::deadline) has passed.
    Timeout,
}

/// What the node may ask of its ring.
#[derive(Clone, Debug)]
pub enum Command {
    /// The seeds as discovery sees them now; replaces the last list. May contain our own address
    /// and dead ones. The first [`RingConfig::max_seeds`](super::RingConfig) count.
    Seeds(Vec<SocketAddr>),
    /// Find the owner of `key`; ends with [`Event::Found`] or [`Event::NotFound`] by `deadline`.
    Find {
        /// Comes back in the event; must not be in use.
        lookup: LookupId,
        /// The key.
        key: KeyId,
        /// When the asker stops caring.
        deadline: Instant,
        /// Whether to record the path.
        trace: bool,
    },
    /// Leave gracefully; ends with [`Event::Left`] after `leave_grace`.
    Leave,
}

/// What [`Ring::poll`](super::Ring::poll) gives.
#[derive(Clone, Debug)]
pub enum Output {
    /// Send `message` to `to`, once, without waiting; it may be lost.
    Send {
        /// The receiver.
        to: SocketAddr,
        /// What to say.
        message: Message,
    },
    /// Tell the node.
    Event(Event),
}

/// What the ring tells its node.
#[derive(Clone, Debug)]
pub enum Event {
    /// A look-up has ended well.
    Found {
        /// The look-up.
        lookup: LookupId,
        /// Owner and replicas in rendezvous order, best first; three when there are that many.
        owners: Vec<Member>,
        /// Successor of the key.
        home: Member,
        /// Messages until the request was at the owner; 0 if the asker owns the key.
        hops: u32,
        /// The nodes it went through, only if traced.
        path: Vec<Id>,
    },
    /// A look-up has ended badly.
    NotFound {
        /// The look-up.
        lookup: LookupId,
        /// Why.
        reason: NotFoundReason,
    },
    /// A member came into view, or came back at another address.
    Up(Member),
    /// A member went out of view.
    Down {
        /// As last known.
        member: Member,
        /// Why.
        reason: DownReason,
    },
    /// We were alone and found others.
    Joined {
        /// Members now known, ourselves included.
        members: usize,
    },
    /// Our ring met another one at least as big.
    Merged {
        /// Members now known, ourselves included.
        members: usize,
    },
    /// Others took us for dead, and we have told them better: for them we were away, whether we
    /// noticed or not.
    TakenForDead,
    /// The successor has answered a period's question.
    Stabilized {
        /// How long it took.
        took: std::time::Duration,
    },
    /// This node has found a member dead, by its own probes and not by what others say. The
    /// [`Event::Down`] of it has come just before.
    Confirmed,
    /// A member that had missed a probe has answered.
    Refuted,
    /// We have left; the ring says nothing more.
    Left,
    /// A newer process runs under our name at another address. We have left.
    Superseded {
        /// The newer one.
        by: Member,
    },
}

/// Why a look-up found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFoundReason {
    /// No answer in time.
    Deadline,
    /// Too many look-ups in flight (`max_lookups`), or the id is in use.
    Overloaded,
    /// We have left the ring.
    Left,
}

/// Why a member went out of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DownReason {
    /// It does not answer.
    Dead,
    /// It said good-bye.
    Left,
    /// It restarted elsewhere; an [`Event::Up`] follows.
    Replaced,
    /// Alive, but no longer among our nearest (only in rings of more than 2R + 1).
    Distant,
}

/// Where a node stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Knows nobody: a ring of one, serving.
    Alone,
    /// Knows others but has not yet agreed with its successor on who is there. Serves.
    Joining,
    /// In the ring.
    Active,
    /// Has said good-bye, still forwards.
    Leaving,
    /// Gone.
    Left,
}

impl Phase {
    /// The word for reports and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Leaving => "leaving",
            Self::Left => "left",
        }
    }
}

/// What travels between nodes. All one-way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Travels towards the home or owner of a key.
    Lookup(Box<Lookup>),
    /// "I have the look-up you sent as hop `hop`; you may forget it."
    Ack {
        /// Echo of [`Lookup::hop`].
        hop: u64,
    },
    /// Goes straight from the owner to the asker.
    Found(Box<Found>),
    /// Each period, to the first successor: stabilize and notify in one.
    Stabilize {
        /// The sender (this is the "notify" of Chord).
        me: Member,
        /// What it believes.
        digest: Digest,
    },
    /// The answer to [`Message::Stabilize`].
    Stabilized {
        /// Whether the digests agree.
        agree: bool,
        /// The nearest members between the asker and us, nearest to us first; at most 2.
        between: Vec<Member>,
        /// If they do not agree: what changed here lately; at most 16.
        changes: Vec<Change>,
    },
    /// Membership news: pushed to everybody known by whoever detects it. At most 64.
    Changes(Vec<Change>),
    /// All I know, to mend what a lost push left open.
    Sync(Box<Sync>),
    /// "Are you there?"
    Ping {
        /// Echoed.
        nonce: u64,
    },
    /// "I am" (or, relayed, "it is").
    Pong {
        /// Echo of the ping's.
        nonce: u64,
    },
    /// "Ask `target` for me": an indirect probe before a verdict.
    PingFor {
        /// Whom to ask.
        target: SocketAddr,
        /// Echoed to the sender of this.
        nonce: u64,
    },
    /// "This member did not answer me; you are its neighbour, look after it."
    Suspect {
        /// The member.
        id: Id,
        /// As the sender knows it.
        incarnation: u64,
    },
    /// "You are taken for dead at this incarnation; refute with a higher one."
    Dead {
        /// The incarnation in the tombstone.
        incarnation: u64,
    },
    /// "Whom do you know next to you?" (lists of rings of more than 2R + 1).
    List {
        /// Echoed.
        nonce: u64,
        /// Clockwise or counter-clockwise.
        forward: bool,
        /// How many at most; more than [`Message::MAX_LISTED`] counts as that.
        count: usize,
    },
    /// The answer to [`Message::List`], or to a look-up for pointers; nearest first.
    Listed {
        /// Echo.
        nonce: u64,
        /// At most [`Message::MAX_LISTED`].
        members: Vec<Member>,
    },
}

impl Message {
    /// Most members in one [`Message::Listed`].
    pub const MAX_LISTED: usize = 160;
    /// Most changes in one [`Message::Changes`].
    pub const MAX_CHANGES: usize = 64;
    /// Most changes in one [`Message::Stabilized`].
    pub const MAX_RECENT: usize = 16;
}

/// One piece of membership news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The member is there, at this incarnation.
    Alive(Member),
    /// The member is not, as of its incarnation.
    Gone(Gone),
}

/// The end of a member, and, kept for a while, its tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gone {
    /// As last known; its incarnation is the one that is gone.
    pub member: Member,
    /// [`DownReason::Dead`] or [`DownReason::Left`]; nothing else travels.
    pub reason: DownReason,
}

/// All that one node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Clockwise and without a gap, the sender included (unless an edge); at most 2R + 1.
    pub members: Vec<Member>,
    /// Tombstones of the last 30 s; at most 128, newest first.
    pub gone: Vec<Gone>,
    /// Whether `members` is the whole ring.
    pub complete: bool,
    /// Whether to send back what the sender lacks.
    pub answer: bool,
}

/// What a node believes about the members in (after, through]; whole circle if they are equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Start, exclusive.
    pub after: Id,
    /// End, inclusive.
    pub through: Id,
    /// Exclusive or of a hash of each member's id and incarnation.
    pub sum: u64,
}

/// A look-up on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The asker's name for it.
    pub id: LookupId,
    /// Who gets the answer.
    pub asker: SocketAddr,
    /// What it is for.
    pub purpose: Purpose,
    /// The key.
    pub key: KeyId,
    /// How far the de Bruijn path has come; `None` before the first hop.
    pub imaginary: Option<Imaginary>,
    /// Sent to the chosen owner, who verifies, rather than towards the home.
    pub direct: bool,
    /// How many owners sent it on because they thought themselves not to be it.
    pub redirects: u8,
    /// Hops left.
    pub ttl: u8,
    /// Hops so far, this one included.
    pub hops: u8,
    /// The sender's name for this hop, for the [`Message::Ack`]; 0: none wanted.
    pub hop: u64,
    /// Time left until the asker stops caring: no wall clock travels.
    pub remaining: Duration,
    /// Members that did not answer on the way, not to be chosen again; at most 8.
    pub avoid: Vec<Id>,
    /// The path so far, if the asker traces; at most [`Lookup::ttl`] ids.
    pub path: Option<Vec<Id>>,
}

impl Lookup {
    /// Most entries of [`Lookup::avoid`].
    pub const MAX_AVOID: usize = 8;
}

/// What a look-up is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The owner of a cache key.
    Find,
    /// "Who is home to my own id?" Anybody but me: another ring, or one that has not met me.
    Join {
        /// The asker.
        me: Member,
        /// What it believes.
        digest: Digest,
    },
    /// The nodes from the predecessor of the place's predecessor on, up to one beyond `through`.
    Pointers {
        /// Where the list may end.
        through: Id,
    },
}

/// The imaginary node a look-up stands at, and the digits it has yet to shift in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imaginary {
    /// Digits of the key left, at most 64; at 0 `node` is the key itself.
    pub digits: u8,
    /// The imaginary node.
    pub node: Id,
}

/// The end of a look-up for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The look-up.
    pub id: LookupId,
    /// Owner and replicas, best first; 1 to 4.
    pub owners: Vec<Member>,
    /// Successor of the key.
    pub home: Member,
    /// Predecessor of `home`: keys in (predecessor, home] have this home. `home` itself if it is
    /// alone.
    pub predecessor: Member,
    /// Messages until the request was at the owner.
    pub hops: u8,
    /// The nodes it went through, if traced.
    pub path: Vec<Id>,
}
