//! One frame of `koorde top`: lines of text, from a snapshot and a size.

use std::{collections::VecDeque, time::Duration};

use crate::{
    admin::snapshot::{Lately, Row, Snapshot},
    cli::output::{self, printable},
};

/// Seconds that are remembered.
const REMEMBERED: usize = 600;
const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Hot keys that have their place before all members have.
const LEAST_KEYS: usize = 3;
/// Lines below which hot keys get what members leave.
const LOW: usize = 24;

/// How a piece of text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Soft,
    Good,
    Warn,
    Bad,
}

/// One line.
#[derive(Debug, Default)]
pub(super) struct Line(pub(super) Vec<(Tone, String)>);

impl Line {
    fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self(vec![(tone, text.into())])
    }

    fn with(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((tone, text.into()));
        self
    }

    /// Without colours.
    pub(super) fn plain(&self) -> String {
        let text: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        text.trim_end().to_owned()
    }

    fn clipped(mut self, width: usize) -> Self {
        let mut left = width;
        for (_, text) in &mut self.0 {
            let length = text.chars().count();
            if length > left {
                *text = text.chars().take(left).collect();
            }
            left = left.saturating_sub(length);
        }
        self
    }
}

/// What the last minutes were like, a value a second.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Lately>);

impl History {
    /// Adds a second.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(snapshot.lately.clone());
    }

    /// The last `width` values as a line of blocks, as high as the highest; `top`: a fixed highest one.
    fn blocks(
        &self,
        value: impl Fn(&Lately) -> Option<f64>,
        top: Option<f64>,
        width: usize,
    ) -> String {
        let from = self.0.len().saturating_sub(width);
        let values: Vec<Option<f64>> = self.0.range(from..).map(value).collect();
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let top = top.unwrap_or(most);
        let block = |value: &Option<f64>| match value {
            Some(value) if top > 0.0 => {
                let part = (value / top).clamp(0.0, 1.0) * (BLOCKS.len() - 1) as f64;
                BLOCKS[part.round() as usize]
            }
            Some(_) => BLOCKS[0],
            None => ' ',
        };
        values.iter().map(block).collect()
    }
}

/// What one frame is made of.
pub(super) struct Frame<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) history: &'a History,
    /// Columns and lines.
    pub(super) size: (u16, u16),
    /// Whether more of them follow.
    pub(super) is_live: bool,
}

