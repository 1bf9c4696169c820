//! One spelling of Accept-Encoding for all that mean the same, RFC 9110 §12.5.3,
//! so that a response that varies by it is stored a few times and not by browser.

use super::vary::preferences::Preferences;
use http::{HeaderMap, HeaderValue, header};

/// The codings that are told to origins, the best first.
const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

const IDENTITY: &str = "identity";

/// Rewrites Accept-Encoding to the codings among zstd, br and gzip that the client
/// accepts, in the order it prefers them, those it likes alike in this order. Of the
/// weights only this order is kept: 1, 0.9, 0.8.
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
    let own = named(IDENTITY).or(any.filter(|weight| *weight == 0));
    let preferred = |own: u16| accepted.iter().position(|(_, weight)| *weight < own);
    if let Some(own) = own
        && let Some(at) = preferred(own)
    {
        accepted.insert(at, (IDENTITY, own));
    }
    let refused = (own == Some(0)).then(|| "identity;q=0".to_owned());
    let mut members: Vec<String> = ranked(&accepted).chain(refused).collect();
    if members.is_empty() {
        members.push(IDENTITY.to_owned());
    }
    members.join(", ")
}

/// Members with weights that say their order and nothing else, so that reading them
/// again gives the same.
fn ranked<'a>(accepted: &'a [(&str, u16)]) -> impl Iterator<Item = String> + 'a {
    let (mut rank, mut last) = (0, accepted.first().map(|(_, weight)| *weight));
    accepted.iter().map(move |(name, weight)| {
        if last.replace(*weight) != Some(*weight) {
            rank += 1;
        }
        match rank {
            0 => (*name).to_owned(),
            // At most four members, so at least 0.7.
            lower => format!("{name};q=0.{}", 10 - lower),
        }
    })
}
