//! Lists and watches.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use kedge_api::request::{Body, Options, Payload, WatchEvent};
use kedge_api::resource::known;
use kedge_api::{Reason, Revision, Status, Verb};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{At, World, at, revision};

async fn page(world: &World, options: Options) -> Result<(Vec<Value>, Option<String>, Option<u64>, Revision), Status> {
    let answer = world.call(Verb::List, at(&known::CONFIG_MAPS, "", ""), options, Body::None).await?;
    let Payload::List { items, r#continue, remaining, revision, .. } = answer.payload else { panic!("no list") };
    Ok((items.iter().map(|o| o.decode().unwrap()).collect(), r#continue, remaining, revision))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// However it is cut into pages, and whatever is written between them, a list shows one moment.
    #[test]
    fn pages_together_are_the_whole_list(
        names in prop::collection::btree_set(("[ab]", "[a-d]{1,2}"), 0..12),
        limit in 1u64..5,
        selector in prop::option::of(Just("even=yes".to_owned())),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            for ns in ["a", "b"] {
                world.create(&known::NAMESPACES, "", json!({"metadata": {"name": ns}})).await.unwrap();
            }
            for (ns, name) in &names {
                let even = if name.len() == 2 { "yes" } else { "no" };
                let object = json!({"metadata": {"name": name, "labels": {"even": even}}});
                world.create(&known::CONFIG_MAPS, ns, object).await.unwrap();
            }
            let whole = page(&world, Options { label_selector: selector.clone(), ..Options::default() }).await.unwrap();
            let mut collected = Vec::new();
            let mut token = None;
            let mut rounds = 0;
            loop {
                let options = Options { limit: Some(limit), r#continue: token, label_selector: selector.clone(), ..Options::default() };
                let (items, next, remaining, revision) = page(&world, options).await.unwrap();
                assert!(items.len() as u64 <= limit);
                collected.extend(items);
                assert_eq!(revision, whole.3, "another moment");
                if selector.is_none() && next.is_some() {
                    assert_eq!(remaining, Some((whole.0.len() - collected.len()) as u64));
                }
                // Someone writes in between.
                rounds += 1;
                world.create(&known::CONFIG_MAPS, "a", json!({"metadata": {"name": format!("zz{rounds}"), "labels": {"even": "yes"}}})).await.unwrap();
                if let Some((ns, name)) = names.iter().nth(rounds) {
                    let _gone = world.delete(&known::CONFIG_MAPS, ns, name, json!({})).await;
                }
                match next {
                    Some(next) => token = Some(next),
                    None => break,
                }
            }
            assert_eq!(collected, whole.0);
        });
    }

    /// A watch with a selector, replayed onto a list with the same selector, gives the later list.
    #[test]
    fn a_selected_watch_replays_to_the_selected_list(
        writes in prop::collection::vec((0u8..4, prop::option::of(0u8..3)), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new().await;
            let selected = |extra: Options| Options { label_selector: Some("l in (0,1)".into()), ..extra };
            let from = revision(&world);
            let options = selected(Options { resource_version: Some(from), ..Options::default() });
            let Payload::Watch(mut events) = world.call(Verb::Watch, at(&known::CONFIG_MAPS, "default", ""), options, Body::None).await.unwrap().payload else {
                panic!("no watch")
            };
            for (n, label) in writes {
                let name = format!("c{n}");
                match label {
                    Some(label) => {
                        let body = json!({"metadata": {"name": name, "labels": {"l": label.to_string()}}});
                        if world.create(&known::CONFIG_MAPS, "default", body.clone()).await.is_err() {
                            world.merge(at(&known::CONFIG_MAPS, "default", &name), body).await.unwrap();
                        }
                    }
                    None => {
                        let _missing = world.delete(&known::CONFIG_MAPS, "default", &name, json!({})).await;
                    }
                }
            }
            let end = json!({"metadata": {"name": "end", "labels": {"l": "0"}}});
            world.create(&known::CONFIG_MAPS, "default", end).await.unwrap();
            let mut state = BTreeMap::new();
            while !state.contains_key("end") {
                let WatchEvent::Object(change) = events.next().await.unwrap().unwrap() else { continue };
                let name = change.key.name.to_string();
                assert_eq!(state.contains_key(&name), change.before.is_some(), "{name} came or went unseen");
                match &change.after {
                    Some(object) => state.insert(name, object.decode::<Value>().unwrap()),
                    None => state.remove(&name),
                };
            }
            let (listed, ..) = page(&world, selected(Options::default())).await.unwrap();
            let listed: BTreeMap<_, _> = listed.into_iter().map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), o)).collect();
            assert_eq!(state, listed);
        });
    }
}

