use std::{fs, os::unix::fs::symlink, sync::mpsc, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    writer::{PATIENCE, TRY_AGAIN_AFTER},
    *,
};
use crate::model::{
    Certificate, Expiry, Field, Kind, Listing, MAX_TEXT_CHARS, Rejection, Status, Texts, clean, two_kinds,
};

const ID: &str = "023e105f4ecef8ad9ca31a8372d0c353";

fn zone(id: &str) -> Target {
    Target {
        kind: Kind::Client,
        id: id.parse().unwrap(),
        name: None,
        zone: None,
        credential: "default".into(),
        interval: Duration::from_secs(3600),
    }
}

fn certificate(id: &str) -> Certificate {
    Certificate {
        texts: Texts::from([
            (Field::Id, id),
            (Field::CommonName, "a \"device\" of 🦀"),
            (Field::SerialNumber, "3bb94f"),
            (Field::FingerprintSha256, "256c24"),
            (Field::Ski, "8e375a"),
            (Field::Issuer, "Managed CA"),
            (Field::Signature, "SHA256WithRSA"),
            (Field::Country, "DE"),
        ]),
        status: Status::Active,
        expiry: Expiry::At(1_992_554_280),
        not_before: Some(1_677_194_280),
    }
}

fn saved(certificates: Vec<Certificate>) -> SavedTarget {
    SavedTarget {
        kind: Kind::Client,
        id: ID.parse().unwrap(),
        name: Some("a.example".into()),
        listing: Some(Arc::new(Listing::new(certificates))),
        available: true,
        completed: 1_795_521_600,
        due_ms: 1_795_525_200_123,
    }
}

fn open(scratch: &TempDir) -> Directory {
    Directory::open(scratch.path(), IntCounter::new("failures", "Of a test.").unwrap()).unwrap()
}

fn load(directory: &Directory) -> Option<SavedTarget> {
    directory.target(&zone(ID)).load(|saved: &SavedTarget| saved.is_of(&zone(ID)))
}

