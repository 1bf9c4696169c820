//! How a decision is told to others: the Cache-Status field, RFC 9211.

use super::fields::list::is_token_byte;
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::fmt::{self, Write};

/// Why a request went on towards the origin, RFC 9211 §2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forward {
    /// The cache was configured, or the request forced it, not to handle this request.
    Bypass,
    /// The method's semantics require it.
    Method,
    /// Nothing was stored for the URI.
    UriMiss,
    /// Something was stored for the URI, but not for these fields (Vary).
    VaryMiss,
    /// Nothing was stored, and which of the two it was is not known.
    Miss,
    /// A fresh response was stored, but the request did not want it.
    Request,
    /// A response was stored, but it was stale.
    Stale,
    /// A partial response was stored, without the range asked for.
    Partial,
}

impl Forward {
    /// The token in Cache-Status, the metric label and the span field.
    pub fn as_str(self) -> &'static str {
        match self {
            Forward::Bypass => "bypass",
            Forward::Method => "method",
            Forward::UriMiss => "uri-miss",
            Forward::VaryMiss => "vary-miss",
            Forward::Miss => "miss",
            Forward::Request => "request",
            Forward::Stale => "stale",
            Forward::Partial => "partial",
        }
    }
}

/// What one cache did with one request: a member of Cache-Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The cache's name.
    pub name: String,
    /// `None` for a hit, else why it was forwarded: never both (§2.1, §2.2).
    pub forward: Option<Forward>,
    /// The status that the next hop answered with; only for a forwarded request.
    pub fwd_status: Option<StatusCode>,
    /// Seconds of freshness left, negative when stale.
    pub ttl: Option<i64>,
    /// Whether the response was stored; only for a forwarded request.
    pub stored: bool,
    /// Whether the request was collapsed with others; only for a forwarded request.
    pub collapsed: bool,
    /// The cache key, for those who may see it.
    pub key: Option<String>,
    /// More, in this cache's own words.
    pub detail: Option<String>,
}

impl Member {
    /// A response from the store. A hit that is served stale has a negative ttl.
    pub fn hit(name: impl Into<String>, ttl: i64) -> Self {
        Self {
            ttl: Some(ttl),
            ..Self::new(name.into(), None)
        }
    }

    /// A request that went on.
    pub fn forwarded(name: impl Into<String>, forward: Forward) -> Self {
        Self::new(name.into(), Some(forward))
    }

    fn new(name: String, forward: Option<Forward>) -> Self {
        Self {
            name,
            forward,
            fwd_status: None,
            ttl: None,
            stored: false,
            collapsed: false,
            key: None,
            detail: None,
        }
    }

    /// The field value, always a valid structured item: bytes that a structured
    /// string cannot hold become `?`.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string())
            .expect("tokens, digits and quoted printable ASCII are a field value")
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        token_or_string(f, &self.name)?;
        match self.forward {
            None => f.write_str("; hit")?,
            Some(forward) => {
                write!(f, "; fwd={}", forward.as_str())?;
                if let Some(status) = self.fwd_status {
                    write!(f, "; fwd-status={}", status.as_u16())?;
                }
            }
        }
        if let Some(ttl) = self.ttl {
            // A structured integer has at most 15 digits.
            write!(f, "; ttl={}", ttl.clamp(-MAX_INTEGER, MAX_INTEGER))?;
        }
        if self.forward.is_some() && self.stored {
            f.write_str("; stored")?;
        }
        if self.forward.is_some() && self.collapsed {
            f.write_str("; collapsed")?;
        }
        if let Some(key) = &self.key {
            f.write_str("; key=")?;
            string(f, key)?;
        }
        if let Some(detail) = &self.detail {
            f.write_str("; detail=")?;
            token_or_string(f, detail)?;
        }
        Ok(())
    }
}

/// What one node says of each of its hits: worded once, but for the time that is left.
#[derive(Clone, Debug)]
pub struct HitMember {
    before_ttl: String,
    after_ttl: String,
}

impl HitMember {
    /// The words of a cache of this name, with this detail.
    pub fn new(name: &str, detail: &str) -> Self {
        let bare = Member::hit(name, 0);
        let mut before_ttl = bare.to_string();
        let whole = Member {
            detail: Some(detail.to_owned()),
            ..bare
        };
        let after_ttl = whole.to_string().split_off(before_ttl.len());
        // The zero.
        before_ttl.pop();
        Self {
            before_ttl,
            after_ttl,
        }
    }

    /// The field value for a hit that is fresh for so long, as [`Member::value`] words it.
    pub fn value(&self, ttl: i64) -> HeaderValue {
        let mut digits = [0; 20];
        let digits = decimal(ttl.clamp(-MAX_INTEGER, MAX_INTEGER), &mut digits);
        let (before, after) = (self.before_ttl.as_bytes(), self.after_ttl.as_bytes());
        let mut text = BytesMut::with_capacity(before.len() + digits.len() + after.len());
        text.extend_from_slice(before);
        text.extend_from_slice(digits);
        text.extend_from_slice(after);
        HeaderValue::from_maybe_shared(text.freeze())
            .expect("a member with other digits is a field value")
    }
}

/// Writes a number to the end of what is given.
fn decimal(number: i64, digits: &mut [u8; 20]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut at = digits.len();
    loop {
        at -= 1;
        // A digit.
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    &digits[at..]
}

/// Adds our member after those of the caches nearer to the origin (§2), which
/// stay as they came: one member a hop.
pub fn append(fields: &mut HeaderMap, member: &Member) {
    fields.append(header::CACHE_STATUS, member.value());
}

const MAX_INTEGER: i64 = 999_999_999_999_999;

fn token_or_string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    // A structured token begins with a letter or `*` and may have `:` and `/`.
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*');
    if starts
        && text
            .bytes()
            .all(|b| is_token_byte(b) || matches!(b, b':' | b'/'))
    {
        f.write_str(text)
    } else {
        string(f, text)
    }
}

fn string(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                f.write_char('\\')?;
                f.write_char(c)?;
            }
            ' '..='~' => f.write_char(c)?,
            _ => f.write_char('?')?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_worded_alike_whether_in_one_go_or_from_parts() {
        for (name, detail) in [
            ("koorde", "pod-1"),
            ("koorde", "0"),
            ("a \"cache\"; ttl=0", "\u{e4}; \\ ttl=0"),
            ("", ""),
        ] {
            let parts = HitMember::new(name, detail);
            for ttl in [0, 1, 9, 10, 599, -1, -3600, i64::MAX, i64::MIN] {
                let member = Member {
                    detail: Some(detail.to_owned()),
                    ..Member::hit(name, ttl)
                };
                assert_eq!(
                    parts.value(ttl),
                    member.value(),
                    "{name:?} {detail:?} {ttl}"
                );
            }
        }
    }
}
