//! What goes together, when it goes, and what its end means.

use std::collections::BTreeMap;

use super::super::robots::Mention;
use super::super::transport::Transport;
use super::*;
use crate::alerts::Alert;

const NOW: Now = Now(1_795_397_460_000); // A minute past the half hour.

fn channel(transport: Option<Transport>) -> StoredChannel {
    StoredChannel {
        id: 1,
        organization_id: 1,
        org_path: "/1/".to_owned(),
        name: "on duty".to_owned(),
        level: Level::P3,
        transport,
        failures: 0,
        last_error: String::new(),
        created_by: String::new(),
        created_at_ms: 0,
        is_deleted: false,
        language: "zh-CN".to_owned(),
        paused_at_ms: None,
        batch_s: 0,
        rate_per_min: None,
        rate_at_ms: 0,
        digest_since_ms: None,
        version: 1,
    }
}

fn wecom() -> StoredChannel {
    let (token, prefix) = ("TOKEN-0123".to_owned(), String::new());
    channel(Some(Transport::Wecom { token, prefix, mention: Mention::default() }))
}

fn feishu() -> StoredChannel {
    channel(Some(Transport::Feishu { token: "TOKEN-0123".to_owned(), secret: None, prefix: String::new() }))
}

fn webhook() -> StoredChannel {
    channel(Some(Transport::Webhook { url: "https://example.com/".to_owned(), secret: "s".to_owned() }))
}

fn waiting(id: i64, kind: AlertKind, level: Level) -> Waiting {
    Waiting {
        alert: Alert {
            id,
            org_path: "/1/".to_owned(),
            kind: kind.as_str().to_owned(),
            level: level.as_str().to_owned(),
            incident_id: Some(id),
            title_key: "incident-title-tamper".to_owned(),
            parameters: BTreeMap::new(),
            state: "pending".to_owned(),
            created_at_ms: NOW.0,
            deliveries: Vec::new(),
        },
        organization: "HQ".to_owned(),
        refusals: 0,
        queued_at_ms: NOW.0,
        replays: 0,
    }
}

fn opened(count: i64, level: Level) -> Vec<Waiting> {
    (1..=count).map(|id| waiting(id, AlertKind::IncidentOpened, level)).collect()
}

fn ids(waiting: &[Waiting]) -> Vec<i64> {
    waiting.iter().map(|one| one.alert.id).collect()
}

#[test]
fn people_get_what_waits_in_one_message_and_programs_one_by_one() {
    assert_eq!(ids(&together(&wecom(), opened(3, Level::P2))), [1, 2, 3]);
    assert_eq!(ids(&together(&webhook(), opened(3, Level::P2))), [1]);
    assert_eq!(ids(&together(&channel(None), opened(3, Level::P2))), [1]);
    assert!(together(&wecom(), Vec::new()).is_empty());
    let deleted = StoredChannel { is_deleted: true, ..channel(None) };
    assert_eq!(ids(&together(&deleted, opened(3, Level::P2))), [1, 2, 3]);
}

#[test]
fn a_delivery_has_the_same_name_in_every_attempt_and_other_contents_have_another() {
    let name = |waiting: &[Waiting]| name_of(7, waiting);
    assert_eq!(name(&opened(1, Level::P2)), "1-7");
    assert_eq!(name(&opened(3, Level::P2)), name(&opened(3, Level::P2)));
    let mut again = opened(3, Level::P2);
    again[2].replays = 1;
    let names = [
        name(&opened(1, Level::P2)),
        name(&opened(2, Level::P2)),
        name(&opened(3, Level::P2)),
        name(&again),
        name(&again[2..]),
        name(&opened(3, Level::P2)[2..]),
        name_of(8, &opened(3, Level::P2)),
    ];
    let different: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{names:?}");
    assert_eq!(names[4], "3-7-1");
}

#[test]
fn a_digest_and_what_was_refused_go_alone() {
    let mut mixed = opened(4, Level::P2);
    mixed[2] = waiting(3, AlertKind::Digest, Level::P3);
    assert_eq!(ids(&together(&wecom(), mixed.clone())), [1, 2]);
    assert_eq!(ids(&together(&wecom(), mixed.split_off(2))), [3]);
    let mut refused = opened(3, Level::P2);
    refused[1].refusals = 1;
    assert_eq!(ids(&together(&wecom(), refused.clone())), [1]);
    assert_eq!(ids(&together(&wecom(), refused.split_off(1))), [2]);
}

