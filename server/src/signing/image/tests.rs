use super::*;
use crate::blobs::S3Options;
use crate::signing::keys::tests_support::ring;
use futures_util::stream;
use serde_json::{Value, json};
use sigstore_tuf::Updater;
use sigstore_tuf::transport::FetchFuture;
use std::sync::Arc;
use tempfile::TempDir;

/// Now, for files too: abandoned uploads are told by their age.
const NOW_S: i64 = 1_795_392_000;
const DAY_S: i64 = 86_400;

async fn repository() -> (TempDir, Arc<ImageRepository>) {
    let folder = tempfile::tempdir().unwrap();
    let repository = reopen(&folder, NOW_S).await;
    (folder, repository)
}

async fn reopen(folder: &TempDir, now_s: i64) -> Arc<ImageRepository> {
    let blobs = Blobs::open(folder.path().to_str().unwrap(), &S3Options::default()).unwrap();
    opened(blobs, now_s).await
}

async fn opened(blobs: Blobs, now_s: i64) -> Arc<ImageRepository> {
    let repository = ImageRepository::new(blobs, ring());
    repository.renew(now_s).await.unwrap();
    Arc::new(repository)
}

async fn entry(repository: &ImageRepository, model: &str, counter: u64, bytes: &'static [u8]) -> TargetEntry {
    let body = stream::iter(vec![Ok::<_, String>(Bytes::from_static(bytes))]);
    let stored = repository.blobs.put_stream(body, 1000).await.unwrap();
    TargetEntry {
        name: format!("{model}.os.4.{counter}.0-{counter}.bin").parse().unwrap(),
        length: stored.length,
        sha256: stored.sha256,
        matches: serde_json::from_value(json!({"hardware_ids":[model],"component":"os",
            "version":format!("4.{counter}.0"),"release_counter":counter}))
        .unwrap(),
    }
}

/// A stock client reading the repository as it is served.
struct Served(Arc<ImageRepository>);

impl sigstore_tuf::Repository for Served {
    fn fetch_metadata<'a>(&'a self, name: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { Ok(self.0.metadata(name).await.unwrap().map(|bytes| bytes.to_vec())) })
    }

    fn fetch_target<'a>(&'a self, path: &'a str, _max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move {
            let Some(found) = self.0.payload(path).await.unwrap() else { return Ok(None) };
            Ok(Some(self.0.blobs.get_range(&found.key, 0..found.length).await.unwrap().to_vec()))
        })
    }
}

fn at(now_s: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(now_s).unwrap()
}

async fn client(repository: &Arc<ImageRepository>) -> Updater {
    tillward_protocol::crypto::install();
    let root = repository.metadata("1.root.json").await.unwrap().unwrap();
    Updater::new(Served(repository.clone()), &root).unwrap()
}

#[tokio::test]
async fn a_first_start_makes_a_signed_repository_that_lists_nothing() {
    let (folder, repository) = repository().await;
    let mut client = client(&repository).await;
    client.refresh(at(NOW_S)).await.unwrap();
    assert!(client.trusted().targets_role("targets").unwrap().targets.is_empty());
    assert_eq!(client.trusted().root().extra["x-tillward-mode"], "quickstart");
    let before = repository.edition().await.unwrap();
    assert_eq!(reopen(&folder, NOW_S + 60).await.edition().await.unwrap(), before, "a restart signs nothing");
}

#[tokio::test]
async fn a_published_release_is_found_and_downloaded_by_a_stock_client() {
    let (_folder, repository) = repository().await;
    let one = entry(&repository, "pax-a920", 7, b"firmware").await;
    let two = entry(&repository, "pax-a80", 7, b"firmware").await;
    assert_eq!(one.sha256, two.sha256, "one payload for two models");
    let done = repository.publish(vec![one.clone(), two.clone()], NOW_S + 1).await.unwrap();
    assert_eq!(done, Published { timestamp_version: 2, is_changed: true });
    let mut client = client(&repository).await;
    client.refresh(at(NOW_S + 1)).await.unwrap();
    for entry in [&one, &two] {
        let found = client.get_target(entry.name.as_str(), at(NOW_S + 1)).await.unwrap();
        assert_eq!(found, b"firmware");
    }
    let roles = &client.trusted().targets_role("targets").unwrap().delegations.as_ref().unwrap().roles;
    let names: Vec<(&str, bool)> = roles.iter().map(|role| (role.name.as_str(), role.terminating)).collect();
    assert_eq!(names, [("fw-pax-a80", true), ("fw-pax-a920", true)]);
}

