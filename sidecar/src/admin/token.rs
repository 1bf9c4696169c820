//! The token that a purge has to bring.

use std::{fmt, fs};

use http::{HeaderMap, header};

/// Shorter ones can be guessed.
const LEAST: usize = 16;

/// A bearer token (RFC 6750). Never shown.
#[derive(Clone)]
pub struct Token(Vec<u8>);

/// A token file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("admin.token_file = {path}: {reason}")]
pub struct TokenError {
    path: String,
    reason: String,
}

impl Token {
    /// Reads a token; white space around it does not count.
    ///
    /// # Errors
    /// The file cannot be read, or what is in it is no token of at least 16 bytes.
    pub fn read(path: &str) -> Result<Self, TokenError> {
        let wrong = |reason: String| TokenError {
            path: path.to_owned(),
            reason,
        };
        let text = fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let token = text.trim_ascii();
        if token.len() < LEAST {
            let length = token.len();
            return Err(wrong(format!("{length} bytes: must be at least {LEAST}")));
        }
        if !token.iter().all(u8::is_ascii_graphic) {
            return Err(wrong("must be visible ASCII without blanks".to_owned()));
        }
        Ok(Self(token.to_owned()))
    }

    /// The value of Authorization that brings it.
    pub(crate) fn field(&self) -> Vec<u8> {
        [b"Bearer ", &self.0[..]].concat()
    }

    /// Whether a request brings it. Takes the same time wherever the two differ.
    #[must_use]
    pub fn is_in(&self, fields: &HeaderMap) -> bool {
        let mut all = fields.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return false;
        };
        let value = value.as_bytes();
        let Some((scheme, token)) = value.split_at_checked("bearer ".len()) else {
            return false;
        };
        let differ = |sum: u8, (a, b): (&u8, &u8)| std::hint::black_box(sum | (a ^ b));
        scheme.eq_ignore_ascii_case(b"bearer ")
            && token.len() == self.0.len()
            && token.iter().zip(&self.0).fold(0, differ) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_of_one_field_is_taken() {
        let token = Token(b"0123456789abcdef".to_vec());
        for (values, taken) in [
            (&["Bearer 0123456789abcdef"][..], true),
            (&["bearer 0123456789abcdef"], true),
            (&["Bearer 0123456789abcdeX"], false),
            (&["Bearer 0123456789abcde"], false),
            (&["Bearer 0123456789abcdef0"], false),
            (&["Basic 0123456789abcdef"], false),
            (&["0123456789abcdef"], false),
            (&[], false),
            (
                &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
                false,
            ),
        ] {
            let mut fields = HeaderMap::new();
            for value in values {
                fields.append(header::AUTHORIZATION, value.parse().expect("a value"));
            }
            assert_eq!(token.is_in(&fields), taken, "{values:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Token::read("/nowhere/token").expect_err("not there");
        assert!(
            error
                .to_string()
                .starts_with("admin.token_file = /nowhere/token: "),
            "{error}"
        );
    }
}
