//! The words in which a metric is described: what a catalogue is made of.

/// One metric, as every exporter and every document has it.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus has it, unit and `_total` included: `koorde_cache_fills_total`.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// What its value counts.
    pub unit: Unit,
    /// Its labels. Each is a closed set, so the number of series has a bound.
    pub labels: &'static [Label],
    /// What it says, in a sentence without a full stop.
    pub help: &'static str,
    /// Whether a series is there only from its first count on: where combinations are many and most
    /// never happen. Those that these words select are there from the start, at 0: an alert on one that
    /// comes into being with its first count does not see that count grow.
    pub sparse: Option<Selection>,
    /// Whether series that are not there from the start are left out of a scrape that has no room for
    /// all.
    pub yields: Option<Yields>,
    /// What CloudWatch is told of it; nothing is there that nobody looks at, as each costs money.
    pub cloudwatch: &'static [Published],
}

/// Which series are left out of a scrape that has no room for all, and when.
#[derive(Clone, Copy, Debug)]
pub struct Yields {
    /// The higher, the sooner.
    pub rank: u8,
    /// These never are.
    pub but: Selection,
}

/// What a value does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// It grows from 0 at the process's start.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is one of many, of which the distribution is told; upper bounds of its buckets in the
    /// metric's unit.
    Histogram(&'static [f64]),
    /// It is 1; its labels are what it says.
    Info,
}

impl Kind {
    /// The word for documents and for Prometheus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
            Self::Info => "info",
        }
    }
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    One,
    /// Seconds, with fractions.
    Seconds,
    /// Bytes.
    Bytes,
    /// A part of a whole, 0–1.
    Ratio,
}

impl Unit {
    /// The word for documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::One | Self::Ratio => "1",
            Self::Seconds => "s",
            Self::Bytes => "By",
        }
    }
}

/// A label and the words that it may have.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Where its words come from.
    pub words: Words,
}

/// The words of a label.
#[derive(Clone, Copy, Debug)]
pub enum Words {
    /// These.
    Of(&'static [&'static str]),
    /// The names of configured upstreams, at most [`MAX_UPSTREAMS`] of them, and `other`.
    Upstreams,
    /// Something said once, at start.
    Fixed,
}

/// Upstreams that have series of their own; the rest, and origins without an upstream, are `other`.
pub const MAX_UPSTREAMS: usize = 20;

/// What CloudWatch is told: the sum of the series that `of` selects.
#[derive(Debug)]
pub struct Published {
    /// Its name there.
    pub name: &'static str,
    /// What to look at there; the others mean less, or nothing.
    pub statistic: Statistic,
    /// Of which series; without any words, of all.
    pub of: Selection,
}

/// Words of labels. A series is selected if it has, of each label that is named, one of its words.
pub type Selection = &'static [(&'static str, &'static str)];

/// Whether a series with these labels is selected; without any words, all are.
#[must_use]
pub fn selects(words: Selection, labels: &[(&str, &str)]) -> bool {
    let has = |name: &str| {
        let of_it = labels.iter().filter(|(label, _)| *label == name);
        of_it.into_iter().any(|word| words.contains(word))
    };
    words.iter().all(|(name, _)| has(name))
}

/// The same for exceptions: without any words, none is selected.
fn chosen(words: Selection, labels: &[(&str, &str)]) -> bool {
    !words.is_empty() && selects(words, labels)
}

impl Published {
    /// Whether a series with these labels belongs to it.
    #[must_use]
    pub fn takes(&self, labels: &[(&str, &str)]) -> bool {
        selects(self.of, labels)
    }
}

/// A statistic of CloudWatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Of what all nodes count.
    Sum,
    /// Of the node that has least.
    Minimum,
    /// Of the node that has most.
    Maximum,
    /// The value that 99 % do not exceed; other percentiles work as well.
    P99,
}

impl Statistic {
    /// As CloudWatch spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
            Self::P99 => "p99",
        }
    }
}

