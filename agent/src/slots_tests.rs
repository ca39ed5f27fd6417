use super::*;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn directory(folder: &Path) -> Box<dyn Slots> {
    let config =
        SlotsConfig::Directory { dir: folder.join("slots"), initial_version: version("1.0"), initial_slot: Slot::A };
    open(&config, folder).unwrap()
}

/// An installer in shell that keeps its slots as files.
fn command(folder: &Path) -> Box<dyn Slots> {
    let script = format!(
        r#"cd {}; case "$1" in
        running) cat running ;;
        write) cp "$3" "slot.$2"; echo "$2 $4" > "version.$2"; echo "and what was there before" >> "slot.$2" ;;
        read) cat "slot.$2" ;;
        activate) cp "version.$2" running ;;
        commit) : ;;
        discard) rm -f "slot.$2" "version.$2" ;;
        *) exit 9 ;;
        esac"#,
        folder.display()
    );
    std::fs::write(folder.join("running"), "a 1.0\n").unwrap();
    std::fs::write(folder.join("version.a"), "a 1.0\n").unwrap();
    let command = ["sh", "-c", &script, "installer"].map(str::to_owned).to_vec();
    open(&SlotsConfig::Command { command, timeout_s: 30 }, folder).unwrap()
}

#[test]
fn firmware_goes_into_the_other_slot_is_read_back_and_runs_after_activation() {
    for make in [directory, command] {
        let folder = tempfile::tempdir().unwrap();
        let slots = make(folder.path());
        assert_eq!(slots.running().unwrap(), Running { slot: Slot::A, version: version("1.0") });
        let payload = b"firmware two";
        let release = Sha256Hex::of(payload);
        slots.prepare(Slot::B, &release).unwrap();
        std::fs::write(slots.payload(Slot::B, &release), payload).unwrap();
        for _ in 0..2 {
            slots.write(Slot::B, &release, &version("2.0")).unwrap();
        }
        let length = payload.len() as u64;
        assert_eq!(slots.read_back(Slot::B, length).unwrap(), (release.clone(), true));
        assert_ne!(slots.read_back(Slot::B, length - 1).unwrap(), (release.clone(), true));
        slots.mark_bootable(Slot::B, &Firmware { version: version("2.0"), sha256: Some(release), length }).unwrap();
        slots.activate(Slot::B).unwrap();
        assert_eq!(slots.running().unwrap(), Running { slot: Slot::B, version: version("2.0") });
        slots.commit(Slot::B).unwrap();
        slots.activate(Slot::A).unwrap();
        assert_eq!(slots.running().unwrap().version, version("1.0"));
    }
}

#[test]
fn looking_at_slots_makes_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    let dir = folder.path().join("slots");
    let config = SlotsConfig::Directory { dir, initial_version: version("1.0"), initial_slot: Slot::B };
    assert!(look(&config, folder.path()).running().is_err());
    let command = ["sh", "-c", "exit 9"].map(str::to_owned).to_vec();
    assert!(look(&SlotsConfig::Command { command, timeout_s: 30 }, folder.path()).running().is_err());
    assert_eq!(entries(), 0);
    open(&config, folder.path()).unwrap();
    let running = Running { slot: Slot::B, version: version("1.0") };
    assert_eq!(look(&config, folder.path()).running().unwrap(), running);
    assert_eq!(entries(), 1);
}

#[test]
fn the_slot_that_runs_is_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let slots = directory(folder.path());
    let release = Sha256Hex::of(b"x");
    assert!(slots.prepare(Slot::A, &release).is_err());
    assert!(slots.write(Slot::A, &release, &version("2.0")).is_err());
    assert!(slots.discard(Slot::A).is_err());
    assert_eq!(slots.running().unwrap().version, version("1.0"));
}

#[test]
fn a_slot_without_its_mark_cannot_be_activated() {
    let folder = tempfile::tempdir().unwrap();
    let slots = directory(folder.path());
    assert!(slots.activate(Slot::B).is_err());
    slots.mark_bootable(Slot::B, &Firmware { version: version("2.0"), sha256: None, length: 0 }).unwrap();
    slots.discard(Slot::B).unwrap();
    assert!(slots.activate(Slot::B).is_err());
}

#[test]
fn parts_of_another_release_do_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let slots = directory(folder.path());
    let (one, two) = (Sha256Hex::of(b"1"), Sha256Hex::of(b"2"));
    std::fs::write(slots.payload(Slot::B, &one), b"1").unwrap();
    std::fs::write(slots.payload(Slot::B, &two), b"2").unwrap();
    slots.prepare(Slot::B, &two).unwrap();
    assert!(!slots.payload(Slot::B, &one).exists() && slots.payload(Slot::B, &two).exists());
}

#[test]
fn an_installer_that_fails_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let slots = command(folder.path());
    assert!(slots.activate(Slot::B).is_err());
    assert!(slots.read_back(Slot::B, 3).is_err());
}

#[test]
fn what_is_set_aside_cannot_be_started_and_needs_no_second_download() {
    for make in [directory, command] {
        let folder = tempfile::tempdir().unwrap();
        let slots = make(folder.path());
        let release = Sha256Hex::of(b"firmware two");
        let path = slots.payload(Slot::B, &release);
        slots.prepare(Slot::B, &release).unwrap();
        std::fs::write(&path, b"firmware two").unwrap();
        slots.write(Slot::B, &release, &version("2.0")).unwrap();
        let firmware = Firmware { version: version("2.0"), sha256: Some(release.clone()), length: 12 };
        slots.mark_bootable(Slot::B, &firmware).unwrap();
        for _ in 0..2 {
            slots.set_aside(Slot::B, &release).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"firmware two");
            assert!(slots.activate(Slot::B).is_err());
        }
        slots.set_aside(Slot::B, &Sha256Hex::of(b"another")).unwrap();
        assert!(!path.exists());
    }
}

#[test]
fn firmware_of_another_release_is_not_taken_for_the_one_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let slots = directory(folder.path());
    let release = Sha256Hex::of(b"firmware two");
    slots.mark_bootable(Slot::B, &Firmware { version: version("0.9"), sha256: None, length: 0 }).unwrap();
    std::fs::write(folder.path().join("slots/b/firmware.bin"), b"firmware zero").unwrap();
    slots.set_aside(Slot::B, &release).unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("slots/b")).unwrap().count(), 0);
}
