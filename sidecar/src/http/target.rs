//! The `url` parameter of `/cache` and `/debug/explain`.

use libkoorde::Quoted;

/// Why a query names no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("the query needs one parameter, url=<percent-encoded URL>")]
    Missing,
    #[error("the query has the parameter url more than once")]
    Twice,
    /// Most likely the rest of a URL whose `&` was not encoded. Fetching what came before it would
    /// be answering another question.
    #[error(
        "the query has a parameter {}; if it belongs to the URL, percent-encode the URL",
        Quoted(.0)
    )]
    Unknown(String),
    #[error("{} is not percent-encoded UTF-8", Quoted(.0))]
    Encoding(String),
}

/// The value of `url`, decoded once. A `+` stays one: it is a legal character of a URL, while a
/// blank is none that it could stand for.
pub(crate) fn url(query: Option<&str>) -> Result<String, QueryError> {
    let mut found = None;
    for pair in query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
    {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "url" {
            return Err(QueryError::Unknown(name.to_owned()));
        }
        if found.replace(value).is_some() {
            return Err(QueryError::Twice);
        }
    }
    let encoded = found
        .filter(|value| !value.is_empty())
        .ok_or(QueryError::Missing)?;
    decode(encoded).ok_or_else(|| QueryError::Encoding(encoded.to_owned()))
}

/// Percent-decodes, once; none if it is not percent-encoded UTF-8.
pub(crate) fn decode(encoded: &str) -> Option<String> {
    let mut bytes = encoded.bytes();
    let mut decoded = Vec::with_capacity(encoded.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next()?)? << 4 | digit(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_what_was_sent_but_not_at_any_length() {
        let long = "a".repeat(3000);
        for query in [format!("{long}=1"), format!("url={long}%zz")] {
            let said = url(Some(&query)).expect_err("no URL").to_string();
            assert!(said.len() < 300, "{said}");
        }
    }

    #[test]
    fn a_url_is_decoded_once() {
        for (query, expected) in [
            ("url=https://o/p", "https://o/p"),
            (
                "url=https%3A%2F%2Fo%2Fp%3Fa%3D1%26b%3D2",
                "https://o/p?a=1&b=2",
            ),
            ("url=https://o/p?a=1", "https://o/p?a=1"),
            ("url=https://o/%2520", "https://o/%20"),
            ("url=https://o/a+b", "https://o/a+b"),
        ] {
            assert_eq!(url(Some(query)).as_deref(), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_query_that_names_no_url_is_refused() {
        for (query, expected) in [
            ("", QueryError::Missing),
            ("url=", QueryError::Missing),
            ("url=a&url=b", QueryError::Twice),
            // The seed's trap: it fetched `https://o/p?a=1` for this.
            ("url=https://o/p?a=1&b=2", QueryError::Unknown("b".into())),
            ("url=%zz", QueryError::Encoding("%zz".into())),
            ("url=%f", QueryError::Encoding("%f".into())),
            ("url=%ff", QueryError::Encoding("%ff".into())),
        ] {
            assert_eq!(url(Some(query)), Err(expected), "{query}");
        }
        assert_eq!(url(None), Err(QueryError::Missing));
    }
}
