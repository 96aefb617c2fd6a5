//! The cache against a store: what it shows, when, and what it says when history is gone.
#![expect(clippy::unwrap_used, reason = "tests and their helpers")]

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt as _;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Informer as _, Key, Revision, Snapshot};
use kedge_store::{Draft, Expect, Memory, Store, Write};
use kedge_watch::{Cache, Changes, Ended, Error};
use proptest::prelude::*;
use serde_json::json;

const RESOURCES: [GroupResource; 3] = [known::PODS, known::CONFIG_MAPS, known::LEASES];

struct World {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
}

impl World {
    async fn new() -> Self {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let cache = Cache::start(store.clone()).await.unwrap();
        Self { store, cache }
    }

    /// Creates, replaces or deletes; returns the revision of it.
    async fn write(&self, resource: &GroupResource, name: &str, size: Option<usize>) -> Option<Revision> {
        let key = Key::new(resource.clone(), "default", name);
        let old = self.cache.snapshot().get(&key).map(|o| o.revision);
        let write = match size {
            Some(size) => {
                let value = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": name, "namespace": "default"}, "data": "x".repeat(size)});
                Write::Put(Draft::encode(key, &value).unwrap())
            }
            None if old.is_none() => return None,
            None => Write::Delete(key),
        };
        let revision = self.store.commit(old.map_or(Expect::Absent, Expect::Revision), write).await.unwrap().revision;
        self.cache.reach(revision).await.unwrap();
        Some(revision)
    }
}

type Names = BTreeMap<(GroupResource, Arc<str>), Revision>;

fn names(snapshot: &Snapshot, resources: &[GroupResource]) -> Names {
    let of = |r: &GroupResource| {
        snapshot.list(r, "").map(|o| ((o.key.resource.clone(), o.key.name.clone()), o.revision)).collect::<Vec<_>>()
    };
    resources.iter().flat_map(of).collect()
}

/// Reads all that is there, in whatever portions, onto `state`.
async fn replay(mut changes: Changes, state: &mut Names) -> Revision {
    let mut last = Revision::default();
    loop {
        match changes.revision().unwrap() {
            Some(revision) => return revision,
            None => {
                let change = changes.next().await.unwrap();
                assert!(change.revision > last, "out of order");
                last = change.revision;
                let name = (change.key.resource.clone(), change.key.name.clone());
                assert_eq!(state.get(&name).copied(), change.before.as_ref().map(|o| o.revision));
                match &change.after {
                    Some(object) => state.insert(name, object.revision),
                    None => state.remove(&name),
                };
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// From every point in history that is still known, for every choice of resources: replaying gives the present, and undoing gives the past.
    #[test]
    fn replaying_a_watch_gives_the_state(
        writes in prop::collection::vec((0usize..3, 0u8..6, prop::option::weighted(0.7, 0usize..10)), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut past = vec![world.cache.snapshot()];
            for (resource, name, size) in writes {
                world.write(&RESOURCES[resource], &format!("n{name}"), size).await;
                past.push(world.cache.snapshot());
            }
            for (resource, then) in RESOURCES.iter().flat_map(|r| past.iter().map(move |then| (r, then))) {
                let again = world.cache.at(resource, then.revision).unwrap();
                let one = std::slice::from_ref(resource);
                assert_eq!((again.revision, names(&again, one)), (then.revision, names(then, one)));
            }
            let now = world.cache.snapshot();
            for chosen in [&RESOURCES[..], &RESOURCES[..1], &RESOURCES[1..], &[]] {
                let all = if chosen.is_empty() { &RESOURCES[..] } else { chosen };
                for then in &past {
                    let changes = world.cache.watch(chosen, then.revision).unwrap();
                    let mut state = names(then, all);
                    assert_eq!(replay(changes, &mut state).await, now.revision);
                    assert_eq!(state, names(&now, all));
                }
            }
        });
    }
}

#[tokio::test]
async fn a_subscription_starts_where_its_snapshot_ends() {
    let world = World::new().await;
    world.write(&known::PODS, "old", Some(1)).await;
    let (snapshot, mut stream) = world.cache.subscribe(&[known::PODS]);
    assert_eq!(snapshot.len(&known::PODS), 1);
    let waiting = tokio::spawn(async move { (stream.next().await.unwrap(), stream) });
    tokio::task::yield_now().await;
    world.write(&known::CONFIG_MAPS, "other", Some(1)).await;
    world.write(&known::PODS, "new", Some(1)).await;
    let (change, mut stream) = waiting.await.unwrap();
    assert_eq!(&*change.key.name, "new");
    assert!(change.before.is_none());
    drop(world);
    assert!(stream.next().await.is_none(), "the stream outlived its cache");
}

#[tokio::test]
async fn too_slow_and_too_old_are_told() {
    let world = World::new().await;
    let start = world.cache.snapshot().revision;
    let mut slow = world.cache.watch(&[known::PODS], start).unwrap();
    let mut idle = world.cache.watch(&[known::CONFIG_MAPS], start).unwrap();
    for _ in 0..40 {
        world.write(&known::PODS, "p", Some(60 << 10)).await;
    }
    assert!(world.cache.watch(&[known::PODS], start).is_ok(), "the fewest are kept, however large");
    for _ in 0..40 {
        world.write(&known::PODS, "p", Some(60 << 10)).await;
    }
    let error = world.cache.watch(&[known::PODS], start).err().unwrap();
    assert!(matches!(error, Error::Expired { asked, oldest } if asked == start && oldest > start));
    assert!(world.cache.watch(&[], start).is_err());
    assert_eq!(slow.next().await.err(), Some(Ended::Lagged));
    assert_eq!(idle.revision().unwrap(), Some(world.cache.snapshot().revision), "busy pods do not expire others");
}

#[tokio::test]
async fn snapshots_are_kept_for_paged_lists_and_let_go() {
    let keep = std::time::Duration::from_millis(500);
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let world = World { cache: Cache::start_keeping(store.clone(), keep).await.unwrap(), store };
    world.write(&known::PODS, "a", Some(1)).await;
    let first = world.cache.snapshot();
    world.cache.keep(&first);
    let held = Arc::downgrade(first.list(&known::PODS, "").next().unwrap());
    let revision = first.revision;
    drop(first);
    world.write(&known::PODS, "a", None).await;
    assert_eq!(world.cache.kept(revision).unwrap().len(&known::PODS), 1);
    tokio::time::sleep(keep * 2).await;
    for _ in 0..100 {
        world.write(&known::PODS, "b", Some(20 << 10)).await;
    }
    assert!(held.upgrade().is_none(), "the deleted object is still held");
    assert!(world.cache.kept(revision).is_none());

    let mut revisions = Vec::new();
    for n in 0..20 {
        world.write(&known::PODS, "b", Some(n)).await;
        let snapshot = world.cache.snapshot();
        revisions.push(snapshot.revision);
        world.cache.keep(&snapshot);
    }
    let known = revisions.iter().filter(|r| world.cache.kept(**r).is_some()).count();
    assert!((1..=17).contains(&known), "{known} snapshots are kept");
}
