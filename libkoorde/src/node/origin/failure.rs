//! Why there is no answer, and whose failure that is.

use std::{error::Error, time::Duration};

use hyper_util::client::legacy::Error as ClientError;

use super::{
    super::{
        connector::{ConnectTimeout, cause, denied},
        resolver::Crowded,
    },
    chain,
};
use crate::{
    error::FetchError,
    metrics::{Metrics, count},
};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    pub(crate) error: FetchError,
    /// Whether the server can't have seen any of the request.
    pub(super) is_unsent: bool,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The guard refused, for this reason.
    Denied(&'static str),
    /// This node is at the bound of its look-ups of names.
    Crowded,
    /// Whoever sends the request's body broke it off.
    Upload,
    /// `origin.connect_timeout`.
    ConnectTimeout,
    Connect,
    /// `origin.response_timeout` or `origin.idle_timeout`.
    Timeout,
    Broken,
}

impl NoAnswer {
    /// There is no connection.
    pub(crate) fn unconnected(error: &(dyn Error + 'static)) -> Self {
        let (why, error) = if let Some(denied) = denied(error) {
            let (reason, target) = (denied.reason, denied.target.clone());
            (Why::Denied(reason), FetchError::Denied { reason, target })
        } else if let Some(ConnectTimeout(timeout)) = cause(error) {
            let error = FetchError::OriginTimeout(millis(*timeout));
            (Why::ConnectTimeout, error)
        } else if let Some(Crowded(bound)) = cause(error) {
            (Why::Crowded, FetchError::Overloaded(bound))
        } else {
            (Why::Connect, FetchError::Origin(chain(error)))
        };
        Self {
            error,
            is_unsent: true,
            why,
        }
    }

    /// What the client of a pool says.
    pub(super) fn of(error: &ClientError) -> Self {
        if error.is_connect() {
            return Self::unconnected(error);
        }
        // hyper cancels what it has not begun to write.
        let is_canceled = cause::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled);
        Self {
            is_unsent: is_canceled,
            ..Self::sent(Why::Broken, FetchError::Origin(chain(error)))
        }
    }

    /// None came for so long.
    pub(super) fn timeout(waited: Duration) -> Self {
        Self::sent(Why::Timeout, FetchError::OriginTimeout(millis(waited)))
    }

    /// Whoever sends the request's body broke it off, and said this.
    pub(super) fn upload(said: String) -> Self {
        Self::sent(Why::Upload, FetchError::Upload(said))
    }

    /// No server is left to be asked.
    pub(super) fn nobody() -> Self {
        let error = "no server of the upstream is left to try".to_owned();
        Self {
            is_unsent: true,
            ..Self::sent(Why::Connect, FetchError::Origin(error))
        }
    }

    fn sent(why: Why, error: FetchError) -> Self {
        Self {
            error,
            is_unsent: false,
            why,
        }
    }

    /// Whether it says something of the origin: neither a refusal or a bound of ours does, nor what a
    /// client did.
    pub(super) fn is_the_origins(&self) -> bool {
        !matches!(self.why, Why::Denied(_) | Why::Crowded | Why::Upload)
    }

    /// Counts it, under the word for the upstream.
    pub(crate) fn count(&self, metrics: &Metrics, upstream: &str) {
        let (kind, stage) = match self.why {
            // As all that is shed is counted: when its client is answered.
            Why::Crowded | Why::Upload => return,
            Why::Denied(reason) => {
                count(&metrics.origin_denied, reason);
                ("denied", None)
            }
            Why::ConnectTimeout => ("timeout", Some("connect")),
            Why::Timeout => ("timeout", Some("origin")),
            Why::Connect => ("connect", None),
            Why::Broken => ("broken", None),
        };
        metrics.origin_errors.of(&[upstream, kind]).inc();
        if let Some(stage) = stage {
            count(&metrics.deadline_exceeded, stage);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_bound_of_this_node_is_no_failure_of_the_origin() {
        let failure = NoAnswer::unconnected(&io::Error::other(Crowded("look-ups of names")));
        assert_eq!(failure.error, FetchError::Overloaded("look-ups of names"));
        assert!(failure.is_unsent && !failure.is_the_origins());
        let failure = NoAnswer::unconnected(&io::Error::other("refused"));
        assert_eq!(failure.error, FetchError::Origin("refused".to_owned()));
        assert!(failure.is_unsent && failure.is_the_origins());
    }
}
