//! What a check found, and how it is told.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Perhaps not as it is meant; it works.
    Warning,
    /// Something does not work.
    Failed,
}

/// One line, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at: `kubernetes`, `injector shop/koorde`.
    pub(super) category: String,
    pub(super) level: Level,
    /// A sentence.
    pub(super) text: String,
    /// Objects it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) details: Vec<String>,
    /// Why it matters, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) hint: String,
    /// Commands that mend it, or say more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) commands: Vec<String>,
}

impl Finding {
    fn new(level: Level, category: &str, text: impl Into<String>) -> Self {
        Self {
            category: category.to_owned(),
            level,
            text: text.into(),
            details: Vec::new(),
            hint: String::new(),
            commands: Vec::new(),
        }
    }

    pub(super) fn ok(category: &str, text: impl Into<String>) -> Self {
        Self::new(Level::Ok, category, text)
    }

    pub(super) fn warning(category: &str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, category, text)
    }

    pub(super) fn failed(category: &str, text: impl Into<String>) -> Self {
        Self::new(Level::Failed, category, text)
    }

    /// What it is about.
    pub(super) fn about(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    pub(super) fn mend_all(mut self, commands: impl IntoIterator<Item = String>) -> Self {
        self.commands.extend(commands);
        self
    }
}

/// Everything, in order.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    ok: usize,
    warnings: usize,
    pub(super) failed: usize,
    pub(super) checks: Vec<Finding>,
}

/// Details and commands of one finding that are shown: a cluster may have thousands. JSON has all.
const SHOWN: usize = 10;

impl Report {
    pub(super) fn of(checks: Vec<Finding>) -> Self {
        let count = |level| checks.iter().filter(|check| check.level == level).count();
        Self {
            ok: count(Level::Ok),
            warnings: count(Level::Warning),
            failed: count(Level::Failed),
            checks,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut category = "";
        for check in &self.checks {
            if check.category != category {
                category = &check.category;
                if !lines.is_empty() {
                    lines.push(String::new());
                }
                lines.push(category.to_owned());
            }
            let sign = match check.level {
                Level::Ok => '✓',
                Level::Warning => '!',
                Level::Failed => '×',
            };
            lines.push(format!("  {sign} {}", check.text));
            some(&mut lines, &check.details, "      - ");
            if !check.hint.is_empty() {
                lines.push(format!("      {}", check.hint));
            }
            some(&mut lines, &check.commands, "      $ ");
        }
        let warnings = if self.warnings == 1 { "" } else { "s" };
        lines.push(String::new());
        lines.push(format!(
            "{} ok, {} warning{warnings}, {} failed",
            self.ok, self.warnings, self.failed
        ));
        lines.join("\n")
    }
}

fn some(lines: &mut Vec<String>, all: &[String], before: &str) {
    lines.extend(all.iter().take(SHOWN).map(|one| format!("{before}{one}")));
    if all.len() > SHOWN {
        let rest = all.len() - SHOWN;
        lines.push(format!("{before}… and {rest} more (--output json has all)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_top_down_and_long_lists_are_cut() {
        let names = (0..12).map(|index| format!("pod web-{index}"));
        let report = Report::of(vec![
            Finding::ok("kubernetes", "it answers"),
            Finding::warning("sidecars", "12 pods have none")
                .about(names)
                .hint("They are older than the label.")
                .mend("kubectl rollout restart deployment/web"),
        ]);
        let text = report.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "kubernetes",
                "  ✓ it answers",
                "",
                "sidecars",
                "  ! 12 pods have none"
            ]
        );
        assert!(text.contains("- … and 2 more"), "{text}");
        assert!(
            text.ends_with(
                "      $ kubectl rollout restart deployment/web\n\n1 ok, 1 warning, 0 failed"
            ),
            "{text}"
        );
        let json = serde_json::to_value(&report).expect("plain data");
        assert_eq!(json["checks"][1]["level"], "warning");
        assert_eq!(
            json["checks"][1]["details"].as_array().map(Vec::len),
            Some(12)
        );
    }
}
