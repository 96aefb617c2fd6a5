//! What lies in the files: nothing that was to be encrypted, whatever was there before and whenever the process ended.
#![expect(clippy::unwrap_used, reason = "tests and their helpers")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kedge_api::resource::known::{CONFIG_MAPS, SECRETS};
use kedge_api::{GroupResource, Key, Revision};
use kedge_encrypt::{Cipher, Keyring, Keys, NamedKey, Pattern, Provider};
use kedge_store::sqlite::{Options, inspect};
use kedge_store::{Draft, Error, Expect, Range, Resealed, Sqlite, Store as _, Write};
use serde_json::json;

const OLD: (&str, u8) = ("old", 1);
const NEW: (&str, u8) = ("new", 2);

fn ring(keys: &[(&str, u8)], plain_too: bool) -> Arc<Keyring> {
    let keys = keys.iter().map(|(name, byte)| NamedKey::new(Cipher::Secretbox, name, &[*byte; 32]).unwrap());
    let mut providers = vec![Arc::new(Provider::Keys(Cipher::Secretbox, keys.collect()))];
    providers.extend(plain_too.then(|| Arc::new(Provider::Identity)));
    Arc::new(Keyring::new([(Pattern::parse("secrets"), providers)]).unwrap())
}

/// The handle before may still hold the file for a moment.
async fn open(path: &Path, keys: &Arc<Keys>) -> Sqlite {
    loop {
        let opened = Sqlite::open(path, Options { keys: keys.clone(), ..Options::default() });
        if !matches!(&opened, Err(Error::Open { what, .. }) if what.contains("another process holds it")) {
            return opened.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn key(resource: GroupResource, name: &str) -> Key {
    Key::new(resource, "n", name)
}

fn put(resource: GroupResource, name: &str, text: &str) -> Write {
    let value = json!({"metadata": {"name": name, "namespace": "n"}, "data": text.repeat(40)});
    Write::Put(Draft::encode(key(resource, name), &value).unwrap())
}

/// How often `text` lies in the database, its log, or anything else beside it.
fn found(dir: &Path, text: &str) -> usize {
    let files = std::fs::read_dir(dir).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.map(|bytes| bytes.windows(text.len()).filter(|part| *part == text.as_bytes()).count()).sum()
}

async fn content(store: &Sqlite) -> Vec<(Key, Revision, Vec<u8>)> {
    let listing = store.list(&Range::All).await.unwrap();
    assert_eq!(listing.unreadable, []);
    listing.objects.iter().map(|o| (o.key.clone(), o.revision, o.json.to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lay_there_in_the_clear_is_gone_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let (path, keys) = (dir.path().join("state.db"), Arc::<Keys>::default());
    let store = open(&path, &keys).await;
    let mut revisions = Vec::new();
    for n in 0..300 {
        let written = store.commit(Expect::Absent, put(SECRETS, &format!("s{n}"), "hush")).await.unwrap();
        store.commit(Expect::Absent, put(CONFIG_MAPS, &format!("c{n}"), "loud")).await.unwrap();
        revisions.push(written.revision);
    }
    keys.replace(ring(&[NEW], true));
    // A client may be earlier at some than whoever reseals.
    let changed = store.commit(Expect::Revision(revisions[0]), put(SECRETS, "s0", "psst")).await.unwrap();
    store.commit(Expect::Revision(revisions[1]), Write::Delete(key(SECRETS, "s1"))).await.unwrap();
    let before = content(&store).await;
    let mut events = store.watch(changed.revision).await.unwrap();
    events.next().await.unwrap();
    assert!(found(dir.path(), "hushhush") > 0 && found(dir.path(), "psstpsst") == 0);

    assert_eq!(store.reseal().await.unwrap(), Resealed { rewritten: 298, unreadable: vec![] });
    assert_eq!((found(dir.path(), "hush"), found(dir.path(), "psst")), (0, 0));
    assert!(found(dir.path(), "loud") > 0);
    assert_eq!(content(&store).await, before);
    assert_eq!(store.reseal().await.unwrap(), Resealed::default(), "nothing is left to do");
    let next = store.commit(Expect::Absent, put(SECRETS, "later", "hush")).await.unwrap();
    assert_eq!(events.next().await.unwrap().revision, next.revision, "no one who watches saw anything of it");
    let copy = dir.path().join("copy.db");
    assert_eq!(store.snapshot(&copy).await.unwrap().encrypted, 300);
    assert_eq!((found(dir.path(), "hush"), inspect(&copy).unwrap().encrypted), (0, 300));
    drop(store);
    assert_eq!(content(&open(&path, &keys).await).await.len(), 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_that_is_owed_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (path, keys) = (dir.path().join("state.db"), Arc::<Keys>::default());
    let store = open(&path, &keys).await;
    let written = store.commit(Expect::Absent, put(SECRETS, "a", "hush")).await.unwrap();
    keys.replace(ring(&[NEW], true));
    store.commit(Expect::Revision(written.revision), Write::Delete(key(SECRETS, "a"))).await.unwrap();
    drop(store);
    let store = open(&path, &keys).await;
    assert!(found(dir.path(), "hush") > 0);
    assert_eq!(store.reseal().await.unwrap(), Resealed::default());
    assert_eq!(found(dir.path(), "hush"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_missing_key_hides_is_named_and_hinders_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, keys) = (dir.path().join("state.db"), Arc::new(Keys::new(ring(&[OLD], false))));
    let store = open(&path, &keys).await;
    let written = store.commit(Expect::Absent, put(SECRETS, "a", "hush")).await.unwrap();
    store.commit(Expect::Absent, put(CONFIG_MAPS, "c", "loud")).await.unwrap();
    drop(store);
    let without = [ring(&[NEW], true), ring(&[("old", 9)], true), Arc::default()];
    let whys = [
        "no matching key was found for the provided Secretbox transformer",
        "output array was not large enough for encryption",
        "no matching prefix found",
    ];
    for (others, (ring, why)) in (1..).zip(without.into_iter().zip(whys)) {
        keys.replace(ring);
        let store = open(&path, &keys).await;
        let listing = store.list(&Range::All).await.unwrap();
        let [hidden] = listing.unreadable.as_slice() else { panic!("{listing:?}") };
        assert_eq!((&hidden.key, hidden.why.as_str()), (&key(SECRETS, "a"), why));
        assert_eq!(hidden.sealed_by.as_deref(), Some("secretbox key \"old\""));
        assert_eq!(listing.objects.len(), others);
        let told = store.get(&key(SECRETS, "a")).await.unwrap_err().to_string();
        assert_eq!(told, format!("unable to transform key \"/registry/secrets/n/a\": {why}"));
        let resealed = store.reseal().await.unwrap();
        assert_eq!((resealed.rewritten, resealed.unreadable), (0, vec![hidden.clone()]));
        let again = store.commit(Expect::Absent, put(SECRETS, "a", "x")).await.unwrap_err();
        assert!(matches!(again, Error::Conflict { found: Some(revision), .. } if revision == written.revision));
        let name = format!("c-{why}");
        store.commit(Expect::Absent, put(CONFIG_MAPS, &name, "loud")).await.unwrap();
        store.check().await.unwrap();
    }
    keys.replace(ring(&[NEW, OLD], false));
    let store = open(&path, &keys).await;
    assert_eq!(content(&store).await.len(), 5);
    assert_eq!(store.reseal().await.unwrap().rewritten, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_had_begun_to_write_goes_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let keys = Arc::new(Keys::new(ring(&[NEW], false)));
    let store = open(&path, &keys).await;
    store.commit(Expect::Absent, put(SECRETS, "a", "quiet")).await.unwrap();
    let before = content(&store).await;
    let log = dir.path().join("state.db-wal");
    let mut written = std::fs::read(&log).unwrap();
    assert!(!written.is_empty());
    drop(store);
    drop(open(&path, &keys).await);
    // As the log is when a process ends within a transaction: what was committed, and pages that no commit follows.
    written.extend("hush ".repeat(5000).bytes());
    std::fs::write(&log, written).unwrap();
    let store = open(&path, &keys).await;
    assert_eq!(store.reseal().await.unwrap().rewritten, 0);
    assert_eq!(found(dir.path(), "hush"), 0);
    assert_eq!(content(&store).await, before);
}

const DATABASE: &str = "KEDGE_STORE_RESEAL_DATABASE";

/// Not a test of its own: the child that the test below kills. Turns the keys over and over, and says when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_keys_until_killed() {
    let Ok(path) = std::env::var(DATABASE) else { return };
    let keys = Arc::new(Keys::new(ring(&[OLD, NEW], true)));
    let store = open(Path::new(&path), &keys).await;
    for turn in 0_u32.. {
        println!("turn {turn}");
        let order = if turn % 2 == 0 { [NEW, OLD] } else { [OLD, NEW] };
        keys.replace(ring(&order, true));
        store.reseal().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_keys_turn_loses_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    let plain = open(&path, &Arc::default()).await;
    for n in 0..600 {
        plain.commit(Expect::Absent, put(SECRETS, &format!("s{n}"), "hush")).await.unwrap();
    }
    let before = content(&plain).await;
    drop(plain);
    drop(open(&path, &Arc::default()).await);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["turns_keys_until_killed", "--exact", "--nocapture", "--test-threads=1"])
            .env(DATABASE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The later rounds let it turn more often.
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut turns = lines.filter(|line| line.contains("turn "));
        assert!(turns.nth(round / 4).is_some());
        std::thread::sleep(Duration::from_millis(7 * round as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let keys = Arc::new(Keys::new(ring(&[NEW, OLD], true)));
        let store = open(&path, &keys).await;
        assert_eq!(content(&store).await, before, "round {round}");
        if round % 3 == 2 {
            store.reseal().await.unwrap();
            assert_eq!(found(dir.path(), "hush"), 0, "round {round}");
            assert_eq!(found(dir.path(), "k8s:enc:secretbox:v1:old:"), 0, "round {round}");
            keys.replace(ring(&[NEW], false));
            assert_eq!(content(&store).await, before, "round {round}");
        }
    }
}
