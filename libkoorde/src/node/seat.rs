//! A place among those who wait for one fill.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use super::{
    Inner,
    answer::Head,
    aside::Lender,
    fill::Fill,
    memo::FlightKey,
    miss::Miss,
    relay::{Reader, Relay},
    spans::FillSpan,
};
use crate::{
    error::FetchError,
    flight::{Joined, Landing},
    policy::Target,
};

/// What the waiters of one fill share.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) relay: Arc<Relay<Head>>,
    /// Whether the origin is being asked, so that waiting for it waits for no other node.
    pub(crate) at_origin: AtomicBool,
    /// The newest purge when it was begun: what it brings survives no later one.
    pub(crate) born: u64,
    /// Whether what it brought was stored here.
    pub(crate) is_stored: AtomicBool,
    /// The span of the fill, which those of all who wait link to.
    pub(crate) span: FillSpan,
}

impl Flight {
    /// For a fill of `target`; `unfinished` counts the bytes that all relays of the node hold; `born`
    /// is the newest purge.
    fn new(unfinished: &Arc<AtomicU64>, born: u64, target: &Target) -> Self {
        Self {
            relay: Arc::new(Relay::new(Arc::clone(unfinished))),
            at_origin: AtomicBool::new(false),
            born,
            is_stored: AtomicBool::new(false),
            span: FillSpan::begin(target),
        }
    }
}

/// A place among those who wait for one fill.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) flight: Arc<Flight>,
    key: FlightKey,
    pub(crate) reader: Reader<Head>,
    /// Whether the fill began with it.
    pub(crate) leads: bool,
}

impl Inner {
    /// As [`Inner::join`], but none where waiting is in vain: what comes is known to be nobody
    /// else's.
    pub(crate) fn board(self: &Arc<Self>, miss: &Miss, lender: Option<Lender>) -> Option<Seat> {
        let joins = !self.is_in_vain(miss);
        joins.then(|| self.join(miss, lender)).flatten()
    }

    /// Whether waiting is known to be in vain.
    pub(crate) fn is_in_vain(&self, miss: &Miss) -> bool {
        self.memo.is_uncacheable(&self.flight(miss))
    }

    /// Joins the fill of a miss, or starts it; `lender` hands its work to whoever asks. None if the
    /// first bytes of what comes have passed already, or there are too many fills.
    pub(crate) fn join(self: &Arc<Self>, miss: &Miss, lender: Option<Lender>) -> Option<Seat> {
        let key = self.flight(miss);
        let start = || self.new_flight(miss);
        match self.flights.join(&key, start) {
            Joined::Full => None,
            Joined::Follows(flight) => match Seat::new(Arc::clone(&flight), key.clone(), false) {
                // It was given up since it was looked for.
                None if flight.relay.has_failed() => {
                    self.flights.forget(&key, &flight);
                    self.join(miss, lender)
                }
                seat => {
                    if seat.is_some() {
                        flight.span.link();
                    }
                    seat
                }
            },
            Joined::Leads(flight, landing) => {
                let seat = Seat::new(Arc::clone(&flight), key.clone(), true);
                self.start(miss.for_everybody(), flight, Some(landing), key, lender);
                seat
            }
        }
    }

    /// What the waiters of a miss's fill will share.
    pub(crate) fn new_flight(&self, miss: &Miss) -> Flight {
        let born = self.purges.version();
        Flight::new(&self.unfinished, born, &miss.request.target)
    }

    /// Leaves a fill of which nothing comes, so that whoever asks again does not meet it.
    pub(crate) fn leave(&self, seat: &Seat) {
        self.flights.forget(&seat.key, &seat.flight);
    }

    pub(crate) fn flight(&self, miss: &Miss) -> FlightKey {
        // What peers wait for is never what our own clients alone may have.
        let is_own = !miss.forwarded && self.is_own(&miss.key);
        let (fields, asks_owners) = (&miss.request.fields, is_own || !miss.owners.is_empty());
        self.memo.flight(&miss.key, fields, asks_owners, miss.after)
    }

    /// Starts a fill; `lender` hands its work to whoever asks.
    pub(crate) fn start(
        self: &Arc<Self>,
        miss: Miss,
        flight: Arc<Flight>,
        landing: Option<Landing<FlightKey, Flight>>,
        flight_key: FlightKey,
        lender: Option<Lender>,
    ) {
        let origin = miss.route.upstream.as_deref();
        let origin = origin.unwrap_or(miss.request.target.authority());
        let share = self.fill_shares.take(origin);
        let permit = Arc::clone(&self.fills).try_acquire_owned().ok();
        let Some(permit) = permit.zip(share) else {
            flight
                .relay
                .head(Err(FetchError::Overloaded("fetch.max_fills").into()));
            flight.span.end();
            return;
        };
        let (node, span) = (Arc::clone(self), flight.span.get());
        let fill = Fill::new(node, miss, flight, landing, flight_key, lender, permit);
        // Not within the request's own: that ends with its answer, however long the fill lasts.
        span.in_scope(|| self.tasks.spawn(fill.run()));
    }
}

impl Seat {
    /// None if the first bytes have passed already.
    pub(crate) fn new(flight: Arc<Flight>, key: FlightKey, leads: bool) -> Option<Self> {
        let reader = flight.relay.read()?;
        Some(Self {
            flight,
            key,
            reader,
            leads,
        })
    }
}
