//! Comma lists, RFC 9110 §5.6.1, without allocation.

/// The members of one field line, split at the commas outside quoted strings.
///
/// Optional white space around members is removed; empty members are skipped,
/// as a recipient has to. A quoted string that does not end takes the rest of
/// the line, and [`Members::unterminated`] tells.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
    unterminated: bool,
}

/// Splits one line.
pub fn members(line: &[u8]) -> Members<'_> {
    Members {
        rest: line,
        unterminated: false,
    }
}

impl Members<'_> {
    /// Whether a quoted string without end was met; known once all are read.
    pub fn unterminated(&self) -> bool {
        self.unterminated
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (end, open) = member_end(self.rest);
            self.unterminated |= open;
            let member = trim(&self.rest[..end]);
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Where the first member ends, and whether a quoted string is still open there.
fn member_end(bytes: &[u8]) -> (usize, bool) {
    let mut quoted = false;
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (at, false),
            _ => {}
        }
    }
    (bytes.len(), quoted)
}

/// Removes optional white space (space and tab) at both ends.
pub fn trim(bytes: &[u8]) -> &[u8] {
    let ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|b| !ows(b)).unwrap_or(bytes.len());
    let end = bytes
        .iter()
        .rposition(|b| !ows(b))
        .map_or(start, |at| at + 1);
    &bytes[start..end]
}

/// Whether these bytes are a token, RFC 9110 §5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether this byte may be part of a token.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
