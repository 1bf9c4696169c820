//! URLs that are in normal form already: nearly all that are asked for. To know it takes one look
//! at each byte; to bring a URL into it takes a parser.
//!
//! This says yes only where the parser would change nothing, and where in doubt it says no.

use http::Uri;
use http::uri::Scheme;
use std::net::Ipv4Addr;

/// Whether a URI is the very text that the URL standard makes of it.
pub(super) fn is_normal(uri: &Uri) -> bool {
    let (Some(scheme), Some(authority), Some(rest)) =
        (uri.scheme(), uri.authority(), uri.path_and_query())
    else {
        return false;
    };
    let default = if *scheme == Scheme::HTTP {
        "80"
    } else if *scheme == Scheme::HTTPS {
        "443"
    } else {
        return false;
    };
    is_authority(authority.as_str(), default) && is_rest(rest.as_str().as_bytes())
}

/// A host in lower case, and a port that is not the scheme's.
fn is_authority(authority: &str, default: &str) -> bool {
    let colon = authority.bytes().position(|byte| byte == b':');
    let (host, port) = authority.split_at(colon.unwrap_or(authority.len()));
    is_host(host) && (colon.is_none() || &port[1..] != default && is_port(&port[1..]))
}

fn is_port(port: &str) -> bool {
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !port.starts_with('0') && port.parse::<u16>().is_ok()
}

/// A name in ASCII that is no number, or an IPv4 address as it is written by everybody. A host whose
/// last label begins with a digit is a number to the URL standard, in one of many spellings.
fn is_host(host: &str) -> bool {
    let bytes = host.as_bytes();
    let last = bytes.iter().rposition(|&byte| byte == b'.');
    match bytes.get(last.map_or(0, |dot| dot + 1)) {
        Some(b'a'..=b'z') => is_name(bytes),
        Some(b'0'..=b'9') => host.parse::<Ipv4Addr>().is_ok(),
        _ => false,
    }
}

/// No label is empty, and none may be punycode, which is read to see whether it is valid.
fn is_name(host: &[u8]) -> bool {
    let mut before = b'.';
    for &byte in host {
        let is_in_order = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => true,
            b'.' | b'-' => before != byte,
            _ => false,
        };
        if !is_in_order {
            return false;
        }
        before = byte;
    }
    true
}

/// A path without segments that begin with a dot, encoded or not, and a query.
fn is_rest(rest: &[u8]) -> bool {
    if rest.first() != Some(&b'/') {
        return false;
    }
    let mut before = 0;
    for (at, &byte) in rest.iter().enumerate() {
        if BYTES[usize::from(byte)] & IN_PATH == 0 {
            return byte == b'?' && is_query(&rest[at + 1..]);
        }
        if before == b'/' && matches!(byte, b'.' | b'%') {
            return false;
        }
        before = byte;
    }
    true
}

fn is_query(query: &[u8]) -> bool {
    let kinds = query.iter().map(|&byte| BYTES[usize::from(byte)]);
    kinds.fold(IN_QUERY, |all, kinds| all & kinds) != 0
}

/// What the URL standard leaves in a path as it is (its path percent-encode set, and `\`).
const IN_PATH: u8 = 1;
/// What [`Target`](super::Target) leaves in a query as it is.
const IN_QUERY: u8 = 2;

/// Where each byte may be.
static BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>') {
            bytes[byte as usize] |= IN_QUERY;
        }
        let is_mark = matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'/'
                | b'%'
        );
        if byte.is_ascii_alphanumeric() || is_mark {
            bytes[byte as usize] |= IN_PATH;
        }
        byte += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    use super::super::Target;
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// What is at the borders of the rules, and what lies well inside of them.
    const PIECES: [&str; 48] = [
        "http",
        "https",
        "HTTP",
        "ftp",
        "://",
        ":/",
        "//",
        "/",
        "a",
        "b1",
        "A",
        "0",
        "0x7f",
        "127",
        "127.0.0.1",
        "1.2",
        "256.1.1.1",
        "08",
        ".",
        "..",
        "-",
        "--",
        "xn--",
        "xn--a",
        "_",
        "~",
        ":80",
        ":443",
        ":8080",
        ":",
        ":0",
        ":080",
        ":65536",
        "@",
        "[::1]",
        "%2e",
        "%2E",
        "%",
        "%41",
        "\\",
        "?",
        "#",
        "'",
        "\"",
        "|",
        "^",
        "\u{e4}",
        " ",
    ];

    fn agree(text: &str) -> Result<bool, TestCaseError> {
        let Ok(uri) = Uri::try_from(text) else {
            return Ok(false);
        };
        if !is_normal(&uri) {
            return Ok(false);
        }
        let parsed = Target::parse_any(text);
        let Ok(parsed) = parsed else {
            return Err(TestCaseError::fail(format!("{text:?} is no target")));
        };
        let fast = Target::of_uri(&uri).expect("it is normal");
        prop_assert_eq!(&fast, &parsed);
        prop_assert_eq!(fast.to_string(), parsed.to_string());
        prop_assert_eq!(fast.is_as_written(), parsed.is_as_written());
        prop_assert_eq!(fast.scheme(), parsed.scheme());
        prop_assert_eq!(fast.authority(), parsed.authority());
        prop_assert_eq!(fast.path_and_query(), parsed.path_and_query());
        Ok(true)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_taken_for_normal_is_what_the_parser_makes_of_it(
            host in proptest::collection::vec(select(&PIECES[8..]), 1..5),
            rest in proptest::collection::vec(select(&PIECES[5..]), 0..6),
            secure: bool,
        ) {
            let scheme = if secure { "https" } else { "http" };
            agree(&format!("{scheme}://{}/{}", host.concat(), rest.concat()))?;
        }

        #[test]
        fn nothing_in_any_order_is_taken_for_normal_wrongly(
            pieces in proptest::collection::vec(select(&PIECES[..]), 0..10),
        ) {
            agree(&pieces.concat())?;
        }

        #[test]
        fn what_is_usual_is_normal(
            host in "[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,5})?(\\.[a-z][a-z0-9]{1,5}){0,3}",
            port in proptest::option::of(1024_u16..),
            path in "(/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~%-]{0,8}){0,4}/?",
            query in "(\\?[A-Za-z0-9._~%&='/?:@|^-]{0,20})?",
        ) {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let is_normal = agree(&format!("https://{host}{port}{path}{query}"))?;
            prop_assert!(is_normal || path.is_empty() && !query.is_empty());
        }
    }

    #[test]
    fn each_byte_of_a_path_and_a_query_is_judged_as_the_parser_does() {
        for byte in 0..=u8::MAX {
            for before in [
                "http://a.example/x",
                "http://a.example/",
                "http://a.example/?",
                "http://a",
            ] {
                let text = [before.as_bytes(), &[byte, b'y']].concat();
                if let Ok(text) = String::from_utf8(text) {
                    agree(&text).expect("they agree");
                }
            }
        }
    }
}
