//! Files that their disk changed: whatever byte it was, either nothing is lost or it is said, kept aside, and returned from.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use kedge_api::resource::known;
use kedge_api::{Key, Revision};
use kedge_store::sqlite::{Damage, Options, inspect, restore};
use kedge_store::{Draft, Error, Expect, Range, Sqlite, Store as _, Write};
use serde_json::json;

fn write(name: &str, data: &str) -> Write {
    let key = Key::new(known::CONFIG_MAPS, "default", name);
    let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": data}});
    Write::Put(Draft::encode(key, &value).unwrap())
}

async fn fill(store: &Sqlite, names: std::ops::Range<usize>) -> Revision {
    let mut last = Revision(0);
    for n in names {
        let put = write(&format!("c{n}"), &"x".repeat(n * 37 % 3000));
        last = store.commit(Expect::Absent, put).await.unwrap().revision;
    }
    last
}

async fn content(store: &Sqlite) -> Vec<(String, Vec<u8>)> {
    let listing = store.list(&Range::All).await.unwrap();
    listing.objects.iter().map(|o| (o.key.to_string(), o.json.to_vec())).collect()
}

/// When the old handle's thread has let go of the file.
async fn open(path: &Path, snapshots: &[PathBuf]) -> Result<(Sqlite, Option<Damage>), Error> {
    for _ in 0..500 {
        match Sqlite::open_or_return(path, Options::default(), || snapshots.to_vec()) {
            Err(Error::Open { what, .. }) if what.contains("another process") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
    panic!("the store was not let go of");
}

/// Lets go of the file, and waits until that is so.
async fn close(store: Sqlite, path: &Path) {
    drop(store);
    let log = PathBuf::from(format!("{}-wal", path.display()));
    while log.exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Filled {
    dir: tempfile::TempDir,
    path: PathBuf,
    snapshot: PathBuf,
    /// What the snapshot has, what the database has, and its newest revision.
    kept: Vec<(String, Vec<u8>)>,
    all: Vec<(String, Vec<u8>)>,
    newest: Revision,
    bytes: Vec<u8>,
}

async fn filled() -> Filled {
    let dir = tempfile::tempdir().unwrap();
    let (path, snapshot) = (dir.path().join("cluster.db"), dir.path().join("kept.db"));
    let (store, damage) = open(&path, &[]).await.unwrap();
    assert!(damage.is_none());
    fill(&store, 0..40).await;
    let kept = content(&store).await;
    let summary = store.snapshot(&snapshot).await.unwrap();
    assert_eq!((summary.objects, summary.encrypted), (40, 0));
    let newest = fill(&store, 40..60).await;
    let all = content(&store).await;
    assert_eq!(store.check().await.unwrap().revision, newest);
    // The log is gone: the file is all there is.
    close(store, &path).await;
    let bytes = std::fs::read(&path).unwrap();
    Filled { dir, path, snapshot, kept, all, newest, bytes }
}

/// Opens the file as it is now; true if it was found damaged.
async fn is_noticed(filled: &Filled) -> bool {
    let Filled { path, snapshot, kept, all, newest, .. } = filled;
    let damaged = std::fs::read(path).unwrap();
    match open(path, std::slice::from_ref(snapshot)).await {
        Ok((store, None)) => {
            assert!(content(&store).await == *all, "something was lost and nobody was told");
            close(store, path).await;
            false
        }
        Ok((store, Some(damage))) => {
            assert!(content(&store).await == *kept, "what was returned to is not the snapshot");
            assert_eq!(damage.snapshot.as_ref(), Some(snapshot));
            assert!(std::fs::read(&damage.aside).unwrap() == damaged, "what was set aside is not what was there");
            assert!(damage.to_string().contains("cluster.db.damaged-"), "{damage}");
            let next = store.commit(Expect::Absent, write("after", "")).await.unwrap().revision;
            assert!(next > *newest, "revision {next} was there before");
            close(store, path).await;
            true
        }
        // A header that says it is of a later program: refused, and left as it is.
        Err(Error::Open { what, .. }) if what.contains("layout") => {
            assert!(std::fs::read(path).unwrap() == damaged);
            false
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_changed_byte_loses_anything_in_silence() {
    let filled = filled().await;
    // Every byte of the header and of the schema's beginning, and some of every page.
    let positions = (0..120).chain((120..filled.bytes.len()).step_by(1999));
    let (mut noticed, mut tried) = (0, 0);
    for at in positions {
        let mut bytes = filled.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&filled.path, bytes).unwrap();
        tried += 1;
        noticed += usize::from(is_noticed(&filled).await);
    }
    assert!(noticed * 3 > tried, "only {noticed} of {tried} were noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_cut_is_noticed() {
    let filled = filled().await;
    for length in [0, 1, 99, 4096, filled.bytes.len() / 2, filled.bytes.len() - 4096] {
        std::fs::write(&filled.path, &filled.bytes[..length]).unwrap();
        assert!(is_noticed(&filled).await, "{length} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_sound_snapshot_it_begins_anew_above_every_revision() {
    let filled = filled().await;
    let mut bytes = filled.bytes.clone();
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0xa5);
    std::fs::write(&filled.path, &bytes).unwrap();
    std::fs::write(&filled.snapshot, &bytes).unwrap();
    let (store, damage) = open(&filled.path, std::slice::from_ref(&filled.snapshot)).await.unwrap();
    let damage = damage.unwrap();
    assert!(damage.snapshot.is_none() && damage.to_string().contains("begins anew"), "{damage}");
    assert!(std::fs::read(&damage.aside).unwrap() == bytes);
    assert!(content(&store).await.is_empty());
    assert!(fill(&store, 0..1).await > filled.newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_whole_while_writes_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&dir.path().join("cluster.db"), &[]).await.unwrap().0);
    let writer = {
        let store = store.clone();
        tokio::spawn(async move { fill(&store, 0..300).await })
    };
    let mut last = 0;
    for n in 0..5 {
        let to = dir.path().join(format!("{n}.db"));
        let summary = store.snapshot(&to).await.unwrap();
        // Written one after another, so what is there has no gap.
        let (copy, _) = open(&to, &[]).await.unwrap();
        let revisions: Vec<u64> = {
            let mut all: Vec<u64> =
                copy.list(&Range::All).await.unwrap().objects.iter().map(|o| o.revision.0).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(revisions.len() as u64, summary.objects);
        assert!(revisions.iter().zip(revisions.iter().skip(1)).all(|(a, b)| a + 1 == *b));
        assert!(summary.objects >= last);
        last = summary.objects;
    }
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_replaces_what_nobody_uses_and_never_turns_revisions_back() {
    let filled = filled().await;
    let Filled { dir, path, snapshot, kept, newest, .. } = &filled;
    let (running, _) = open(path, &[]).await.unwrap();
    let refused = restore(snapshot, path).unwrap_err();
    assert!(refused.to_string().contains("another process holds it"), "{refused}");
    // The log of what is replaced must not be taken for the new one's.
    fill(&running, 60..70).await;
    drop(running);
    let aside = loop {
        match restore(snapshot, path) {
            Ok(aside) => break aside.unwrap(),
            Err(error) => assert!(error.to_string().contains("another process"), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(aside.to_str().unwrap().contains("cluster.db.replaced-"));
    assert_eq!(inspect(&aside).unwrap().objects, 70);
    let (store, damage) = open(path, &[]).await.unwrap();
    assert!(damage.is_none() && content(&store).await == *kept);
    let next = fill(&store, 100..101).await;
    assert!(next.0 > newest.0 + 1_000_000);
    assert!(matches!(store.watch(*newest).await, Err(Error::Compacted { .. })));

    let elsewhere = dir.path().join("elsewhere.db");
    assert_eq!(restore(snapshot, &elsewhere).unwrap(), None);
    assert!(content(&open(&elsewhere, &[]).await.unwrap().0).await == *kept);
    let mut broken = std::fs::read(snapshot).unwrap();
    let middle = broken.len() / 2;
    broken[4096..middle].fill(0xa5);
    let broken_snapshot = dir.path().join("broken.db");
    std::fs::write(&broken_snapshot, broken).unwrap();
    assert!(restore(&broken_snapshot, &dir.path().join("third.db")).is_err());
    assert!(!dir.path().join("third.db").exists());
}