#[tokio::test]
async fn publishing_the_same_twice_changes_nothing_and_other_contents_under_a_name_are_refused() {
    let (_folder, repository) = repository().await;
    let one = entry(&repository, "pax-a920", 7, b"firmware").await;
    repository.publish(vec![one.clone()], NOW_S).await.unwrap();
    let again = repository.publish(vec![one.clone()], NOW_S).await.unwrap();
    assert_eq!(again, Published { timestamp_version: 2, is_changed: false });
    let other = entry(&repository, "pax-a920", 7, b"other bytes").await;
    assert!(matches!(repository.publish(vec![other], NOW_S).await, Err(ImageError::Taken(name)) if name == one.name));
}

#[tokio::test]
async fn a_payload_that_is_not_stored_is_not_published() {
    let (_folder, repository) = repository().await;
    let mut one = entry(&repository, "pax-a920", 7, b"firmware").await;
    one.length += 1;
    assert!(matches!(repository.publish(vec![one.clone()], NOW_S).await, Err(ImageError::NoPayload(_))));
    one.sha256 = Sha256Hex::of(b"never uploaded");
    assert!(matches!(repository.publish(vec![one], NOW_S).await, Err(ImageError::NoPayload(_))));
    assert_eq!(repository.edition().await.unwrap().version("timestamp"), 1);
}

#[tokio::test]
async fn a_withdrawn_release_is_listed_and_served_no_longer_and_clients_follow_without_a_rollback() {
    let (_folder, repository) = repository().await;
    let old = entry(&repository, "pax-a920", 6, b"old").await;
    let new = entry(&repository, "pax-a920", 7, b"new").await;
    repository.publish(vec![old.clone(), new.clone()], NOW_S).await.unwrap();
    let mut client = client(&repository).await;
    client.refresh(at(NOW_S)).await.unwrap();
    repository.withdraw(&[(new.name.clone(), new.sha256.clone())], NOW_S + 5).await.unwrap();
    client.refresh(at(NOW_S + 5)).await.unwrap();
    assert!(client.get_target_info(new.name.as_str(), at(NOW_S + 5)).await.unwrap().is_none());
    assert!(client.get_target_info(old.name.as_str(), at(NOW_S + 5)).await.unwrap().is_some());
    assert!(repository.payload(&format!("{}.{}", new.sha256, new.name)).await.unwrap().is_none());
    let again = repository.withdraw(&[(new.name, new.sha256)], NOW_S + 6).await.unwrap();
    assert!(!again.is_changed);
}

#[tokio::test]
async fn an_abandoned_publication_is_invisible_and_jumped_over() {
    let (folder, repository) = repository().await;
    let seven = entry(&repository, "pax-a920", 7, b"seven").await;
    repository.publish(vec![seven], NOW_S).await.unwrap();
    // A publisher that died before its timestamp left these behind.
    for name in ["2.fw-pax-a920", "3.snapshot"] {
        std::fs::write(folder.path().join(format!("{METADATA}/{name}.json")), b"{}").unwrap();
    }
    let repository = reopen(&folder, NOW_S + 1).await;
    let mut client = client(&repository).await;
    client.refresh(at(NOW_S + 1)).await.unwrap();
    let eight = entry(&repository, "pax-a920", 8, b"eight").await;
    repository.publish(vec![eight.clone()], NOW_S + 1).await.unwrap();
    client.refresh(at(NOW_S + 1)).await.unwrap();
    assert_eq!(client.get_target(eight.name.as_str(), at(NOW_S + 1)).await.unwrap(), b"eight");
    let edition = repository.edition().await.unwrap();
    assert_eq!((edition.version("fw-pax-a920"), edition.version("snapshot"), edition.version("timestamp")), (3, 4, 3));
}

