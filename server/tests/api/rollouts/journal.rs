//! The gate's journal: what is kept of it equals what its lines say, however it was read, and it never stops a rollout by
//! its length.

use tillward_server::db::schema::{gate_events, gate_failed, gate_folds, gate_judgements, gate_losses, gate_sites};
use tillward_server::rollouts::gate::{Arm, AtRisk, Class, FOLD_VERSION, Fold, Outside, Settings, Told};

use super::bare::{BEGIN_MS, Bare, Deed, on_each_bare};
use super::invariants::{AssignmentRow, snapshot};
use super::*;

/// A fold as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub(super) struct Kept {
    rollout_id: i64,
    version: i64,
    up_to: i64,
    since: i64,
    cleared_up_to: i64,
    state: String,
}

/// A decided line.
#[derive(Debug, Clone, Queryable)]
struct Line {
    rollout_id: i64,
    terminal_id: i64,
    event: String,
    at_ms: i64,
    site: i64,
    arm: String,
    class: String,
    judged: i64,
    verdict: String,
    at_risk: Option<String>,
}

type Noted = BTreeMap<(i64, i64, String), (i64, i64)>;

/// Everything that is kept of the journals.
pub(super) struct Journals {
    folds: Vec<Kept>,
    lines: Vec<Line>,
    failed: Noted,
    sites: Noted,
}

pub(super) fn journals(conn: &mut Conn) -> Result<Journals, Error> {
    let folds = gate_folds::table.order(gate_folds::rollout_id).load(conn)?;
    let lines = gate_events::table
        .filter(gate_events::judged.is_not_null())
        .order((gate_events::rollout_id, gate_events::judged))
        .select((
            gate_events::rollout_id,
            gate_events::terminal_id,
            gate_events::event,
            gate_events::at_ms,
            gate_events::site,
            gate_events::arm,
            gate_events::class,
            gate_events::judged.assume_not_null(),
            gate_events::verdict.assume_not_null(),
            gate_events::at_risk,
        ))
        .load(conn)?;
    let noted = |rows: Vec<(i64, i64, String, i64, i64)>| {
        rows.into_iter().map(|(rollout, id, class, at_ms, judged)| ((rollout, id, class), (at_ms, judged))).collect()
    };
    let failed = noted(gate_failed::table.load(conn)?);
    let sites = noted(gate_sites::table.load(conn)?);
    Ok(Journals { folds, lines, failed, sites })
}

impl Journals {
    /// What is kept is what the lines say, folded in one go.
    pub(super) fn check(&self) {
        for kept in &self.folds {
            assert_eq!(kept.version, FOLD_VERSION);
            let lines = self.lines.iter().filter(|line| line.rollout_id == kept.rollout_id);
            let folded =
                refolded(lines.filter(|line| line.judged > kept.since && line.judged <= kept.up_to), kept.since);
            assert_eq!(folded.encode(), kept.state, "of rollout {}", kept.rollout_id);
            assert_eq!(folded.up_to(), kept.up_to);
        }
        let (mut failed, mut sites) = (Noted::new(), Noted::new());
        for line in &self.lines {
            let noted = (line.at_ms, line.judged);
            let of = |id: i64, class: &str| (line.rollout_id, id, class.to_owned());
            if matches!(line.verdict.as_str(), "counted" | "suppressed_by_site") {
                failed.insert(of(line.terminal_id, &line.class), noted);
            }
            if line.event.starts_with("silent:") {
                failed.insert(of(line.terminal_id, "silent"), noted);
            }
            if line.verdict == "counted" && line.site != 0 {
                sites.insert(of(line.site, &line.class), noted);
            }
        }
        assert_eq!(failed, self.failed, "who left the risk set");
        assert_eq!(sites, self.sites, "which sites failed");
    }
}

