//! How several ranges are sent as one body: `multipart/byteranges`, RFC 9110 §14.6.

use super::range::content_range;
use bytes::Bytes;
use http::HeaderValue;

/// The wording around the ranges of one 206. Send, for each of [`Multipart::parts`],
/// its `before` and then its bytes, and [`Multipart::closing`] at the end.
#[derive(Clone, Debug)]
pub struct Multipart {
    content_type: HeaderValue,
    parts: Vec<BodyPart>,
    closing: Bytes,
    content_length: u64,
}

/// One body part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPart {
    /// The delimiter and the part's own fields, up to where the range's bytes begin.
    pub before: Bytes,
    /// The first byte of the range, in the complete representation.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl Multipart {
    /// Words these ranges of a representation of `complete` bytes, whose own
    /// Content-Type each part repeats.
    ///
    /// The boundary must not occur in the body: the caller makes it of randomness.
    /// `None` if it is not 1 to 70 letters or digits, which every reader takes
    /// without quotes (RFC 2046 §5.1.1); if there is no range, or one that is empty
    /// or goes beyond `complete`; or if the length does not fit in 64 bits.
    pub fn new(
        content_type: Option<&HeaderValue>,
        ranges: &[(u64, u64)],
        complete: u64,
        boundary: &str,
    ) -> Option<Self> {
        let plain = boundary.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain || !(1..=70).contains(&boundary.len()) || ranges.is_empty() {
            return None;
        }
        let outer = format!("multipart/byteranges; boundary={boundary}");
        let closing = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let mut content_length = closing.len() as u64;
        let mut parts = Vec::with_capacity(ranges.len());
        for &(start, end) in ranges {
            if start >= end || end > complete {
                return None;
            }
            let mut before = Vec::new();
            // The line break before a delimiter belongs to the delimiter.
            if !parts.is_empty() {
                before.extend_from_slice(b"\r\n");
            }
            before.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
            if let Some(content_type) = content_type {
                field(&mut before, "Content-Type", content_type);
            }
            let range = content_range(start, end, Some(complete));
            field(&mut before, "Content-Range", &range);
            before.extend_from_slice(b"\r\n");
            content_length = content_length
                .checked_add(before.len() as u64)?
                .checked_add(end - start)?;
            parts.push(BodyPart {
                before: before.into(),
                start,
                end,
            });
        }
        Some(Self {
            content_type: HeaderValue::try_from(outer).ok()?,
            parts,
            closing,
            content_length,
        })
    }

    /// The Content-Type of the 206, in place of the representation's. It has no
    /// Content-Range of its own: "a server MUST NOT generate a Content-Range header
    /// field in the HTTP header section of a multiple part response" (§15.3.7.2).
    pub fn content_type(&self) -> HeaderValue {
        self.content_type.clone()
    }

    /// The length of the whole body in bytes: ranges and wording.
    pub fn content_length(&self) -> u64 {
        self.content_length
    }

    /// The parts in the order of sending.
    pub fn parts(&self) -> &[BodyPart] {
        &self.parts
    }

    /// What follows the last range.
    pub fn closing(&self) -> Bytes {
        self.closing.clone()
    }
}

fn field(bytes: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value.as_bytes());
    bytes.extend_from_slice(b"\r\n");
}
