use super::*;
use crate::signing::gate::Files;
use sigstore_tuf::{Error, Updater};
use tillward_protocol::ids::TargetName;

fn checked_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware-samples")
}

fn walk(root: &Path, dir: &Path, found: &mut Samples) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if let Ok(to) = fs::read_link(&path) {
            found.insert(name, Sample::Link(to.to_str().unwrap().to_owned()));
        } else if path.is_dir() {
            walk(root, &path, found);
        } else {
            found.insert(name, Sample::File(fs::read(&path).unwrap()));
        }
    }
}

#[test]
fn the_checked_in_samples_are_what_the_generator_makes() {
    let mut there = Samples::new();
    walk(&checked_in(), &checked_in(), &mut there);
    let made = generate().unwrap();
    let names: Vec<&String> = made.keys().collect();
    assert_eq!(there.keys().collect::<Vec<_>>(), names);
    for (name, sample) in &made {
        assert!(there[name] == *sample, "{name} differs");
    }
}

/// Metadata below `<folder>/<part>/` and a client over it that trusts the sample root.
fn client(samples: &Samples, folder: &str, part: &str, root: &str) -> Updater {
    let prefix = format!("{folder}/{part}/metadata/");
    let files = samples.iter().filter_map(|(name, sample)| match (name.strip_prefix(&prefix), sample) {
        (Some(name), Sample::File(bytes)) => Some((name.to_owned(), bytes.clone())),
        _ => None,
    });
    let Some(Sample::File(root)) = samples.get(root) else { panic!("no root") };
    tillward_protocol::crypto::install();
    Updater::new(Files::new(files.collect()), root).unwrap()
}

/// What a client says of the file that the director orders, at the image repository.
async fn look_up(samples: &Samples, folder: &str) -> Result<Option<sigstore_tuf::TargetFile>, Error> {
    let now = jiff::Timestamp::from_second(ISSUED_AT_S).unwrap();
    let mut director = client(samples, folder, "director/t/1", "trust/director.root.json");
    director.refresh(now).await.expect("the director's documents hold in every sample");
    let targets = &director.trusted().targets_role("targets").unwrap().targets;
    assert_eq!(targets.len(), 1);
    let name: TargetName = targets.keys().next().unwrap().parse().unwrap();
    let mut image = client(samples, folder, "image", "trust/image.root.json");
    image.refresh(now).await?;
    image.get_target_info(name.as_str(), now).await
}

fn payload<'a>(samples: &'a Samples, folder: &str) -> &'a [u8] {
    let prefix = format!("{folder}/image/targets/");
    let last = samples.iter().rfind(|(name, _)| name.starts_with(&prefix)).unwrap();
    match last.1 {
        Sample::File(bytes) => bytes,
        Sample::Link(to) => match &samples[to.trim_start_matches("../")] {
            Sample::File(bytes) => bytes,
            Sample::Link(_) => panic!("a link to a link"),
        },
    }
}

#[tokio::test]
async fn the_good_samples_verify_with_a_stock_client_down_to_the_payload() {
    let samples = generate().unwrap();
    for folder in ["good/4.2.0", "good/4.3.0-unhealthy"] {
        let found = look_up(&samples, folder).await.unwrap().expect(folder);
        let digests: Vec<String> = samples
            .keys()
            .filter_map(|name| name.strip_prefix(&format!("{folder}/image/targets/")))
            .map(|name| name[..64].to_owned())
            .collect();
        assert!(digests.contains(&found.hashes["sha256"]));
    }
    let bytes = payload(&samples, "good/4.2.0");
    let found = look_up(&samples, "good/4.2.0").await.unwrap().unwrap();
    assert_eq!((found.length, &found.hashes["sha256"]), (bytes.len() as u64, &Sha256Hex::of(bytes).to_string()));
}

