//! The Age field, RFC 9111 §5.1.

use super::{MAX_DELTA_SECONDS, delta_seconds, list::members, seconds};
use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// Reads Age: the first member of the list, if it is nothing but digits.
///
/// Too large a value counts as 2147483648 (RFC 9111 §1.2.2). What is no number
/// is ignored (§5.1), which here means an age of zero: the date still counts.
pub fn read(fields: &HeaderMap) -> Duration {
    fields
        .get(header::AGE)
        .and_then(|line| members(line.as_bytes()).next())
        .and_then(delta_seconds)
        .map_or(Duration::ZERO, seconds)
}

/// Writes Age, in whole seconds, at most 2147483648.
pub fn write(age: Duration) -> HeaderValue {
    HeaderValue::from(age.as_secs().min(u64::from(MAX_DELTA_SECONDS)))
}
