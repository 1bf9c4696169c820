//! What waits to be sent, and when it is tried again. Bounded: when an outage lasts, older intervals
//! share a place; their sums and distributions stay right.

use std::{collections::VecDeque, time::Duration};

use super::{
    emf,
    interval::Interval,
    pack::{self, Dimension, Row},
};
use crate::settings::MAX_INTERVALS;

/// Intervals that wait one by one; no flush has more.
const MAX_WAITING: usize = MAX_INTERVALS as usize;
/// Refusals one after the other until parcels are no longer halved: one bad datum among the thousand of a
/// request is found by ten, and what is refused as a whole costs no more calls than this.
const MAX_REFUSALS: u32 = 12;
/// First and longest pause between tries.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is sent at once, all or nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Parcel {
    /// One `PutMetricData`.
    Request(Vec<Row>),
    /// One line of the embedded metric format.
    Document(String),
}

/// What became of a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is there.
    Ok,
    /// It is not, and may be later.
    Later(String),
    /// It will never be.
    Refused(String),
    /// It may be there: sent again it could count twice.
    Unknown(String),
}

/// In which form parcels are made.
#[derive(Clone, Debug)]
pub struct Form {
    /// Requests of the API, or documents.
    pub is_emf: bool,
    /// The namespace of documents.
    pub namespace: String,
    /// Sets of dimensions.
    pub sets: Vec<Vec<Dimension>>,
    /// Whether documents ask for single seconds to be kept.
    pub is_fine: bool,
}

/// What waits to be sent.
#[derive(Debug)]
pub struct Outbox {
    form: Form,
    intervals: VecDeque<Interval>,
    parcels: VecDeque<Parcel>,
    failures: u32,
    refusals: u32,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub const fn new(form: Form) -> Self {
        Self {
            form,
            intervals: VecDeque::new(),
            parcels: VecDeque::new(),
            failures: 0,
            refusals: 0,
        }
    }

    /// Takes an interval. It can still be added to another as long as it is in no parcel.
    pub fn put(&mut self, interval: Interval) {
        self.intervals.push_back(interval);
        if self.intervals.len() > MAX_WAITING
            && let Some(mut oldest) = self.intervals.pop_front()
            && let Some(next) = self.intervals.pop_front()
        {
            oldest.add(&next);
            self.intervals.push_front(oldest);
        }
    }

    /// The parcel to send now; everything that waits is made into parcels when none is left. `start` is
    /// when the process started, in milliseconds since 1970, as the clock says it now.
    pub fn first(&mut self, start: u64) -> Option<&Parcel> {
        if self.parcels.is_empty() {
            let dated = |interval: Interval| Interval {
                at: start.saturating_add(interval.at),
                ..interval
            };
            let intervals: Vec<Interval> = self.intervals.drain(..).map(dated).collect();
            self.parcels = self.form.parcels(&intervals).into();
        }
        self.parcels.front()
    }

    /// What became of the one that [`Self::first`] gave: it stays only if it is to be sent again. One
    /// that was refused is sent again in two halves, as one bad datum has the whole refused.
    pub fn sent(&mut self, sent: &Sent) {
        if let Sent::Later(_) = sent {
            self.failures = self.failures.saturating_add(1);
            return;
        }
        self.failures = 0;
        let parcel = self.parcels.pop_front();
        let Sent::Refused(_) = sent else {
            self.refusals = 0;
            return;
        };
        self.refusals = self.refusals.saturating_add(1);
        if let Some(Parcel::Request(mut rows)) = parcel
            && rows.len() > 1
            && self.refusals <= MAX_REFUSALS
        {
            let second = rows.split_off(rows.len() / 2);
            self.parcels.push_front(Parcel::Request(second));
            self.parcels.push_front(Parcel::Request(rows));
        }
    }

    /// How long to wait before the next try; `part` (0–1) of it is chance, so that nodes that were
    /// refused together do not come back together.
    #[must_use]
    pub fn pause(&self, part: f64) -> Option<Duration> {
        let doubled = self.failures.checked_sub(1)?.min(16);
        let pause = (PAUSES.0 * 2_u32.pow(doubled)).min(PAUSES.1);
        Some(pause.mul_f64(0.5 + part.clamp(0.0, 1.0) / 2.0))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parcels.is_empty() && self.intervals.is_empty()
    }
}

