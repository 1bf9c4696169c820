//! Timers and bounds of the ring.

use std::time::Duration;

/// Timers and bounds of a [`Ring`](super::Ring). All nodes of a cluster should agree on `degree`
/// and must agree on [`RingConfig::owner_candidates`], which decide who owns what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Degree k of the de Bruijn graph: 2, 4, 8, 16, 32 or 64; default 16. Only rings of more than
    /// 2 × `neighbors` + 1 members use it.
    pub degree: u32,
    /// Nearest members known each way; 4..=1024, default 128. About 100 bytes each; a ring of up to
    /// 2 × `neighbors` + 1 members is known as a whole and answers every request in one hop.
    pub neighbors: usize,
    /// R: how many successors of a key compete for it; 4..=1024, default 128. Nobody can judge
    /// candidates it does not know, so more than `neighbors` count as that many.
    pub candidates: usize,
    /// Period T of stabilisation, ± 10 %; 100 ms..=60 s, default 1 s. Detection takes about
    /// T + `probe_attempts` × `probe_timeout`.
    pub stabilize: Duration,
    /// How long one ping may take; 20 ms..=10 s, default 200 ms.
    pub probe_timeout: Duration,
    /// Unanswered pings before a verdict; 1..=10, default 3. With the default timeout a pod may
    /// freeze for 0.5 s without being taken for dead.
    pub probe_attempts: u32,
    /// How long a hop of a look-up may take before it is repeated; 5 ms..=5 s, default 60 ms.
    pub hop_timeout: Duration,
    /// Tries of the last hop before the next candidate is taken; 1..=10, default 3.
    pub hop_attempts: u32,
    /// When an unanswered look-up starts anew, if the path lost it; 20 ms..=10 s, default 300 ms.
    pub lookup_retry: Duration,
    /// Most hops of one look-up; 4..=64, default 16. Mean path at 10^6 members: 5.
    pub ttl: u8,
    /// How long routing avoids a member whose hop went unanswered; default 3 s.
    pub suspicion: Duration,
    /// How long the end of a member is remembered; default 120 s.
    pub tombstone: Duration,
    /// Contact with a random seed while alone; default 300 ms.
    pub seed_alone: Duration,
    /// Contact with a random seed in the first 10 s; default 500 ms.
    pub seed_young: Duration,
    /// Contact with a random seed or dead member while a third of the ring looks dead (a partition,
    /// as like as not); default 2 s.
    pub seed_broken: Duration,
    /// Contact with a random seed otherwise; default 10 s. Heals split rings.
    pub seed: Duration,
    /// Least time between two full exchanges started by one node; default 1 s.
    pub sync: Duration,
    /// Pause before news learned in a full exchange is passed on; default 50 ms, ± half.
    pub spread: Duration,
    /// How long a leaving node still forwards; default 2 s.
    pub leave_grace: Duration,
    /// Most look-ups of our own in flight; default 4096, about 300 bytes each.
    pub max_lookups: usize,
    /// Most hops waiting for an acknowledgement; default 8192. Beyond, a hop is sent without retry.
    pub max_hops: usize,
    /// Most tombstones; default 512. Beyond, the oldest goes.
    pub max_tombstones: usize,
    /// Most seeds kept; default 1024.
    pub max_seeds: usize,
    /// Most checks (ping, indirect ping) at a time; default 128.
    pub max_checks: usize,
    /// Learned intervals in rings too large to know, 40 bytes each; default 1024, 0 for none.
    pub max_learned: usize,
    /// Outputs waiting to be polled; beyond, messages are lost as a network would. Default 65536.
    pub max_outputs: usize,
}

impl RingConfig {
    /// Bits of one digit: log2 of the degree.
    #[must_use]
    pub const fn digit_bits(&self) -> u32 {
        self.degree.ilog2()
    }

    /// How many successors of a key compete for it: who owns what depends on this and on nothing
    /// else that a node knows or is told. The same on all nodes as long as each has `neighbors` of
    /// at least `candidates`.
    #[must_use]
    pub fn owner_candidates(&self) -> usize {
        self.candidates.min(self.neighbors)
    }

    /// Checks what a reader of the configuration must not let through.
    ///
    /// # Errors
    /// Names the field, its value and its bounds.
    pub fn check(&self) -> Result<(), String> {
        if !(2..=64).contains(&self.degree) || !self.degree.is_power_of_two() {
            return Err(format!(
                "degree is {}, must be 2, 4, 8, 16, 32 or 64",
                self.degree
            ));
        }
        let ms = Duration::from_millis;
        for (name, value, least, most) in [
            ("stabilize", self.stabilize, ms(100), ms(60_000)),
            ("probe_timeout", self.probe_timeout, ms(20), ms(10_000)),
            ("hop_timeout", self.hop_timeout, ms(5), ms(5_000)),
            ("lookup_retry", self.lookup_retry, ms(20), ms(10_000)),
            ("suspicion", self.suspicion, ms(100), ms(60_000)),
            ("tombstone", self.tombstone, ms(10_000), ms(3_600_000)),
            ("seed_alone", self.seed_alone, ms(50), ms(60_000)),
            ("seed_young", self.seed_young, ms(50), ms(60_000)),
            ("seed_broken", self.seed_broken, ms(100), ms(600_000)),
            ("seed", self.seed, ms(100), ms(600_000)),
            ("sync", self.sync, ms(100), ms(600_000)),
            ("spread", self.spread, ms(5), ms(5_000)),
            ("leave_grace", self.leave_grace, ms(0), ms(60_000)),
        ] {
            if value < least || value > most {
                return Err(format!(
                    "{name} is {value:?}, must be {least:?} to {most:?}"
                ));
            }
        }
        for (name, value, least, most) in [
            ("neighbors", self.neighbors, 4, 1024),
            ("candidates", self.candidates, 4, 1024),
            ("probe_attempts", self.probe_attempts as usize, 1, 10),
            ("hop_attempts", self.hop_attempts as usize, 1, 10),
            ("ttl", usize::from(self.ttl), 4, 64),
            ("max_lookups", self.max_lookups, 1, 1 << 20),
            ("max_hops", self.max_hops, 1, 1 << 20),
            ("max_tombstones", self.max_tombstones, 16, 1 << 16),
            ("max_seeds", self.max_seeds, 1, 1 << 16),
            ("max_checks", self.max_checks, 8, 1 << 16),
            ("max_learned", self.max_learned, 0, 1 << 16),
            ("max_outputs", self.max_outputs, 1024, 1 << 22),
        ] {
            if value < least || value > most {
                return Err(format!("{name} is {value}, must be {least} to {most}"));
            }
        }
        Ok(())
    }
}

impl Default for RingConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            degree: 16,
            neighbors: 128,
            candidates: 128,
            stabilize: ms(1000),
            probe_timeout: ms(200),
            probe_attempts: 3,
            hop_timeout: ms(60),
            hop_attempts: 3,
            lookup_retry: ms(300),
            ttl: 16,
            suspicion: ms(3000),
            tombstone: ms(120_000),
            seed_alone: ms(300),
            seed_young: ms(500),
            seed_broken: ms(2000),
            seed: ms(10_000),
            sync: ms(1000),
            spread: ms(50),
            leave_grace: ms(2000),
            max_lookups: 4096,
            max_hops: 8192,
            max_tombstones: 512,
            max_seeds: 1024,
            max_checks: 128,
            max_learned: 1024,
            max_outputs: 65_536,
        }
    }
}
