//! Files of Kubernetes objects: read, patched, and written so that nothing else in them changes.
//!
//! A document that is not patched is written as it was, byte for byte. In one that is, every scalar stays
//! as it was written (`0644`, `yes` and `"yes"` mean different things to different readers of YAML, and
//! none of them is ours to decide), and so does the order of keys; its comments are lost.

mod emit;
mod json;
mod parse;
mod resolve;
mod stream;
mod tree;

pub(crate) use stream::{Document, Form, Stream};
