//! `PutMetricData` requests within the API's limits: 1,000 data, 150 values each, one megabyte.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>

use super::interval::Interval;

/// Data in a request, at most.
pub const MAX_DATA: usize = 1000;
/// Different values in a datum, at most.
pub const MAX_VALUES: usize = 150;
/// Bytes in a request before it is compressed; the limit is one megabyte, and ours is an estimate.
pub const MAX_BYTES: usize = 900_000;

/// A name and a value.
pub type Dimension = (&'static str, String);

/// One datum of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// As CloudWatch spells it.
    pub unit: &'static str,
    /// In milliseconds since 1970.
    pub at: u64,
    /// Which of the sets of dimensions it has.
    pub set: usize,
    /// Values and how many of each, at most [`MAX_VALUES`].
    pub values: Vec<(f64, u64)>,
}

impl Row {
    /// Not less than it takes in CBOR: two numbers of nine bytes a value, and the keys' names.
    fn bytes(&self, dimensions: &[Dimension]) -> usize {
        let each = |(name, value): &Dimension| name.len() + value.len() + 32;
        let dimensions: usize = dimensions.iter().map(each).sum();
        160 + self.name.len() + dimensions + self.values.len() * 18
    }
}

/// Requests with everything in these intervals, once for each set of dimensions.
#[must_use]
pub fn requests(intervals: &[Interval], sets: &[Vec<Dimension>]) -> Vec<Vec<Row>> {
    let (mut requests, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
    for row in rows(intervals, sets) {
        let more = row.bytes(&sets[row.set]);
        if open.len() == MAX_DATA || bytes + more > MAX_BYTES {
            requests.push(std::mem::take(&mut open));
            bytes = 0;
        }
        bytes += more;
        open.push(row);
    }
    if !open.is_empty() {
        requests.push(open);
    }
    requests
}

fn rows<'a>(
    intervals: &'a [Interval],
    sets: &'a [Vec<Dimension>],
) -> impl Iterator<Item = Row> + 'a {
    let data = intervals
        .iter()
        .flat_map(|interval| interval.data.iter().map(move |datum| (interval.at, datum)));
    data.flat_map(move |(at, datum)| {
        (0..sets.len()).flat_map(move |set| {
            datum.values.chunks(MAX_VALUES).map(move |values| Row {
                name: datum.name,
                unit: datum.unit(),
                at,
                set,
                values: values.to_vec(),
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use libkoorde::metrics::describe::{Statistic, Unit};

    use super::{super::interval::Datum, *};

    fn interval(at: u64, data: usize, values: usize) -> Interval {
        let datum = Datum {
            name: "RequestDuration",
            unit: Unit::Seconds,
            statistic: Statistic::P99,
            values: (0..values).map(|n| (n as f64, n as u64 + 1)).collect(),
        };
        let data = vec![datum; data];
        Interval { at, data }
    }

    #[test]
    fn every_value_is_sent_once_for_each_set_and_no_limit_is_passed() {
        let one = vec![("Cluster", "koorde".to_owned())];
        let two = vec![
            ("Cluster", "koorde".to_owned()),
            ("Pod", "koorde-0".to_owned()),
        ];
        for (intervals, data, values) in [(1, 1, 1), (1, 24, 150), (3, 24, 151), (60, 24, 400)] {
            for sets in [vec![one.clone()], vec![one.clone(), two.clone()]] {
                let all: Vec<Interval> = (0..intervals)
                    .map(|at| interval(at, data, values))
                    .collect();
                let requests = requests(&all, &sets);
                let expected: u64 = all
                    .iter()
                    .flat_map(|i| &i.data)
                    .map(Datum::count)
                    .sum::<u64>();
                for set in 0..sets.len() {
                    let rows = requests.iter().flatten().filter(|row| row.set == set);
                    let sent: u64 = rows.flat_map(|row| &row.values).map(|(_, n)| n).sum();
                    assert_eq!(sent, expected);
                }
                for request in &requests {
                    assert!(request.len() <= MAX_DATA && !request.is_empty());
                    assert!(request.iter().all(|row| row.values.len() <= MAX_VALUES));
                    let bytes: usize = request.iter().map(|r| r.bytes(&sets[r.set])).sum();
                    assert!(bytes <= MAX_BYTES, "{bytes}");
                }
            }
        }
    }

    #[test]
    fn five_minutes_of_an_ordinary_node_are_one_request() {
        let sets = [vec![("Cluster", "koorde".to_owned())]];
        let minutes: Vec<Interval> = (0..5).map(|at| interval(at, 24, 140)).collect();
        assert_eq!(requests(&minutes, &sets).len(), 1);
        assert!(requests(&[], &sets).is_empty());
    }
}