#[tokio::test]
async fn of_two_servers_that_publish_into_one_bucket_at_once_both_end_up_listed() {
    let blobs = Blobs::in_memory();
    let servers = [opened(blobs.clone(), NOW_S).await, opened(blobs.clone(), NOW_S).await];
    let one = entry(&servers[0], "pax-a920", 7, b"one").await;
    let two = entry(&servers[0], "pax-a80", 8, b"two").await;
    let both = tokio::join!(servers[0].publish(vec![one.clone()], NOW_S), servers[1].publish(vec![two.clone()], NOW_S));
    assert!(both.0.unwrap().is_changed && both.1.unwrap().is_changed);
    let edition = servers[0].edition().await.unwrap();
    assert!(edition.listed(&one.name).is_some() && edition.listed(&two.name).is_some());
    assert_eq!(["targets", "snapshot", "timestamp"].map(|name| edition.version(name)), [3, 3, 3], "nothing abandoned");
}

#[tokio::test]
async fn a_dead_servers_claim_is_waited_for_and_then_passed_over() {
    let blobs = Blobs::in_memory();
    let real_now_s = jiff::Timestamp::now().as_second();
    let server = opened(blobs.clone(), real_now_s).await;
    let one = entry(&server, "pax-a920", 7, b"one").await;
    blobs.create(&format!("{CLAIMS}/2-1"), Bytes::from_static(b"of a server that died")).await.unwrap();
    assert!(matches!(server.publish(vec![one.clone()], real_now_s).await, Err(ImageError::Busy)));
    assert!(server.publish(vec![one], real_now_s + 62).await.unwrap().is_changed);
}

#[tokio::test]
async fn what_has_less_than_half_of_its_life_left_is_signed_again_and_nothing_else() {
    let (_folder, repository) = repository().await;
    let seven = entry(&repository, "pax-a920", 7, b"seven").await;
    repository.publish(vec![seven.clone()], NOW_S).await.unwrap();
    let versions =
        |edition: &Edition| ["fw-pax-a920", "targets", "snapshot", "timestamp"].map(|name| edition.version(name));
    let start = versions(&repository.edition().await.unwrap());
    assert!(!repository.renew(NOW_S + DAY_S / 2 - 60).await.unwrap().is_changed);
    assert!(repository.renew(NOW_S + DAY_S / 2 + 60).await.unwrap().is_changed);
    let edition = repository.edition().await.unwrap();
    assert_eq!(versions(&edition), [start[0], start[1], start[2], start[3] + 1]);
    repository.renew(NOW_S + 46 * DAY_S).await.unwrap();
    let edition = repository.edition().await.unwrap();
    assert_eq!(versions(&edition), [start[0] + 1, start[1], start[2] + 1, start[3] + 2]);
    // After a year without a server everything is expired, the root too; a client that was away follows.
    let mut client = client(&repository).await;
    client.refresh(at(NOW_S + 46 * DAY_S)).await.unwrap();
    repository.renew(NOW_S + 400 * DAY_S).await.unwrap();
    client.refresh(at(NOW_S + 400 * DAY_S)).await.unwrap();
    assert_eq!(client.trusted().root().version, 2);
    assert_eq!(client.get_target(seven.name.as_str(), at(NOW_S + 400 * DAY_S)).await.unwrap(), b"seven");
}

#[tokio::test]
async fn storage_that_belongs_to_other_keys_is_not_touched() {
    let (folder, _repository) = repository().await;
    let blobs = Blobs::open(folder.path().to_str().unwrap(), &S3Options::default()).unwrap();
    let keys = KeyRing::quickstart(tempfile::tempdir().unwrap().path()).unwrap();
    let renewed = ImageRepository::new(blobs, keys).renew(NOW_S).await;
    assert!(matches!(renewed, Err(ImageError::Root(RootError::Foreign(_)))));
}