fn names(scratch: &TempDir) -> Vec<String> {
    let mut names: Vec<_> =
        scratch.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A file that is as it should be around this content.
fn with_content(content: &str) -> Vec<u8> {
    file::with_content(content.as_bytes())
}

/// What such a file holds.
fn content(file: &str) -> &str {
    file.split_once(r#""content":"#).unwrap().1.strip_suffix("}\n").unwrap()
}

const FILE: &str = "zone-client-023e105f4ecef8ad9ca31a8372d0c353.state";

#[tokio::test]
async fn what_was_saved_is_loaded_by_the_next_process() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    assert_eq!(load(&directory), None);
    for certificates in [vec![], vec![certificate("a"), certificate("b"), certificate("a")]] {
        directory.target(&zone(ID)).save(saved(certificates.clone()), true).await;
        assert_eq!(load(&directory), Some(saved(certificates)));
    }
    assert_eq!(load(&directory).unwrap().listing.as_ref().unwrap().rejected(Rejection::DuplicateId), 1);
    drop(directory);
    assert!(load(&open(&scratch)).is_some());
    assert_eq!(names(&scratch), ["lock", FILE]);
    // Other users of the machine cannot read the inventory.
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(scratch.path().join(FILE)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// The file as it looks today: a change here is a new format.
#[tokio::test]
async fn the_file_is_as_reviewed() {
    let scratch = tempfile::tempdir().unwrap();
    let mut undated = certificate("b");
    (undated.expiry, undated.not_before, undated.status) = (Expiry::Missing, None, Status::PendingRevocation);
    open(&scratch).target(&zone(ID)).save(saved(vec![certificate("a"), undated]), true).await;
    insta::assert_snapshot!(fs::read_to_string(scratch.path().join(FILE)).unwrap());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_kept_aside_and_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let slot = directory.target(&zone(ID));
    let path = scratch.path().join(FILE);
    slot.save(saved(vec![certificate("a")]), true).await;
    let good = fs::read_to_string(&path).unwrap();
    let json = content(&good);
    let mut rows = vec![
        ("empty", vec![]),
        ("foreign", b"[server]\nlisten_addresses = []\n".to_vec()),
        ("binary", vec![0xff; 4096]),
        ("of the first format", b"cloudflare-cert-exporter state, format 1\n{}\ncrc32 00000000\n".to_vec()),
        ("newer", good.replace("format 1", "format 2").into_bytes()),
        ("no number", good.replace("format 1", "format one").into_bytes()),
        ("longer", format!("{good}\n").into_bytes()),
        ("twice", good.repeat(2).into_bytes()),
        ("no content", with_content("")),
        ("null", with_content("null")),
        ("not an object", with_content("[[]]")),
        ("another zone", with_content(&json.replace(ID, "123e105f4ecef8ad9ca31a8372d0c353"))),
        ("no zone", with_content(&json.replace(ID, "x"))),
        ("an unknown kind", with_content(&json.replace("\"client\"", "\"server\""))),
        ("an unknown status", with_content(&json.replace("\"active\"", "\"hibernating\""))),
        ("an unknown field", with_content(&json.replace("\"due_ms\"", "\"doo\""))),
        ("an unknown text", with_content(&json.replace("\"ski\"", "\"sky\""))),
        ("a time that is out of range", with_content(&json.replace("1795521600", "9223372036854775807"))),
        ("deep", with_content(&"[".repeat(200_000))),
    ];
    assert!(serde_json::from_str::<serde_json::Value>(&good).is_ok(), "{good}");
    for length in 0..good.len() {
        rows.push(("torn", good.as_bytes()[..length].to_vec()));
    }
    for (name, content) in rows {
        fs::write(&path, &content).unwrap();
        assert_eq!(load(&directory), None, "{name}");
        assert_eq!(fs::read(scratch.path().join(format!("{FILE}.unusable"))).unwrap(), content, "{name}");
        assert!(!path.exists(), "{name}");
    }
    // Not even a file.
    fs::create_dir(&path).unwrap();
    fs::remove_file(scratch.path().join(format!("{FILE}.unusable"))).unwrap();
    assert_eq!(load(&directory), None);
    fs::remove_dir(scratch.path().join(format!("{FILE}.unusable"))).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(load(&directory), None);
    slot.save(saved(vec![]), true).await;
    assert_eq!(load(&directory), Some(saved(vec![])));
    assert_eq!(directory.0.write_failures.get(), 0);
}

#[tokio::test]
async fn a_pipe_that_is_in_the_way_of_a_write_is_waited_for_by_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let pipe = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(scratch.path().join(name)).status().unwrap();
        assert!(made.success());
    };
    pipe(&format!("{FILE}.tmp"));
    directory.target(&zone(ID)).save(saved(vec![]), true).await;
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (0, Some(saved(vec![]))));
    drop(directory);
    fs::remove_file(scratch.path().join("lock")).unwrap();
    pipe("lock");
    let directory = open(&scratch);
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (1, Some(saved(vec![]))));
}

