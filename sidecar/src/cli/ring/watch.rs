//! `koorde ring --watch`: what becomes of the members, a line each time.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    admin::snapshot::{Row, Snapshot},
    cli::{
        Endpoint, Failure,
        client::Client,
        clock,
        events::Events,
        output::{self, printable},
    },
};

/// A member that is not what it was.
#[derive(Debug, PartialEq)]
struct Change<'a> {
    name: &'a str,
    address: &'a str,
    /// None: it was not there.
    from: Option<&'a str>,
    /// `left`: it is not there any more.
    to: &'a str,
    why: &'a str,
}

/// Writes a line for each member, and then one for each change, until somebody ends it.
pub(super) async fn run(admin: &Endpoint, as_json: bool) -> Result<(), Failure> {
    let client = Client::for_reports()?;
    let mut events = Events::open(&client, admin).await?;
    let mut before = BTreeMap::new();
    loop {
        let now = events.next().await?;
        for change in changes(&before, &now) {
            write(&change, as_json)?;
        }
        let rows = now.members.into_iter();
        before = rows.map(|row| (row.id.clone(), row)).collect();
    }
}

fn write(change: &Change<'_>, as_json: bool) -> Result<(), Failure> {
    let at = clock::date();
    if as_json {
        return output::json_line(&json!({
            "at": at, "member": change.name, "address": change.address,
            "from": change.from, "to": change.to, "why": change.why,
        }));
    }
    output::line(format!("{at}  {}", line(change)))
}

fn line(change: &Change<'_>) -> String {
    let from = change
        .from
        .map_or_else(String::new, |from| format!("{from} -> "));
    let why = match change.why {
        "" => String::new(),
        why => format!(": {}", printable(why)),
    };
    let (name, address) = (printable(change.name), printable(change.address));
    format!("{name} ({address}) {from}{}{why}", printable(change.to))
}

/// Who came, changed and went, in the order of the ring.
fn changes<'a>(before: &'a BTreeMap<String, Row>, now: &'a Snapshot) -> Vec<Change<'a>> {
    let there = now.members.iter().filter_map(|row| {
        let from = before.get(&row.id).map(|row| &*row.state);
        (from != Some(&*row.state)).then(|| Change {
            name: &row.name,
            address: &row.address,
            from,
            to: &row.state,
            why: row.why.as_deref().unwrap_or(""),
        })
    });
    let is_gone = |row: &&Row| now.members.iter().all(|other| other.id != row.id);
    // One that was declared dead has gone already.
    let gone = before.values().filter(|row| row.state != "dead");
    let gone = gone.filter(is_gone).map(|row| Change {
        name: &row.name,
        address: &row.address,
        from: Some(&*row.state),
        to: "left",
        why: "",
    });
    there.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: &str) -> Row {
        Row {
            name: name.to_owned(),
            id: name.to_owned(),
            address: "127.0.0.1:4000".to_owned(),
            state: state.to_owned(),
            why: (state == "suspected").then(|| "no answer in time".to_owned()),
            ..Row::default()
        }
    }

    fn said(before: &[Row], now: &[Row]) -> Vec<String> {
        let before = before.iter().map(|row| (row.id.clone(), row.clone()));
        let now = Snapshot {
            members: now.to_vec(),
            ..Snapshot::default()
        };
        changes(&before.collect(), &now).iter().map(line).collect()
    }

    #[test]
    fn who_came_changed_and_went_has_a_line_and_nobody_else() {
        let before = [
            row("a", "live"),
            row("b", "live"),
            row("c", "live"),
            row("d", "dead"),
        ];
        assert_eq!(said(&[], &[row("a", "live")]), ["a (127.0.0.1:4000) live"]);
        assert!(said(&before, &before).is_empty());
        let now = [row("a", "live"), row("b", "suspected"), row("e", "joining")];
        assert_eq!(
            said(&before, &now),
            [
                "b (127.0.0.1:4000) live -> suspected: no answer in time",
                "e (127.0.0.1:4000) joining",
                "c (127.0.0.1:4000) live -> left",
            ]
        );
    }
}