#[test]
fn what_is_not_urgent_waits_for_company_as_long_as_the_channel_says() {
    let patient = StoredChannel { batch_s: 60, ..wecom() };
    let at = |waited_ms: i64, waiting: &[Waiting]| turn(&patient, waiting, 0, Now(NOW.0 + waited_ms));
    assert_eq!(at(0, &opened(2, Level::P2)), Err(NOW.0 + 60_000));
    assert_eq!(at(59_999, &opened(2, Level::P2)), Err(NOW.0 + 60_000));
    assert!(at(60_000, &opened(2, Level::P2)).is_ok());
    assert!(at(0, &opened(2, Level::P1)).is_ok(), "what is urgent takes the others along");
    assert!(at(0, &opened(i64::try_from(BATCH_MAX).unwrap(), Level::P2)).is_ok(), "the message is full");
    assert!(turn(&StoredChannel { batch_s: 60, ..webhook() }, &opened(1, Level::P2), 0, NOW).is_ok());
}

#[test]
fn a_robot_that_was_sent_enough_is_left_alone_until_there_is_room() {
    let mut rate_at_ms = 0;
    let one = opened(1, Level::P1);
    for _ in 0..6 {
        rate_at_ms = turn(&wecom(), &one, rate_at_ms, NOW).unwrap().unwrap();
    }
    assert_eq!(turn(&wecom(), &one, rate_at_ms, NOW), Err(NOW.0 + 5_000), "even what is urgent");
    assert_eq!(turn(&webhook(), &one, rate_at_ms, NOW), Ok(None));
    let slow = StoredChannel { rate_per_min: Some(1), ..webhook() };
    let rate_at_ms = turn(&slow, &one, 0, NOW).unwrap().unwrap();
    assert!(turn(&slow, &one, rate_at_ms, NOW).is_err());
}

#[test]
fn at_the_full_and_the_half_hour_feishu_gets_only_what_is_urgent() {
    let half_past = Now(NOW.0 - 60_000 + 1);
    assert_eq!(turn(&feishu(), &opened(1, Level::P2), 0, half_past), Err(NOW.0));
    assert!(turn(&feishu(), &opened(1, Level::P1), 0, half_past).is_ok());
    assert!(turn(&feishu(), &opened(1, Level::P2), 0, NOW).is_ok());
    assert!(turn(&wecom(), &opened(1, Level::P2), 0, half_past).is_ok());
}

#[test]
fn pauses_double_up_to_a_quarter_of_an_hour() {
    let pauses: Vec<i64> = [1, 2, 3, 8, 9, 1_000, i64::MAX].map(|failures| back_off_ms(failures) / 1_000).into();
    assert_eq!(pauses, [5, 10, 20, 640, 900, 900, 900]);
    assert_eq!(back_off_ms(0), 5_000);
}

#[test]
fn a_failure_stops_the_channel_and_a_success_goes_on() {
    let failed_twice = StoredChannel { failures: 2, ..wecom() };
    let judged = |outcome| judge(outcome, &failed_twice, 7, Some(9), NOW);
    let (attempt, goes_on) = judged(Some(Outcome::Away(None, "refused".to_owned())));
    assert!(!goes_on && !attempt.is_sent && !attempt.is_refusal);
    assert_eq!((attempt.retry_at_ms, attempt.rate_at_ms), (Some(NOW.0 + 20_000), Some(9)));
    assert_eq!(attempt.gives_up_before_ms, NOW.0 - KEEP_TRYING_MS, "only what is too old is given up");
    let (attempt, goes_on) = judged(Some(Outcome::Accepted(204)));
    assert!(goes_on && attempt.is_sent && attempt.retry_at_ms.is_none());
    let (attempt, goes_on) = judged(Some(Outcome::Partly(250, "not to a***@example.com".to_owned())));
    assert!(goes_on && attempt.is_sent && attempt.retry_at_ms.is_none());
    assert_eq!((attempt.status, attempt.error.as_str()), (Some(250), "not to a***@example.com"));
    let (attempt, goes_on) = judged(None);
    assert!(goes_on && !attempt.is_sent && attempt.gives_up_before_ms == i64::MAX);
    let (attempt, _) = judged(Some(Outcome::Refused(400, "no".to_owned())));
    assert!(attempt.is_refusal);
    let (attempt, goes_on) = judged(Some(Outcome::Busy(Some(200), "slowly".to_owned(), 600_000)));
    assert!(!goes_on && !attempt.is_refusal);
    assert_eq!(attempt.retry_at_ms, Some(NOW.0 + 600_000), "the endpoint's own pause, when it is longer");
}