#[tokio::test]
async fn the_end_of_a_file_tells_whether_it_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    directory.target(&zone(ID)).save(saved(vec![certificate("a")]), true).await;
    let path = scratch.path().join(FILE);
    let good = fs::read_to_string(&path).unwrap();
    let read = |bytes: &str| {
        fs::write(&path, bytes).unwrap();
        file::read::<SavedTarget>(&path).map(|_| ())
    };
    assert_eq!(read(&good), Ok(()));
    for (bytes, why) in [
        ("", "its end is missing"),
        (&good[1..], "not a state file"),
        (r#"{"format":"cloudflare-cert-exporter state, format "#, "its end is missing"),
        (
            "{\"format\":\"cloudflare-cert-exporter state, format 1000000000000000000000\"}\n",
            "format 1000000000000000000000",
        ),
        ("{\"format\":\"cloudflare-cert-exporter state, format 2\"whatever}\n", "format 2"),
        (r#"{"format":"cloudflare-cert-exporter state, format 1","#, "its end is missing"),
        (&good[..good.len() - 1], "its end is missing"),
        (&format!("{good}\n"), "its end is missing"),
    ] {
        let error = read(bytes).unwrap_err();
        assert!(error.contains(why), "{bytes}: {error}");
    }
}

#[tokio::test]
async fn texts_are_harmless_even_if_somebody_wrote_the_file_by_hand() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    directory.target(&zone(ID)).save(saved(vec![certificate("a")]), true).await;
    let path = scratch.path().join(FILE);
    let text = fs::read_to_string(&path).unwrap();
    let json = content(&text).replace("3bb94f", "\\u001b[31m\\u202e").replace("256c24", &"x".repeat(1_000_000));
    fs::write(&path, with_content(&json)).unwrap();
    let loaded = load(&directory).unwrap();
    let texts = &loaded.listing.as_ref().unwrap().certificates()[0].texts;
    assert_eq!(&texts[Field::SerialNumber], "\u{fffd}[31m\u{fffd}");
    assert_eq!(texts[Field::FingerprintSha256].chars().count(), MAX_TEXT_CHARS);
}

#[tokio::test]
async fn a_disk_that_fails_is_counted_and_nothing_else_and_it_recovers() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let slot = directory.target(&zone(ID));
    slot.save(saved(vec![certificate("a")]), true).await;
    // What is written goes to a device that is full.
    let temporary = scratch.path().join(format!("{FILE}.tmp"));
    symlink("/dev/full", &temporary).unwrap();
    slot.save(saved(vec![]), true).await;
    assert_eq!(directory.0.write_failures.get(), 1);
    assert_eq!(load(&directory), Some(saved(vec![certificate("a")])), "the last one that could be written is there");
    assert!(!temporary.exists() && !directory.0.queue.lock().unwrap().failing.is_empty());
    slot.save(saved(vec![]), true).await;
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (1, Some(saved(vec![]))));
    assert!(directory.0.queue.lock().unwrap().failing.is_empty());
    // As on a disk that nothing can be written to.
    fs::create_dir(&temporary).unwrap();
    slot.save(saved(vec![certificate("b")]), false).await;
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (2, Some(saved(vec![]))));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_tried_again_with_each_write() {
    let scratch = tempfile::tempdir().unwrap();
    let parent = scratch.path().join("a");
    fs::write(&parent, "in the way").unwrap();
    let directory = Directory::open(&parent.join("b"), IntCounter::new("failures", "Of a test.").unwrap()).unwrap();
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (1, None));
    directory.target(&zone(ID)).save(saved(vec![]), true).await;
    assert_eq!(directory.0.write_failures.get(), 2);
    fs::remove_file(&parent).unwrap();
    directory.target(&zone(ID)).save(saved(vec![]), true).await;
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (2, Some(saved(vec![]))));
    // Nor is one that somebody removes gone for good.
    fs::remove_dir_all(&parent).unwrap();
    directory.target(&zone(ID)).save(saved(vec![]), true).await;
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (2, Some(saved(vec![]))));
    // Another process found it empty, and has it now.
    fs::remove_dir_all(&parent).unwrap();
    let other = Directory::open(&parent.join("b"), IntCounter::new("failures", "Of a test.").unwrap()).unwrap();
    directory.target(&zone(ID)).save(saved(vec![]), true).await;
    assert_eq!((directory.0.write_failures.get(), load(&other)), (3, None));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_not_waited_for_long_and_the_newest_value_is_written_in_the_end() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let slot = directory.target(&zone(ID));
    let (release, hanging) = mpsc::channel::<()>();
    let hanging = Mutex::new(hanging);
    let hang = move |_: &Path| lock(&hanging).recv().map_err(io::Error::other);
    let hung = directory.0.put("hangs", Arc::new(hang));
    let started = Instant::now();
    let first = tokio::spawn({
        let slot = slot.clone();
        async move { slot.save(saved(vec![]), true).await }
    });
    tokio::task::yield_now().await;
    assert!(!first.is_finished());
    tokio::time::advance(PATIENCE).await;
    first.await.unwrap();
    assert_eq!((started.elapsed(), directory.0.write_failures.get()), (PATIENCE, 1));
    for failures in 2..10 {
        slot.save(saved(vec![certificate(&failures.to_string())]), true).await;
        assert_eq!((started.elapsed(), directory.0.write_failures.get()), (PATIENCE, failures), "not waited for again");
    }
    assert_eq!(load(&directory), None);
    release.send(()).unwrap();
    hung.await.unwrap();
    while load(&directory).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(load(&directory), Some(saved(vec![certificate("9")])));
    slot.save(saved(vec![]), true).await;
    assert!(!directory.0.queue.lock().unwrap().is_stuck && load(&directory) == Some(saved(vec![])));
}

