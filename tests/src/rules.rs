//! What the simulated network does to a message: latency, loss, duplication, partition (after
//! turmoil), and what it weighs.

use std::time::Duration;

use libkoorde::ring::{Change, Digest, Lookup, Member, Message, Purpose};

/// SplitMix64: the simulator's only source of chance.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same numbers for ever.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// 64 random bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..`bound`.
    pub const fn below(&mut self, bound: usize) -> usize {
        ((self.next() as u128 * bound as u128) >> 64) as usize
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with this mean: the time to the next event of a Poisson process.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.unit()).ln())
    }

    /// Log-normal with this median; sigma 0.5 puts the 99th percentile at 3.2 medians.
    fn log_normal(&mut self, median: Duration, sigma: f64) -> Duration {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        median.mul_f64((sigma * normal).exp())
    }
}

/// What happens to a message. The default is a cluster's network on a bad day.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Median of the one-way latency (log-normal).
    pub latency: Duration,
    /// Share of messages that arrive 20–50 ms late.
    pub late: f64,
    /// Share of messages that do not arrive.
    pub loss: f64,
    /// Share of messages that arrive twice.
    pub duplication: f64,
    /// Whether a crashed node's address refuses at once (a pod whose network lives on) or stays
    /// silent (the worst case, and the default).
    pub refuse: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(800),
            late: 0.001,
            loss: 0.005,
            duplication: 0.001,
            refuse: false,
        }
    }
}

impl Rules {
    /// A network that loses nothing, repeats nothing and is never late.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            late: 0.0,
            loss: 0.0,
            duplication: 0.0,
            ..Self::default()
        }
    }

    /// When the copies of one message arrive, after now.
    pub fn on_message(&self, rng: &mut Rng) -> Vec<Duration> {
        if rng.unit() < self.loss {
            return Vec::new();
        }
        let copies = if rng.unit() < self.duplication { 2 } else { 1 };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    /// One latency.
    pub fn delay(&self, rng: &mut Rng) -> Duration {
        let delay = rng.log_normal(self.latency, 0.5);
        if rng.unit() < self.late {
            return delay + Duration::from_micros(20_000 + rng.below(30_000) as u64);
        }
        delay
    }
}

/// Bytes of a message as protobuf, envelope included; fields at their usual lengths.
///
/// Version, cluster and sender travel once a stream, so an envelope is the message's field in it.
#[must_use]
pub fn payload(message: &Message) -> usize {
    let body = body(message);
    // Fields from 16 on have a tag of two bytes.
    let tag = match message {
        Message::Lookup(_)
        | Message::Ack { .. }
        | Message::Found(_)
        | Message::Stabilize { .. }
        | Message::Stabilized { .. }
        | Message::Changes(_) => 1,
        _ => 2,
    };
    tag + varint(body) + body
}

/// Bytes of a length in front of `len` bytes.
const fn varint(len: usize) -> usize {
    match len {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

fn body(message: &Message) -> usize {
    // A zero costs nothing: the whole circle is one number.
    let digest = |digest: &Digest| {
        2 + if digest.after == digest.through {
            9
        } else {
            27
        }
    };
    let list = |members: &[Member]| members.iter().map(member).sum::<usize>();
    let news = |changes: &[Change]| {
        let size = |change: &Change| match change {
            Change::Alive(alive) => 2 + member(alive),
            Change::Gone(gone) => 4 + member(&gone.member),
        };
        changes.iter().map(size).sum::<usize>()
    };
    match message {
        Message::Lookup(lookup) => self::lookup(lookup),
        Message::Ack { .. } | Message::Ping { .. } | Message::Pong { .. } => 4,
        Message::Found(found) => {
            8 + list(&found.owners)
                + member(&found.home)
                + member(&found.predecessor)
                + 9 * found.path.len()
        }
        Message::Stabilize { me, digest: belief } => member(me) + digest(belief),
        Message::Stabilized {
            between, changes, ..
        } => 2 + list(between) + news(changes),
        Message::Changes(changes) => news(changes),
        Message::Sync(sync) => {
            let gone: usize = sync.gone.iter().map(|gone| 4 + member(&gone.member)).sum();
            4 + list(&sync.members) + gone
        }
        Message::PingFor { .. } => 25,
        Message::Suspect { .. } => 16,
        Message::Dead { .. } => 7,
        Message::List { .. } => 6,
        Message::Listed { members, .. } => 4 + list(members),
    }
}

fn member(member: &Member) -> usize {
    // id, name, address, incarnation (41 bits), weight; length and tag of the message itself.
    9 + 2 + member.name.len() + 2 + 17 + 7 + 2 + 2
}

fn lookup(lookup: &Lookup) -> usize {
    let purpose = match &lookup.purpose {
        Purpose::Find => 2,
        Purpose::Join { me, .. } => 2 + member(me) + 29,
        Purpose::Pointers { .. } => 11,
    };
    let imaginary = if lookup.imaginary.is_some() { 13 } else { 0 };
    let path = lookup.path.as_ref().map_or(0, |path| 2 + 9 * path.len());
    4 + 21 + purpose + 20 + imaginary + 12 + 9 * lookup.avoid.len() + path
}
