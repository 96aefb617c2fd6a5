//! What workloads, networks and scalers may be and become.

use kedge_api::resource::known;
use kedge_api::{GroupResource, Reason, Status};
use serde_json::{Value, json};

use crate::world::{At, World, at, least};

/// The error's text without the object's name before it; nothing if there was none.
pub fn told(answer: Result<Value, Status>) -> String {
    let Err(status) = answer else { return String::new() };
    assert!(status.is(Reason::Invalid), "{}", status.message);
    status.message.split_once(" is invalid: ").map(|(_, why)| why.to_owned()).unwrap()
}

/// Lays one value over another: objects field by field, anything else whole.
pub fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

fn named(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = least(kind);
    merge(&mut object, json!({"metadata": {"name": name}, "spec": spec}));
    object
}

const SELECTOR: &str =
    "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[tokio::test]
async fn kinds_are_refused_in_upstreams_words() {
    let world = World::new().await;
    let unread = json!({"matchExpressions": [{"key": "a", "operator": "Foo"}]});
    let cases = [
        ("apps", "deployments", "Deployment", json!({"strategy": {"type": "Foo", "rollingUpdate": {"maxSurge": 2}}}),
            "spec.strategy: Unsupported value: {\"Type\":\"Foo\",\"RollingUpdate\":{\"MaxUnavailable\":0,\"MaxSurge\":2}}: supported values: \"Recreate\", \"RollingUpdate\"".to_owned()),
        ("apps", "deployments", "Deployment", json!({"strategy": {"rollingUpdate": {"maxSurge": "x%", "maxUnavailable": 0}}}),
            "[spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x%\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%'), spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0]".into()),
        ("apps", "daemonsets", "DaemonSet", json!({"selector": {"matchLabels": {"x": "y"}}, "updateStrategy": {"type": "Foo"}}),
            format!("[{SELECTOR}, spec.updateStrategy: Unsupported value: {{\"Type\":\"Foo\",\"RollingUpdate\":null}}: supported values: \"RollingUpdate\", \"OnDelete\"]")),
        ("apps", "daemonsets", "DaemonSet", json!({"selector": {"matchLabels": null}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset".into()),
        ("apps", "daemonsets", "DaemonSet", json!({"selector": unread}),
            "spec.selector.matchExpressions[0].operator: Invalid value: \"Foo\": not a valid selector operator".into()),
        ("networking.k8s.io", "networkpolicies", "NetworkPolicy", json!({"ingress": [{"ports": [{"port": 80, "endPort": 70}]}]}),
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`".into()),
        ("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler",
            json!({"metrics": [{"type": "ContainerResource", "containerResource": {"name": "foo", "container": "A", "target": {"type": "Utilization", "averageUtilization": 1}}}]}),
            format!("[spec.metrics[0].containerResource.name: Invalid value: \"foo\": must be a standard resource type or fully qualified, spec.metrics[0].containerResource.name: Invalid value: \"foo\": must be a standard resource for containers, spec.metrics[0].containerResource.container: Invalid value: \"A\": {LABEL}]")),
    ];
    for (group, plural, kind, spec, why) in cases {
        let resource = GroupResource::of(group, plural);
        let said = told(world.create(&resource, "default", named(kind, "x", spec.clone())).await);
        assert_eq!(said, why, "{kind}: {spec}");
    }
    let sets = GroupResource::of("apps", "statefulsets");
    assert_eq!(
        told(world.create(&sets, "default", named("StatefulSet", "a.b", json!({}))).await),
        "metadata.name: Invalid value: \"a.b\": must not contain dots"
    );
}

#[tokio::test]
async fn what_does_not_change_is_said_first_or_alone() {
    let world = World::new().await;
    let classes = GroupResource::of("networking.k8s.io", "ingressclasses");
    world.create(&classes, "", named("IngressClass", "c", json!({}))).await.unwrap();
    let controller = "spec.controller: Invalid value: \"x\"";
    assert_eq!(
        told(world.merge(at(&classes, "", "c"), json!({"spec": {"controller": "x"}})).await),
        format!(
            "[{controller}: field is immutable, {controller}: must be a domain-prefixed path (such as \"acme.io/foo\")]"
        )
    );
    let addresses = GroupResource::of("networking.k8s.io", "ipaddresses");
    world.create(&addresses, "", named("IPAddress", "198.51.100.7", json!({}))).await.unwrap();
    assert_eq!(
        told(world.merge(at(&addresses, "", "198.51.100.7"), json!({"spec": {"parentRef": {"name": "a/b"}}})).await),
        "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"\",\"Name\":\"a/b\"}: field is immutable"
    );
}

#[tokio::test]
async fn collisions_of_hashes_are_only_ever_more() {
    let world = World::new().await;
    for (plural, kind) in [("deployments", "Deployment"), ("statefulsets", "StatefulSet"), ("daemonsets", "DaemonSet")]
    {
        let resource = GroupResource::of("apps", plural);
        world.create(&resource, "default", named(kind, "x", json!({}))).await.unwrap();
        let status = |count: Value| {
            let place = At { subresource: "status", ..at(&resource, "default", "x") };
            world.merge(place, json!({"status": {"collisionCount": count}}))
        };
        let count = "status.collisionCount: Invalid value";
        assert_eq!(told(status(json!(2)).await), "");
        assert_eq!(told(status(json!(1)).await), format!("{count}: 1: cannot be decremented"), "{kind}");
        assert_eq!(told(status(json!(null)).await), format!("{count}: 0: cannot be decremented"), "{kind}");
        assert_eq!(
            told(status(json!(-1)).await),
            format!("[{count}: -1: must be greater than or equal to 0, {count}: -1: cannot be decremented]"),
            "{kind}"
        );
    }
}

/// No fault of the request, says upstream.
#[tokio::test]
async fn a_health_port_that_cannot_be_had_is_an_internal_error() {
    let world = World::new().await;
    let service = |name: &str, port: u16| {
        json!({"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port, "ports": [{"port": 80}]}})
    };
    world.create(&known::SERVICES, "default", service("a", 31_000)).await.unwrap();
    for (port, why) in [
        (31_000, "provided port is already allocated"),
        (80, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
    ] {
        let status = world.create(&known::SERVICES, "default", service("b", port)).await.unwrap_err();
        assert!(status.is(Reason::InternalError));
        let why = format!("failed to allocate requested HealthCheck NodePort {port}: {why}");
        assert_eq!(status.message, format!("Internal error occurred: {why}"));
        assert_eq!(status.details.unwrap().causes[0].message, why);
    }
    world.create(&known::SERVICES, "default", service("b", 31_001)).await.unwrap();
}

/// What is made, what is merged into it or its status, and what is said to that.
#[tokio::test]
async fn storage_says_what_upstream_says() {
    let world = World::new().await;
    let names = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let nodes =
        json!([{"name": "a", "nodeID": "1", "topologyKeys": null}, {"name": "b", "nodeID": "2", "topologyKeys": null}]);
    let renamed = json!([{"name": "b", "nodeID": "3", "topologyKeys": null, "allocatable": {"count": 1}}, {"name": "a", "nodeID": "1", "topologyKeys": null, "allocatable": {"count": 2}}]);
    let long = "x".repeat(1025);
    let cases = [
        ("csidrivers", "CSIDriver", "", json!({}), json!({"spec": {"volumeLifecycleModes": ["Foo", "Persistent"]}}),
            "[spec.volumeLifecycleModes: Unsupported value: \"Foo\": supported values: \"Persistent\", \"Ephemeral\", spec.volumeLifecycleModes: Invalid value: [\"Foo\",\"Persistent\"]: field is immutable]".to_owned()),
        ("csinodes", "CSINode", "", json!({"spec": {"drivers": nodes}}), json!({"spec": {"drivers": renamed}}),
            "spec.drivers: Invalid value: {\"Name\":\"b\",\"NodeID\":\"3\",\"TopologyKeys\":null,\"Allocatable\":null}: field is immutable".into()),
        ("csinodes", "CSINode", "", json!({}), json!({"spec": {"drivers": [{"name": "a", "nodeID": "1"}, {"name": "a", "nodeID": "1", "topologyKeys": ["a b"]}]}}),
            format!("[spec.drivers[1].name: Duplicate value: \"a\", spec.drivers[1]: Invalid value: \"a b\": {names}]")),
        ("storageclasses", "StorageClass", "", json!({}), json!({"allowedTopologies": [{"matchLabelExpressions": []}]}),
            "allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\"".into()),
        ("storageclasses", "StorageClass", "", json!({"reclaimPolicy": ""}), json!({"metadata": {"labels": {"a": "b"}}}), String::new()),
        ("volumeattributesclasses", "VolumeAttributesClass", "", json!({}), json!({"driverName": "", "parameters": {"a": "c"}}),
            "[driverName: Required value, driverName: Forbidden: updates to driverName are forbidden., parameters: Forbidden: updates to parameters are forbidden.]".into()),
        ("volumeattachments", "VolumeAttachment", "status", json!({}), json!({"status": {"attachError": {"message": long}, "detachError": {"errorCode": -1}}}),
            "[status.attachError.message: Too long: may not be more than 262144 bytes, status.detachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive]".into()),
        ("volumeattachments", "VolumeAttachment", "status", json!({}), json!({"status": {"attachmentMetadata": {"": "x"}}}), String::new()),
    ];
    for (at_, (plural, kind, subresource, made, change, why)) in cases.into_iter().enumerate() {
        let resource = GroupResource::of("storage.k8s.io", plural);
        let name = format!("x{at_}");
        let mut object = named(kind, &name, json!({}));
        if least(kind).get("spec").is_none() && made.get("spec").is_none() && kind != "CSIDriver" && kind != "CSINode" {
            object.as_object_mut().unwrap().remove("spec");
        }
        merge(&mut object, made);
        world.create(&resource, "", object).await.unwrap();
        let said = told(world.merge(At { subresource, ..at(&resource, "", &name) }, change.clone()).await);
        assert_eq!(said, why, "{kind}: {change}");
    }
    let capacities = GroupResource::of("storage.k8s.io", "csistoragecapacities");
    let capacity = json!({"metadata": {"name": "x"}, "storageClassName": "A",
        "nodeTopology": {"matchExpressions": [{"key": "a", "operator": "Foo"}]}});
    let said = told(world.create(&capacities, "default", capacity).await);
    assert!(said.starts_with("[nodeTopology.matchExpressions[0].operator: Invalid value: \"Foo\""), "{said}");
    assert!(said.contains("operator, storageClassName: Invalid value: \"A\": "), "{said}");
}

#[tokio::test]
async fn slices_are_of_whole_names_and_few_hints() {
    let world = World::new().await;
    let slices = GroupResource::of("discovery.k8s.io", "endpointslices");
    let many: Vec<Value> = (0..9).map(|n| json!({"name": format!("z{n}")})).collect();
    let domain = "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots";
    let cases = [
        ("FQDN", "a", json!({}), domain.to_owned()),
        ("FQDN", "a.b.", json!({}), String::new()),
        ("IPv4", "1.2.3.4", json!({"hints": {"forZones": many}}), "endpoints[0].hints.forZones: Too many: 9: must have at most 8 items".into()),
        ("IPv4", "1.2.3.4", json!({"hints": {"forNodes": [{"name": "n"}, {"name": "n"}]}}), "endpoints[0].hints.forNodes[1].name: Duplicate value: \"n\"".into()),
        ("IPv4", "1.2.3.4", json!({"hints": {"forZones": [{"name": "a b"}]}}),
            "endpoints[0].hints.forZones[0].name: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')".into()),
    ];
    for (at_, (kind, address, more, why)) in cases.into_iter().enumerate() {
        let mut endpoint = json!({"addresses": [address]});
        merge(&mut endpoint, more);
        let slice = json!({"metadata": {"name": format!("s{at_}")}, "addressType": kind, "endpoints": [endpoint]});
        assert_eq!(told(world.create(&slices, "default", slice).await), why);
    }
    let classes = GroupResource::of("scheduling.k8s.io", "priorityclasses");
    world.create(&classes, "", json!({"metadata": {"name": "p"}, "value": 1})).await.unwrap();
    assert_eq!(
        told(world.merge(at(&classes, "", "p"), json!({"value": 2_000_000_000})).await),
        "value: Forbidden: may not be changed in an update."
    );
}

#[tokio::test]
async fn events_are_told_of_by_the_face_that_was_asked() {
    let world = World::new().await;
    let new = GroupResource::of("events.k8s.io", "events");
    let event = |change: Value| {
        let mut event = json!({"metadata": {"name": "e"}, "regarding": {"namespace": "default", "name": "p"}, "reason": "R", "action": "A",
            "type": "Normal", "reportingController": "e.com/c", "reportingInstance": "i", "eventTime": "2024-01-01T00:00:00.000001Z"});
        merge(&mut event, change);
        event
    };
    let unset = "Invalid value: \"\": needs to be unset";
    for (change, why) in [
        (
            json!({"series": {"count": 1, "lastObservedTime": "2024-01-01T00:00:00.000001Z"}}),
            "series.count: Invalid value: \"\": should be at least 2".to_owned(),
        ),
        (
            json!({"deprecatedCount": 1, "deprecatedSource": {"host": "h"}, "deprecatedFirstTimestamp": "2024-01-01T00:00:00Z"}),
            format!("[firstTimestamp: {unset}, count: {unset}, source: {unset}]"),
        ),
        (
            json!({"eventTime": null, "type": "Foo"}),
            "[eventTime: Required value, type: Invalid value: \"\": has invalid value: Foo]".into(),
        ),
    ] {
        assert_eq!(told(world.create(&new, "default", event(change.clone())).await), why, "{change}");
    }
    world.create(&new, "default", event(json!({}))).await.unwrap();
    let place = || at(&new, "default", "e");
    let series = json!({"series": {"count": 2, "lastObservedTime": "2024-01-01T00:00:01.000001Z"}});
    assert_eq!(told(world.merge(place(), series).await), "");
    assert_eq!(
        told(world.merge(place(), json!({"note": "n", "regarding": {"name": "q"}, "reportingController": "d"})).await),
        "[involvedObject: Invalid value: {\"Kind\":\"\",\"Namespace\":\"default\",\"Name\":\"q\",\"UID\":\"\",\"APIVersion\":\"\",\"ResourceVersion\":\"\",\"FieldPath\":\"\"}: field is immutable, message: Invalid value: \"n\": field is immutable, reportingController: Invalid value: \"d\": field is immutable]"
    );
    // The older face lets everything change, but asks of a timed event what the newer one asks.
    let old = GroupResource::of("", "events");
    assert_eq!(told(world.merge(at(&old, "default", "e"), json!({"message": "n"})).await), "");
    let timed = json!({"metadata": {"name": "f"}, "involvedObject": {"namespace": "default"}, "eventTime": "2024-01-01T00:00:00.000001Z",
        "reportingComponent": "c", "reportingInstance": "i", "reason": "R"});
    assert_eq!(told(world.create(&old, "default", timed).await), "action: Required value");
}
