//! Where a mode of the layer does otherwise than the tables say: `tests/behaviour/exceptions.txt`.

use super::Story;

const TEXT: &str = include_str!("../../behaviour/exceptions.txt");

/// A story, or several, and the modes in which it goes otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The line that names it.
    pub line: usize,
    modes: &'static str,
    title: &'static str,
}

/// All of them, in order.
///
/// # Panics
/// At a line that makes no sense.
pub fn exceptions() -> Vec<Exception> {
    let (mut modes, mut has_reason) = ("", false);
    let mut all = Vec::new();
    for (line, text) in TEXT.lines().enumerate() {
        let line = line + 1;
        if let Some(named) = text.strip_prefix("==") {
            (modes, has_reason) = (named, false);
        } else if text.starts_with(' ') {
            has_reason = true;
        } else if !text.is_empty() && !text.starts_with('#') {
            assert!(has_reason, "exceptions.txt:{line}: no reason");
            let title = text;
            all.push(Exception { line, modes, title });
        }
    }
    all
}

impl Exception {
    /// Whether this story goes otherwise in this mode.
    pub fn holds(&self, mode: &str, story: &Story) -> bool {
        self.modes.split(',').any(|one| one.trim() == mode) && self.names(story)
    }

    /// Whether it is about this story.
    pub fn names(&self, story: &Story) -> bool {
        match self.title.strip_suffix('*') {
            Some(beginning) => story.title.starts_with(beginning),
            None => story.title == self.title,
        }
    }
}
