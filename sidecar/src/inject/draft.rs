//! A pod that changes step by step, and the operations that say how.

use json_patch::{
    AddOperation, PatchOperation, RemoveOperation, ReplaceOperation, jsonptr::PointerBuf, patch,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What was in the place of a list or object before it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Was {
    /// No such field.
    Absent,
    /// The field, with `null`.
    Null,
}

/// A copy of a pod, and what was done to it so far.
pub(super) struct Draft {
    pod: Value,
    operations: Vec<PatchOperation>,
}

impl Draft {
    pub(super) fn of(pod: &Value) -> Self {
        Self {
            pod: pod.clone(),
            operations: Vec::new(),
        }
    }

    /// The pod as it is by now.
    pub(super) fn pod(&self) -> &Value {
        &self.pod
    }

    pub(super) fn finish(self) -> Vec<PatchOperation> {
        self.operations
    }

    /// What is there; `null` counts as nothing, as it does in Kubernetes.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Value> {
        let found = path.iter().try_fold(&self.pod, |value, token| match value {
            Value::Array(items) => items.get(token.parse::<usize>().ok()?),
            other => other.get(token),
        });
        found.filter(|value| !value.is_null())
    }

    pub(super) fn array(&self, path: &[&str]) -> &[Value] {
        let found = self.get(path).and_then(Value::as_array);
        found.map_or(&[], Vec::as_slice)
    }

    /// Where in a list the item of this name is.
    pub(super) fn named(&self, list: &[&str], name: &str) -> Option<usize> {
        self.array(list)
            .iter()
            .position(|item| item["name"] == name)
    }

    /// Makes `empty` if nothing is there, and says what was.
    pub(super) fn ensure(&mut self, path: &[&str], empty: Value) -> Option<Was> {
        if self.get(path).is_some() {
            return None;
        }
        let (name, parent) = path.split_last()?;
        let was = match self.get(parent).and_then(|parent| parent.get(name)) {
            None => Was::Absent,
            Some(_) => Was::Null,
        };
        self.add(path, empty);
        Some(was)
    }

    /// Takes away what was made and is empty by now.
    pub(super) fn unmake(&mut self, path: &[&str], was: Was) {
        let is_empty = match self.get(path) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
            _ => false,
        };
        match was {
            _ if !is_empty => {}
            Was::Absent => self.remove(path),
            Was::Null => self.replace(path, Value::Null),
        }
    }

    pub(super) fn add(&mut self, path: &[&str], value: Value) {
        let path = pointer(path);
        self.apply(PatchOperation::Add(AddOperation { path, value }));
    }

    pub(super) fn remove(&mut self, path: &[&str]) {
        let path = pointer(path);
        self.apply(PatchOperation::Remove(RemoveOperation { path }));
    }

    pub(super) fn replace(&mut self, path: &[&str], value: Value) {
        let path = pointer(path);
        self.apply(PatchOperation::Replace(ReplaceOperation { path, value }));
    }

    /// An operation that cannot be applied here could not be applied there, either.
    fn apply(&mut self, operation: PatchOperation) {
        if patch(&mut self.pod, std::slice::from_ref(&operation)).is_ok() {
            self.operations.push(operation);
        }
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}
