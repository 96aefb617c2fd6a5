//! Whoever lists, then watches, sees exactly the log: lists in pages, watches from any revision and writes between them, against a model that
//! is the log and nothing else.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kedge_api::request::{Body, Options, Payload, WatchEvent};
use kedge_api::resource::known;
use kedge_api::{Reason, Status, Verb};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{World, at, revision};

/// Changes that are kept of a resource whatever their size: no one may be told earlier that history is gone.
const KEPT: usize = 64;

#[derive(Clone, Debug)]
enum Step {
    Put {
        name: u8,
        label: u8,
    },
    Delete {
        name: u8,
    },
    /// So many and so large writes that the oldest history is forgotten.
    Flood,
    /// A list in pages, of which `Next` takes one more.
    List {
        limit: u64,
        selected: bool,
    },
    Next,
    /// A watch from so many writes ago.
    Watch {
        back: usize,
        selected: bool,
    },
}

/// What is there: each object's label and revision.
type State = BTreeMap<String, (u8, u64)>;

struct Write {
    revision: u64,
    name: String,
    /// Without one it is a deletion.
    label: Option<u8>,
}

#[derive(Default)]
struct Log(Vec<Write>);

impl Log {
    fn at(&self, revision: u64) -> State {
        let mut state = State::new();
        for write in self.0.iter().take_while(|write| write.revision <= revision) {
            match write.label {
                Some(label) => state.insert(write.name.clone(), (label, write.revision)),
                None => state.remove(&write.name),
            };
        }
        state
    }

    /// Of each change: the object, whether the watcher had it, and what it is to it now.
    fn after(&self, revision: u64, selected: bool) -> Vec<(u64, String, bool, Option<u64>)> {
        let sees = |label: u8| !selected || label == 0;
        let mut state = self.at(revision);
        let mut seen = Vec::new();
        for write in self.0.iter().filter(|write| write.revision > revision) {
            let before = state.get(&write.name).is_some_and(|(label, _)| sees(*label));
            let after = write.label.filter(|label| sees(*label)).map(|_| write.revision);
            if before || after.is_some() {
                seen.push((write.revision, write.name.clone(), before, after));
            }
            match write.label {
                Some(label) => state.insert(write.name.clone(), (label, write.revision)),
                None => state.remove(&write.name),
            };
        }
        seen
    }
}

struct Pages {
    revision: u64,
    limit: u64,
    selected: bool,
    token: Option<String>,
    items: Vec<(String, u64)>,
}

struct Watcher {
    from: u64,
    selected: bool,
    events: BoxStream<'static, Result<WatchEvent, Status>>,
}

struct Run {
    world: World,
    log: Log,
    lists: Vec<Pages>,
    watchers: Vec<Watcher>,
    count: u32,
}

fn options(selected: bool) -> Options {
    Options { label_selector: selected.then(|| "l=0".to_owned()), ..Options::default() }
}

impl Run {
    fn now(&self) -> u64 {
        revision(&self.world).parse().unwrap()
    }

