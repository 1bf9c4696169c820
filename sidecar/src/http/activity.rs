//! What happens on one connection, and how long it may go on like that.
//!
//! hyper has one timer for a request's head, which also runs while a kept-alive connection is idle,
//! and none at all before it knows the protocol or while a body waits for its reader. So the
//! connection counts what it sees here, and a watchdog asks for a [`Verdict`] now and then.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::settings::HttpSettings;

/// What happened on one connection. Times are milliseconds since its start, plus one; 0 is never.
#[derive(Debug)]
pub(super) struct Activity {
    start: Instant,
    /// The first byte since the last request ended (or ever): a head has begun.
    head_began: AtomicU64,
    last_write: AtomicU64,
    last_end: AtomicU64,
    in_flight: AtomicUsize,
    http2: AtomicBool,
    // Only touched when a request begins, and by the watchdog. At most `http.max_streams` long.
    exchanges: Mutex<Vec<Weak<Exchange>>>,
    /// Seconds that a test has let pass.
    #[cfg(test)]
    passed: AtomicU64,
}

/// One request, from its head to the end of its response's body.
#[derive(Debug)]
pub(super) struct Exchange {
    activity: Arc<Activity>,
    /// When a part of the body was handed over and no further one was asked for.
    handed: AtomicU64,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on; ask again after that time.
    Wait(Duration),
    /// Go on, but take no new requests: one of several streams has stalled. Ask again, too.
    Retire(Duration),
    /// End it.
    Close(Reason),
}

