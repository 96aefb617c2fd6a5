use kedge_api::Verb;
use kedge_api::resource::{Subresource, known};

use super::*;

fn rows() -> Vec<Arc<Resource>> {
    let pod = Resource {
        id: known::PODS,
        version: "v1".into(),
        kind: "Pod".into(),
        singular: "pod".into(),
        short_names: (&[]).into(),
        categories: (&[]).into(),
        namespaced: true,
        verbs: &[
            Verb::Get,
            Verb::List,
            Verb::Watch,
            Verb::Create,
            Verb::Update,
            Verb::Patch,
            Verb::Delete,
            Verb::DeleteCollection,
        ],
        subresources: &[
            Subresource {
                name: "status",
                kind: "",
                group_version: None,
                verbs: &[Verb::Get, Verb::Patch, Verb::Update],
            },
            Subresource { name: "exec", kind: "PodExecOptions", group_version: None, verbs: &[Verb::Connect] },
            Subresource {
                name: "eviction",
                kind: "Eviction",
                group_version: Some(("policy", "v1")),
                verbs: &[Verb::Create],
            },
        ],
        columns: &[],
        selectable: &[],
        schema: "io.k8s.api.core.v1.Pod".into(),
        volatile: false,
        deprecated: None,
        stored_in: None,
        made_annotations: &[],
        custom: None,
    };
    crate::review::rows().into_iter().chain([pod]).map(Arc::new).collect()
}

fn parse(parts: impl Iterator<Item = Bytes>) -> Value {
    serde_json::from_slice(&parts.flatten().collect::<Vec<u8>>()).unwrap()
}

/// Every `$ref` of a document that leads nowhere.
fn dangling(document: &Value) -> Vec<String> {
    fn refs<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                out.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| refs(value, out));
            }
            Value::Array(items) => items.iter().for_each(|value| refs(value, out)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    refs(document, &mut found);
    found.retain(|name| document.pointer(name.trim_start_matches('#')).is_none());
    found.into_iter().map(str::to_owned).collect()
}

#[test]
fn a_group_version_describes_its_kinds_and_what_they_are_made_of() {
    let (_, parts) = v3(&rows(), "api/v1").unwrap();
    let document = parse(parts);
    let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["x-kubernetes-group-version-kind"], json!([{"group": "", "version": "v1", "kind": "Pod"}]));
    let spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    let containers = &spec["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(
        (&containers["x-kubernetes-patch-merge-key"], &containers["x-kubernetes-patch-strategy"]),
        (&json!("name"), &json!("merge"))
    );
    assert_eq!(spec["required"], json!(["containers"]));
    assert_eq!(spec["properties"]["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(document["components"]["schemas"].get("io.k8s.api.policy.v1.Eviction").is_some());
    assert_eq!(dangling(&document), Vec::<String>::new());
}

#[test]
fn patches_say_that_fields_are_validated() {
    let (_, parts) = v3(&rows(), "api/v1").unwrap();
    let patch = parse(parts)["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"].take();
    let names: Vec<&str> = patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Pod");
    assert!(patch["requestBody"]["content"].get("application/apply-patch+yaml").is_some());
}

#[test]
fn the_index_names_documents_that_exist_and_the_second_edition_is_whole() {
    let rows = rows();
    let index = index(&rows);
    let names: Vec<&String> = index["paths"].as_object().unwrap().keys().collect();
    assert!(names.iter().any(|name| *name == "apis/authorization.k8s.io/v1"));
    for name in names {
        let (hash, parts) = v3(&rows, name).unwrap();
        assert!(index["paths"][name]["serverRelativeURL"].as_str().unwrap().ends_with(&format!("{name}?hash={hash}")));
        let document = parse(parts);
        assert_eq!((&document["openapi"], dangling(&document)), (&json!("3.0.0"), vec![]), "{name}");
    }
    assert!(v3(&rows, "apis/nope/v1").is_none());
    let (_, parts) = v2(&rows);
    let document = parse(parts);
    assert_eq!((&document["swagger"], dangling(&document)), (&json!("2.0"), vec![]));
}