/// The lines in one go, by a reader of its own.
fn refolded<'a>(lines: impl Iterator<Item = &'a Line>, since: i64) -> Fold {
    let settings = Settings::default();
    let mut fold = Fold::new(since, &settings);
    for line in lines {
        let Some(text) = &line.at_risk else {
            fold.leave_out(line.judged, &line.verdict);
            continue;
        };
        let risks: Value = serde_json::from_str(text).unwrap();
        let n = |value: &Value| value.as_u64().unwrap();
        let of = |treated: &Value, control: &Value| AtRisk { treated: n(treated), control: n(control) };
        let scopes = risks["scopes"].as_object().unwrap();
        fold.count(
            line.judged,
            &Told {
                class: if line.class == "hard" { Class::Hard } else { Class::Payment },
                arm: if line.arm == "treated" { Arm::Treated } else { Arm::Control },
                stratum: u16::try_from(n(&risks["stratum"])).unwrap(),
                at_risk: of(&risks["all"][0], &risks["all"][1]),
                scopes: scopes
                    .iter()
                    .map(|(name, of_scope)| {
                        (name.as_str(), of_scope[2].as_bool().unwrap(), of(&of_scope[0], &of_scope[1]))
                    })
                    .collect(),
                watched: u16::try_from(n(&risks["watched"])).unwrap(),
                outside: risks["outside"].as_array().map(|outside| Outside {
                    stops: u16::try_from(n(&outside[0])).unwrap(),
                    is_in: outside[1].as_bool().unwrap(),
                    at_risk: of(&outside[2], &outside[3]),
                }),
            },
        );
    }
    fold
}

fn kept(bare: &Bare) -> Kept {
    bare.runtime.block_on(bare.one.read(|conn| Ok::<_, Error>(gate_folds::table.first(conn)?))).unwrap()
}

fn evidence(bare: &Bare) -> Value {
    let row = gate_judgements::table.select(gate_judgements::evidence);
    let text: String = bare.runtime.block_on(bare.one.read(move |conn| Ok::<_, Error>(row.first(conn)?))).unwrap();
    let mut evidence: Value = serde_json::from_str(&text).unwrap();
    evidence["at_ms"] = Value::Null;
    evidence
}

fn state(bare: &Bare) -> (String, i64) {
    let seen = bare.runtime.block_on(bare.one.read(snapshot)).unwrap();
    (seen.rollouts[&1].state.clone(), seen.rollouts[&1].stage)
}

fn lines(bare: &Bare) -> i64 {
    let count = gate_events::table.count();
    bare.runtime.block_on(bare.one.read(move |conn| Ok::<_, Error>(count.get_result(conn)?))).unwrap()
}

fn run(bare: &Bare, statements: &str) {
    let statements = statements.to_owned();
    bare.runtime.block_on(bare.one.write(move |conn| Ok::<_, Error>(conn.batch_execute(&statements)?))).unwrap();
}

/// A rollout over 120 terminals of two carriers, of which 40 are updated; all called just now. Returns these and the others.
fn under_way(bare: &Bare) -> (Vec<i64>, Vec<i64>) {
    let strategy = json!({"stages": [{"count": 40}], "soak_s": 1800});
    bare.starts(120, json!({"name": "n", "release_id": 1, "strategy": strategy}));
    run(bare, "UPDATE terminal_states SET carrier = 'cucc' WHERE terminal_id % 3 = 0");
    bare.does(Deed::Pass, BEGIN_MS);
    let seen = bare.runtime.block_on(bare.one.read(snapshot)).unwrap();
    let (offered, others): (Vec<_>, Vec<_>) = seen.assignments.iter().partition(|one| one.phase == "offered");
    let said = offered.iter().map(|one| (one.terminal_id, update(one.id, Phase::Succeeded, None), true)).collect();
    bare.does(Deed::Reports(said), BEGIN_MS);
    // The look that finds the controls.
    bare.does(Deed::Pass, BEGIN_MS + MINUTE_MS);
    let ids = |rows: Vec<&AssignmentRow>| rows.into_iter().map(|one| one.terminal_id).collect();
    (ids(offered), ids(others))
}

