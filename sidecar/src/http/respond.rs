//! Answers made here, among them every error: one function says what an error is in HTTP.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use libkoorde::FetchError;
use serde::Serialize;
use tracing::{Level, debug, error, warn};

use super::Accept;

/// The body of every answer: one of ours, or the library's passing through.
pub type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

/// An answer.
pub type Answer = Response<AnswerBody>;

/// Why a request has no other answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The status of the answer.
    pub status: StatusCode,
    /// A word from a closed set: `detail` of Cache-Status, `error` in JSON.
    pub word: &'static str,
    /// The same for people, with the value it is about.
    pub message: String,
    /// How loud it is logged. Per request nothing is louder than DEBUG, unless an operator is to act.
    pub level: Level,
    /// Seconds after which asking again makes sense.
    pub retry_after: Option<u32>,
}

impl Failure {
    /// What a failed fetch is in HTTP. The only such function.
    #[must_use]
    pub fn of(error: &FetchError) -> Self {
        let message = error.to_string();
        let failure = |status, word| Self::new(status, word, message.clone());
        match error {
            FetchError::Denied { .. } => failure(StatusCode::FORBIDDEN, "denied"),
            FetchError::Origin(_) => failure(StatusCode::BAD_GATEWAY, "origin"),
            // RFC 9111 §5.2.2.2 names this status for it.
            FetchError::NotValidated(_) => failure(StatusCode::GATEWAY_TIMEOUT, "not-validated"),
            FetchError::OriginTimeout(_) => failure(StatusCode::GATEWAY_TIMEOUT, "origin-timeout"),
            FetchError::Overloaded(_) => Self {
                level: Level::WARN,
                retry_after: Some(1),
                ..failure(StatusCode::SERVICE_UNAVAILABLE, "overloaded")
            },
            FetchError::Resting {
                reason,
                retry_after,
            } => Self {
                retry_after: Some(seconds_up(*retry_after)),
                ..failure(StatusCode::SERVICE_UNAVAILABLE, reason)
            },
            FetchError::Stopping => Self {
                retry_after: Some(1),
                ..failure(StatusCode::SERVICE_UNAVAILABLE, "stopping")
            },
            // RFC 9111 §5.2.1.7 names this status for only-if-cached.
            FetchError::NotStored => failure(StatusCode::GATEWAY_TIMEOUT, "not-stored"),
            FetchError::Loop => Self {
                level: Level::WARN,
                ..failure(StatusCode::LOOP_DETECTED, "loop")
            },
            FetchError::MaxForwards => failure(StatusCode::BAD_REQUEST, "max-forwards"),
            FetchError::Upload(_) => failure(StatusCode::BAD_REQUEST, "body-broken"),
            _ => Self {
                level: Level::ERROR,
                ..failure(StatusCode::INTERNAL_SERVER_ERROR, "unknown")
            },
        }
    }

    /// The request itself is wrong.
    #[must_use]
    pub fn bad_request(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", message)
    }

    /// A bug of ours ended the request.
    #[must_use]
    pub fn panicked() -> Self {
        let message = "internal error; the log has more".to_owned();
        Self {
            level: Level::ERROR,
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "panic", message)
        }
    }

    pub(crate) fn new(status: StatusCode, word: &'static str, message: String) -> Self {
        Self {
            status,
            word,
            message,
            level: Level::DEBUG,
            retry_after: None,
        }
    }

    /// One line, without the message: that names the client's URL.
    pub(super) fn log(&self) {
        let (status, why) = (self.status.as_u16(), self.word);
        match self.level {
            Level::ERROR => error!(status, why, "Request failed."),
            Level::WARN => warn!(status, why, "Request failed."),
            _ => debug!(status, why, "Request failed."),
        }
    }

    /// The answer: JSON, or text for who would rather have that.
    #[must_use]
    pub fn answer(&self, accept: &Accept) -> Answer {
        let wants_text = accept
            .wants("text", "plain")
            .max(accept.wants("text", "html"));
        let mut answer = if wants_text > accept.wants("application", "json") {
            text(self.status, format!("{}\n", self.message))
        } else {
            let body = ErrorBody {
                status: self.status.as_u16(),
                error: self.word,
                message: &self.message,
            };
            json(self.status, &body)
        };
        let fields = answer.headers_mut();
        // The message repeats what the client sent: it must never be taken for a page.
        fields.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }

    /// The member of Cache-Status for it (RFC 9211).
    #[must_use]
    pub fn cache_status(&self) -> HeaderValue {
        HeaderValue::try_from(format!("koorde; detail={}", self.word))
            .expect("the words are lower-case letters and hyphens")
    }
}

/// Whole seconds, rounded up: who comes back then is not too early.
fn seconds_up(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    status: u16,
    error: &'a str,
    message: &'a str,
}

/// A short text.
#[must_use]
pub fn text(status: StatusCode, body: String) -> Answer {
    typed(
        status,
        HeaderValue::from_static("text/plain; charset=utf-8"),
        body,
    )
}

/// A value as JSON.
#[must_use]
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Answer {
    let mut body = serde_json::to_string(value).expect("what is answered has only string keys");
    body.push('\n');
    typed(status, HeaderValue::from_static("application/json"), body)
}

/// A text of that type.
#[must_use]
pub fn typed(status: StatusCode, content_type: HeaderValue, body: String) -> Answer {
    let body = Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn denied() -> FetchError {
        FetchError::Denied {
            reason: "private",
            target: "10.0.0.1".into(),
        }
    }

    #[test]
    fn every_failed_fetch_has_its_status() {
        for (error, status, word) in [
            (denied(), 403, "denied"),
            (FetchError::Origin("refused".into()), 502, "origin"),
            (
                FetchError::NotValidated("refused".into()),
                504,
                "not-validated",
            ),
            (FetchError::OriginTimeout(30_000), 504, "origin-timeout"),
            (FetchError::Overloaded("fetch.max_fills"), 503, "overloaded"),
            (
                FetchError::Resting {
                    reason: "breaker-open",
                    retry_after: Duration::from_millis(4001),
                },
                503,
                "breaker-open",
            ),
            (FetchError::Stopping, 503, "stopping"),
            (FetchError::NotStored, 504, "not-stored"),
            (FetchError::Loop, 508, "loop"),
            (FetchError::MaxForwards, 400, "max-forwards"),
            (FetchError::Upload("reset".into()), 400, "body-broken"),
        ] {
            let failure = Failure::of(&error);
            assert_eq!((failure.status.as_u16(), failure.word), (status, word));
            assert_eq!(failure.retry_after.is_some(), status == 503);
            assert_eq!(failure.cache_status(), format!("koorde; detail={word}"));
        }
    }

    #[tokio::test]
    async fn an_error_is_json_unless_text_is_preferred() {
        for (accept, kind) in [
            (None, "application/json"),
            (Some("*/*"), "application/json"),
            (
                Some("text/html,application/xml;q=0.9,*/*;q=0.8"),
                "text/plain; charset=utf-8",
            ),
            (
                Some("text/plain;q=0.5, application/json"),
                "application/json",
            ),
        ] {
            let mut fields = HeaderMap::new();
            if let Some(accept) = accept {
                fields.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            let answer = Failure::of(&denied()).answer(&Accept::of(&fields));
            assert_eq!(answer.headers()[header::CONTENT_TYPE], kind, "{accept:?}");
            let body = answer
                .into_body()
                .collect()
                .await
                .expect("a whole body")
                .to_bytes();
            let body = String::from_utf8_lossy(&body);
            assert!(body.contains("10.0.0.1 is refused: private"), "{body}");
        }
    }
}
