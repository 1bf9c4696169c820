//! What came out of the requests: counts and a histogram, whose size does not grow with them.

use std::time::Duration;

use hdrhistogram::Histogram;

/// What the node said it did: its X-Cache field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XCache {
    HitLocal,
    HitRemote,
    Stale,
    Revalidated,
    Miss,
    Bypass,
    Error,
    /// No such field, or a value that is none of these.
    Other,
}

impl XCache {
    pub(crate) const ALL: [Self; 8] = [
        Self::HitLocal,
        Self::HitRemote,
        Self::Stale,
        Self::Revalidated,
        Self::Miss,
        Self::Bypass,
        Self::Error,
        Self::Other,
    ];

    pub(crate) fn parse(value: &[u8]) -> Self {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str().as_bytes() == value)
            .unwrap_or(Self::Other)
    }

    /// The value of the field.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::HitLocal => "HIT-LOCAL",
            Self::HitRemote => "HIT-REMOTE",
            Self::Stale => "STALE",
            Self::Revalidated => "REVALIDATED",
            Self::Miss => "MISS-ORIGIN",
            Self::Bypass => "BYPASS",
            Self::Error => "ERROR",
            Self::Other => "OTHER",
        }
    }

    /// Answered without anybody asking the origin first.
    pub(crate) const fn is_hit(self) -> bool {
        matches!(self, Self::HitLocal | Self::HitRemote | Self::Stale)
    }
}

/// Why a request has no complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Connect,
    Timeout,
    Broken,
}

impl Trouble {
    pub(crate) const ALL: [Self; 3] = [Self::Connect, Self::Timeout, Self::Broken];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
        }
    }
}

/// One request that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Its place in the workload, from 0.
    pub(crate) index: u64,
    /// Which of the nodes was asked.
    pub(crate) node: usize,
    /// The rank of its URL, from 1.
    pub(crate) rank: u64,
    /// When it was to start, from the start of the run.
    pub(crate) start: Duration,
    /// From then to the end of the body.
    pub(crate) latency: Duration,
    pub(crate) bytes: u64,
    pub(crate) result: Result<(u16, XCache), Trouble>,
}

/// Longer than any timeout allows; longer latencies count as this.
const LONGEST: Duration = Duration::from_secs(3600);

/// All samples so far.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// By hundreds: 1xx … 5xx, anything else.
    status: [u64; 6],
    x_cache: [u64; XCache::ALL.len()],
    trouble: [u64; Trouble::ALL.len()],
    /// Microseconds of complete responses, to three digits.
    latency: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let longest = u64::try_from(LONGEST.as_micros()).unwrap_or(u64::MAX);
        Self {
            requests: 0,
            bytes: 0,
            status: [0; 6],
            x_cache: [0; XCache::ALL.len()],
            trouble: [0; Trouble::ALL.len()],
            latency: Histogram::new_with_bounds(1, longest, 3).expect(
                "the bounds are constants: low is 1, high more than 2, digits within 0 to 5",
            ),
        }
    }

    pub(crate) fn add(&mut self, sample: &Sample) {
        self.requests += 1;
        self.bytes += sample.bytes;
        match sample.result {
            Ok((status, x_cache)) => {
                self.status[class(status)] += 1;
                self.x_cache[x_cache as usize] += 1;
                let micros = u64::try_from(sample.latency.as_micros()).unwrap_or(u64::MAX);
                self.latency.saturating_record(micros);
            }
            Err(trouble) => self.trouble[trouble as usize] += 1,
        }
    }

    /// Complete responses with a status of `hundreds`00 to `hundreds`99.
    pub(crate) fn status(&self, hundreds: u16) -> u64 {
        self.status[class(hundreds * 100)]
    }

    pub(crate) fn x_cache(&self, kind: XCache) -> u64 {
        self.x_cache[kind as usize]
    }

    pub(crate) fn trouble(&self, kind: Trouble) -> u64 {
        self.trouble[kind as usize]
    }

    /// Requests without a complete response.
    pub(crate) fn errors(&self) -> u64 {
        self.trouble.iter().sum()
    }

    pub(crate) fn hits(&self) -> u64 {
        XCache::ALL
            .into_iter()
            .filter(|kind| kind.is_hit())
            .map(|kind| self.x_cache(kind))
            .sum()
    }

    /// The latency that `part` of the complete responses stayed within.
    pub(crate) fn latency_ms(&self, part: f64) -> f64 {
        self.latency.value_at_quantile(part) as f64 / 1000.0
    }

    pub(crate) fn mean_ms(&self) -> f64 {
        self.latency.mean() / 1000.0
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.latency.max() as f64 / 1000.0
    }
}

fn class(status: u16) -> usize {
    match status {
        100..=599 => usize::from(status / 100 - 1),
        _ => 5,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(
        index: u64,
        latency_ms: u64,
        result: Result<(u16, XCache), Trouble>,
    ) -> Sample {
        let latency = Duration::from_millis(latency_ms);
        Sample {
            index,
            node: 0,
            rank: 1,
            start: Duration::ZERO,
            latency,
            bytes: 10,
            result,
        }
    }

    #[test]
    fn remote_hits_are_hits_and_failures_are_not_latencies() {
        let mut tally = Tally::new();
        tally.add(&sample(0, 1, Ok((200, XCache::HitLocal))));
        tally.add(&sample(1, 2, Ok((200, XCache::HitRemote))));
        tally.add(&sample(2, 3, Ok((502, XCache::Error))));
        tally.add(&sample(3, 9000, Err(Trouble::Timeout)));
        assert_eq!(
            (tally.requests, tally.hits(), tally.errors(), tally.bytes),
            (4, 2, 1, 40)
        );
        assert_eq!(
            (
                tally.status(2),
                tally.status(5),
                tally.trouble(Trouble::Timeout)
            ),
            (2, 1, 1)
        );
        assert!(tally.max_ms() < 4.0, "{}", tally.max_ms());
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut tally = Tally::new();
        for ms in 1..=1000 {
            tally.add(&sample(ms, ms, Ok((200, XCache::Miss))));
        }
        for (part, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let measured = tally.latency_ms(part);
            assert!(
                (measured - ms).abs() <= ms / 1000.0,
                "p{part}: {measured} for {ms}"
            );
        }
    }

    #[test]
    fn every_x_cache_value_reads_back() {
        for kind in XCache::ALL {
            assert_eq!(XCache::parse(kind.as_str().as_bytes()), kind);
        }
        assert_eq!(XCache::parse(b"Hit from cloudfront"), XCache::Other);
    }
}
