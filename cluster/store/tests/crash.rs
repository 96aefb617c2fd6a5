//! A process killed in the middle of its writes: what it was told is written, is.
#![expect(clippy::unwrap_used, reason = "tests and their helpers")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use kedge_api::resource::known;
use kedge_api::{Key, Revision};
use kedge_store::{Draft, Expect, Listing, Range, Sqlite, Store as _, Write, sqlite::Options};
use serde_json::json;

const DATABASE: &str = "KEDGE_STORE_CRASH_DATABASE";
const WRITERS: usize = 8;

fn open(path: &std::path::Path) -> Sqlite {
    Sqlite::open(path, Options { volatile: vec![known::LEASES], ..Options::default() }).unwrap()
}

/// Not a test of its own: the child that the test below kills. Prints `name revision` after each acknowledgement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(path) = std::env::var(DATABASE) else { return };
    let store = std::sync::Arc::new(open(path.as_ref()));
    let tasks = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0u64.. {
                let resource = if n % 4 == 3 { known::LEASES } else { known::CONFIG_MAPS };
                let key = Key::new(resource, "default", &format!("{}-{writer}-{n}", std::process::id()));
                let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": &*key.name}});
                let write = Write::Put(Draft::encode(key.clone(), &value).unwrap());
                let revision = store.commit(Expect::Absent, write).await.unwrap().revision;
                println!("ack {} {} {revision}", key.resource, key.name);
            }
        })
    });
    futures::future::join_all(tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let mut acknowledged = Vec::new();
    let mut newest = Revision(0);
    for crash_after in [1, 2, 7, 40, 111, 203] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DATABASE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acks = Vec::new();
        for line in lines.by_ref() {
            acks.extend(parse(&line.unwrap()));
            if acks.len() == crash_after {
                break;
            }
        }
        child.kill().unwrap();
        // What was still in the pipe was acknowledged, too.
        acks.extend(lines.map_while(Result::ok).filter_map(|line| parse(&line)));
        child.wait().unwrap();
        assert!(acks.len() >= crash_after);
        assert!(acks.iter().all(|(.., r)| *r > newest), "a revision was handed out twice");
        newest = acks.iter().map(|(.., r)| *r).max().unwrap();
        acknowledged.extend(acks.into_iter().filter(|(resource, ..)| resource == "configmaps"));

        let store = open(&path);
        let Listing { revision, objects, .. } = store.list(&Range::All).await.unwrap();
        assert!(revision >= newest);
        for (_, name, revision) in &acknowledged {
            let found = objects.iter().find(|o| *o.key.name == **name).unwrap_or_else(|| panic!("{name} is lost"));
            assert_eq!(found.revision, *revision);
        }
        drop(store);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn parse(line: &str) -> Option<(String, String, Revision)> {
    let mut words = line.strip_prefix("ack ")?.split(' ');
    let (resource, name, revision) = (words.next()?, words.next()?, words.next()?);
    Some((resource.to_owned(), name.to_owned(), Revision(revision.parse().ok()?)))
}