/// Which bound a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// `first_byte_timeout`.
    FirstByte,
    /// `header_timeout`.
    Header,
    /// `idle_timeout`.
    Idle,
    /// `stall_timeout`.
    Stalled,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            head_began: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            last_end: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            http2: AtomicBool::new(false),
            exchanges: Mutex::default(),
            #[cfg(test)]
            passed: AtomicU64::new(0),
        })
    }

    /// Bytes came in.
    pub(super) fn read(&self) {
        if self.in_flight.load(Relaxed) == 0 && self.head_began.load(Relaxed) == 0 {
            self.head_began.store(self.now(), Relaxed);
        }
    }

    /// Bytes went out.
    pub(super) fn wrote(&self) {
        self.last_write.store(self.now(), Relaxed);
    }

    /// A request's head is complete.
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> Arc<Exchange> {
        self.in_flight.fetch_add(1, Relaxed);
        self.head_began.store(0, Relaxed);
        self.http2.store(http2, Relaxed);
        let exchange = Arc::new(Exchange {
            activity: Arc::clone(self),
            handed: AtomicU64::new(0),
        });
        let mut exchanges = self.exchanges();
        exchanges.retain(|other| other.strong_count() > 0);
        exchanges.push(Arc::downgrade(&exchange));
        exchange
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// What is to become of the connection now.
    pub(super) fn verdict(&self, limits: &HttpSettings) -> Verdict {
        let (reason, deadline) = if self.in_flight.load(Relaxed) == 0 {
            self.between_requests(limits)
        } else {
            match self.stalled(limits.stall_timeout) {
                Stalled::All => return Verdict::Close(Reason::Stalled),
                Stalled::Some => return Verdict::Retire(pause(limits)),
                Stalled::None => return Verdict::Wait(pause(limits)),
            }
        };
        let left = deadline.saturating_sub(self.elapsed());
        if left.is_zero() {
            return Verdict::Close(reason);
        }
        // A later event can bring an earlier deadline (an idle connection begins a head), so the
        // next look is never far away.
        Verdict::Wait(left.min(pause(limits)))
    }

    /// The bound that applies while no request is under way, and when it ends.
    fn between_requests(&self, limits: &HttpSettings) -> (Reason, Duration) {
        let (began, ended) = (self.head_began.load(Relaxed), self.last_end.load(Relaxed));
        // Over HTTP/2 bytes are no sign of a head: a ping between requests is welcome.
        if began > 0 && (ended == 0 || !self.is_http2()) {
            (Reason::Header, since_start(began) + limits.header_timeout)
        } else if ended == 0 {
            (Reason::FirstByte, limits.first_byte_timeout)
        } else {
            // The last bytes of a body leave after its end.
            let last = ended.max(self.last_write.load(Relaxed));
            (Reason::Idle, since_start(last) + limits.idle_timeout)
        }
    }

    fn stalled(&self, timeout: Duration) -> Stalled {
        let (now, http2) = (self.elapsed(), self.is_http2());
        let written = self.last_write.load(Relaxed);
        let is_stalled = |exchange: &Arc<Exchange>| {
            let handed = exchange.handed.load(Relaxed);
            // With one response at a time, bytes going out are progress of just that one.
            let progress = if http2 { handed } else { handed.max(written) };
            handed > 0 && since_start(progress) + timeout <= now
        };
        let exchanges = self.exchanges();
        let (mut all, mut some) = (true, false);
        for exchange in exchanges.iter().filter_map(Weak::upgrade) {
            let stalled = is_stalled(&exchange);
            all &= stalled;
            some |= stalled;
        }
        match (some, all) {
            (false, _) => Stalled::None,
            (true, false) => Stalled::Some,
            (true, true) => Stalled::All,
        }
    }

    fn exchanges(&self) -> MutexGuard<'_, Vec<Weak<Exchange>>> {
        self.exchanges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(not(test))]
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[cfg(test)]
    fn elapsed(&self) -> Duration {
        self.start.elapsed() + Duration::from_secs(self.passed.load(Relaxed))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

enum Stalled {
    None,
    Some,
    All,
}

impl Exchange {
    /// The writer asks for more of the body: it has room.
    pub(super) fn asked(&self) {
        self.handed.store(0, Relaxed);
    }

    /// A part of the body was handed to the writer.
    pub(super) fn handed(&self) {
        self.handed.store(self.activity.now(), Relaxed);
    }

    pub(super) fn is_http2(&self) -> bool {
        self.activity.is_http2()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.last_end.store(self.activity.now(), Relaxed);
        self.activity.in_flight.fetch_sub(1, Relaxed);
    }
}

fn since_start(time: u64) -> Duration {
    Duration::from_millis(time - 1)
}

/// Time between two looks at a connection: a bound is overrun by at most a quarter.
fn pause(limits: &HttpSettings) -> Duration {
    let shortest = limits
        .first_byte_timeout
        .min(limits.header_timeout)
        .min(limits.idle_timeout)
        .min(limits.stall_timeout);
    (shortest / 4).max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(activity: &Activity, seconds: u64) {
        activity.passed.fetch_add(seconds, Relaxed);
    }

    fn verdict(activity: &Activity) -> Option<Reason> {
        match activity.verdict(&HttpSettings::default()) {
            Verdict::Close(reason) => Some(reason),
            Verdict::Wait(_) | Verdict::Retire(_) => None,
        }
    }

    #[test]
    fn a_connection_that_says_nothing_is_closed() {
        let activity = Activity::new();
        pass(&activity, 9);
        assert_eq!(verdict(&activity), None);
        pass(&activity, 1);
        assert_eq!(verdict(&activity), Some(Reason::FirstByte));
    }

    #[test]
    fn a_head_that_trickles_is_closed_also_after_a_first_request() {
        let activity = Activity::new();
        pass(&activity, 5);
        activity.read();
        pass(&activity, 9);
        activity.read();
        assert_eq!(verdict(&activity), None);
        pass(&activity, 1);
        assert_eq!(verdict(&activity), Some(Reason::Header));

        drop(activity.begin(false));
        pass(&activity, 50);
        assert_eq!(verdict(&activity), None, "idle for less than a minute");
        activity.read();
        pass(&activity, 10);
        assert_eq!(verdict(&activity), Some(Reason::Header));
    }

    #[test]
    fn an_idle_connection_is_closed_a_minute_after_its_last_byte() {
        let activity = Activity::new();
        drop(activity.begin(false));
        pass(&activity, 30);
        activity.wrote();
        pass(&activity, 59);
        assert_eq!(verdict(&activity), None);
        pass(&activity, 1);
        assert_eq!(verdict(&activity), Some(Reason::Idle));
    }

    #[test]
    fn an_http2_ping_is_no_head() {
        let activity = Activity::new();
        drop(activity.begin(true));
        pass(&activity, 1);
        activity.read();
        pass(&activity, 30);
        assert_eq!(verdict(&activity), None);
        pass(&activity, 29);
        assert_eq!(verdict(&activity), Some(Reason::Idle));
    }

    #[test]
    fn a_request_may_take_its_time_but_its_reader_may_not() {
        let activity = Activity::new();
        let exchange = activity.begin(false);
        pass(&activity, 1000);
        assert_eq!(
            verdict(&activity),
            None,
            "the origin is slow, not the client"
        );
        exchange.handed();
        pass(&activity, 59);
        activity.wrote();
        pass(&activity, 59);
        assert_eq!(verdict(&activity), None, "bytes still leave");
        pass(&activity, 1);
        assert_eq!(verdict(&activity), Some(Reason::Stalled));
    }

    #[test]
    fn one_stalled_stream_of_several_retires_the_connection() {
        let activity = Activity::new();
        let (stalled, busy) = (activity.begin(true), activity.begin(true));
        stalled.handed();
        pass(&activity, 60);
        let limits = HttpSettings::default();
        assert!(matches!(activity.verdict(&limits), Verdict::Retire(_)));
        drop(busy);
        assert_eq!(activity.verdict(&limits), Verdict::Close(Reason::Stalled));
    }
}
