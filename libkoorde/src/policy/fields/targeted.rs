//! Targeted Cache-Control fields such as CDN-Cache-Control, RFC 9213.

use super::MAX_DELTA_SECONDS;
use super::cache_control::{Argument, ResponseCacheControl};
use super::structured::{Item, dictionary};
use http::{HeaderMap, HeaderName};

/// Reads the first field of the target list that is there, valid and not empty.
///
/// `None` means that Cache-Control and Expires hold. With `Some`, a cache "MUST
/// ignore the Cache-Control and Expires header fields" (§2.2).
pub fn read(fields: &HeaderMap, targets: &[HeaderName]) -> Option<ResponseCacheControl> {
    targets.iter().find_map(|name| read_one(fields, name))
}

fn read_one(fields: &HeaderMap, name: &HeaderName) -> Option<ResponseCacheControl> {
    let lines: Vec<&[u8]> = fields.get_all(name).iter().map(|v| v.as_bytes()).collect();
    let members = dictionary(&lines.join(&b", "[..]))?;
    if members.is_empty() {
        return None;
    }
    let mut control = ResponseCacheControl::default();
    for (name, item) in &members {
        let mut number = Vec::new();
        match argument(name, item, &mut number) {
            Ok(Some(argument)) => control.add(name, argument),
            Ok(None) => {}
            // The whole field is ignored for one value of a wrong type.
            Err(WrongType) => return None,
        }
    }
    Some(control)
}

struct WrongType;

/// Maps a member to a directive's argument, §2.1: delta-seconds are Integers,
/// directives without argument are Booleans, field names are a String.
fn argument<'a>(
    name: &[u8],
    item: &'a Item,
    number: &'a mut Vec<u8>,
) -> Result<Option<Argument<'a>>, WrongType> {
    match name {
        b"max-age" | b"s-maxage" | b"stale-while-revalidate" | b"stale-if-error" => {
            let Item::Integer(seconds) = *item else {
                return Err(WrongType);
            };
            let seconds = seconds.clamp(0, i64::from(MAX_DELTA_SECONDS));
            number.extend_from_slice(seconds.to_string().as_bytes());
            Ok(Some(Argument::Value(number)))
        }
        b"no-cache" | b"private" => match item {
            Item::Boolean(set) => Ok(set.then_some(Argument::None)),
            Item::String(names) => Ok(Some(Argument::Value(names))),
            _ => Err(WrongType),
        },
        b"no-store" | b"public" | b"must-revalidate" | b"proxy-revalidate" | b"must-understand"
        | b"immutable" => match item {
            Item::Boolean(set) => Ok(set.then_some(Argument::None)),
            _ => Err(WrongType),
        },
        _ => Ok(None),
    }
}
