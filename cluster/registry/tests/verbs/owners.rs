//! Who is noted as the owner of what.

use kedge_api::request::{Body, Options, PatchType};
use kedge_api::resource::known;
use kedge_api::{Reason, Verb};
use serde_json::{Value, json};

use crate::world::{At, World, at, least, value};

/// Who owns what, as `manager operation subresource: top-level fields`.
fn owners(object: &Value) -> Vec<String> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let text = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let shown = |entry: &Value| {
        let fields = entry.get("fieldsV1").and_then(Value::as_object).into_iter().flatten();
        let fields: Vec<_> = fields.map(|(name, _)| name.as_str()).collect();
        let [manager, operation, subresource] = ["manager", "operation", "subresource"].map(|name| text(entry, name));
        format!("{manager} {operation} {subresource}: {}", fields.join(" "))
    };
    let mut out: Vec<_> = entries.into_iter().flatten().map(shown).collect();
    out.sort();
    out
}

fn options(manager: &str) -> Options {
    Options { field_manager: Some(manager.into()), ..Options::default() }
}

#[tokio::test]
async fn every_door_notes_who_came_through_it() {
    let world = World::new().await;
    let place = at(&known::DEPLOYMENTS, "default", "d");
    let door = |subresource: &'static str| At { subresource, ..place.clone() };
    let mut config = least("Deployment");
    config["apiVersion"] = json!("apps/v1");
    config["kind"] = json!("Deployment");
    config["metadata"] = json!({"name": "d"});
    let apply = |config: &Value| Body::Patch(PatchType::Apply, config.clone());
    let merge = |patch: Value| Body::Patch(PatchType::Merge, patch);
    let call = async |at, manager: &str, body| value(world.call(Verb::Patch, at, options(manager), body).await?);

    let missing = call(door("status"), "c", apply(&config)).await.unwrap_err();
    assert_eq!(missing.reason, Reason::NotFound, "a status cannot be of nothing");
    let made = call(place.clone(), "a", apply(&config)).await.unwrap();
    assert_eq!(owners(&made), ["a Apply : f:spec"]);
    let again = call(place.clone(), "a", apply(&config)).await.unwrap();
    assert_eq!(again, made, "nothing changed, not even a time");

    call(door("status"), "c", merge(json!({"status": {"replicas": 1}, "spec": {"paused": true}}))).await.unwrap();
    call(door("scale"), "h", merge(json!({"spec": {"replicas": 3}}))).await.unwrap();
    let both =
        call(place.clone(), "u", merge(json!({"metadata": {"labels": {"x": "y"}}, "status": {"replicas": 9}}))).await;
    let both = both.unwrap();
    assert_eq!(
        owners(&both),
        ["a Apply : f:spec", "c Update status: f:status", "h Update scale: f:spec", "u Update : f:metadata"]
    );
    assert_eq!((&both["spec"]["replicas"], &both["status"]["replicas"]), (&json!(3), &json!(1)));

    config["spec"]["replicas"] = json!(5);
    let refused = call(place.clone(), "a", apply(&config)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "Apply failed with 1 conflict: conflict with \"h\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    let forced = Options { force: Some(true), ..options("a") };
    let forced = value(world.call(Verb::Patch, place.clone(), forced, apply(&config)).await.unwrap()).unwrap();
    assert_eq!(owners(&forced), ["a Apply : f:spec", "c Update status: f:status", "u Update : f:metadata"]);

    let reset = merge(json!({"metadata": {"managedFields": [{}]}}));
    assert!(owners(&call(place, "u", reset).await.unwrap()).is_empty());
}

#[tokio::test]
async fn an_object_with_no_room_for_its_owners_is_kept_without() {
    let world = World::new().await;
    let place = at(&known::CONFIG_MAPS, "default", "c");
    let keys: serde_json::Map<String, Value> =
        (0..20_000).map(|n| (format!("key-{n:020}"), json!("x".repeat(25)))).collect();
    let object = json!({"metadata": {"name": "c"}, "data": keys});
    let made = world.create(&known::CONFIG_MAPS, "default", object).await.unwrap();
    assert!(owners(&made).is_empty(), "keys and owners together are larger than an object may be");
    let small = world.merge(place, json!({"data": null, "binaryData": {"k": "eA=="}})).await.unwrap();
    assert_eq!(owners(&small), ["unknown Update : f:binaryData"]);
}
