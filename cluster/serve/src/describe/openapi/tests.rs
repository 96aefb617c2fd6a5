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
    let (_, parts) = v3(&rows(), "api/v1", Format::Json).unwrap();
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
    let text = |value: &Value| value["description"].as_str().unwrap_or_default().to_owned();
    assert!(
        text(pod).starts_with("Pod is a collection of containers")
            && text(containers).starts_with("List of containers")
    );
    assert_eq!(containers["items"]["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert_eq!(
        (&containers["items"]["default"], &spec["properties"]["affinity"]["default"]),
        (&json!({}), &Value::Null)
    );
    let container = &document["components"]["schemas"]["io.k8s.api.core.v1.Container"]["properties"];
    assert_eq!(container["imagePullPolicy"]["enum"], json!(["Always", "IfNotPresent", "Never"]));
    assert_eq!((&container["name"]["default"], &container["image"]["default"]), (&json!(""), &Value::Null));
    assert_eq!(container["args"]["items"], json!({"type": "string", "default": ""}));
    let profile = &document["components"]["schemas"]["io.k8s.api.core.v1.SeccompProfile"];
    assert_eq!(profile["x-kubernetes-unions"][0]["discriminator"], "type");
    let list = &document["components"]["schemas"]["io.k8s.api.core.v1.PodList"];
    assert!(text(list).contains("PodList") && text(&list["properties"]["items"]).contains("Pod"));
    assert_eq!(spec["properties"]["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert!(document["components"]["schemas"].get("io.k8s.api.policy.v1.Eviction").is_some());
    assert_eq!(dangling(&document), Vec::<String>::new());
}

#[test]
fn patches_say_that_fields_are_validated() {
    let (_, parts) = v3(&rows(), "api/v1", Format::Json).unwrap();
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
        let (hash, parts) = v3(&rows, name, Format::Json).unwrap();
        assert!(index["paths"][name]["serverRelativeURL"].as_str().unwrap().ends_with(&format!("{name}?hash={hash}")));
        let document = parse(parts);
        assert_eq!((&document["openapi"], dangling(&document)), (&json!("3.0.0"), vec![]), "{name}");
    }
    assert!(v3(&rows, "apis/nope/v1", Format::Json).is_none());
    let (_, parts) = v2(&rows, &[], Format::Json);
    let document = parse(parts);
    assert_eq!((&document["swagger"], dangling(&document)), (&json!("2.0"), vec![]));
    let mut operations: Vec<&str> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
        .filter_map(|operation| operation["operationId"].as_str())
        .collect();
    // As protobuf: everything in it is of the message's fields, and no part is empty.
    let (_, parts) = v2(&rows, &[], Format::Protobuf);
    let parts: Vec<Bytes> = parts.collect();
    let schemas = document["definitions"].as_object().unwrap().len();
    assert_eq!(parts.len(), 1 + document["paths"].as_object().unwrap().len() + schemas);
    assert_eq!(parts.iter().filter(|part| part.first() == Some(&0x4a)).count(), schemas);
    let all = operations.len();
    operations.sort_unstable();
    operations.dedup();
    assert_eq!(operations.len(), all, "two operations of one name");
    for name in ["readCoreV1NamespacedPod", "connectCoreV1PostNamespacedPodExec", "getAPIVersions", "getCodeVersion"] {
        assert!(operations.contains(&name), "{name}");
    }
}

#[test]
fn what_is_common_to_all_operations_of_a_path_is_said_at_the_path() {
    let (_, parts) = v3(&rows(), "api/v1", Format::Json).unwrap();
    let paths = parse(parts)["paths"].take();
    let names = |value: &Value| -> Vec<String> {
        value["parameters"].as_array().into_iter().flatten().map(|p| p["name"].as_str().unwrap().to_owned()).collect()
    };
    let pods = &paths["/api/v1/namespaces/{namespace}/pods"];
    assert_eq!(names(pods), ["namespace", "pretty"]);
    assert_eq!(names(&pods["post"]), ["dryRun", "fieldManager", "fieldValidation"]);
    assert_eq!(pods["post"]["requestBody"]["required"], true);
    let codes: Vec<&String> = pods["post"]["responses"].as_object().unwrap().keys().collect();
    assert_eq!(codes, ["200", "201", "202", "401"]);
    let everywhere = &paths["/api/v1/pods"];
    assert_eq!(everywhere["get"]["operationId"], "listCoreV1PodForAllNamespaces");
    assert!(names(everywhere).contains(&"watch".to_owned()) && names(&everywhere["get"]).is_empty());
    let eviction = &paths["/api/v1/namespaces/{namespace}/pods/{name}/eviction"];
    assert_eq!(names(eviction), ["dryRun", "fieldManager", "fieldValidation", "name", "namespace", "pretty"]);
}

#[test]
fn custom_resources_are_published_as_each_edition_can() {
    let written = json!({"type": "object", "properties": {"spec": {"type": "object", "required": ["a", "b"], "properties": {
        "a": {"type": "string", "nullable": true},
        "b": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "c": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"d": {"type": "string"}}},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true},
    }}}});
    let custom = |schema: Value| {
        let custom =
            kedge_api::resource::Custom { schema, selectable: vec!["spec.a".to_owned()], ..Default::default() };
        let (id, schema) = (kedge_api::GroupResource::of("e.com", "boats"), "com.e.v1.Boat".into());
        let row = (*rows().pop().unwrap()).clone();
        Resource { id, schema, kind: "Boat".into(), subresources: &[], custom: Some(Arc::new(custom)), ..row }
    };
    let row = custom(written.clone());
    let of = |row: &Resource, edition| custom::schemas(row, edition, &Texts::unpack()).remove(0).1;
    let newer = of(&row, Edition::V3);
    let spec = &newer["properties"]["spec"]["properties"];
    assert_eq!(
        (&spec["a"], &spec["c"]),
        (&written["properties"]["spec"]["properties"]["a"], &written["properties"]["spec"]["properties"]["c"])
    );
    assert_eq!(spec["e"]["required"], json!(["kind", "apiVersion"]));
    assert!(
        spec["e"]["properties"]["metadata"]["allOf"].is_array()
            && newer["properties"]["kind"]["description"].is_string()
    );
    assert_eq!(newer["x-kubernetes-selectable-fields"], json!([{"fieldPath": "spec.a"}]));
    let older = of(&row, Edition::V2);
    let spec = &older["properties"]["spec"];
    assert_eq!(spec["required"], json!(["b"]));
    assert_eq!(
        (&spec["properties"]["a"], &spec["properties"]["b"]),
        (&json!({}), &json!({"x-kubernetes-int-or-string": true}))
    );
    assert_eq!(spec["properties"]["c"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    let open = custom(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    assert!(
        of(&open, Edition::V2).get("properties").is_none() && of(&open, Edition::V3)["properties"]["kind"].is_object()
    );
    assert!(of(&custom(Value::Null), Edition::V3).get("properties").is_none());
}

#[test]
fn each_type_is_described() {
    let texts = Texts::unpack();
    let missing: Vec<&str> = schema::types().map(|t| t.name()).filter(|name| texts.of_type(name).is_none()).collect();
    assert_eq!(missing, [""; 0]);
    assert_eq!(texts.of_field("io.k8s.api.core.v1.Pod", "nope"), None);
    assert_eq!(texts.of_type("com.example.v1.BoatList"), None);
}