impl Frame<'_> {
    /// Its lines: no more and no longer than there is room for.
    pub(super) fn lines(&self) -> Vec<Line> {
        let (width, height) = (usize::from(self.size.0), usize::from(self.size.1));
        let mut lines = self.head();
        let mut members = self.members();
        let keys = self.snapshot.hot_keys.len();
        let for_keys = if keys == 0 || height < LOW {
            0
        } else {
            2 + keys.min(LEAST_KEYS)
        };
        let room = height.saturating_sub(lines.len() + for_keys).max(2);
        if members.len() > room {
            let more = members.len() - (room - 1);
            members.truncate(room - 1);
            members.push(Line::of(Tone::Soft, format!("… and {more} more")));
        }
        lines.extend(members);
        let room = height.saturating_sub(lines.len() + 2);
        if keys > 0 && room > 0 {
            lines.push(Line::default());
            lines.push(Line::of(
                Tone::Soft,
                "   share  hot key (of a query a digest)",
            ));
            lines.extend(self.snapshot.hot_keys.iter().take(room).map(|key| {
                let share = output::percent(key.share);
                Line::of(Tone::Plain, format!("{share:>8}  {}", printable(&key.url)))
            }));
        }
        lines.truncate(height);
        lines.into_iter().map(|line| line.clipped(width)).collect()
    }

    fn head(&self) -> Vec<Line> {
        let snapshot = self.snapshot;
        let (asked, answered) = (snapshot.asked as u64, snapshot.answered);
        let members = output::counted(asked, "member");
        let tone = if snapshot.answered < snapshot.asked {
            Tone::Warn
        } else {
            Tone::Good
        };
        let first = Line::of(Tone::Strong, format!("koorde {}", snapshot.version))
            .with(Tone::Plain, format!("  by {}: ", printable(&snapshot.node)))
            .with(tone, format!("{answered} of {members} answered"))
            .with(Tone::Soft, if self.is_live { "   q quits" } else { "" });
        let total = &snapshot.total;
        let used = output::ratio(total.stored_bytes, total.capacity_bytes);
        let resident = total.resident_bytes.map_or_else(dash, output::bytes);
        let memory = format!(
            "{} of {} ({}), {} keys; processes use {resident}",
            output::bytes(total.stored_bytes),
            output::bytes(total.capacity_bytes),
            output::percent(used),
            output::count(total.stored),
        );
        let lately = &snapshot.lately;
        let mut lines = vec![
            first,
            Line::default(),
            self.figure(
                "requests",
                per_second(lately.requests),
                |l| l.requests,
                None,
            ),
            self.figure(
                "hit ratio",
                part(lately.hit_ratio),
                |l| l.hit_ratio,
                Some(1.0),
            ),
            self.figure("p50", time(lately.p50), |l| l.p50, None),
            self.figure("p99", time(lately.p99), |l| l.p99, None),
            self.figure("origin", per_second(lately.origin), |l| l.origin, None),
            self.figure("errors", per_second(lately.errors), |l| l.errors, None),
        ];
        lines.push(Line::of(Tone::Soft, "stored     ").with(Tone::Plain, memory));
        lines.push(Line::default());
        lines
    }

    fn figure(
        &self,
        label: &str,
        text: String,
        value: impl Fn(&Lately) -> Option<f64>,
        top: Option<f64>,
    ) -> Line {
        const TEXT: usize = 26;
        let width = usize::from(self.size.0).saturating_sub(TEXT).min(120);
        let blocks = if self.is_live {
            self.history.blocks(value, top, width)
        } else {
            String::new()
        };
        Line::of(Tone::Soft, format!("{label:<10} "))
            .with(Tone::Strong, format!("{text:>12}"))
            .with(Tone::Soft, format!("   {blocks}"))
    }

    fn members(&self) -> Vec<Line> {
        let width = usize::from(self.size.0);
        let rows = self.snapshot.members.iter().map(|one| row(one, width));
        std::iter::once(head(width)).chain(rows).collect()
    }
}

/// A column of the table of members behind name and state: its title, its width, its text.
type Column = (&'static str, usize, fn(&Row) -> String);

/// The most important first: where there is no room the last are left away.
const COLUMNS: [Column; 9] = [
    ("share", 8, |row| output::percent(row.share)),
    ("requests/s", 12, |row| rate(row.lately.requests)),
    ("hit ratio", 11, |row| part(row.lately.hit_ratio)),
    ("p99", 10, |row| time(row.lately.p99)),
    ("origin/s", 10, |row| rate(row.lately.origin)),
    ("stored", 12, |row| output::bytes(row.total.stored_bytes)),
    ("memory", 12, |row| {
        row.total.resident_bytes.map_or_else(dash, output::bytes)
    }),
    ("round trip", 12, |row| {
        time(row.round_trip_ms.map(|ms| ms / 1000.0))
    }),
    ("runs for", 12, |row| row.uptime.map_or_else(dash, span)),
];
const NAME: usize = 16;
const STATE: usize = 12;

fn columns(width: usize) -> impl Iterator<Item = &'static Column> {
    let mut left = width.saturating_sub(NAME + 1 + STATE);
    COLUMNS.iter().take_while(move |(_, width, _)| {
        let fits = *width <= left;
        left = left.saturating_sub(*width);
        fits
    })
}

fn head(width: usize) -> Line {
    let titles = columns(width).map(|(title, width, _)| format!("{title:>width$}"));
    let names = format!("{:<NAME$} {:<STATE$}", "member", "state");
    Line::of(Tone::Soft, names + &titles.collect::<String>())
}