#[tokio::test]
async fn each_sample_that_is_badly_signed_fails_for_its_own_reason() {
    let samples = generate().unwrap();
    let error = |folder| {
        let samples = &samples;
        async move { look_up(samples, folder).await.unwrap_err() }
    };
    let role = "fw-demo-p1";
    assert!(matches!(error("bad/wrong_key").await,
        Error::ThresholdNotMet { role: r, found: 0, threshold: 2 } if r == role));
    assert!(matches!(error("bad/below_threshold").await,
        Error::ThresholdNotMet { role: r, found: 1, threshold: 2 } if r == role));
    assert!(matches!(error("bad/duplicate_signature").await, Error::DuplicateSignature { role: r, .. } if r == role));
    assert!(matches!(error("bad/expired_metadata").await, Error::Expired { role: r, .. } if r == "timestamp"));
}

#[tokio::test]
async fn each_sample_that_is_rightly_signed_but_bad_is_bad_in_its_own_point() {
    let samples = generate().unwrap();
    let stated = look_up(&samples, "good/4.2.0").await.unwrap().unwrap();
    let length = usize::try_from(stated.length).unwrap();
    for (reason, real) in [("digest_mismatch", length), ("truncated", length / 2), ("too_long", length + 1024)] {
        let folder = format!("bad/{reason}");
        assert_eq!(look_up(&samples, &folder).await.unwrap().unwrap(), stated);
        assert_eq!(payload(&samples, &folder).len(), real);
        assert_ne!(Sha256Hex::of(payload(&samples, &folder)).as_str(), stated.hashes["sha256"]);
    }
    let custom = |found: Option<sigstore_tuf::TargetFile>| found.unwrap().custom.unwrap()["match"].clone();
    let wrong_model = custom(look_up(&samples, "bad/wrong_model").await.unwrap());
    assert_eq!(wrong_model["hardware_ids"], serde_json::json!(["demo-p9"]));
    let downgrade = custom(look_up(&samples, "bad/downgrade").await.unwrap());
    assert_eq!(downgrade["release_counter"], 40);
    assert_eq!(look_up(&samples, "bad/director_image_disagree").await.unwrap().unwrap(), stated);
    let mut director = client(&samples, "bad/director_image_disagree", "director/t/1", "trust/director.root.json");
    director.refresh(jiff::Timestamp::from_second(ISSUED_AT_S).unwrap()).await.unwrap();
    let ordered = director.trusted().targets_role("targets").unwrap().targets.values().next().unwrap().clone();
    assert_ne!(ordered.hashes, stated.hashes);
}

#[test]
fn the_payloads_unpack_and_their_health_commands_say_what_the_names_promise() {
    let samples = generate().unwrap();
    for (version, healthy) in [("4.0.0", true), ("4.1.0", true), ("4.2.0", true), ("4.3.0", false)] {
        let folder = tempfile::tempdir().unwrap();
        let Some(Sample::File(bytes)) = samples.get(&format!("payload/{version}.bin")) else { panic!("{version}") };
        let archive = folder.path().join("payload.bin");
        fs::write(&archive, bytes).unwrap();
        let run = |program: &str, args: &[&str]| {
            std::process::Command::new(program).args(args).current_dir(folder.path()).output().unwrap().status
        };
        assert!(run("tar", &["-xf", "payload.bin"]).success());
        assert_eq!(run("./health.sh", &[]).success(), healthy, "{version}");
    }
}

#[tokio::test]
async fn a_client_that_took_the_good_ones_is_stopped_by_nothing_but_the_fault_itself() {
    let samples = generate().unwrap();
    let now = jiff::Timestamp::from_second(ISSUED_AT_S).unwrap();
    for reason in ["digest_mismatch", "truncated", "too_long", "wrong_model", "downgrade", "director_image_disagree"] {
        let store = std::sync::Arc::new(sigstore_tuf::MemoryStore::default());
        for folder in ["good/4.2.0", "good/4.3.0-unhealthy", &format!("bad/{reason}")] {
            let mut image =
                client(&samples, folder, "image", "trust/image.root.json").with_store(Shared(store.clone()));
            image.refresh(now).await.unwrap_or_else(|error| panic!("{folder}: {error}"));
        }
    }
}

/// One client's memory over several runs.
struct Shared(std::sync::Arc<sigstore_tuf::MemoryStore>);

impl sigstore_tuf::MetadataStore for Shared {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        self.0.load(name)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        self.0.store(name, bytes)
    }
}