/// These fail, and are judged.
fn fail(bare: &Bare, terminals: &[i64], class: Class, now_ms: i64) {
    bare.does(Deed::Failures(terminals.iter().map(|id| (*id, class)).collect()), now_ms);
    bare.does(Deed::Pass, now_ms);
}

#[test]
fn what_was_folded_is_not_read_again_and_what_cannot_be_read_opens_nothing() {
    on_each_bare(|bare| {
        let (updated, others) = under_way(bare);
        fail(bare, &others[..6], Class::Payment, BEGIN_MS + 2 * MINUTE_MS);
        assert_eq!(kept(bare).up_to, 6);
        // Lines that were folded may turn into anything.
        run(bare, "UPDATE gate_events SET at_risk = '{'");
        fail(bare, &[updated[0], others[6]], Class::Payment, BEGIN_MS + 3 * MINUTE_MS);
        assert_eq!(kept(bare).up_to, 8);
        let payment = evidence(bare)["classes"][1].clone();
        assert_eq!((&payment["treated"], &payment["control"]), (&json!(1), &json!(7)));
        // Without what was kept they would have to be read: nothing opens on the strength of them, also long after.
        run(bare, "UPDATE gate_folds SET state = ''");
        bare.does(Deed::Pass, BEGIN_MS + HOUR_MS);
        assert_eq!(state(bare), ("running".to_owned(), 0));
        assert_eq!(kept(bare).state, "");
    });
}

#[test]
fn what_is_kept_is_made_anew_from_the_lines_to_the_same_bits() {
    on_each_bare(|bare| {
        let (updated, others) = under_way(bare);
        let check = || bare.runtime.block_on(bare.one.read(journals)).unwrap().check();
        for (at, n) in (2..).zip([3, 1, 4, 2]) {
            let now_ms = BEGIN_MS + at * MINUTE_MS;
            let first = usize::try_from(at).unwrap() * 5;
            fail(bare, &others[first..first + n], Class::Payment, now_ms);
            fail(bare, &[updated[first], others[first]], Class::Hard, now_ms + 1_000);
            check();
            let (before, judged) = (kept(bare), evidence(bare));
            let spoils =
                ["UPDATE gate_folds SET version = 0", "UPDATE gate_folds SET state = 'x'", "DELETE FROM gate_folds"];
            for (spoil, later_ms) in spoils.into_iter().zip([10_000, 20_000, 30_000]) {
                run(bare, spoil);
                bare.does(Deed::Pass, now_ms + later_ms);
                assert_eq!((kept(bare), evidence(bare)), (before.clone(), judged.clone()), "{spoil}");
            }
        }
        assert_eq!(kept(bare).up_to, 18);
    });
}

#[test]
fn a_journal_is_folded_in_parts_and_no_stage_opens_before_all_of_it_is() {
    on_each_bare(|bare| {
        under_way(bare);
        // Decided lines of an older version.
        run(
            bare,
            "INSERT INTO gate_events (rollout_id, terminal_id, event, at_ms, site, cell, arm, class, judged, verdict)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
             SELECT 1, 1000 + i, 'boot:1', i, 0, 1, 'control', 'hard', i, 'out_of_window' FROM n",
        );
        let ready_ms = BEGIN_MS + HOUR_MS;
        for (pass, up_to) in (0..).zip([5_000, 10_000]) {
            bare.does(Deed::Calls { one_in: 1 }, ready_ms + pass * 10_000);
            bare.does(Deed::Pass, ready_ms + pass * 10_000);
            assert_eq!(kept(bare).up_to, up_to);
            assert!(evidence(bare)["missing"].as_array().unwrap().contains(&json!("journal")));
            assert_eq!(state(bare), ("running".to_owned(), 0), "the soak is over, the journal is not read");
        }
        bare.does(Deed::Pass, ready_ms + 20_000);
        assert_eq!((kept(bare).up_to, state(bare).1), (12_000, 1));
        assert_eq!(evidence(bare)["left_out"]["out_of_window"], 12_000);
    });
}

