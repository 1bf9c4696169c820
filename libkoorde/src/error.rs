//! What can go wrong: one enum an operation, its variants what the caller would do differently.

use std::{fmt, io, net::SocketAddr, time::Duration};

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting, or a relation between two, is out of bounds; the message names key and value.
    #[error("configuration: {0}")]
    Config(String),
    /// The peer listener could not be bound.
    #[error("ring.listen {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A `ca_file` could not be read or holds no certificate.
    #[error("{key} {path}: {reason}")]
    Authorities {
        /// The setting that names it.
        key: String,
        /// The path asked for.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a fetch has no response.
///
/// Only the origin's failure, a refusal or a bound is ever the caller's failure: trouble with the
/// ring or with a peer ends in a fill by this node (DESIGN.md, invariant 6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The egress guard refuses the target; carries the reason's word and the address or host.
    #[error("{target} is refused: {reason}")]
    Denied {
        /// `Denied::as_str()`: a closed set.
        reason: &'static str,
        /// The host or address that was refused.
        target: String,
    },
    /// The origin could not be reached, broke the connection or spoke no HTTP.
    #[error("origin: {0}")]
    Origin(String),
    /// The origin could not be reached, and what is stored forbids to be served stale
    /// (RFC 9111 §5.2.2.2, `must-revalidate` and its kin).
    #[error("origin: {0}; the stored response must not be served stale")]
    NotValidated(String),
    /// The origin did not answer in time.
    #[error("origin did not answer within {0} ms")]
    OriginTimeout(u64),
    /// The request's body broke off on its way in: the failure of whoever sends it, not the origin's.
    #[error("the request's body broke off: {0}")]
    Upload(String),
    /// The origin is left alone: it asked for that, or it failed too often in a row.
    #[error("origin is left alone for {} s more: {reason}", seconds_up(*retry_after))]
    Resting {
        /// `retry-after` or `breaker-open`.
        reason: &'static str,
        /// How much longer.
        retry_after: Duration,
    },
    /// This node is at the named bound.
    #[error("at the bound of {0}")]
    Overloaded(&'static str),
    /// The fill that was waited for ended without a word: this node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// A peer's answer to another request could not be shared with this one. Never a client's error:
    /// who hears it asks alone.
    #[error("the response was another request's alone")]
    NotShared {
        /// Whether the next one is expected to be no different (hit-for-miss).
        lasts: bool,
    },
    /// The origin has answered a request for a slice with the whole. Never a client's error: who hears
    /// it asks for the whole.
    #[error("the response does not come in slices")]
    NotSliced,
    /// The request has passed this node before (CDN-Loop, RFC 8586): the origin, or a proxy before
    /// it, sent it back to us.
    #[error("the request has come back to this node (CDN-Loop)")]
    Loop,
    /// Its Max-Forwards is 0: the recipient is to answer it (RFC 9110 §7.6.2).
    #[error("the request may not be forwarded any more (Max-Forwards)")]
    MaxForwards,
    /// The request said `only-if-cached` (RFC 9111 §5.2.1.7), or a peer only wanted what is
    /// stored, and there is nothing to answer with.
    #[error("not stored")]
    NotStored,
}

/// Whole seconds, rounded up, as Retry-After counts them (RFC 9110 §10.2.3).
fn seconds_up(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Why a body ended before it was complete. The reader must treat what it has as incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The origin, or the peer that relayed it, ended the body before its announced end.
    #[error("the body was cut off: {0}")]
    Cut(String),
    /// This reader was the slowest of several and did not read for `fetch.stall_timeout`.
    #[error("read too slowly: the others no longer wait")]
    Lagged,
}

/// What somebody sent, as an error message shows it: in quotes, escaped, and of a long one the first
/// 100 characters, so that nobody can make a message or a line of a log long.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not `{:.100?}`: to Debug of a string a precision means nothing.
        match self.0.char_indices().nth(100) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_what_was_sent_but_not_at_any_length() {
        for (sent, shown) in [
            ("", r#""""#.to_owned()),
            ("a\"b\n", r#""a\"b\n""#.to_owned()),
            (&"é".repeat(100), format!("\"{}\"", "é".repeat(100))),
            (&"é".repeat(101), format!("\"{}\"…", "é".repeat(100))),
        ] {
            assert_eq!(Quoted(sent).to_string(), shown);
        }
    }
}
