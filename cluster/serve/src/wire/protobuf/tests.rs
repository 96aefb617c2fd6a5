mod kinds;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_body_of_a_go_client_is_read() {
    // A ConfigMap named "a" with one key.
    let bytes = STANDARD.decode("azhzAAoPCgJ2MRIJQ29uZmlnTWFwEg8KBQoBYRIAEgYKAWsSAXY=").unwrap();
    let want = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(decode(&bytes, None), Ok(want));
}

fn round(object: Value) {
    let bytes = encode(&object).unwrap();
    assert_eq!(decode(&bytes, None), Ok(object));
}

#[test]
fn every_shape_comes_back_as_it_was() {
    round(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"a": "b", "c": ""}, "generation": 7, "creationTimestamp": "2026-11-22T22:07:14Z",
            "managedFields": [{"manager": "m", "time": "2026-11-22T22:07:14Z", "fieldsV1": {"f:spec": {".": {}}}}]},
        "spec": {
            "containers": [{"name": "c", "command": ["sh", ""], "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 420}}, {"name": "e", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 0, "enableServiceLinks": false, "nodeSelector": {"a": "b"},
            "securityContext": {"supplementalGroups": [1, 2, -3]}},
        "status": {"phase": "Running"}}));
    round(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "data": {"k": "AAEC/w=="}}));
    round(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"},
        "spec": {"renewTime": "2026-11-22T22:07:14.123456Z", "leaseDurationSeconds": 40}}));
    round(json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {},
        "status": {"userInfo": {"username": "u", "groups": ["g"], "extra": {"scopes": ["a", "b"], "none": []}}}}));
    let items = json!([{"metadata": {"name": "a"}, "spec": {}, "status": {}}]);
    round(json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": items}));
    round(json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {},
        "spec": {"matchConstraints": {"resourceRules": [{"apiGroups": [""], "operations": ["CREATE"], "resources": ["pods"]}]}}}));
    round(
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.example.com"},
        "spec": {"group": "example.com", "version": "v1", "caBundle": "Zm9v", "groupPriorityMinimum": 100, "versionPriority": 10,
            "service": {"namespace": "n", "name": "s", "port": 443}}, "status": {}}),
    );
    let config = json!({"requests": ["r"], "opaque": {"driver": "d.example.com", "parameters": {"x": 1}}});
    round(json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {}, "status": {},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "count": 2}}], "config": [config]}}}));
}

#[test]
fn a_list_made_item_by_item_is_the_list() {
    for count in [0, 1, 3000] {
        let items: Vec<Value> = (0..count)
            .map(|n| json!({"metadata": {"name": format!("map-{n}")}, "data": {"k": "v".repeat(n % 90)}}))
            .collect();
        let head =
            json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "9", "continue": "c"}});
        let written: Vec<String> = items.iter().map(Value::to_string).collect();
        let parts = list(&head, written.iter().map(String::as_bytes)).unwrap().unwrap();
        assert_eq!(parts.len() > 2, count == 3000);
        let mut whole = head.clone();
        if count > 0 {
            whole["items"] = items.into();
        }
        assert_eq!(parts.concat(), encode(&whole).unwrap());
        assert_eq!(decode(&parts.concat(), None), Ok(whole));
    }
    let custom = json!({"apiVersion": "example.com/v1", "kind": "WidgetList", "metadata": {}});
    assert!(list(&custom, [].into_iter()).is_none());
    let head = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}});
    assert!(list(&head, [&b"{\"broken"[..]].into_iter()).unwrap().is_err());
}

#[test]
fn zero_values_that_go_always_writes_are_as_its_json_has_them() {
    // metadata with empty name, namespace and uid, generation 0 and an unset creation time.
    let meta = [0x0a, 0, 0x1a, 0, 0x2a, 0, 0x38, 0, 0x42, 0];
    let mut raw = vec![0x0a, meta.len() as u8];
    raw.extend(meta);
    let mut bytes = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12".to_vec();
    bytes.push(raw.len() as u8);
    bytes.extend(raw);
    assert_eq!(decode(&bytes, None), Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})));
}

#[test]
fn numbers_are_as_wide_as_gos() {
    let wide = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4_294_967_299_i64}});
    assert_eq!(decode(&encode(&wide).unwrap(), None).unwrap()["spec"]["replicas"], 3);
}

#[test]
fn json_inside_of_a_message_counts_as_the_message_does() {
    let data = Value::from(vec![0; 600_000]);
    let large = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": data});
    let refused = decode(&encode(&large).unwrap(), None).unwrap_err().to_string();
    assert!(refused.contains("more than 524288 values"), "{refused}");
}

#[test]
fn a_schema_may_be_something_simpler() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}},
        "additionalProperties": false, "additionalItems": {"type": "string"}, "items": [{"type": "string"}, {}],
        "dependencies": {"a": ["b"], "c": {"type": "object"}}, "default": null, "enum": [null, 1, "x", {"y": []}]});
    let mut want = schema.clone();
    want.as_object_mut().unwrap().remove("default");
    let of = |schema: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {},
            "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}]}})
    };
    assert_eq!(decode(&encode(&of(schema)).unwrap(), None), Ok(of(want)));
    let deep = of((0..50).fold(json!({"type": "string"}), |inner, _| json!({"properties": {"a": inner}})));
    assert_eq!(decode(&encode(&deep).unwrap(), None), Ok(deep));
}

#[test]
fn what_is_no_message_of_ours_is_refused() {
    assert_eq!(decode(b"{}", None), Err(ProtobufError::Magic));
    assert_eq!(decode(b"k8s\0\x0a\xff", None), Err(ProtobufError::Truncated));
    let unknown = b"k8s\0\x0a\x0a\x0a\x02v1\x12\x04Nope";
    assert!(matches!(decode(unknown, None), Err(ProtobufError::Unknown { .. })));
    assert_eq!(encode(&json!({"apiVersion": "example.com/v1", "kind": "Custom"})), None);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in "ConfigMap|Pod|Secret|Event") {
        let mut body = b"k8s\0\x0a".to_vec();
        body.push(kind.len() as u8 + 6);
        body.extend(b"\x0a\x02v1\x12");
        body.push(kind.len() as u8);
        body.extend(kind.as_bytes());
        body.push(0x12);
        body.push(bytes.len().min(127) as u8);
        body.extend(&bytes);
        if let Ok(value) = decode(&body, None) {
            prop_assert!(value.is_object());
        }
        let _ = decode(&bytes, None);
    }

    #[test]
    fn a_cut_message_is_no_message(cut in 0usize..200) {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "abc"}, "data": {"k": "v", "l": "w"}});
        let bytes = encode(&object).unwrap();
        let cut = cut % bytes.len();
        prop_assert!(decode(&bytes[..cut], None).as_ref() != Ok(&object) || cut >= bytes.len() - 4);
    }
}

#[test]
fn a_watch_is_frames_of_events() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let bytes = frame("ADDED", &object);
    let (length, message) = bytes.split_at(4);
    assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, message.len());
    // Field 1: the type; field 2: the object's bytes in a message of their own.
    assert_eq!(&message[..7], b"\x0a\x05ADDED");
    let inner = encode(&object).unwrap();
    assert!(message.ends_with(&inner));
    assert_eq!(message[7], 0x12);
    assert_eq!(usize::from(message[8]), inner.len() + 2);
    assert_eq!(&message[9..], [&[0x0a, inner.len() as u8], &inner[..]].concat());
    let status = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 410});
    assert!(frame("ERROR", &status).ends_with(&encode(&status).unwrap()));
}
