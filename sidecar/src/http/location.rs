//! References in an answer that a client would resolve against our own host.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use libkoorde::policy::Target;

const REFERENCES: [HeaderName; 2] = [header::LOCATION, header::CONTENT_LOCATION];

/// Makes what refers to another place of the target's origin say so in full (RFC 9110 §10.2.2): the
/// client knows this answer by another URL.
pub(super) fn make_absolute(fields: &mut HeaderMap, target: &Target) {
    for name in REFERENCES {
        let Some(value) = fields.get(&name).and_then(|value| value.to_str().ok()) else {
            continue;
        };
        let is_absolute = value.split_once(':').is_some_and(|(scheme, _)| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        });
        if is_absolute {
            continue;
        }
        // The fragment is no part of a target, but of what a client does with it.
        let fragment = value.split_once('#').map(|(_, fragment)| fragment);
        let Ok(resolved) = target.join(value) else {
            continue;
        };
        let absolute = match fragment {
            Some(fragment) => format!("{resolved}#{fragment}"),
            None => resolved.to_string(),
        };
        if let Ok(absolute) = HeaderValue::try_from(absolute) {
            fields.insert(&name, absolute);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_relative_is_resolved_against_the_target() {
        let target = Target::parse("https://a.example/b/c?d").expect("a URL");
        for (written, read) in [
            ("/x?y#z", "https://a.example/x?y#z"),
            ("x", "https://a.example/b/x"),
            ("?q", "https://a.example/b/c?q"),
            ("//b.example/x", "https://b.example/x"),
            ("../x:y", "https://a.example/x:y"),
            ("http://c.example", "http://c.example"),
            ("mailto:a@b", "mailto:a@b"),
            ("", "https://a.example/b/c?d"),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::LOCATION, written.parse().expect("a field value"));
            make_absolute(&mut fields, &target);
            assert_eq!(fields[header::LOCATION], read, "{written:?}");
        }
    }
}