impl Metric {
    /// A counter.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::of(Kind::Counter, name, help)
    }

    /// A gauge.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::of(Kind::Gauge, name, help)
    }

    /// A histogram with these upper bounds.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Self {
        Self::of(Kind::Histogram(bounds), name, help)
    }

    /// Something of which only the labels speak.
    #[must_use]
    pub const fn info(name: &'static str, help: &'static str) -> Self {
        Self::of(Kind::Info, name, help)
    }

    const fn of(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            unit: unit_of(name.as_bytes()),
            labels: &[],
            help,
            sparse: None,
            yields: None,
            cloudwatch: &[],
        }
    }

    /// By these labels.
    #[must_use]
    pub const fn by(self, labels: &'static [Label]) -> Self {
        Self { labels, ..self }
    }

    /// Without the series of what has never happened, but for those that are selected.
    #[must_use]
    pub const fn sparse_but(self, always: Selection) -> Self {
        let sparse = Some(always);
        Self { sparse, ..self }
    }

    /// Left out where there is no room for all, but for those that are selected; a higher rank sooner.
    #[must_use]
    pub const fn yielding_but(self, rank: u8, but: Selection) -> Self {
        let yields = Some(Yields { rank, but });
        Self { yields, ..self }
    }

    /// Whether a series may be left out of a scrape that has no room for all.
    #[must_use]
    pub fn may_be_left_out(&self, labels: &[(&str, &str)]) -> bool {
        !self.shows(labels)
            && self
                .yields
                .is_some_and(|yields| !chosen(yields.but, labels))
    }

    /// Whether a series is shown before its first count; of a histogram none is.
    #[must_use]
    pub fn shows(&self, labels: &[(&str, &str)]) -> bool {
        !matches!(self.kind, Kind::Histogram(_))
            && self.sparse.is_none_or(|always| chosen(always, labels))
    }

    /// CloudWatch is told this of it.
    #[must_use]
    pub const fn told(self, cloudwatch: &'static [Published]) -> Self {
        Self { cloudwatch, ..self }
    }

    /// The name without what `prometheus-client` adds: `_total`, `_info`, the unit.
    #[must_use]
    pub fn stem(&self) -> &'static str {
        let name = self.name;
        let name = name.strip_suffix("_total").unwrap_or(name);
        let name = name.strip_suffix("_info").unwrap_or(name);
        match self.unit {
            Unit::One | Unit::Ratio => name,
            Unit::Seconds => name.strip_suffix("_seconds").unwrap_or(name),
            Unit::Bytes => name.strip_suffix("_bytes").unwrap_or(name),
        }
    }

    /// How many series it has at most with so many upstreams; a histogram has one a bucket, one for
    /// what is above all, a sum and a count.
    #[must_use]
    pub fn max_series(&self, upstreams: usize) -> usize {
        let words = |label: &Label| match label.words {
            Words::Of(words) => words.len(),
            Words::Upstreams => upstreams.min(MAX_UPSTREAMS) + 1,
            Words::Fixed => 1,
        };
        let each = match self.kind {
            Kind::Histogram(bounds) => bounds.len() + 3,
            _ => 1,
        };
        self.labels.iter().map(words).product::<usize>() * each
    }
}

/// The unit that a name ends in, by the rules of OpenMetrics.
const fn unit_of(name: &[u8]) -> Unit {
    if ends_with(name, b"_seconds") || ends_with(name, b"_seconds_total") {
        Unit::Seconds
    } else if ends_with(name, b"_bytes") || ends_with(name, b"_bytes_total") {
        Unit::Bytes
    } else if ends_with(name, b"_ratio") {
        Unit::Ratio
    } else {
        Unit::One
    }
}

const fn ends_with(name: &[u8], suffix: &[u8]) -> bool {
    if name.len() < suffix.len() {
        return false;
    }
    let mut at = 0;
    while at < suffix.len() {
        if name[name.len() - suffix.len() + at] != suffix[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A label with these words.
#[must_use]
pub const fn label(name: &'static str, words: &'static [&'static str]) -> Label {
    let words = Words::Of(words);
    Label { name, words }
}

/// Told as a sum.
#[must_use]
pub const fn sum(name: &'static str, of: Selection) -> Published {
    let statistic = Statistic::Sum;
    Published {
        name,
        statistic,
        of,
    }
}

/// Told to be looked at by this statistic, of all series.
#[must_use]
pub const fn seen(name: &'static str, statistic: Statistic) -> Published {
    let of = &[];
    Published {
        name,
        statistic,
        of,
    }
}

/// A catalogue: each metric once, with a name in the code, and all of them in `ALL`.
#[macro_export]
macro_rules! catalogue {
    ($($name:ident = $metric:expr;)*) => {
        $(
            #[doc = concat!("See `ALL`: `", stringify!($name), "`.")]
            pub static $name: $crate::metrics::describe::Metric = $metric;
        )*
        /// All of them, in the order of documents.
        pub static ALL: &[&$crate::metrics::describe::Metric] = &[$(&$name),*];
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_must_have_a_word_of_each_label_that_is_named() {
        let some = sum(
            "X",
            &[("status", "5xx"), ("route", "path"), ("route", "/cache")],
        );
        for (status, route, takes) in [
            ("5xx", "path", true),
            ("5xx", "/cache", true),
            ("5xx", "/readyz", false),
            ("2xx", "path", false),
        ] {
            let labels = [("listener", "http"), ("route", route), ("status", status)];
            assert_eq!(some.takes(&labels), takes, "{labels:?}");
        }
        assert!(!some.takes(&[("status", "5xx")]) && sum("X", &[]).takes(&[]));
    }
}
