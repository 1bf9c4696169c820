//! Documents of JSON.

use serde_json::Value;

/// The texts of all values in a text, and the values; none if it is no JSON.
pub(super) fn documents(text: &str) -> Option<Vec<(String, Value)>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut found, mut begin) = (Vec::new(), 0);
    while let Some(value) = values.next() {
        let value = value.ok()?;
        let end = values.byte_offset();
        found.push((text[begin..end].trim_start().to_owned(), value));
        begin = end;
    }
    Some(found)
}

/// As kubectl writes it.
pub(super) fn pretty(value: &Value) -> String {
    let mut text = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, form);
    serde::Serialize::serialize(value, &mut serializer).expect("a value can be written");
    let mut text = String::from_utf8(text).expect("JSON is UTF-8");
    text.push('\n');
    text
}
