//! The room of a scrape: whatever is configured, and whoever asks for what, a scrape has a bound.
//!
//! Most series are always shown. The others are there from their first count on; those of metrics that
//! [yield](Metric::yields) as long as there is room beside all others, by rank. So who asks with every
//! method and for every status there is takes no room from what alerts are made of. What is left out is
//! counted on, and told as `koorde_telemetry_series_left_out`.

use super::{
    describe::{Kind, Metric},
    table::Word,
};

/// Series of a scrape at most.
pub const MAX_SERIES: usize = 400;
/// Bytes of a scrape at most, in either form of text; exemplars, which may come to 8 KiB, are not in it.
pub const MAX_BYTES: usize = 56 << 10;

/// Most bytes that a number is written in, and the blank and the end of the line.
const NUMBER: usize = 22;
/// Most bytes of `_bucket`, `_count`, `_total`.
const SUFFIX: usize = 7;
/// Most bytes of the label `le`, with its comma.
const BOUND: usize = 16;

/// Lines of a scrape: samples, and bytes of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) series: usize,
    bytes: usize,
}

impl Room {
    /// All that there is.
    pub(super) const WHOLE: Self = Self {
        series: MAX_SERIES,
        bytes: MAX_BYTES,
    };

    /// What the lines take that say what a metric is: its help, type and unit.
    pub(super) const fn of_head(metric: &Metric) -> Self {
        let each = "# HELP \n".len() + metric.name.len();
        let words = 2 * "histogram".len();
        Self {
            series: 0,
            bytes: 3 * each + metric.help.len() + words,
        }
    }

    /// What one series takes, or a histogram's all.
    pub(super) fn of_series(metric: &Metric, labels: &[(&'static str, Word)]) -> Self {
        let labels = labels.iter().map(|(name, word)| {
            let escaped = word.bytes().filter(|byte| b"\"\\\n".contains(byte));
            name.len() + word.len() + escaped.count() + "=\"\",".len()
        });
        let line = metric.name.len() + SUFFIX + labels.sum::<usize>() + "{}".len() + NUMBER;
        match metric.kind {
            // Of what is above all bounds there is one more bucket; then a sum and a count.
            Kind::Histogram(bounds) => Self {
                series: bounds.len() + 3,
                bytes: (bounds.len() + 3) * (line + BOUND),
            },
            Kind::Counter | Kind::Gauge | Kind::Info => Self {
                series: 1,
                bytes: line,
            },
        }
    }

    /// Takes so much of it, if there is so much.
    pub(super) fn take(&mut self, lines: Self) -> bool {
        let fits = lines.series <= self.series && lines.bytes <= self.bytes;
        if fits {
            *self = self.without(lines);
        }
        fits
    }

    /// These lines and those.
    pub(super) const fn with(self, lines: Self) -> Self {
        Self {
            series: self.series + lines.series,
            bytes: self.bytes + lines.bytes,
        }
    }

    /// What is left of it beside these.
    pub(super) const fn without(self, lines: Self) -> Self {
        Self {
            series: self.series.saturating_sub(lines.series),
            bytes: self.bytes.saturating_sub(lines.bytes),
        }
    }
}