impl Form {
    fn parcels(&self, intervals: &[Interval]) -> Vec<Parcel> {
        if self.is_emf {
            let documents = intervals.iter().flat_map(|i| emf::documents(i, self));
            return documents.map(Parcel::Document).collect();
        }
        let requests = pack::requests(intervals, &self.sets);
        requests.into_iter().map(Parcel::Request).collect()
    }
}

#[cfg(test)]
mod tests {
    use libkoorde::metrics::describe::{Statistic, Unit};

    use super::{super::interval::Datum, *};

    fn outbox() -> Outbox {
        Outbox::new(Form {
            is_emf: false,
            namespace: "Koorde".to_owned(),
            sets: vec![vec![("Cluster", "koorde".to_owned())]],
            is_fine: false,
        })
    }

    fn interval(at: u64) -> Interval {
        let data = vec![Datum {
            name: "Requests",
            unit: Unit::One,
            statistic: Statistic::Sum,
            values: vec![(3.0, 1)],
        }];
        Interval { at, data }
    }

    fn sum(parcel: &Parcel) -> f64 {
        let Parcel::Request(rows) = parcel else {
            panic!("{parcel:?}");
        };
        rows.iter()
            .flat_map(|row| &row.values)
            .map(|(value, _)| value)
            .sum()
    }

    #[test]
    fn an_outage_of_a_day_takes_the_room_of_an_hour_and_loses_nothing() {
        let mut outbox = outbox();
        for at in 0..1440 {
            outbox.put(interval(at));
        }
        assert_eq!(outbox.intervals.len(), MAX_WAITING);
        let parcel = outbox.first(0).expect("it has some");
        assert!((sum(parcel) - 3.0 * 1440.0).abs() < 1e-9);
    }

    #[test]
    fn a_parcel_stays_only_if_it_is_to_be_sent_again() {
        for (sent, stays) in [
            (Sent::Ok, false),
            (Sent::Later("throttled".to_owned()), true),
            (Sent::Refused("malformed".to_owned()), false),
            (Sent::Unknown("no answer".to_owned()), false),
        ] {
            let mut outbox = outbox();
            outbox.put(interval(1));
            let parcel = outbox.first(0).cloned();
            outbox.put(interval(2));
            outbox.sent(&sent);
            assert_eq!(outbox.first(0).cloned() == parcel, stays, "{sent:?}");
            assert_eq!(outbox.pause(1.0).is_some(), stays, "{sent:?}");
        }
    }

    #[test]
    fn one_bad_datum_is_found_and_only_it_is_lost() {
        let mut outbox = outbox();
        (0..50).for_each(|at| outbox.put(interval(at)));
        let (mut taken, mut calls) = (0, 0);
        while let Some(Parcel::Request(rows)) = outbox.first(0).cloned() {
            calls += 1;
            if rows.iter().any(|row| row.at == 17) {
                outbox.sent(&Sent::Refused("malformed".to_owned()));
            } else {
                taken += rows.len();
                outbox.sent(&Sent::Ok);
            }
        }
        assert_eq!((taken, calls <= 13), (49, true), "{calls} calls");
    }

    #[test]
    fn what_is_refused_as_a_whole_costs_few_calls() {
        let mut outbox = outbox();
        (0..50).for_each(|at| outbox.put(interval(at)));
        let mut calls = 0;
        while outbox.first(0).is_some() {
            calls += 1;
            outbox.sent(&Sent::Refused("no such thing".to_owned()));
        }
        assert!(calls <= 2 * MAX_REFUSALS, "{calls} calls");
    }

    #[test]
    fn a_clock_that_was_put_right_dates_what_was_counted_before() {
        let mut outbox = outbox();
        outbox.put(interval(60_000));
        outbox.put(interval(120_000));
        let Some(Parcel::Request(rows)) = outbox.first(1_700_000_000_000) else {
            panic!("a request");
        };
        let at: Vec<u64> = rows.iter().map(|row| row.at).collect();
        assert_eq!(at, [1_700_000_060_000, 1_700_000_120_000]);
    }

    #[test]
    fn pauses_grow_to_a_minute_and_are_never_the_same_for_all() {
        let mut outbox = outbox();
        assert_eq!(outbox.pause(0.5), None);
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            outbox.sent(&Sent::Later(String::new()));
            let pause = outbox.pause(1.0).expect("it failed");
            assert!(pause >= last && pause <= PAUSES.1);
            assert!(outbox.pause(0.0).is_some_and(|least| least * 2 == pause));
            last = pause;
        }
        assert_eq!(last, PAUSES.1);
    }
}
