//! What is refused, kind by kind, in upstream's words: the tables in `refusals/`.
//!
//! A table is a list of kinds. `create` lays each change over the least object of the kind and `base`; `update` merges it into an object that
//! is these, and `status` into the status of that. Nothing is kept of either. `says` is all that is said: reason, field and message, in this order; nothing where the
//! change is taken.

use kedge_api::request::{Body, Options, PatchType};
use kedge_api::status::Cause;
use kedge_api::{GroupResource, Status, Verb};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::groups::merge;
use crate::world::{At, World, at, least, name_of, value};

const TABLES: &[(&str, &str)] = &[
    ("access", include_str!("refusals/access.yaml")),
    ("admissionregistration", include_str!("refusals/admissionregistration.yaml")),
    ("apiextensions", include_str!("refusals/apiextensions.yaml")),
    ("networks", include_str!("refusals/networks.yaml")),
    ("resources", include_str!("refusals/resources.yaml")),
    ("workloads", include_str!("refusals/workloads.yaml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    kind: String,
    group: String,
    plural: String,
    #[serde(default)]
    cluster: bool,
    #[serde(default)]
    base: Value,
    #[serde(default)]
    create: Vec<Case>,
    #[serde(default)]
    update: Vec<Case>,
    #[serde(default)]
    status: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    change: Value,
    #[serde(default)]
    says: Vec<String>,
}

/// Each cause as a table writes it.
fn said(answer: Result<Value, Status>) -> Vec<String> {
    let Err(status) = answer else { return Vec::new() };
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let one = |cause: &Cause| {
        let reason = cause.reason.strip_prefix("FieldValue").unwrap_or(&cause.reason);
        format!("{reason} {}: {}", cause.field, cause.message)
    };
    let told: Vec<String> = causes.iter().map(one).collect();
    if told.is_empty() { vec![status.message] } else { told }
}

fn object(kind: &Kind, name: &str, change: &Value) -> Value {
    let mut object = least(&kind.kind);
    merge(&mut object, json!({"metadata": {"name": name}}));
    for over in [&kind.base, change] {
        if over.is_object() {
            merge(&mut object, over.clone());
        }
    }
    object
}

/// Asks, and leaves nothing.
async fn dry(world: &World, verb: Verb, place: At<'_>, body: Body) -> Result<Value, Status> {
    let options = Options { dry_run: vec!["All".to_owned()], ..Options::default() };
    value(world.call(verb, place, options, body).await?)
}

#[tokio::test]
async fn every_table_holds() {
    let mut wrong = Vec::new();
    for (table, text) in TABLES {
        let kinds: Vec<Kind> = serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{table}: {e}"));
        for kind in kinds {
            let world = World::new().await;
            let resource = GroupResource::of(kind.group.clone().leak(), kind.plural.clone().leak());
            let namespace = if kind.cluster { "" } else { "default" };
            let own = kind.base.pointer("/metadata/name").and_then(Value::as_str);
            let name = own.unwrap_or_else(|| name_of(&kind.kind));
            let mut compare = |what: &str, case: &Case, found: Vec<String>| {
                if found != case.says {
                    wrong.push(format!(
                        "{} {what} {}\n  said {found:#?}\n  not {:#?}",
                        kind.kind, case.change, case.says
                    ));
                }
            };
            for case in &kind.create {
                let place = at(&resource, namespace, "");
                let body = object(&kind, name, &case.change).into();
                compare("create", case, said(dry(&world, Verb::Create, place, body).await));
            }
            if kind.update.is_empty() && kind.status.is_empty() {
                continue;
            }
            let made = world.create(&resource, namespace, object(&kind, name, &Value::Null)).await;
            if let Err(status) = made {
                panic!("{}: {}", kind.kind, status.message);
            }
            for (what, subresource, cases) in [("update", "", &kind.update), ("status", "status", &kind.status)] {
                for case in cases {
                    let place = At { subresource, ..at(&resource, namespace, name) };
                    let body = Body::Patch(PatchType::Merge, case.change.clone());
                    compare(what, case, said(dry(&world, Verb::Patch, place, body).await));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