#[tokio::test]
async fn a_continue_token_outlives_nothing_it_should_not() {
    let world = World::new().await;
    for n in 0..3 {
        world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": format!("c{n}")}})).await.unwrap();
    }
    let first = page(&world, Options { limit: Some(1), ..Options::default() }).await.unwrap();
    for n in 0..20 {
        world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": format!("d{n}")}})).await.unwrap();
        page(&world, Options { limit: Some(1), ..Options::default() }).await.unwrap();
    }
    let late = page(&world, Options { limit: Some(1), r#continue: first.1, ..Options::default() }).await.unwrap_err();
    assert!(late.is(Reason::Expired), "{late}");
    for bad in ["garbage", "e30", "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi8uLi9hIn0"] {
        let refused = page(&world, Options { r#continue: Some(bad.into()), ..Options::default() }).await.unwrap_err();
        assert!(refused.is(Reason::BadRequest), "{bad}: {refused}");
    }
}

#[tokio::test]
async fn initial_events_and_their_end_come_before_anything_new() {
    let world = World::new().await;
    world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": "old"}})).await.unwrap();
    let options = Options {
        send_initial_events: Some(true),
        resource_version_match: Some("NotOlderThan".into()),
        allow_watch_bookmarks: true,
        ..Options::default()
    };
    let Payload::Watch(mut events) =
        world.call(Verb::Watch, at(&known::CONFIG_MAPS, "default", ""), options, Body::None).await.unwrap().payload
    else {
        panic!("no watch")
    };
    world.create(&known::CONFIG_MAPS, "default", json!({"metadata": {"name": "new"}})).await.unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(match events.next().await.unwrap().unwrap() {
            WatchEvent::Object(change) => change.key.name.to_string(),
            WatchEvent::Bookmark { initial_end, .. } => format!("bookmark {initial_end}"),
        });
    }
    assert_eq!(names, ["old", "bookmark true", "new"]);
}

#[tokio::test]
async fn a_watch_that_ends_soon_is_told_where_to_go_on() {
    let world = World::new().await;
    let options = Options { allow_watch_bookmarks: true, timeout_seconds: Some(3), ..Options::default() };
    let place = at(&known::CONFIG_MAPS, "default", "");
    let answer = world.call(Verb::Watch, place, options, Body::None).await.unwrap();
    let Payload::Watch(mut events) = answer.payload else { panic!("no watch") };
    let event = tokio::time::timeout(std::time::Duration::from_secs(3), events.next()).await.unwrap();
    let Some(Ok(WatchEvent::Bookmark { revision: at, initial_end: false })) = event else { panic!("{event:?}") };
    assert_eq!(at.to_string(), revision(&world));
}

#[tokio::test]
async fn any_state_is_listed_whole() {
    let world = World::new().await;
    let any = Options { resource_version: Some("0".into()), limit: Some(1), ..Options::default() };
    let at = At { resource: known::NAMESPACES, version: "", namespace: "", name: "", subresource: "" };
    let answer = world.call(Verb::List, at, any, Body::None).await.unwrap();
    let Payload::List { items, r#continue, .. } = answer.payload else { panic!("no list") };
    assert_eq!((items.len(), r#continue), (4, None));
}
