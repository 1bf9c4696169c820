//! Accept-Encoding and Accept-Language as sets of weighted preferences,
//! RFC 9110 §12.5.3 and §12.5.4.

use crate::policy::fields::list::{is_token, members, trim};
use http::{HeaderName, header};

/// More than anybody sends; a longer list is compared as it is spelled.
const MAX: usize = 24;

/// A name and its weight in thousandths.
pub(in crate::policy) type Preference<'a> = (&'a [u8], u16);

/// Preferences ordered by weight, then by name: the order in the field "cannot be
/// relied upon" (§12.5.4). On the stack, since hits must not allocate.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Preferences<'a> {
    items: [Preference<'a>; MAX],
    len: usize,
}

impl<'a> Preferences<'a> {
    /// Reads the lines of a field. `None` for other fields, and where it is malformed or too
    /// long, so that only what is understood is ever taken for the same.
    pub(in crate::policy) fn read(
        name: &HeaderName,
        lines: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        if *name != header::ACCEPT_ENCODING && *name != header::ACCEPT_LANGUAGE {
            return None;
        }
        let mut this = Self {
            items: [(&[], 0); MAX],
            len: 0,
        };
        for member in lines.into_iter().flat_map(members) {
            let (name, weight) = preference(member)?;
            *this.items.get_mut(this.len)? = (alias(name), weight);
            this.len += 1;
        }
        let order = |a: &Preference<'_>, b: &Preference<'_>| {
            b.1.cmp(&a.1).then_with(|| lower(a.0).cmp(lower(b.0)))
        };
        this.items[..this.len].sort_unstable_by(order);
        Some(this)
    }

    /// All of them in that order, names as they are spelled.
    pub(in crate::policy) fn items(&self) -> &[Preference<'a>] {
        &self.items[..self.len]
    }

    /// The one that is preferred to all others, unless two share the first place.
    pub(super) fn single_best(&self) -> Option<&'a [u8]> {
        match self.items() {
            [(_, 0), ..] => None,
            [(best, _)] => Some(best),
            [(best, weight), (_, second), ..] if second < weight => Some(best),
            _ => None,
        }
    }

    /// One spelling for all that are equal.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (name, weight) in self.items() {
            text.extend(lower(name));
            text.push(b';');
            text.extend_from_slice(weight.to_string().as_bytes());
            text.push(b',');
        }
        text
    }
}

impl PartialEq for Preferences<'_> {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&Preference<'_>, &Preference<'_>)| {
            a.1 == b.1 && a.0.eq_ignore_ascii_case(b.0)
        };
        self.len == other.len && self.items().iter().zip(other.items()).all(same)
    }
}

fn lower(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(u8::to_ascii_lowercase)
}

/// "A recipient SHOULD consider "x-gzip" to be equivalent to "gzip"" (§8.4.1.3), and
/// so for compress (§8.4.1.1).
fn alias(name: &[u8]) -> &[u8] {
    match name {
        _ if name.eq_ignore_ascii_case(b"x-gzip") => b"gzip",
        _ if name.eq_ignore_ascii_case(b"x-compress") => b"compress",
        _ => name,
    }
}

/// One member of the list; no other parameter exists here.
fn preference(member: &[u8]) -> Option<Preference<'_>> {
    let mut parts = member.split(|&byte| byte == b';').map(trim);
    let name = parts.next().filter(|name| is_token(name))?;
    let weight = match parts.next() {
        None => 1000,
        Some([b'q' | b'Q', b'=', weight @ ..]) => thousandths(weight)?,
        Some(_) => return None,
    };
    parts.next().is_none().then_some((name, weight))
}

/// A weight, §12.4.2: 0 to 1 with at most three decimals.
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (whole, decimals) = match weight {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut sum = u16::from(whole - b'0');
    for at in 0..3 {
        let digit = decimals.get(at).copied().unwrap_or(b'0');
        sum = sum * 10 + digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
    }
    (sum <= 1000).then_some(sum)
}