#[tokio::test]
async fn names_that_are_no_metadata_do_not_exist() {
    let (_folder, repository) = repository().await;
    for name in ["timestamp.json", "1.root.json", "1.targets.json", "1.snapshot.json"] {
        assert!(repository.metadata(name).await.unwrap().is_some(), "{name}");
    }
    for name in
        ["2.root.json", "root.json", "", ".json", "1..json", "1.../1.root.json", "../links/x", "1.a/b.json", "1.A.json"]
    {
        assert!(repository.metadata(name).await.unwrap().is_none(), "{name}");
    }
    for name in ["", "x", "..", "../../keys", &"0".repeat(64), &format!("{}.", "0".repeat(64))] {
        assert!(repository.payload(name).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test]
async fn the_gate_refuses_what_a_terminal_would_refuse() {
    let (_folder, repository) = repository().await;
    let seven = entry(&repository, "pax-a920", 7, b"seven").await;
    let before = repository.edition().await.unwrap();
    let root = roots::newest(&repository.blobs, METADATA).await.unwrap().unwrap();
    let change = Change::Publish(vec![seven.clone()]);
    let touched = before.touched(&change, NOW_S).unwrap();
    let plus_one = |name: String| (name.clone(), NextVersion { version: before.version(&name) + 1, orphans: 0 });
    let versions: BTreeMap<String, NextVersion> = touched.into_iter().map(plus_one).collect();
    let staged = |keys: &KeyRing, versions: &BTreeMap<String, NextVersion>| {
        before.staged(&before.next(&change, versions, keys, NOW_S).unwrap(), &root, &change, versions)
    };
    gate::check(&staged(&ring(), &versions), at(NOW_S)).await.unwrap();

    let strangers = KeyRing::quickstart(tempfile::tempdir().unwrap().path()).unwrap();
    let refused = gate::check(&staged(&strangers, &versions), at(NOW_S)).await;
    assert!(matches!(refused, Err(GateError::Refused(_))));
    let late = gate::check(&staged(&ring(), &versions), at(NOW_S + 2 * DAY_S)).await;
    assert!(matches!(late, Err(GateError::Refused(sigstore_tuf::Error::Expired { .. }))));
    let mut skipping = versions.clone();
    skipping.insert("snapshot".to_owned(), NextVersion { version: 9, orphans: 0 });
    let refused = gate::check(&staged(&ring(), &skipping), at(NOW_S)).await;
    assert!(matches!(refused, Err(GateError::Step { from: 1, to: 9, .. })));
    let mut other = staged(&ring(), &versions);
    other.present[0].length += 1;
    assert!(matches!(gate::check(&other, at(NOW_S)).await, Err(GateError::Missing(_))));
    let mut kept = staged(&ring(), &versions);
    kept.absent.push(seven.name.clone());
    assert!(matches!(gate::check(&kept, at(NOW_S)).await, Err(GateError::StillListed(_))));
    let mut twice = staged(&ring(), &versions);
    let mut root: Value = serde_json::from_slice(&twice.root).unwrap();
    let (id, key) =
        root["signed"]["keys"].as_object().unwrap().iter().next().map(|(k, v)| (k.clone(), v.clone())).unwrap();
    root["signed"]["keys"]["other-name"] = key;
    root["signed"]["roles"]["root"]["keyids"] = json!([id, "other-name"]);
    twice.root = serde_json::to_vec(&root).unwrap();
    assert!(matches!(gate::check(&twice, at(NOW_S)).await, Err(GateError::KeyTwice(role)) if role == "root"));
}

#[tokio::test]
async fn a_server_without_keys_serves_what_is_published_and_changes_nothing() {
    let (folder, repository) = repository().await;
    let seven = entry(&repository, "pax-a920", 7, b"seven").await;
    repository.publish(vec![seven.clone()], NOW_S).await.unwrap();
    let blobs = Blobs::open(folder.path().to_str().unwrap(), &S3Options::default()).unwrap();
    let keyless = Arc::new(ImageRepository::new(blobs, KeyRing::empty()));
    let mut client = client(&keyless).await;
    client.refresh(at(NOW_S)).await.unwrap();
    assert_eq!(client.get_target(seven.name.as_str(), at(NOW_S)).await.unwrap(), b"seven");
    assert!(matches!(keyless.renew(NOW_S + 30 * DAY_S).await, Err(ImageError::NoKeys)));
    assert!(matches!(keyless.publish(vec![seven.clone()], NOW_S).await, Err(ImageError::NoKeys)));
    assert!(matches!(keyless.withdraw(&[(seven.name, seven.sha256)], NOW_S).await, Err(ImageError::NoKeys)));
}

/// One thing that happens to a repository.
#[derive(Debug, Clone)]
enum Happening {
    Publish { model: u8 },
    Withdraw { which: usize },
    PassDays { days: i64 },
    PublisherDies { document: u8 },
    ServerRestarts,
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    use proptest::prelude::*;
    prop_oneof![
        4 => (0..3_u8).prop_map(|model| Happening::Publish { model }),
        2 => (0..9_usize).prop_map(|which| Happening::Withdraw { which }),
        2 => (0..60_i64).prop_map(|days| Happening::PassDays { days }),
        1 => (0..5_u8).prop_map(|document| Happening::PublisherDies { document }),
        1 => Just(Happening::ServerRestarts),
    ]
}

async fn a_client_follows(happenings: Vec<Happening>) {
    let blobs = Blobs::in_memory();
    let mut repository = opened(blobs.clone(), NOW_S).await;
    let mut client = client(&repository).await;
    let (mut now_s, mut counter) = (NOW_S, 0);
    let (mut listed, mut gone) = (Vec::<TargetEntry>::new(), Vec::<TargetEntry>::new());
    for happening in happenings {
        now_s += 1;
        match happening {
            Happening::Publish { model } => {
                counter += 1;
                let new = entry(&repository, &format!("demo-p{model}"), counter, b"firmware").await;
                repository.publish(vec![new.clone()], now_s).await.unwrap();
                listed.push(new);
            }
            Happening::Withdraw { which } if which < listed.len() => {
                let entry = listed.remove(which);
                repository.withdraw(&[(entry.name.clone(), entry.sha256.clone())], now_s).await.unwrap();
                gone.push(entry);
            }
            Happening::Withdraw { .. } => {}
            Happening::PassDays { days } => {
                now_s += days * DAY_S;
                repository.renew(now_s).await.unwrap();
            }
            Happening::PublisherDies { document } => {
                let name = ["targets", "snapshot", "fw-demo-p0", "fw-demo-p1", "fw-demo-p2"][usize::from(document)];
                let next = repository.edition().await.unwrap().version(name) + 1;
                let left_behind = Bytes::from(format!("{{\"left behind at\":{now_s}}}"));
                // It may have died here before.
                let _ = blobs.create(&versioned_key(name, next), left_behind).await;
            }
            // The client keeps reading through the old process: both serve the same storage.
            Happening::ServerRestarts => repository = opened(blobs.clone(), now_s).await,
        }
        client.refresh(at(now_s)).await.unwrap();
        for entry in &listed {
            let found = client.get_target_info(entry.name.as_str(), at(now_s)).await.unwrap().unwrap();
            assert_eq!((found.length, found.hashes["sha256"].as_str()), (entry.length, entry.sha256.as_str()));
        }
        for entry in &gone {
            assert!(client.get_target_info(entry.name.as_str(), at(now_s)).await.unwrap().is_none());
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
    #[test]
    fn whatever_happens_to_the_repository_a_client_can_follow_it(
        happenings in proptest::collection::vec(happening(), 1..24)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(a_client_follows(happenings));
    }
}
