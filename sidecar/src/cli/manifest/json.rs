//! Documents of JSON: as trees, so that the order of members and the text of numbers stay.

use serde_json::Value;

use super::{
    resolve,
    tree::{Node, Style},
};

/// A document: its text, its tree, its value.
pub(super) type Document = (String, Node, Value);

/// All documents of a text; none if it is no JSON.
pub(super) fn documents(text: &str) -> Option<Vec<Document>> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut found, mut begin) = (Vec::new(), 0);
    while let Some(value) = values.next() {
        let value = value.ok()?;
        let end = values.byte_offset();
        let source = text[begin..end].trim_start();
        let tree = Reader { rest: source }.node()?;
        found.push((source.to_owned(), tree, value));
        begin = end;
    }
    Some(found)
}

/// Reads what is known to be JSON, and not too deep.
struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn node(&mut self) -> Option<Node> {
        self.rest = self.rest.trim_start();
        match self.rest.as_bytes().first()? {
            b'{' => {
                let mut members = Vec::new();
                self.each('}', |reader| {
                    let key = reader.node()?;
                    reader.rest = reader.rest.trim_start().strip_prefix(':')?;
                    members.push((key, reader.node()?));
                    Some(())
                })?;
                Some(Node::Map(members))
            }
            b'[' => {
                let mut items = Vec::new();
                self.each(']', |reader| {
                    items.push(reader.node()?);
                    Some(())
                })?;
                Some(Node::List(items))
            }
            b'"' => {
                let bytes = self.rest.as_bytes();
                let mut end = 1;
                while *bytes.get(end)? != b'"' {
                    end += if bytes[end] == b'\\' { 2 } else { 1 };
                }
                let (text, rest) = self.rest.split_at(end + 1);
                self.rest = rest;
                let text = serde_json::from_str(text).ok()?;
                Some(Node::Scalar(text, Style::Double))
            }
            _ => {
                let end = self.rest.find([',', ']', '}', ' ', '\t', '\r', '\n']);
                let (text, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                self.rest = rest;
                Some(Node::Scalar(text.to_owned(), Style::Plain))
            }
        }
    }

    /// Reads what is between two brackets.
    fn each(&mut self, end: char, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.rest = self.rest[1..].trim_start();
        while !self.rest.starts_with(end) {
            one(self)?;
            self.rest = self.rest.trim_start();
            self.rest = self
                .rest
                .strip_prefix(',')
                .unwrap_or(self.rest)
                .trim_start();
        }
        self.rest = &self.rest[1..];
        Some(())
    }
}

/// A tree as kubectl writes it.
pub(super) fn pretty(node: &Node) -> String {
    let mut text = String::new();
    write(node, 0, &mut text);
    text.push('\n');
    text
}

fn write(node: &Node, indent: usize, text: &mut String) {
    let line = |text: &mut String, indent: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("    ", indent));
    };
    match node {
        Node::Map(members) if !members.is_empty() => {
            text.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                line(text, indent + 1);
                text.push_str(&Value::from(key.key()).to_string());
                text.push_str(": ");
                write(value, indent + 1, text);
            }
            line(text, indent);
            text.push('}');
        }
        Node::List(items) if !items.is_empty() => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                line(text, indent + 1);
                write(item, indent + 1, text);
            }
            line(text, indent);
            text.push(']');
        }
        Node::Map(_) => text.push_str("{}"),
        Node::List(_) => text.push_str("[]"),
        // A number that JSON can have stays as it is written: there are larger ones than ours.
        Node::Scalar(plain, Style::Plain)
            if plain.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                && serde_json::from_str::<Value>(plain).is_ok_and(|value| value.is_number()) =>
        {
            text.push_str(plain);
        }
        Node::Scalar(plain, Style::Plain) => text.push_str(&resolve::plain(plain).to_string()),
        Node::Scalar(string, _) => text.push_str(&Value::from(string.as_str()).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_in_its_order_with_its_numbers() {
        let text = r#"{"z": 18446744073709551616, "a": [1.50, -0, 1e400, true, null, "é\"\\\u003c"], "m": {}, "n": []}"#;
        // One that no float can hold is no number of serde_json's: then it is read as YAML.
        assert!(documents(text).is_none());
        let text = text.replace("1e400", "1e40");
        let (_, tree, _) = documents(&text).expect("JSON").remove(0);
        let compact: String = pretty(&tree).split_whitespace().collect();
        assert_eq!(
            compact,
            r#"{"z":18446744073709551616,"a":[1.50,-0,1e40,true,null,"é\"\\<"],"m":{},"n":[]}"#
        );
    }

    #[test]
    fn several_documents_are_parted_as_they_are() {
        let found = documents("{\"a\":1}\n[2] {\"b\": {}}").expect("JSON");
        let trees: Vec<String> = found.iter().map(|(_, tree, _)| pretty(tree)).collect();
        assert_eq!(
            trees,
            [
                "{\n    \"a\": 1\n}\n",
                "[\n    2\n]\n",
                "{\n    \"b\": {}\n}\n"
            ]
        );
    }
}
