//! What a client would rather have (RFC 9110 §12.5.1).

use http::{HeaderMap, HeaderValue, header};

/// The Accept fields of a request, read when somebody asks: most answers have but one form.
/// Parameters but `q` are looked over: what they tell apart (versions of one format) is answered
/// with the one version there is. What is malformed counts as not there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accept {
    lines: Vec<HeaderValue>,
}

#[derive(Clone, Debug, PartialEq)]
struct Range {
    kind: String,
    subtype: String,
    quality: f32,
}

impl Accept {
    /// Those of these fields.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Self {
        Self {
            lines: fields
                .get_all(header::ACCEPT)
                .into_iter()
                .cloned()
                .collect(),
        }
    }

    /// How much a type is wanted, 0–1, counting only ranges that name it or at least its kind
    /// (`text/*`); none if there is no such range. `*/*` names nothing.
    #[must_use]
    pub fn named(&self, kind: &str, subtype: &str) -> Option<f32> {
        self.quality(|range| {
            range.kind == kind && (range.subtype == subtype || range.subtype == "*")
        })
    }

    /// How much a type is wanted, 0–1. Without any Accept field all are.
    #[must_use]
    pub fn wants(&self, kind: &str, subtype: &str) -> f32 {
        if self.ranges().next().is_none() {
            return 1.0;
        }
        let any = || self.quality(|range| range.kind == "*");
        self.named(kind, subtype).or_else(any).unwrap_or(0.0)
    }

    fn quality(&self, matches: impl Fn(&Range) -> bool) -> Option<f32> {
        let matching = self.ranges().filter(|range| matches(range));
        matching.map(|range| range.quality).reduce(f32::max)
    }

    fn ranges(&self) -> impl Iterator<Item = Range> {
        let lines = self.lines.iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).filter_map(range)
    }
}

fn range(text: &str) -> Option<Range> {
    let mut parts = text.split(';').map(str::trim);
    let (kind, subtype) = parts.next()?.split_once('/')?;
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let quality = match weight {
        None => 1.0,
        Some(text) => text
            .parse::<f32>()
            .ok()
            .filter(|q| (0.0..=1.0).contains(q))?,
    };
    let lower = |text: &str| text.trim().to_ascii_lowercase();
    Some(Range {
        kind: lower(kind),
        subtype: lower(subtype),
        quality,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(lines: &[&'static str]) -> Accept {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(header::ACCEPT, http::HeaderValue::from_static(line));
        }
        Accept::of(&fields)
    }

    #[test]
    fn the_named_range_wins_over_the_wildcard() {
        let accept = accept(&["text/*;q=0.3, application/json ; Q=0.8", "*/*;q=0.1"]);
        assert_eq!(accept.wants("application", "json"), 0.8);
        assert_eq!(accept.wants("text", "plain"), 0.3);
        assert_eq!(accept.wants("image", "png"), 0.1);
        assert_eq!(accept.named("image", "png"), None);
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        let accept = accept(&["nonsense, text/html;q=2, text/plain;q=x, a/b;q=0"]);
        assert_eq!(accept.named("text", "plain"), None);
        assert_eq!(accept.wants("a", "b"), 0.0);
        assert_eq!(Accept::default().wants("any", "thing"), 1.0);
    }
}