fn row(row: &Row, width: usize) -> Line {
    let name: String = printable(&row.name).chars().take(NAME).collect();
    let (sign, tone) = match row.state.as_str() {
        "live" => ('●', Tone::Good),
        "joining" => ('◐', Tone::Plain),
        "suspected" => ('▲', Tone::Warn),
        "leaving" => ('◇', Tone::Plain),
        _ => ('✕', Tone::Bad),
    };
    let state = format!("{sign} {}", printable(&row.state));
    let line =
        Line::of(Tone::Strong, format!("{name:<NAME$} ")).with(tone, format!("{state:<STATE$}"));
    if let Some(why) = &row.why {
        return line.with(Tone::Soft, format!("  {}", printable(why)));
    }
    let cells = columns(width).map(|(_, width, text)| format!("{:>width$}", text(row)));
    line.with(Tone::Plain, cells.collect::<String>())
}

/// How long something runs, in the unit that has a few of it.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn part(part: Option<f64>) -> String {
    part.map_or_else(dash, output::percent)
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(dash, |rate| format!("{rate:.1}"))
}

fn per_second(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| format!("{value:.1}/s"))
}

fn time(seconds: Option<f64>) -> String {
    let time = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
    time.map_or_else(dash, output::millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::HotRow;

    fn snapshot(members: usize) -> Snapshot {
        let lately = Lately {
            requests: Some(1234.5),
            hit_ratio: Some(0.987),
            p99: Some(0.0123),
            ..Lately::default()
        };
        let row = |n: usize| Row {
            name: format!("koorde-{n}"),
            state: if n == 1 { "suspected" } else { "live" }.to_owned(),
            why: (n == 1).then(|| "no answer in time".to_owned()),
            share: 0.2,
            lately: lately.clone(),
            ..Row::default()
        };
        let key = |n: usize| HotRow {
            url: format!("http://a.example/{n}\u{1b}[31m"),
            share: 0.1,
            count: 3,
        };
        Snapshot {
            node: "koorde-0".to_owned(),
            version: "1.2.3".to_owned(),
            asked: members,
            answered: members - 1,
            members: (0..members).map(row).collect(),
            lately: lately.clone(),
            hot_keys: (0..20).map(key).collect(),
            ..Snapshot::default()
        }
    }

    fn lines(members: usize, size: (u16, u16)) -> Vec<String> {
        let snapshot = snapshot(members);
        let mut history = History::default();
        for _ in 0..2 * REMEMBERED {
            history.add(&snapshot);
        }
        assert_eq!(history.0.len(), REMEMBERED);
        let frame = Frame {
            snapshot: &snapshot,
            history: &history,
            size,
            is_live: true,
        };
        frame.lines().iter().map(Line::plain).collect()
    }

    #[test]
    fn a_frame_says_who_did_not_answer_and_shows_no_control_characters() {
        let text = lines(3, (130, 60)).join("\n");
        for part in [
            "2 of 3 members answered",
            "1234.5/s",
            "98.7 %",
            "▲ suspected   no answer in time",
            "12.3 ms",
            "10.0 %  http://a.example/0\u{fffd}[31m",
            "████",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_frame_fits_into_every_terminal() {
        for size in [(0, 0), (1, 1), (20, 5), (80, 24), (130, 60), (500, 500)] {
            for members in [1, 5, 200] {
                let lines = lines(members, size);
                assert!(lines.len() <= usize::from(size.1), "{size:?}");
                let longest = lines.iter().map(|line| line.chars().count()).max();
                assert!(longest.unwrap_or(0) <= usize::from(size.0), "{size:?}");
            }
        }
        let usual = lines(200, (80, 24)).join("\n");
        for part in ["… and", "hot key", "koorde-0 ", "origin/s\n"] {
            assert!(usual.contains(part), "{part:?} in\n{usual}");
        }
        let low = lines(5, (80, 16)).join("\n");
        assert!(
            low.contains("koorde-4 ") && !low.contains("hot key"),
            "{low}"
        );
    }
}
