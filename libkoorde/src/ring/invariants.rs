//! What must hold after every input. The simulator and the property tests ask after each step.

use super::Ring;
use super::protocol::{Phase, Role};
use super::view::RingView;

/// Checks `ring`; costs O(n).
///
/// # Errors
/// The first invariant that does not hold, in words.
pub fn check(ring: &Ring) -> Result<(), String> {
    table_is_sorted_and_bounded(ring)?;
    the_dead_are_not_known(ring)?;
    every_table_has_a_bound(ring)?;
    the_view_is_the_table(ring)
}

/// Clockwise from us, without us, no edges, at most R each way unless it is the whole ring.
fn table_is_sorted_and_bounded(ring: &Ring) -> Result<(), String> {
    let mut last = 0;
    for entry in ring.neighbors.iter() {
        let distance = ring.me.id.distance(entry.member.id);
        if distance <= last {
            return Err(format!("{} is out of order or ourselves", entry.member.id));
        }
        if entry.member.role == Role::Edge {
            return Err(format!("edge {} is in the view", entry.member.id));
        }
        last = distance;
    }
    let limit = ring.config.neighbors;
    let (before, after) = (
        ring.neighbors.predecessors().len(),
        ring.neighbors.successors().len(),
    );
    if ring.neighbors.is_complete() {
        if ring.neighbors.len() > 2 * limit {
            return Err(format!(
                "{} members in a complete table",
                ring.neighbors.len()
            ));
        }
    } else if before > limit || after > limit {
        return Err(format!(
            "{before} predecessors and {after} successors, limit {limit}"
        ));
    }
    Ok(())
}

/// Nobody is known at an incarnation that is gone.
fn the_dead_are_not_known(ring: &Ring) -> Result<(), String> {
    for stone in ring.tombstones.iter() {
        let dead = &stone.gone.member;
        if let Some(entry) = ring.neighbors.get(dead.id)
            && entry.member.incarnation <= dead.incarnation
        {
            return Err(format!(
                "{} is known and gone at {}",
                dead.id, dead.incarnation
            ));
        }
    }
    Ok(())
}

fn every_table_has_a_bound(ring: &Ring) -> Result<(), String> {
    let config = &ring.config;
    let (searches, hops) = ring.lookups.len();
    for (what, size, bound) in [
        ("look-ups", searches, config.max_lookups),
        ("hops", hops, config.max_hops),
        ("tombstones", ring.tombstones.len(), config.max_tombstones),
        ("checks", ring.checks.len(), config.max_checks),
        ("suspects", ring.suspects.len(), config.max_checks),
        ("learned intervals", ring.learned.len(), config.max_learned),
        (
            "timers",
            ring.timers.len(),
            searches + hops + ring.checks.len() + 8,
        ),
    ] {
        if size > bound {
            return Err(format!("{size} {what}, bound {bound}"));
        }
    }
    Ok(())
}

fn the_view_is_the_table(ring: &Ring) -> Result<(), String> {
    let own = usize::from(RingView::may_own(&ring.me, ring.phase));
    if ring.phase != Phase::Left && ring.view().members().len() != ring.neighbors.len() + own {
        return Err(format!(
            "{} members in the view, {} in the table",
            ring.view().members().len(),
            ring.neighbors.len()
        ));
    }
    if (ring.phase == Phase::Alone) != ring.neighbors.is_empty()
        && !matches!(ring.phase, Phase::Leaving | Phase::Left)
    {
        return Err(format!(
            "{:?} with {} neighbours",
            ring.phase,
            ring.neighbors.len()
        ));
    }
    Ok(())
}
