//! From a tree to YAML, as kubectl writes it: blocks, two columns a level, lists as far left as their keys.

use super::tree::{Node, Style};

/// The document, with an end of line.
pub(super) fn document(node: &Node) -> String {
    let mut text = String::new();
    match node {
        Node::Map(members) if !members.is_empty() => map(members, 0, &mut text),
        Node::List(items) if !items.is_empty() => list(items, 0, &mut text),
        other => {
            inline(other, 0, &mut text);
            text.push('\n');
        }
    }
    text
}

fn map(members: &[(Node, Node)], indent: usize, text: &mut String) {
    for (index, (key, value)) in members.iter().enumerate() {
        // The first member stands where its list's dash has left room.
        if index > 0 || text.is_empty() || text.ends_with('\n') {
            pad(indent, text);
        }
        scalar(key, None, text);
        text.push(':');
        match value {
            Node::Map(members) if !members.is_empty() => {
                text.push('\n');
                map(members, indent + 2, text);
            }
            Node::List(items) if !items.is_empty() => {
                text.push('\n');
                list(items, indent, text);
            }
            Node::Scalar(nothing, Style::Plain) if nothing.is_empty() => text.push('\n'),
            other => {
                text.push(' ');
                inline(other, indent + 2, text);
                text.push('\n');
            }
        }
    }
}

fn list(items: &[Node], indent: usize, text: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || text.is_empty() || text.ends_with('\n') {
            pad(indent, text);
        }
        text.push_str("- ");
        match item {
            Node::Map(members) if !members.is_empty() => map(members, indent + 2, text),
            Node::List(items) if !items.is_empty() => list(items, indent + 2, text),
            Node::Scalar(nothing, Style::Plain) if nothing.is_empty() => text.push_str("null\n"),
            other => {
                inline(other, indent + 2, text);
                text.push('\n');
            }
        }
    }
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

/// What stands on its key's line.
fn inline(node: &Node, indent: usize, text: &mut String) {
    match node {
        Node::Map(_) => text.push_str("{}"),
        Node::List(_) => text.push_str("[]"),
        Node::Scalar(..) => scalar(node, Some(indent), text),
    }
}

/// A scalar; with an indentation it may be a block.
fn scalar(node: &Node, block: Option<usize>, text: &mut String) {
    let Node::Scalar(value, style) = node else {
        return;
    };
    match (style, block) {
        (Style::Plain, _) if !value.contains('\n') => text.push_str(value),
        (Style::Single, _) if !value.contains('\n') && is_printable(value) => {
            text.push('\'');
            text.push_str(&value.replace('\'', "''"));
            text.push('\'');
        }
        (Style::Block, Some(indent)) if fits_block(value) => literal(value, indent, text),
        _ => double(value, text),
    }
}

/// Whether a text survives as a literal block whose indentation is found by its first line.
fn fits_block(value: &str) -> bool {
    let content = value.trim_start_matches('\n');
    let first = content.chars().next();
    first.is_some_and(|c| c != ' ' && c != '\t') && is_printable(value)
}

fn is_printable(value: &str) -> bool {
    value
        .chars()
        .all(|c| matches!(c, '\n' | '\t') || is_plain_char(c))
}

/// Printable, and no end of line to any reader.
fn is_plain_char(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn literal(value: &str, indent: usize, text: &mut String) {
    let body = value.trim_end_matches('\n');
    text.push_str(match value.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    let lines = value.strip_suffix('\n').unwrap_or(value);
    for line in lines.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            pad(indent, text);
            text.push_str(line);
        }
    }
}

fn double(value: &str, text: &mut String) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if is_plain_char(c) => text.push(c),
            c => {
                let code = u32::from(c);
                let escape = if code > 0xffff {
                    format!("\\U{code:08x}")
                } else {
                    format!("\\u{code:04x}")
                };
                text.push_str(&escape);
            }
        }
    }
    text.push('"');
}
