//! A response out of the store, by the request's conditions and ranges.

use http::{Method, StatusCode, header};
use libkoorde::policy::{Multipart, Now, precondition, range, range::Satisfy};

use super::{Asking, Kept, Plain};

/// What a request gets of a stored response that may answer it.
pub(super) fn serve(asking: &Asking, kept: &Kept, now: Now) -> Plain {
    let (method, fields, head) = (&asking.method, &asking.fields, &kept.head);
    if let Some(fields) = precondition::evaluate(method, fields, head, now) {
        return Plain {
            status: StatusCode::NOT_MODIFIED,
            fields,
            body: Vec::new(),
        };
    }
    let length = kept.body.len() as u64;
    let mut out = Plain {
        status: head.status,
        fields: head.fields.clone(),
        body: kept.body.clone(),
    };
    out.fields.insert(header::AGE, head.age_field(now.instant));
    let complete = head.part.map_or(Some(length), |part| part.complete);
    match range::decide(method, fields, head, length) {
        Satisfy::Whole => (),
        Satisfy::Unsatisfiable => {
            out.status = StatusCode::RANGE_NOT_SATISFIABLE;
            let value = range::unsatisfied_range(complete.unwrap_or(length));
            out.fields.insert(header::CONTENT_RANGE, value);
            out.body.clear();
        }
        Satisfy::Part { start, end } => {
            out.status = StatusCode::PARTIAL_CONTENT;
            range::forget_content(&mut out.fields);
            let value = range::content_range(start, end, complete);
            out.fields.insert(header::CONTENT_RANGE, value);
            out.body = bytes(kept, start, end);
        }
        Satisfy::Parts(ranges) => several(&mut out, kept, &ranges, complete.unwrap_or(length)),
    }
    if *method == Method::HEAD {
        out.body.clear();
    }
    out
}

/// Bytes of the representation; the policy asks for none that are not there.
fn bytes(kept: &Kept, start: u64, end: u64) -> Vec<u8> {
    let first = kept.head.part.map_or(0, |part| part.start);
    let place = |position: u64| (position - first) as usize;
    kept.body[place(start)..place(end)].to_vec()
}

fn several(out: &mut Plain, kept: &Kept, ranges: &[(u64, u64)], complete: u64) {
    let content_type = out.fields.get(header::CONTENT_TYPE);
    let Some(multipart) = Multipart::new(content_type, ranges, complete, "boundary") else {
        return;
    };
    out.status = StatusCode::PARTIAL_CONTENT;
    range::forget_content(&mut out.fields);
    out.fields
        .insert(header::CONTENT_TYPE, multipart.content_type());
    out.body.clear();
    for part in multipart.parts() {
        out.body.extend_from_slice(&part.before);
        out.body
            .extend_from_slice(&bytes(kept, part.start, part.end));
    }
    out.body.extend_from_slice(&multipart.closing());
}