    async fn put(&mut self, name: &str, label: u8, size: usize) {
        self.count += 1;
        let labels = json!({"l": label.to_string()});
        let data = json!({"n": self.count.to_string(), "x": "x".repeat(size)});
        let body = json!({"metadata": {"name": name, "labels": labels}, "data": data});
        if self.log.at(u64::MAX).contains_key(name) {
            self.world.merge(at(&known::CONFIG_MAPS, "default", name), body).await.unwrap();
        } else {
            self.world.create(&known::CONFIG_MAPS, "default", body).await.unwrap();
        }
        let revision = self.now();
        self.log.0.push(Write { revision, name: name.to_owned(), label: Some(label) });
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Put { name, label } => self.put(&format!("c{name}"), label, 1).await,
            Step::Delete { name } => {
                let name = format!("c{name}");
                let there = self.log.at(u64::MAX).contains_key(&name);
                let deleted = self.world.delete(&known::CONFIG_MAPS, "default", &name, json!({})).await;
                assert_eq!(deleted.is_ok(), there);
                if there {
                    let revision = self.now();
                    self.log.0.push(Write { revision, name, label: None });
                }
            }
            Step::Flood => {
                for _ in 0..KEPT + 10 {
                    self.put("flood", 1, 20 << 10).await;
                }
            }
            Step::List { limit, selected } => {
                let pages = Pages { revision: 0, limit, selected, token: None, items: Vec::new() };
                self.lists.push(pages);
                let last = self.lists.len() - 1;
                self.page(last).await;
            }
            Step::Next => {
                if let Some(at) = self.lists.iter().position(|list| list.token.is_some()) {
                    self.page(at).await;
                }
            }
            Step::Watch { back, selected } => {
                let from = self.log.0.iter().rev().nth(back).map_or_else(|| self.now(), |write| write.revision);
                let options = Options { resource_version: Some(from.to_string()), ..options(selected) };
                let place = at(&known::CONFIG_MAPS, "default", "");
                match self.world.call(Verb::Watch, place, options, Body::None).await.map(|answer| answer.payload) {
                    Ok(Payload::Watch(events)) => self.watchers.push(Watcher { from, selected, events }),
                    Ok(other) => panic!("{other:?}"),
                    Err(gone) => {
                        assert!(gone.is(Reason::Expired), "{gone}");
                        assert!(self.log.after(from, false).len() > KEPT, "history was forgotten too early");
                    }
                }
            }
        }
    }

    /// One page more of a list: all pages show the moment of the first.
    async fn page(&mut self, nth: usize) {
        let list = self.lists.get_mut(nth).unwrap();
        let wanted = Options { limit: Some(list.limit), r#continue: list.token.take(), ..options(list.selected) };
        let first = wanted.r#continue.is_none();
        let place = at(&known::CONFIG_MAPS, "default", "");
        let answer = self.world.call(Verb::List, place.clone(), wanted, Body::None).await.unwrap();
        let Payload::List { items, r#continue, remaining, revision, .. } = answer.payload else { panic!("no list") };
        if first {
            list.revision = revision.0;
        }
        assert_eq!(revision.0, list.revision, "another moment");
        assert!(items.len() as u64 <= list.limit);
        list.items.extend(items.iter().map(|object| (object.key.name.to_string(), object.revision.0)));
        list.token = r#continue;
        let state = self.log.at(list.revision);
        let seen = state.into_iter().filter(|(_, (label, _))| !list.selected || *label == 0);
        let whole: Vec<(String, u64)> = seen.map(|(name, (_, revision))| (name, revision)).collect();
        assert_eq!(Some(list.items.as_slice()), whole.get(..list.items.len()));
        assert_eq!(list.token.is_none(), list.items.len() == whole.len());
        if !list.selected && list.token.is_some() {
            assert_eq!(remaining, Some((whole.len() - list.items.len()) as u64));
        }
        if list.token.is_none() && !first {
            // A moment that was listed in pages can be asked for again.
            let exact = Options {
                resource_version: Some(list.revision.to_string()),
                resource_version_match: Some("Exact".into()),
                ..options(list.selected)
            };
            let again = self.world.call(Verb::List, place, exact, Body::None).await.unwrap();
            let Payload::List { items, .. } = again.payload else { panic!("no list") };
            let names = items.iter().map(|object| (object.key.name.to_string(), object.revision.0));
            assert_eq!(names.collect::<Vec<_>>(), whole);
        }
    }

    /// Every watcher has seen the log, or as much of it as was kept for it.
    async fn settle(mut self) {
        self.put("end", 0, 1).await;
        let end = self.now();
        for Watcher { from, selected, mut events } in self.watchers {
            let meant = self.log.after(from, selected);
            let mut seen = Vec::new();
            let lagged = loop {
                match events.next().await.unwrap() {
                    Ok(WatchEvent::Object(change)) => {
                        let after = change.after.as_ref().map(|object| object.revision.0);
                        seen.push((change.revision.0, change.key.name.to_string(), change.before.is_some(), after));
                        if change.revision.0 == end {
                            break false;
                        }
                    }
                    Ok(WatchEvent::Bookmark { .. }) => {}
                    Err(gone) => {
                        assert!(gone.is(Reason::Expired), "{gone}");
                        break true;
                    }
                }
            };
            assert_eq!(Some(seen.as_slice()), meant.get(..seen.len()), "from {from}");
            assert!(lagged || seen.len() == meant.len());
            let last = seen.last().map_or(from, |(revision, ..)| *revision);
            assert!(!lagged || self.log.after(last, false).len() > KEPT, "a watcher was cut off too early");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0u8..5, 0u8..2).prop_map(|(name, label)| Step::Put { name, label }),
        3 => (0u8..5).prop_map(|name| Step::Delete { name }),
        1 => Just(Step::Flood),
        2 => (1u64..4, any::<bool>()).prop_map(|(limit, selected)| Step::List { limit, selected }),
        4 => Just(Step::Next),
        3 => (0usize..100, any::<bool>()).prop_map(|(back, selected)| Step::Watch { back, selected }),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn lists_and_watches_show_the_log(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let mut run = Run { world, log: Log::default(), lists: Vec::new(), watchers: Vec::new(), count: 0 };
            for step in steps {
                run.step(step).await;
            }
            run.settle().await;
        });
    }
}

/// The model tells what is wrong from what is right.
#[test]
fn the_model_is_the_log() {
    let write = |revision, name: &str, label| Write { revision, name: name.into(), label };
    let log = Log(vec![write(2, "a", Some(0)), write(3, "b", Some(1)), write(5, "a", Some(1)), write(7, "b", None)]);
    assert_eq!(log.at(4), State::from([("a".into(), (0, 2)), ("b".into(), (1, 3))]));
    assert_eq!(log.after(2, true), [(5, "a".to_owned(), true, None)]);
    assert_eq!(log.after(4, false).len(), 2);
}
