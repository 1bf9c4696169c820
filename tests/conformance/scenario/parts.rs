//! The words about ranges and parts.

use super::{Outcome, Story, expect, text};
use libkoorde::policy::StoredHead;
use libkoorde::policy::parts::{self, Piece, Source};
use libkoorde::policy::range::{self, Satisfy};

impl Story {
    /// `range 0-9, 20-29`: what is sent of the response chosen last.
    pub(super) fn range(&self, expected: &str) -> Outcome {
        let stored = self.chosen()?;
        let length = stored.part.map_or(self.length, |part| part.length());
        let got = match range::decide(&self.method, &self.request, stored, length) {
            Satisfy::Whole => "whole".to_owned(),
            Satisfy::Unsatisfiable => "unsatisfiable".to_owned(),
            Satisfy::Part { start, end } => positions(start, end),
            Satisfy::Parts(all) => {
                let all: Vec<_> = all.iter().map(|&(s, e)| positions(s, e)).collect();
                all.join(", ")
            }
        };
        expect(&got, expected)
    }

    /// `part 0-9/100`: what the response chosen last has of the whole.
    pub(super) fn part(&self, expected: &str) -> Outcome {
        expect(&held(self.chosen()?), expected)
    }

    /// `combine 0-19/100`: the response stored last and the one stored before become
    /// one, which is stored in place of both.
    pub(super) fn combine(&mut self, expected: &str) -> Outcome {
        let [.., stored, new] = &self.stored[..] else {
            return Err("it takes two".to_owned());
        };
        let Some(combined) = parts::combine(stored, new, &self.settings) else {
            return expect("not", expected);
        };
        let pieces: Vec<_> = combined.pieces.iter().map(piece).collect();
        self.pieces = pieces.join(", ");
        let got = held(&combined.head);
        self.stored.truncate(self.stored.len() - 2);
        self.chosen = self.stored.len();
        self.stored.push(combined.head);
        expect(&got, expected)
    }
}

/// As HTTP writes it: the last byte is included.
fn positions(start: u64, end: u64) -> String {
    let field = range::content_range(start, end, None);
    let text = text(&field).trim_start_matches("bytes ");
    text.trim_end_matches("/*").to_owned()
}

fn held(head: &StoredHead) -> String {
    match head.part {
        None => "whole".to_owned(),
        Some(part) => text(&part.content_range())
            .trim_start_matches("bytes ")
            .to_owned(),
    }
}

fn piece(piece: &Piece) -> String {
    let of = match piece.of {
        Source::Stored => "stored",
        Source::New => "new",
    };
    format!("{of} {}", positions(piece.start, piece.end))
}
