//! The walk over the table.

use std::sync::Arc;

use futures::StreamExt as _;
use kedge_api::request::{Body, Options, PatchType, Payload, WatchEvent};
use kedge_api::resource::known;
use kedge_api::{GroupResource, Reason, Verb};
use serde_json::{Value, json};

use crate::world::{At, World, at, least, name_of, revision};

#[tokio::test]
async fn every_kind_is_created_watched_updated_patched_and_deleted() {
    let world = World::new().await;
    let table = world.registry.table();
    assert_eq!(table.rows().len(), 62);
    // Definitions live another life: `custom.rs` has it.
    let watched = |row: &&Arc<kedge_registry::Row>| row.resource.verbs.contains(&Verb::Watch);
    for row in table.rows().filter(watched).filter(|row| row.resource.kind != "CustomResourceDefinition") {
        let id = &row.resource.id;
        assert_eq!(
            table.by_path(id.group.as_str(), &row.resource.version, id.resource.as_str()).unwrap().resource.id,
            *id
        );
        let namespace = if row.resource.namespaced { "default" } else { "" };
        let at = |id: &GroupResource, namespace, name| At { version: &row.resource.version, ..at(id, namespace, name) };
        let mut object = least(&row.resource.kind);
        let known = kedge_api::schema::get(&row.resource.schema).unwrap();
        object.as_object_mut().unwrap().retain(|field, _| known.field(field).is_some());
        let name = name_of(&row.resource.kind);
        object["metadata"] = json!({"name": name});

        let watch = Options { resource_version: Some(revision(&world)), ..Options::default() };
        let Payload::Watch(mut events) =
            world.call(Verb::Watch, at(id, namespace, ""), watch, Body::None).await.unwrap().payload
        else {
            panic!("{id}: no watch")
        };
        let create = || world.value(Verb::Create, at(id, namespace, ""), object.clone().into());
        let get = || world.value(Verb::Get, at(id, namespace, name), Body::None);
        let made = create().await.unwrap_or_else(|e| panic!("{id}: {e}"));
        assert_eq!(made["kind"], *row.resource.kind, "{id}");
        assert_eq!(made["apiVersion"], row.resource.api_version(), "{id}");
        assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string(), "{id}");
        let again = create().await.unwrap_err();
        assert!(again.is(Reason::AlreadyExists), "{id}: {again}");
        assert_eq!(get().await.unwrap(), made, "{id}");

        // A put of what was read changes nothing, and is no write.
        let same = world
            .value(Verb::Update, at(id, namespace, name), made.clone().into())
            .await
            .unwrap_or_else(|e| panic!("{id}: {e}"));
        assert_eq!(same, made, "{id}");
        let mut changed = made.clone();
        changed["metadata"]["annotations"] = json!({"n": "1"});
        let updated = world.value(Verb::Update, at(id, namespace, name), changed.clone().into()).await.unwrap();
        assert_eq!(updated["metadata"]["annotations"]["n"], "1", "{id}");
        let stale = world.value(Verb::Update, at(id, namespace, name), changed.into()).await.unwrap_err();
        assert!(stale.is(Reason::Conflict), "{id}: {stale}");
        for kind in [PatchType::Merge, PatchType::Strategic] {
            let patch = json!({"metadata": {"labels": {"p": format!("{kind:?}")}}});
            let patched = world.value(Verb::Patch, at(id, namespace, name), Body::Patch(kind, patch)).await.unwrap();
            assert_eq!(patched["metadata"]["labels"]["p"], format!("{kind:?}"), "{id}");
        }
        let patch = json!([{"op": "remove", "path": "/metadata/labels/p"}]);
        world.value(Verb::Patch, at(id, namespace, name), Body::Patch(PatchType::Json, patch)).await.unwrap();

        let wish = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        world.value(Verb::Delete, at(id, namespace, name), wish.into()).await.unwrap();
        // What protects it while it is used goes last.
        let protected = made["metadata"]["finalizers"].is_array();
        if protected {
            let patch = Body::Patch(PatchType::Merge, json!({"metadata": {"finalizers": null}}));
            world.value(Verb::Patch, at(id, namespace, name), patch).await.unwrap();
        }
        if row.resource.kind == "Namespace" {
            let mut done = get().await.unwrap();
            assert_eq!(done["status"]["phase"], "Terminating");
            done["spec"] = json!({});
            let finalize = At { subresource: "finalize", ..at(id, "", name) };
            world.value(Verb::Update, finalize, done.into()).await.unwrap();
        }
        let gone = get().await.unwrap_err();
        assert!(gone.is(Reason::NotFound), "{id}: {gone}");

        // The watch saw exactly the writes: created, updated, patched thrice, (marked and) deleted.
        let mut seen = Vec::new();
        while seen.last() != Some(&"deleted") {
            let WatchEvent::Object(change) = events.next().await.unwrap().unwrap() else { continue };
            let shown = change.after.clone().or(change.before.clone()).unwrap();
            assert_eq!(shown.decode::<Value>().unwrap()["apiVersion"], row.resource.api_version(), "{id}");
            let written = change.after.as_ref().map(|object| object.meta.resource_version.clone());
            assert!(written.is_none_or(|version| version == Some(change.revision.to_string())), "{id}");
            seen.push(match (change.before.is_some(), change.after.is_some()) {
                (false, _) => "added",
                (true, true) => "modified",
                (true, false) => "deleted",
            });
        }
        // A pod is shown without grace before it goes.
        let marked = if protected || ["Namespace", "Pod"].contains(&&*row.resource.kind) { 5 } else { 4 };
        let mut expected = vec!["modified"; marked];
        expected.insert(0, "added");
        expected.push("deleted");
        assert_eq!(seen, expected, "{id}");
    }
}

