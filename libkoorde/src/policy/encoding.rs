//! One spelling of Accept-Encoding for all that mean the same, RFC 9110 §12.5.3,
//! so that a response that varies by it is stored a few times and not by browser.

use super::vary::preferences::Preferences;
use http::{HeaderMap, HeaderValue, header};

/// The codings that are told to origins, the best first.
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

const IDENTITY: &str = "identity";

/// Rewrites Accept-Encoding to the codings among zstd, br and gzip that the client
/// accepts, in the order it prefers them, those it likes alike in this order.
///
/// `identity` is among them only where it is preferred to one of the others, and
/// `identity;q=0` where it is refused: otherwise "it is acceptable by default". What
/// is left without any coding, and what is malformed, is `identity` alone. No field
/// stays none: that is for origins to judge, as "any content coding".
pub fn normalise_accept_encoding(fields: &mut HeaderMap) {
    let name = header::ACCEPT_ENCODING;
    if !fields.contains_key(&name) {
        return;
    }
    let lines = fields.get_all(&name).iter().map(HeaderValue::as_bytes);
    let text = Preferences::read(&name, lines).map_or_else(
        // A list that cannot be read must not make a variant of its own, nor be
        // taken for the consent to any coding that its absence would be.
        || IDENTITY.to_owned(),
        |preferences| canonical(&preferences),
    );
    let value = HeaderValue::try_from(text).expect("tokens and commas are a field value");
    fields.insert(name, value);
}

fn canonical(preferences: &Preferences<'_>) -> String {
    let named = |coding: &str| {
        let of = |(name, _): &&(&[u8], u16)| name.eq_ignore_ascii_case(coding.as_bytes());
        // Of a repeated name the least weight counts: it stands last.
        let found = preferences.items().iter().rfind(of);
        found.map(|(_, weight)| *weight)
    };
    // "The asterisk … matches any available content coding not explicitly listed".
    let any = named("*");
    let weight = |coding: &str| named(coding).or(any).unwrap_or(0);
    let mut accepted: Vec<(&str, u16)> = CODINGS
        .iter()
        .map(|coding| (*coding, weight(coding)))
        .filter(|(_, weight)| *weight > 0)
        .collect();
    accepted.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    // Not named, it is acceptable, and as good as the least of those that are named.
    match named(IDENTITY).or(any.filter(|weight| *weight == 0)) {
        Some(0) => accepted.push(("identity;q=0", 0)),
        Some(own) => {
            let at = accepted.iter().position(|(_, weight)| *weight < own);
            if let Some(at) = at {
                accepted.insert(at, (IDENTITY, own));
            }
        }
        None => {}
    }
    if accepted.is_empty() {
        accepted.push((IDENTITY, 0));
    }
    let names: Vec<&str> = accepted.into_iter().map(|(name, _)| name).collect();
    names.join(", ")
}