#[test]
fn a_journal_without_its_beginning_and_without_what_was_kept_of_it_stops_the_rollout_until_a_person_goes_on() {
    on_each_bare(|bare| {
        let (_, others) = under_way(bare);
        fail(bare, &others[..6], Class::Payment, BEGIN_MS + 2 * MINUTE_MS);
        run(bare, "UPDATE gate_folds SET version = 0, cleared_up_to = 2; DELETE FROM gate_events WHERE judged <= 2");
        let later_ms = BEGIN_MS + 3 * MINUTE_MS;
        bare.does(Deed::Pass, later_ms);
        assert_eq!(state(bare).0, "halted");
        bare.does(Deed::Act { rollout: 1, verb: "override", part: ("", "") }, later_ms);
        fail(bare, &others[6..8], Class::Payment, later_ms + MINUTE_MS);
        assert_eq!(state(bare).0, "running");
        assert_eq!((kept(bare).since, kept(bare).up_to), (6, 8));
        assert_eq!(evidence(bare)["classes"][1]["control"], 2);
    });
}

#[test]
fn a_journal_is_as_long_as_it_may_be_and_is_cleared_away_after_the_end() {
    on_each_bare(|bare| {
        let (_, others) = under_way(bare);
        fail(bare, &others[..6], Class::Payment, BEGIN_MS + 2 * MINUTE_MS);
        run(
            bare,
            "INSERT INTO gate_events (rollout_id, terminal_id, event, at_ms, site, cell, arm, class, judged, verdict)
             WITH RECURSIVE n(i) AS (SELECT 7 UNION ALL SELECT i + 1 FROM n WHERE i < 100700)
             SELECT 1, 1000 + i, 'boot:1', i, 0, 1, 'control', 'hard', i, 'out_of_window' FROM n",
        );
        // As if they had been folded one by one.
        let (_, rest) =
            kept(bare).state.split_once('\n').map(|(up_to, rest)| (up_to.to_owned(), rest.to_owned())).unwrap();
        run(bare, &format!("UPDATE gate_folds SET up_to = 100700, state = '100700\n{rest}'"));
        let later_ms = BEGIN_MS + 3 * MINUTE_MS;
        for pass in 0..3 {
            bare.does(Deed::Pass, later_ms + pass * 10_000);
        }
        assert_eq!((kept(bare).cleared_up_to, lines(bare)), (700, 100_000));
        // Their evidence stays.
        fail(bare, &others[6..8], Class::Payment, later_ms + MINUTE_MS);
        assert_eq!(evidence(bare)["classes"][1]["control"], 8);
        assert_eq!(state(bare).0, "running");

        bare.does(Deed::Act { rollout: 1, verb: "cancel", part: ("", "") }, later_ms + MINUTE_MS);
        bare.does(Deed::Pass, later_ms + 29 * DAY_MS);
        assert!(lines(bare) > 0);
        for _ in 0..8 {
            bare.does(Deed::Pass, later_ms + 31 * DAY_MS);
        }
        let left = bare.runtime.block_on(bare.one.read(|conn| {
            let mut left: Vec<i64> = vec![gate_events::table.count().get_result(conn)?];
            left.push(gate_failed::table.count().get_result(conn)?);
            left.push(gate_sites::table.count().get_result(conn)?);
            left.push(gate_losses::table.count().get_result(conn)?);
            left.push(gate_folds::table.count().get_result(conn)?);
            left.push(gate_judgements::table.count().get_result(conn)?);
            Ok::<_, Error>(left)
        }));
        assert_eq!(left.unwrap(), [0, 0, 0, 0, 0, 1], "the last judgement stays");
    });
}