#[tokio::test(start_paused = true)]
async fn a_slow_disk_that_answers_in_between_is_not_counted_as_a_failure() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let slot = directory.target(&zone(ID));
    let mut releases = Vec::new();
    let mut written = Vec::new();
    for file in ["first", "second"] {
        let (release, slow) = mpsc::channel::<()>();
        let slow = Mutex::new(slow);
        written.push(directory.0.put(file, Arc::new(move |_: &Path| lock(&slow).recv().map_err(io::Error::other))));
        releases.push(release);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    let saving = tokio::spawn({
        let slot = slot.clone();
        async move { slot.save(saved(vec![]), true).await }
    });
    tokio::task::yield_now().await;
    tokio::time::advance(PATIENCE / 2).await;
    releases[0].send(()).unwrap();
    written.remove(0).await.unwrap();
    tokio::time::advance(PATIENCE / 2).await;
    saving.await.unwrap();
    assert_eq!((started.elapsed(), directory.0.write_failures.get(), load(&directory)), (PATIENCE, 0, None));
    releases[1].send(()).unwrap();
    while load(&directory).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (0, Some(saved(vec![]))));
}

#[tokio::test]
async fn a_credential_does_not_wait_behind_zones() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let order = Arc::new(Mutex::new(Vec::new()));
    let write = |slot: Slot| {
        let order = Arc::clone(&order);
        directory.0.put(
            &slot.file,
            Arc::new(move |path: &Path| {
                lock(&order).push(path.file_name().unwrap().to_owned());
                Ok(())
            }),
        )
    };
    let zones = ["023e105f4ecef8ad9ca31a8372d0c353", "123e105f4ecef8ad9ca31a8372d0c353"]
        .map(|id| write(directory.target(&zone(id))));
    write(directory.credential("default")).await.unwrap();
    for zone in zones {
        zone.await.unwrap();
    }
    let order = lock(&order);
    assert!(order.len() == 3 && order[0].to_str().unwrap().starts_with("credential-"), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_written_is_tried_again() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    fs::create_dir(scratch.path().join(format!("{FILE}.tmp"))).unwrap();
    directory.target(&zone(ID)).save(saved(vec![]), true).await;
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (1, None));
    fs::remove_dir(scratch.path().join(format!("{FILE}.tmp"))).unwrap();
    tokio::time::sleep(TRY_AGAIN_AFTER + Duration::from_secs(1)).await;
    while load(&directory).is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!((directory.0.write_failures.get(), load(&directory)), (1, Some(saved(vec![]))));
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let first = open(&scratch);
    let in_use = Directory::open(scratch.path(), IntCounter::new("failures", "Of a test.").unwrap()).unwrap_err();
    let expected = format!(
        "the state directory {} is in use by another process (pid {}); stop that one, or give this one a directory of its own ([state] directory)",
        scratch.path().display(),
        std::process::id()
    );
    assert_eq!(in_use.to_string(), expected);
    drop(first);
    open(&scratch);
}

