//! A value for each combination of a metric's words, found by the words or by its place.

use std::borrow::Cow;

use super::describe::{MAX_UPSTREAMS, Metric, Words};

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
        Self {
            metric,
            words,
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
