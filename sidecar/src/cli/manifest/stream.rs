//! A file of documents, one after the other.

use json_patch::PatchOperation;
use serde_json::Value;

use super::{emit, json, parse, tree::Node};

/// In what a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Yaml,
    Json,
}

/// The documents of a file.
pub(crate) struct Stream {
    pub(crate) form: Form,
    pub(crate) documents: Vec<Document>,
}

/// One document.
pub(crate) struct Document {
    /// As it was written, a line `---` before it included.
    source: String,
    content: Content,
    is_changed: bool,
    /// What it means.
    pub(crate) value: Value,
}

enum Content {
    Nothing,
    Yaml(Node),
    Json(Node),
}

impl Stream {
    /// Reads a file.
    ///
    /// # Errors
    /// It is neither JSON nor YAML; the message names the document and the line.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if let Some(documents) = json::documents(text) {
            let one = |(source, tree, value)| Document {
                source,
                content: Content::Json(tree),
                is_changed: false,
                value,
            };
            return Ok(Self {
                form: Form::Json,
                documents: documents.into_iter().map(one).collect(),
            });
        }
        let mut documents = Vec::new();
        for (index, (first_line, source)) in split(text).into_iter().enumerate() {
            let tree = parse::document(source).map_err(|error| {
                format!(
                    "document {}, which begins at line {first_line}: {error}",
                    index + 1
                )
            })?;
            documents.push(Document {
                source: source.to_owned(),
                is_changed: false,
                value: tree.as_ref().map_or(Value::Null, Node::to_json),
                content: tree.map_or(Content::Nothing, Content::Yaml),
            });
        }
        Ok(Self {
            form: Form::Yaml,
            documents,
        })
    }
}

/// The documents of a text of YAML, each with the line `---` before it, and where it begins. That line is
/// never inside of anything else (YAML 1.2 §9.1.2).
fn split(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut begin, mut first_line, mut at) = (Vec::new(), 0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        let is_marker =
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        // What is before the first is a document only if something is in it.
        if is_marker && !text[begin..at].trim().is_empty() {
            found.push((first_line, &text[begin..at]));
            (begin, first_line) = (at, index + 1);
        }
        at += line.len();
    }
    if !text[begin..].trim().is_empty() {
        found.push((first_line, &text[begin..]));
    }
    found
}

impl Document {
    /// Changes it: what is at `path`, as if that were all of it.
    ///
    /// # Errors
    /// An operation does not fit.
    pub(crate) fn patch(
        &mut self,
        path: &[String],
        patch: &[PatchOperation],
    ) -> Result<(), String> {
        let prefix = json_patch::jsonptr::PointerBuf::from_tokens(path.iter());
        for operation in patch {
            let mut operation = operation.clone();
            let place = match &mut operation {
                PatchOperation::Add(add) => &mut add.path,
                PatchOperation::Remove(remove) => &mut remove.path,
                PatchOperation::Replace(replace) => &mut replace.path,
                _ => return Err(format!("{operation} is none of ours")),
            };
            *place = prefix.concat(&*place);
            if let Content::Yaml(tree) | Content::Json(tree) = &mut self.content {
                tree.apply(&operation)?;
            }
            json_patch::patch(&mut self.value, &[operation]).map_err(|error| error.to_string())?;
            self.is_changed = true;
        }
        Ok(())
    }

    /// Whether nothing is in it, but perhaps comments.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.content, Content::Nothing)
    }

    /// Its text in a form; what was not changed and has that form already is as it was.
    pub(crate) fn text(&self, form: Form) -> String {
        match (form, &self.content) {
            (Form::Yaml, Content::Yaml(_) | Content::Nothing) if !self.is_changed => {
                with_line_end(self.source.clone())
            }
            (Form::Json, Content::Json(_)) if !self.is_changed => {
                with_line_end(self.source.clone())
            }
            (Form::Json, Content::Yaml(tree) | Content::Json(tree)) => json::pretty(tree),
            (Form::Json, Content::Nothing) => String::new(),
            (Form::Yaml, Content::Yaml(tree)) => head(&self.source) + &emit::document(tree),
            (Form::Yaml, Content::Json(tree)) => emit::document(&tree.restyled()),
            (Form::Yaml, Content::Nothing) => with_line_end(self.source.clone()),
        }
    }
}

fn with_line_end(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The line `---` and the comments at the beginning of a document.
fn head(source: &str) -> String {
    let mut head = String::new();
    for line in source.split_inclusive('\n') {
        let text = line.trim_end();
        if text == "---" || text.starts_with("--- #") || text.starts_with('#') {
            head.push_str(text);
            head.push('\n');
        } else if text.starts_with("---") {
            head.push_str("---\n");
            break;
        } else {
            break;
        }
    }
    head
}
