//! From the events of a YAML parser to a tree.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::{
    resolve,
    tree::{Node, Style},
};

/// Nodes of one document, aliases expanded: enough for any object that an API server takes.
const MAX_NODES: usize = 1 << 20;
/// Lists and maps inside each other.
const MAX_DEPTH: usize = 100;

/// The tree of a text with one document; none if there is nothing in it.
pub(super) fn document(text: &str) -> Result<Option<Node>, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let line = span.start.line();
        builder
            .take(event)
            .map_err(|what| format!("line {line}: {what}"))?;
    }
    // `---` with nothing but comments behind it.
    let is_nothing = |node: &Node| *node == Node::Scalar(String::new(), Style::Plain);
    Ok(builder.root.filter(|root| !is_nothing(root)))
}

#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<(Open, usize)>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    /// Whether a document has begun.
    is_begun: bool,
}

enum Open {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            // `---` has been split at before; what else ends a document is a line `...`.
            Event::DocumentStart(_) if self.is_begun => {
                Err("another document begins after `...`: it must begin with a line ---".into())
            }
            Event::DocumentStart(_) => {
                self.is_begun = true;
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = scalar(text.into_owned(), style, tag.as_deref())?;
                self.put(node, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                collection(tag.as_deref(), "seq")?;
                self.begin(Open::List(Vec::new()), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                collection(tag.as_deref(), "map")?;
                self.begin(Open::Map(Vec::new(), None), anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned();
                let node = node.ok_or("an alias of something that has not ended")?;
                self.nodes += size(&node);
                self.put(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), String> {
        if self.open.len() >= MAX_DEPTH {
            return Err(format!(
                "more than {MAX_DEPTH} lists and maps inside each other"
            ));
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some((Open::List(items), anchor)) => self.put(Node::List(items), anchor),
            Some((Open::Map(members, _), anchor)) => {
                let map = Node::Map(merged(members)?);
                self.put(map, anchor)
            }
            None => Ok(()),
        }
    }

    fn put(&mut self, node: Node, anchor: usize) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(format!("more than {MAX_NODES} values in one document"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((Open::List(items), _)) => items.push(node),
            Some((Open::Map(members, key), _)) => match key.take() {
                Some(key) => members.push((key, node)),
                None if matches!(node, Node::Scalar(..)) => *key = Some(node),
                None => return Err("a key that is no string".into()),
            },
        }
        Ok(())
    }
}

fn size(node: &Node) -> usize {
    match node {
        Node::Scalar(..) => 1,
        Node::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Node::Map(members) => {
            1 + members
                .iter()
                .map(|(_, value)| 1 + size(value))
                .sum::<usize>()
        }
    }
}

/// The members with those of `<<` (YAML 1.1's merge key) that they do not have themselves.
fn merged(members: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, String> {
    let is_merge = |key: &Node| matches!(key, Node::Scalar(text, Style::Plain) if text == "<<");
    let (merges, mut own): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|(key, _)| is_merge(key));
    let mut keys: Vec<&str> = own.iter().map(|(key, _)| key.key()).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("the key {:?} is there twice", twice[0]));
    }
    for (_, merge) in merges {
        let maps = match merge {
            Node::List(maps) => maps,
            one => vec![one],
        };
        for map in maps {
            let Node::Map(more) = map else {
                return Err("<< takes a map or a list of maps".into());
            };
            for (key, value) in more {
                if !own.iter().any(|(known, _)| known.key() == key.key()) {
                    own.push((key, value));
                }
            }
        }
    }
    Ok(own)
}

/// A tag says what a scalar means; we say it by its style.
fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, String> {
    let written = match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::Single,
        ScalarStyle::DoubleQuoted => Style::Double,
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    };
    let style = match tag {
        None => written,
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" if written == Style::Plain => Style::Double,
            "str" => written,
            "int" | "float" | "bool" | "null" if !resolve::plain(&text).is_string() => Style::Plain,
            _ => return Err(format!("the tag {tag} here is not understood")),
        },
        // The non-specific tag: a string.
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Style::Double,
        Some(tag) => return Err(format!("the tag {tag} is not understood")),
    };
    Ok(Node::Scalar(text, style))
}

fn collection(tag: Option<&Tag>, kind: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == kind) => {
            Err(format!("the tag {tag} is not understood"))
        }
        _ => Ok(()),
    }
}