/// What services are made with, what is then merged into them, and what is said to that: nothing, if it is right.
#[tokio::test]
async fn services_keep_what_they_were_given_and_agree_with_themselves() {
    const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    const DUAL: &str = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    let world = World::new().await;
    let balanced = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31_000});
    let headless = json!({"clusterIP": "None", "ports": null});
    let cases = [
        (balanced.clone(), json!({"spec": {"healthCheckNodePort": 31_001}}),
            "spec.healthCheckNodePort: Forbidden: field is immutable".to_owned()),
        (balanced.clone(), json!({"spec": {"healthCheckNodePort": null}}), String::new()),
        (balanced.clone(), json!({"spec": {"externalTrafficPolicy": "Cluster"}}), String::new()),
        (balanced, json!({"spec": {"externalTrafficPolicy": "Cluster", "healthCheckNodePort": 31_001}}),
            "spec.healthCheckNodePort: Invalid value: 31001: may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'".into()),
        (headless.clone(), json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services".into()),
        (headless.clone(), json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}),
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services".into()),
        (headless.clone(), json!({"spec": {"ipFamilies": ["IPv6"]}}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family".into()),
        (headless, json!({"spec": {"ipFamilyPolicy": "SingleStack"}}), String::new()),
        (json!({"clusterIP": "10.43.9.9"}), json!({"spec": {"clusterIPs": ["10.43.9.8"], "clusterIP": "10.43.9.8"}}),
            "spec.clusterIPs[0]: Invalid value: [\"10.43.9.8\"]: may not change once set".into()),
        (json!({"clusterIP": "10.43.9.9"}), json!({"spec": {"clusterIPs": ["10.43.9.9", "fd00::1"]}}),
            format!("[spec.ipFamilyPolicy: Invalid value: \"SingleStack\": {DUAL} cluster IPs are specified, spec.clusterIPs[1]: Invalid value: [\"10.43.9.9\",\"fd00::1\"]: IPv6 is not configured on this cluster]")),
        (json!({}), json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}),
            format!("spec.ipFamilyPolicy: Invalid value: \"SingleStack\": {DUAL} IP families are specified")),
        (json!({}), json!({"spec": {"ports": [{"port": 80, "nodePort": 31_002}]}}),
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'".into()),
        (json!({}), json!({"metadata": {"annotations": {RANGES: "10.0.0.0/8"}}}),
            format!("metadata.annotations[{RANGES}]: Forbidden: may only be used when `type` is 'LoadBalancer'")),
        (json!({"type": "LoadBalancer"}), json!({"metadata": {"annotations": {RANGES: " 10.0.0.0/8, 11.0.0.0/8 "}}}), String::new()),
        (json!({"type": "LoadBalancer"}), json!({"metadata": {"annotations": {RANGES: "10.0.0.0/8,x"}}}),
            format!("metadata.annotations[{RANGES}]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")),
        (json!({}), json!({"metadata": {"annotations": {"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "Disabled"}}}),
            "metadata.annotations[service.kubernetes.io/topology-mode]: Invalid value: \"Auto\": must match annotations[service.kubernetes.io/topology-aware-hints] when both are specified".into()),
    ];
    for (spec, change, why) in cases {
        let mut service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
        for (field, value) in spec.as_object().unwrap() {
            service["spec"][field] = value.clone();
        }
        world.create(&known::SERVICES, "default", service).await.unwrap();
        let wanted = if why.is_empty() { why } else { format!("Service \"s\" is invalid: {why}") };
        let said = world.merge(at(&known::SERVICES, "default", "s"), change.clone()).await.err();
        assert_eq!(said.map(|status| status.message).unwrap_or_default(), wanted, "{change}");
        world.delete(&known::SERVICES, "default", "s", json!({})).await.unwrap();
    }
}
