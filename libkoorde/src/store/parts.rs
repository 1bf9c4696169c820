//! Stored parts of one representation: put together where they meet (RFC 9111 §3.4).

use std::sync::Arc;

use bytes::Bytes;

use super::Stored;
use crate::policy::{
    Settings, StoredHead,
    parts::{self, Source},
};

/// Puts `new` among the stored responses of its key, last. A whole takes the place of whatever the
/// same requests select; a part grows together with what it meets, and stands beside other parts of
/// the same representation, and beside a whole.
pub(super) fn place(all: &mut Vec<Arc<Stored>>, new: Arc<Stored>, settings: &Settings) {
    let mut new = new;
    let mut kept = Vec::with_capacity(all.len() + 1);
    for old in all.drain(..) {
        let (a, b) = (&old.head, &new.head);
        if a.selecting != b.selecting {
            kept.push(old);
        } else if let Some(both) = combine(&old, &new, settings) {
            new = Arc::new(both);
        } else if b.part.is_some() && stays_beside(a, b) {
            kept.push(old);
        }
    }
    kept.push(new);
    *all = kept;
}

/// Whether a stored response stays when this part comes. Parts of what was there before go.
fn stays_beside(old: &StoredHead, new: &StoredHead) -> bool {
    old.part.is_none() || old.part != new.part && parts::share_strong_validator(old, new)
}

fn combine(old: &Stored, new: &Stored, settings: &Settings) -> Option<Stored> {
    let both = parts::combine(&old.head, &new.head, settings)?;
    let mut chunks = Vec::new();
    for piece in both.pieces {
        let of = match piece.of {
            Source::Stored => old,
            Source::New => new,
        };
        let first = of.head.part.map_or(0, |part| part.start);
        cut(
            &mut chunks,
            &of.chunks,
            piece.start - first,
            piece.end - first,
        );
    }
    // A purge that takes either takes both, and so does the end of either's lease.
    let mut stored = Stored::new(both.head, chunks, old.born.min(new.born));
    stored.until = old.until.into_iter().chain(new.until).min();
    Some(stored)
}

/// Adds bytes `start..end` of a body. What is only a part of a chunk is copied: a slice would keep
/// the whole of it alive, and nobody would count that.
fn cut(to: &mut Vec<Bytes>, chunks: &[Bytes], start: u64, end: u64) {
    let mut at = 0;
    for chunk in chunks {
        let length = chunk.len() as u64;
        let (low, high) = (
            start.clamp(at, at + length) - at,
            end.clamp(at, at + length) - at,
        );
        at += length;
        if low == 0 && high == length {
            to.push(chunk.clone());
        } else if low < high {
            // Both fit: they lie within a chunk.
            to.push(Bytes::copy_from_slice(&chunk[low as usize..high as usize]));
        }
    }
}
