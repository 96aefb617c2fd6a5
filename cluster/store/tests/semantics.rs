//! What every store must do, run against each of them; then what only the durable one must.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use std::sync::Arc;

use futures::StreamExt as _;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Revision};
use kedge_store::sqlite::Options;
use kedge_store::{Draft, Error, Expect, Listing, Memory, Range, Sqlite, Store, Write};
use serde_json::{Value, json};

fn key(resource: GroupResource, name: &str) -> Key {
    Key::new(resource, "default", name)
}

fn draft(key: &Key, data: &str) -> Draft {
    let value = json!({"apiVersion": "v1", "kind": "Thing", "metadata": {"name": &*key.name, "namespace": &*key.namespace}, "data": data});
    Draft::encode(key.clone(), &value).unwrap()
}

fn options() -> Options {
    Options { volatile: vec![known::LEASES], ..Options::default() }
}

fn open(dir: &tempfile::TempDir) -> Sqlite {
    Sqlite::open(dir.path().join("state.db"), options()).unwrap()
}

/// The old handle's thread lets go of the file a moment after the handle is gone.
async fn reopen(dir: &tempfile::TempDir) -> Sqlite {
    for _ in 0..100 {
        match Sqlite::open(dir.path().join("state.db"), options()) {
            Ok(store) => return store,
            Err(Error::Open { .. }) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the store was not let go of");
}

async fn each(test: impl AsyncFn(Arc<dyn Store>)) {
    test(Arc::new(Memory::new())).await;
    let dir = tempfile::tempdir().unwrap();
    test(Arc::new(open(&dir))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_compare_and_swap() {
    each(async |store| {
        for resource in [known::CONFIG_MAPS, known::LEASES] {
            let key = key(resource, "a");
            let first = store.commit(Expect::Absent, Write::Put(draft(&key, "1"))).await.unwrap();
            let again = store.commit(Expect::Absent, Write::Put(draft(&key, "2"))).await;
            assert!(matches!(again, Err(Error::Conflict { found: Some(r), .. }) if r == first.revision));
            let swap = Expect::Revision(first.revision);
            let second = store.commit(swap, Write::Put(draft(&key, "3"))).await.unwrap();
            assert!(second.revision > first.revision);
            assert!(store.commit(swap, Write::Delete(key.clone())).await.is_err());
            let found = store.get(&key).await.unwrap().unwrap();
            assert_eq!(found.revision, second.revision);
            assert_eq!(found.decode::<Value>().unwrap()["data"], "3");
            let gone = store.commit(Expect::Revision(second.revision), Write::Delete(key.clone())).await.unwrap();
            assert!(gone.revision > second.revision && gone.object.is_none());
            assert!(store.get(&key).await.unwrap().is_none());
            let missing = store.commit(Expect::Revision(second.revision), Write::Delete(key)).await;
            assert!(matches!(missing, Err(Error::Conflict { found: None, .. })));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_after_a_list_misses_nothing_and_is_in_order() {
    each(async |store| {
        for n in 0..20 {
            let resource = if n % 3 == 0 { known::LEASES } else { known::CONFIG_MAPS };
            let key = key(resource, &format!("before-{n}"));
            store.commit(Expect::Absent, Write::Put(draft(&key, ""))).await.unwrap();
        }
        let Listing { revision, objects, .. } = store.list(&Range::All).await.unwrap();
        assert_eq!(objects.len(), 20);
        assert_eq!(store.list(&Range::Resource(known::LEASES)).await.unwrap().objects.len(), 7);
        assert!(store.list(&Range::Namespace(known::LEASES, "other".into())).await.unwrap().objects.is_empty());
        let writes = (0..40).map(|n| {
            let store = store.clone();
            async move {
                let resource = if n % 3 == 0 { known::LEASES } else { known::CONFIG_MAPS };
                let key = key(resource, &format!("after-{n}"));
                store.commit(Expect::Absent, Write::Put(draft(&key, ""))).await.unwrap().revision
            }
        });
        let mut acknowledged = futures::future::join_all(writes).await;
        acknowledged.sort();
        let seen: Vec<_> = store.watch(revision).await.unwrap().take(40).map(|e| e.revision).collect().await;
        assert_eq!(seen, acknowledged);
        assert!(seen.is_sorted());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_from_too_long_ago_is_refused() {
    each(async |store| {
        let start = store.list(&Range::All).await.unwrap().revision;
        for n in 0..300 {
            let key = key(known::LEASES, &format!("l{n}"));
            store.commit(Expect::Absent, Write::Put(draft(&key, ""))).await.unwrap();
        }
        assert!(matches!(store.watch(start).await, Err(Error::Compacted { asked, .. }) if asked == start));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_is_durable_and_never_turns_back_the_revision() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let kept = key(known::SECRETS, "kept");
    let custom = key(GroupResource { group: "example.com".into(), resource: "widgets".into() }, "w");
    let written = store.commit(Expect::Absent, Write::Put(draft(&kept, "x"))).await.unwrap();
    store.commit(Expect::Absent, Write::Put(draft(&custom, "y"))).await.unwrap();
    let mut last = Revision(0);
    for n in 0..100 {
        let lease = key(known::LEASES, &format!("l{n}"));
        last = store.commit(Expect::Absent, Write::Put(draft(&lease, ""))).await.unwrap().revision;
    }
    drop(store);
    let store = reopen(&dir).await;
    let Listing { revision, objects, .. } = store.list(&Range::All).await.unwrap();
    assert!(revision >= last);
    assert_eq!(objects.iter().map(|o| o.key.clone()).collect::<Vec<_>>(), [kept.clone(), custom]);
    let found = store.get(&kept).await.unwrap().unwrap();
    assert_eq!(found.revision, written.revision);
    assert_eq!(found.json, written.object.unwrap().json);
    let lease = key(known::LEASES, "l0");
    assert!(store.commit(Expect::Absent, Write::Put(draft(&lease, ""))).await.unwrap().revision > last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volatile_writes_leave_the_disk_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut found = store.commit(Expect::Absent, Write::Put(draft(&key(known::LEASES, "l"), ""))).await.unwrap();
    let sizes = || {
        let files = std::fs::read_dir(dir.path()).unwrap();
        files.map(|f| f.unwrap().metadata().unwrap()).map(|m| (m.len(), m.modified().unwrap())).collect::<Vec<_>>()
    };
    let before = sizes();
    for n in 0..200 {
        let write = Write::Put(draft(&key(known::LEASES, "l"), &n.to_string()));
        found = store.commit(Expect::Revision(found.revision), write).await.unwrap();
    }
    assert_eq!(sizes(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_the_write_only_and_is_recovered_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let store = Sqlite::open(&path, Options { max_bytes: Some(64 << 10), ..options() }).unwrap();
    let big = "x".repeat(8 << 10);
    let mut written = Vec::new();
    let full = loop {
        let key = key(known::CONFIG_MAPS, &format!("c{}", written.len()));
        match store.commit(Expect::Absent, Write::Put(draft(&key, &big))).await {
            Ok(commit) => written.push((key, commit.revision)),
            Err(error) => break error,
        }
        assert!(written.len() < 64);
    };
    assert!(matches!(&full, Error::Full { path: p } if *p == path), "{full}");
    assert!(full.to_string().contains("state.db"));
    assert!(written.len() > 2);
    assert_eq!(store.list(&Range::All).await.unwrap().objects.len(), written.len());
    let lease = key(known::LEASES, "still-works");
    store.commit(Expect::Absent, Write::Put(draft(&lease, ""))).await.unwrap();
    for (key, revision) in written.drain(..2) {
        store.commit(Expect::Revision(revision), Write::Delete(key)).await.unwrap();
    }
    let after = key(known::CONFIG_MAPS, "after");
    store.commit(Expect::Absent, Write::Put(draft(&after, &big))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    std::fs::write(&path, vec![7u8; 8192]).unwrap();
    let error = Sqlite::open(&path, options()).err().unwrap();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("state.db"));

    std::fs::remove_file(&path).unwrap();
    let store = open(&dir);
    for n in 0..50 {
        let key = key(known::CONFIG_MAPS, &format!("c{n}"));
        store.commit(Expect::Absent, Write::Put(draft(&key, &"x".repeat(3000)))).await.unwrap();
    }
    drop(store);
    drop(reopen(&dir).await);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[4096..middle].fill(0xA5);
    std::fs::write(&path, bytes).unwrap();
    let error = match Sqlite::open(&path, options()) {
        Err(error) => error,
        Ok(store) => store.list(&Range::All).await.unwrap_err(),
    };
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_and_a_missing_folder_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let _held = open(&dir);
    let error = Sqlite::open(dir.path().join("state.db"), options()).err().unwrap();
    assert!(error.to_string().contains("another process holds it"), "{error}");
    let error = Sqlite::open(dir.path().join("no/such/state.db"), options()).err().unwrap();
    assert!(matches!(error, Error::Open { .. }) && error.to_string().contains("no/such/state.db"), "{error}");
}
