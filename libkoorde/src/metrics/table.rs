//! A value for each combination of a metric's words, found by the words or by its place.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::{
    describe::{MAX_UPSTREAMS, Metric, Words},
    room::Room,
};

/// A word of a label.
pub type Word = Cow<'static, str>;

/// What stands for an upstream that has no series of its own, and for origins without one.
pub const OTHER: &str = "other";

/// Values by words: the last label changes first.
#[derive(Debug)]
pub(super) struct Table<T> {
    pub(super) metric: &'static Metric,
    words: Vec<Vec<Word>>,
    labels: Vec<Vec<(&'static str, Word)>>,
    values: Vec<T>,
    places: Vec<Place>,
}

/// Whether a series is in a scrape.
#[derive(Debug)]
struct Place {
    when: When,
    /// In the next one.
    shown: AtomicBool,
}

/// When a series is in a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// From the start, whatever is counted.
    Always,
    /// From its first count on.
    Counted,
    /// From then on, if there is room beside all others.
    Room,
}

impl<T: Default> Table<T> {
    pub(super) fn new(metric: &'static Metric, upstreams: &[String]) -> Self {
        let words: Vec<Vec<Word>> = metric
            .labels
            .iter()
            .map(|label| words(label.words, upstreams))
            .collect();
        let mut labels: Vec<Vec<(&'static str, Word)>> = vec![Vec::new()];
        for (label, words) in metric.labels.iter().zip(&words) {
            let with = |before: &Vec<(&'static str, Word)>| {
                let before = before.clone();
                words.iter().map(move |word| {
                    let mut all = before.clone();
                    all.push((label.name, word.clone()));
                    all
                })
            };
            labels = labels.iter().flat_map(with).collect();
        }
        let values = labels.iter().map(|_| T::default()).collect();
        let places = labels.iter().map(|labels| {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, w)| (*name, &**w)).collect();
            let when = match (metric.shows(&labels), metric.may_be_left_out(&labels)) {
                (true, _) => When::Always,
                (false, false) => When::Counted,
                (false, true) => When::Room,
            };
            let shown = AtomicBool::new(when == When::Always);
            Place { when, shown }
        });
        Self {
            metric,
            words,
            places: places.collect(),
            labels,
            values,
        }
    }
}

impl<T> Table<T> {
    pub(super) fn at(&self, index: usize) -> &T {
        &self.values[index.min(self.values.len() - 1)]
    }

    /// Words are literals or `as_str()` of an enum; a test of this crate says which is unknown.
    pub(super) fn of(&self, words: &[&str]) -> &T {
        debug_assert_eq!(words.len(), self.words.len(), "one word a label: {words:?}");
        let mut index = 0;
        for (known, word) in self.words.iter().zip(words) {
            let at = known.iter().position(|known| known == word);
            debug_assert!(
                at.is_some() || known.last().is_some_and(|last| last == OTHER),
                "{word:?} is none of {known:?}: the catalogue lacks it"
            );
            index = index * known.len() + at.unwrap_or(known.len() - 1);
        }
        self.at(index)
    }

    pub(super) fn each(&self) -> impl Iterator<Item = (&[(&'static str, Word)], &T)> {
        let labels = self.labels.iter().map(Vec::as_slice);
        labels.zip(&self.values)
    }

    /// Those of a scrape.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&[(&'static str, Word)], &T)> {
        let places = self.each().zip(&self.places);
        places.filter_map(|(one, place)| place.shown.load(Relaxed).then_some(one))
    }

    /// What those take that are always shown, and the lines that say what the metric is.
    pub(super) fn always(&self) -> Room {
        let mut all = Room::of_head(self.metric);
        for (labels, place) in self.labels.iter().zip(&self.places) {
            if place.when == When::Always {
                all = all.with(Room::of_series(self.metric, labels));
            }
        }
        all
    }

    /// Shows of those of one kind the ones that have something to tell, in their order, while there is
    /// room; how many series find none.
    pub(super) fn fit(&self, when: When, tells: impl Fn(&T) -> bool, room: &mut Room) -> usize {
        let mut left_out = 0;
        for ((labels, value), place) in self.each().zip(&self.places) {
            if place.when != when {
                continue;
            }
            let mut shown = tells(value);
            if shown {
                let lines = Room::of_series(self.metric, labels);
                shown = left_out == 0 && room.take(lines);
                left_out += if shown { 0 } else { lines.series };
            }
            place.shown.store(shown, Relaxed);
        }
        left_out
    }
}

fn words(words: Words, upstreams: &[String]) -> Vec<Word> {
    match words {
        Words::Of(words) => words.iter().map(|word| Word::from(*word)).collect(),
        Words::Upstreams => {
            let named = upstreams
                .iter()
                // Two series of one name would have the whole scrape refused.
                .filter(|name| *name != OTHER)
                .take(MAX_UPSTREAMS)
                .cloned()
                .map(Word::from);
            named.chain([OTHER.into()]).collect()
        }
        Words::Fixed => vec![Word::default()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_is_called_other_has_no_second_series_of_that_name() {
        let upstreams = ["api", OTHER, "files"].map(str::to_owned);
        assert_eq!(words(Words::Upstreams, &upstreams), ["api", "files", OTHER]);
    }
}
