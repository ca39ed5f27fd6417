//! One run as a file of events, for `tillward gate --events`: to try the format, and the reader, on a known truth.

use std::io::Write;

use super::draw;
use super::journal::journal;
use super::scenario::{ACCESSES, MODELS, Scenario};
use super::world::{END_MIN, MINUTE_MS, TERMINALS, WINDOW_MIN};
use crate::rollouts::gate::Arm;

/// Writes run 0 of `scenario` with this seed: every terminal starts as a control, starts again when it is updated, and
/// ends well, badly, or as a control at the end.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_events(scenario: &Scenario, seed: u64, out: &mut impl Write) -> std::io::Result<()> {
    let world = draw(scenario, seed, 0);
    let mut rows: Vec<(i64, usize, Arm, &str)> = Vec::new();
    let mut has_failed = vec![false; TERMINALS];
    for entry in journal(&world) {
        rows.push((entry.at_ms, entry.terminal, entry.arm, "fail"));
        has_failed[entry.terminal] |= entry.arm == Arm::Treated;
    }
    for (number, terminal) in world.terminals.iter().enumerate() {
        rows.push((0, number, Arm::Control, "start"));
        let Some((at_ms, _)) = terminal.update else {
            rows.push((END_MIN * MINUTE_MS, number, Arm::Control, "end"));
            continue;
        };
        rows.push((at_ms, number, Arm::Treated, "start"));
        if !has_failed[number] {
            rows.push((at_ms + WINDOW_MIN * MINUTE_MS, number, Arm::Treated, "ok"));
        }
    }
    // A terminal that is updated at the very start is first a control, in the order written.
    rows.sort_by_key(|(at_ms, ..)| *at_ms);
    writeln!(out, "t_ms,terminal,arm,site,model,access,outcome")?;
    for (at_ms, number, arm, outcome) in rows {
        let terminal = &world.terminals[number];
        let (model, access) = (MODELS[terminal.place.model], ACCESSES[terminal.place.access]);
        let (arm, site) = (arm.as_str(), terminal.site);
        writeln!(out, "{at_ms},T{number:05},{arm},S{site:04},{model},{access},{outcome}")?;
    }
    Ok(())
}
