//! Engines of the registry: patches, the schemas of custom resources, the paths of columns.

use kedge_registry::fuzz;
use serde_json::{Value, json};

use crate::texts;

pub fn patch(data: &[u8]) {
    if let Ok(input) = serde_json::from_slice::<Value>(data) {
        fuzz::patched(&input);
    }
}

pub fn patch_seeds() -> Vec<Vec<u8>> {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"a": "b"}, "finalizers": ["x", "y"]},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}], "ports": [{"containerPort": 80}]}],
            "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k"}]}});
    let seed = |kind: &str, patch: Value| {
        json!({"of": "Pod", "type": kind, "current": pod, "patch": patch}).to_string().into_bytes()
    };
    vec![
        seed(
            "json",
            json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "d"}}, {"op": "test", "path": "/kind", "value": "Pod"}]),
        ),
        seed(
            "json",
            json!([{"op": "copy", "from": "/spec", "path": "/a"}, {"op": "move", "from": "/a", "path": "/spec/a"}, {"op": "remove", "path": "/metadata/labels"}, {"op": "replace", "path": "/spec/containers/0/name", "value": 1}]),
        ),
        seed("merge", json!({"metadata": {"labels": {"a": null, "b": {}}}, "spec": {"containers": [1]}})),
        seed(
            "strategic",
            json!({"metadata": {"labels": {"$patch": "replace", "c": "d"}, "$deleteFromPrimitiveList/finalizers": ["x"], "$setElementOrder/finalizers": ["z", "y"], "finalizers": ["z"]}}),
        ),
        seed(
            "strategic",
            json!({"spec": {"$retainKeys": ["containers"], "$setElementOrder/containers": [{"name": "d"}, {"name": "c"}],
            "containers": [{"name": "d", "image": "j"}, {"name": "c", "env": [{"$patch": "delete", "name": "A"}], "ports": [{"$patch": "replace"}]}]}}),
        ),
    ]
}

pub fn resource(data: &[u8]) {
    if let Ok(input) = serde_json::from_slice::<Value>(data) {
        fuzz::schema(&input);
    }
}

pub fn resource_seeds() -> Vec<Vec<u8>> {
    let seed = |spec: Value, value: Value| {
        json!({"schema": {"type": "object", "properties": {"spec": spec}}, "value": {"spec": value}, "old": {"spec": {}}}).to_string().into_bytes()
    };
    vec![
        seed(
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1, "default": 3, "enum": [1, 2, 3]},
            "s": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5, "nullable": true}, "d": {"type": "string", "format": "date-time"}}}),
            json!({"a": 1, "s": "x", "q": 1}),
        ),
        seed(
            json!({"type": "object", "additionalProperties": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"x-kubernetes-int-or-string": true}}}}}),
            json!({"x": [{"k": "a", "v": 1}, {"k": "a"}]}),
        ),
        seed(
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 3, "x-kubernetes-map-type": "atomic"}),
            json!({"a": {"b": [1, {"c": null}]}}),
        ),
        seed(
            json!({"type": "object", "properties": {"n": {"type": "integer"}, "l": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 9}}},
            "x-kubernetes-validations": [{"rule": "self.n > 1 && self.l.all(x, x.size() > 0)", "messageExpression": "'n is ' + string(self.n)", "fieldPath": ".n"},
                {"rule": "oldSelf.hasValue() ? self.n >= oldSelf.value().n : true", "optionalOldSelf": true, "reason": "FieldValueForbidden"}]}),
            json!({"n": 1, "l": ["a", ""]}),
        ),
        seed(
            json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
            json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "n"}}),
        ),
        seed(
            json!({"type": "object", "properties": {"a": {"type": "number", "multipleOf": 0.5}}, "allOf": [{"properties": {"a": {"maximum": 5}}}], "anyOf": [{"required": ["a"]}], "oneOf": [{"required": ["a"]}], "not": {"required": ["b"]}}),
            json!({"a": 1.5}),
        ),
    ]
}

/// The first line is a path, the rest what it is looked up in.
pub fn json_path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, rest) = text.split_once('\n').unwrap_or((text, ""));
    let on = serde_json::from_str(rest).unwrap_or_else(
        |_| json!({"a": {"b": [1, {"c": "d"}, [2, 3]]}, "items": [{"type": "Ready", "status": "True"}, {"type": "x"}]}),
    );
    fuzz::json_path(path, &on);
}

pub fn json_path_seeds() -> Vec<Vec<u8>> {
    texts(&[
        ".a.b[0]",
        ".items[?(@.type==\"Ready\")].status",
        "..c",
        ".a['b'][-1:0:2,*]",
        ".items[*]['type','status']\n{\"items\": [{\"type\": 1}]}",
        ".metadata.annotations.e\\.com/x",
        // Found once: each step makes more of what the one before found.
        "..*..*..*..*..*..*..*..*\n[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]",
        "[0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0][0,0,0]\n[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]",
    ])
}
