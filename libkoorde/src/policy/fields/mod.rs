//! Our own readers of the fields that decide about caching.
//!
//! The parsers of others were measured and found wanting: names compared
//! case-sensitively, quoted strings cut at their commas, sums that overflow. All
//! of these read any bytes without panic and, when in doubt, choose the reading
//! that stores less and reuses less.
//!
//! | file | reads | RFC |
//! |---|---|---|
//! | [`age`] | Age | 9111 §5.1 |
//! | [`cache_control`] | Cache-Control of requests and responses, Pragma | 9111 §5.2, §5.4 |
//! | [`connection`] | what belongs to one connection only | 9110 §7.6.1 |
//! | [`date`] | the three forms of an HTTP date | 9110 §5.6.7 |
//! | [`entity_tag`] | ETag and lists of entity tags | 9110 §8.8.3 |
//! | [`list`] | comma lists with quoted strings | 9110 §5.6.1 |
//! | [`structured`] | structured lists and dictionaries | 9651 |
//! | [`targeted`] | CDN-Cache-Control and its kind | 9213 |

pub mod age;
pub mod cache_control;
pub mod connection;
pub mod date;
pub mod entity_tag;
pub mod list;
pub mod structured;
pub mod targeted;

use std::time::Duration;

/// The longest delta-seconds: what does not fit is taken for this (RFC 9111 §1.2.2).
pub const MAX_DELTA_SECONDS: u32 = 1 << 31;

/// Reads delta-seconds, RFC 9111 §1.2.2: digits and nothing else.
///
/// Too large a number, of any length, is [`MAX_DELTA_SECONDS`].
pub fn delta_seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        let sum = sum.saturating_mul(10).saturating_add(digit);
        Some(sum.min(MAX_DELTA_SECONDS))
    })
}

/// Delta-seconds as a duration.
pub(crate) fn seconds(delta: u32) -> Duration {
    Duration::from_secs(u64::from(delta))
}
