//! A document of YAML as it was written: scalars are text with a style.

use json_patch::{PatchOperation, jsonptr::Token};
use serde_json::Value;

use super::resolve;

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
    /// A block, of either kind.
    Block,
}

/// A part of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Scalar(String, Style),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What it means to Kubernetes' tools.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Scalar(text, Style::Plain) => resolve::plain(text),
            Self::Scalar(text, _) => text.as_str().into(),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(members) => {
                let member = |(key, value): &(Self, Self)| (key.key().to_owned(), value.to_json());
                Value::Object(members.iter().map(member).collect())
            }
        }
    }

    /// How to write a value that is ours.
    pub(super) fn of_json(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::List(items.iter().map(Self::of_json).collect()),
            Value::Object(members) => {
                let member =
                    |(key, value): (&String, &Value)| (Self::text(key), Self::of_json(value));
                Self::Map(members.iter().map(member).collect())
            }
            other => Self::Scalar(other.to_string(), Style::Plain),
        }
    }

    /// The same with strings in quotes only where they need them: JSON has them everywhere.
    pub(super) fn restyled(&self) -> Self {
        match self {
            Self::Scalar(text, Style::Plain) => Self::Scalar(text.clone(), Style::Plain),
            Self::Scalar(text, _) => Self::text(text),
            Self::List(items) => Self::List(items.iter().map(Self::restyled).collect()),
            Self::Map(members) => {
                let member = |(key, value): &(Self, Self)| (key.restyled(), value.restyled());
                Self::Map(members.iter().map(member).collect())
            }
        }
    }

    fn text(text: &str) -> Self {
        let style = match () {
            () if resolve::is_safe_plain(text) => Style::Plain,
            () if text.contains('"') => Style::Single,
            () => Style::Double,
        };
        Self::Scalar(text.to_owned(), style)
    }

    /// The text of a key.
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Scalar(text, _) => text,
            Self::List(_) | Self::Map(_) => "",
        }
    }

    /// Applies one operation; an error if it does not fit, which says only that.
    pub(super) fn apply(&mut self, operation: &PatchOperation) -> Result<(), String> {
        let unfit = || format!("{operation} does not fit");
        let Some((parent, last)) = operation.path().split_back() else {
            return Err(unfit());
        };
        let mut place = &mut *self;
        for token in parent.tokens() {
            place = place.child(&token).ok_or_else(unfit)?;
        }
        let done = match operation {
            PatchOperation::Add(add) => place.add(&last, Self::of_json(&add.value)),
            PatchOperation::Replace(replace) => place.child(&last).map(|child| {
                *child = Self::of_json(&replace.value);
            }),
            PatchOperation::Remove(_) => place.remove(&last),
            _ => None,
        };
        done.ok_or_else(unfit)
    }

    fn child(&mut self, token: &Token<'_>) -> Option<&mut Self> {
        match self {
            Self::Scalar(..) => None,
            Self::List(items) => items.get_mut(token.decoded().parse::<usize>().ok()?),
            Self::Map(members) => {
                let mut members = members.iter_mut();
                let found = members.find(|(key, _)| key.key() == token.decoded());
                found.map(|(_, value)| value)
            }
        }
    }

    fn add(&mut self, token: &Token<'_>, value: Self) -> Option<()> {
        if matches!(self, Self::Map(_))
            && let Some(child) = self.child(token)
        {
            *child = value;
            return Some(());
        }
        match self {
            Self::Scalar(..) => None,
            Self::Map(members) => {
                members.push((Self::text(&token.decoded()), value));
                Some(())
            }
            Self::List(items) => {
                let at = match &*token.decoded() {
                    "-" => items.len(),
                    index => index.parse().ok()?,
                };
                (at <= items.len()).then(|| items.insert(at, value))
            }
        }
    }

    fn remove(&mut self, token: &Token<'_>) -> Option<()> {
        let decoded = token.decoded();
        match self {
            Self::Scalar(..) => None,
            Self::List(items) => {
                let at: usize = decoded.parse().ok()?;
                (at < items.len()).then(|| drop(items.remove(at)))
            }
            Self::Map(members) => {
                let at = members.iter().position(|(key, _)| key.key() == decoded)?;
                members.remove(at);
                Some(())
            }
        }
    }
}
