//! Passes and failures by table, for people.

use std::collections::BTreeMap;

use super::{run::Outcome, story::Level};

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Stories that went as told.
    pub passed: usize,
    /// Stories that were played.
    pub played: usize,
}

impl Count {
    /// `9/10`, or a dash when nothing was played.
    pub fn text(self) -> String {
        if self.played == 0 {
            return "–".to_owned();
        }
        format!("{}/{}", self.passed, self.played)
    }

    fn add(&mut self, outcome: &Outcome) {
        if !outcome.skipped {
            self.played += 1;
            self.passed += usize::from(outcome.wrong.is_empty());
        }
    }
}

/// Counts by table and level; the empty table name is all of them.
pub fn counts(outcomes: &[Outcome]) -> BTreeMap<(&'static str, Level), Count> {
    let mut counts = BTreeMap::<_, Count>::new();
    for outcome in outcomes {
        let level = outcome.story.level;
        for table in [outcome.story.table, ""] {
            counts.entry((table, level)).or_default().add(outcome);
        }
    }
    counts
}

/// One line a level, such as `required 120/123`.
pub fn summary(name: &str, outcomes: &[Outcome]) -> String {
    let counts = counts(outcomes);
    let of = |level| counts.get(&("", level)).copied().unwrap_or_default().text();
    let skipped = outcomes.iter().filter(|outcome| outcome.skipped).count();
    format!(
        "{name}: required {}, optimal {}, koorde {}, left out {skipped}",
        of(Level::Required),
        of(Level::Optimal),
        of(Level::Koorde),
    )
}

/// A Markdown table: a row a table of stories, a column a cache, `required · optimal · koorde`.
pub fn markdown(columns: &[(String, Vec<Outcome>)], tables: &[&'static str]) -> String {
    let mut text = String::from("| table |");
    for (name, _) in columns {
        text.push_str(&format!(" {name} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(columns.len()));
    text.push('\n');
    let counted: Vec<_> = columns
        .iter()
        .map(|(_, outcomes)| counts(outcomes))
        .collect();
    let mut row = |title: &str, table: &'static str| {
        text.push_str(&format!("| {title} |"));
        for counts in &counted {
            let of = |level| counts.get(&(table, level)).copied().unwrap_or_default();
            let levels =
                [Level::Required, Level::Optimal, Level::Koorde].map(|level| of(level).text());
            text.push_str(&format!(" {} |", levels.join(" · ")));
        }
        text.push('\n');
    };
    for table in tables {
        row(table, table);
    }
    row("**all**", "");
    text
}