#[tokio::test]
async fn what_is_no_longer_configured_leaves() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let gone = "123e105f4ecef8ad9ca31a8372d0c353";
    for id in [ID, gone] {
        directory.target(&zone(id)).save(saved(vec![]), true).await;
        fs::write(scratch.path().join(format!("zone-client-{id}.state.tmp")), "half").unwrap();
        fs::write(scratch.path().join(format!("zone-client-{id}.state.unusable")), "odd").unwrap();
    }
    for name in ["default", "a/b", "../a b", &"ü".repeat(256), ""] {
        directory.credential(name).save(name.to_owned(), false).await;
        assert_eq!(directory.credential(name).load(|_: &String| true).as_deref(), Some(name));
    }
    fs::write(scratch.path().join("notes.txt"), "not ours").unwrap();
    directory.keep_only([directory.target(&zone(ID)), directory.credential("default")]);
    let kept = ["credential-default-e35e00df.state", "lock", "notes.txt", FILE, &format!("{FILE}.unusable")];
    assert_eq!(names(&scratch), kept);
    assert_eq!(directory.0.write_failures.get(), 0);
}

fn any_certificate() -> impl Strategy<Value = Certificate> {
    let status = proptest::sample::select(Kind::Client.statuses());
    let expiry = prop_oneof![
        (-62_135_596_800..253_402_300_800_i64).prop_map(Expiry::At),
        Just(Expiry::Missing),
        Just(Expiry::Invalid),
        Just(Expiry::NoCertificate)
    ];
    let texts = proptest::array::uniform18(any::<String>().prop_map(|text| clean(&text)));
    (status, expiry, any::<Option<u32>>(), texts).prop_map(|(status, expiry, not_before, texts)| Certificate {
        texts: Texts::from(Field::ALL.map(|field| (field, &*texts[field as usize]))),
        status,
        expiry,
        not_before: not_before.map(i64::from),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_listing_is_the_same_after_a_restart(certificates in proptest::collection::vec(any_certificate(), 0..20), more: bool) {
        let mut listing = Listing::new(certificates);
        listing.exceeds_total_count = more;
        let zone = SavedTarget { listing: Some(Arc::new(listing)), ..saved(vec![]) };
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("x");
        file::replace(&path, &zone, false).unwrap();
        prop_assert_eq!(file::read::<SavedTarget>(&path).unwrap(), Some(zone));
    }
}

#[tokio::test]
async fn what_is_forgotten_does_not_come_back_by_a_write_that_waits() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = open(&scratch);
    let slot = directory.target(&zone(ID));
    slot.save(saved(vec![certificate("a")]), true).await;
    assert!(load(&directory).is_some());
    // Begun and given up, as by a poll of a zone that is gone.
    assert!(futures_util::FutureExt::now_or_never(slot.save(saved(vec![]), true)).is_none());
    slot.forget();
    // In its turn after those.
    directory.credential("default").save(String::new(), false).await;
    while load(&directory).is_some() {
        tokio::task::yield_now().await;
    }
    // And it can be there again.
    slot.save(saved(vec![]), true).await;
    assert!(load(&directory).is_some());
}

#[tokio::test]
async fn kinds_of_one_zone_are_kept_apart() {
    let scratch = TempDir::new().unwrap();
    let [client, origin_ca] = [Kind::Client, Kind::OriginCa].map(two_kinds::zone);
    let directory = open(&scratch);
    for (zone, id) in [(&client, "of-client"), (&origin_ca, "of-origin-ca")] {
        directory.target(zone).save(SavedTarget { kind: zone.kind, ..saved(vec![certificate(id)]) }, true).await;
    }
    let id = |zone: &Target| {
        let saved = directory.target(zone).load(|saved: &SavedTarget| saved.is_of(zone));
        saved.map(|saved| saved.listing.as_ref().unwrap().certificates()[0].id().to_owned())
    };
    assert_eq!([id(&client), id(&origin_ca)], [Some("of-client".to_owned()), Some("of-origin-ca".to_owned())]);
    directory.keep_only([directory.target(&client)]);
    assert_eq!([id(&client).is_some(), id(&origin_ca).is_some()], [true, false]);
}
