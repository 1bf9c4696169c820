//! Why a command did not end well.

use std::io;

/// How a command failed, as the shell will see it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The work could not be done: exit code 1.
    #[error("{0}")]
    Work(String),
    /// The command asks for something impossible: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Whoever read our output has had enough (`koorde get … | head`). Nothing is wrong.
    #[error("the reader went away")]
    ReaderGone,
    /// A signal ended it, by this number: exit code 128 and that, as shells have it.
    #[error("ended by signal {0}")]
    Signal(u8),
}

impl Failure {
    /// What the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Work(_) => 1,
            Self::Usage(_) => 2,
            Self::ReaderGone => 0,
            Self::Signal(number) => 128 | *number,
        }
    }

    /// What to tell the user, if anything.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Work(_) | Self::Usage(_) => Some(self.to_string()),
            Self::ReaderGone | Self::Signal(_) => None,
        }
    }

    /// The failure of a write to `sink`.
    pub(crate) fn write(sink: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Work(format!("could not write to {sink}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let failure = Failure::write("stdout", &io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit_code(), failure.message()), (0, None));
    }

    #[test]
    fn a_full_disk_names_the_file() {
        let failure = Failure::write("page.html", &io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(failure.exit_code(), 1);
        assert!(
            failure
                .message()
                .is_some_and(|message| message.contains("page.html"))
        );
    }
}
