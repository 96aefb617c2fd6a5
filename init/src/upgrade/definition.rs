//! The schemas of `spec.upgrade` and `status.upgrade`. What a field may say is checked by admission, with better words than a schema has.

use serde_json::{Value, json};

pub struct Schemas {
    pub spec: Value,
    pub status: Value,
}

pub fn definition() -> Schemas {
    let text = |description: &str| json!({"type": "string", "description": description});
    let number =
        |description: &str| json!({"type": "integer", "format": "int64", "minimum": 0, "description": description});
    let flag = |description: &str| json!({"type": "boolean", "description": description});
    let strings = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"});
    let requirement = json!({"type": "object", "required": ["key", "operator"],
        "properties": {"key": text("A label's key."), "operator": text("In, NotIn, Exists or DoesNotExist."), "values": strings}});
    let selector = json!({"type": "object", "description": "Which pods, by their labels; all, if it says nothing.",
        "x-kubernetes-map-type": "atomic", "properties": {
            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
            "matchExpressions": {"type": "array", "items": requirement, "x-kubernetes-list-type": "atomic"}}});
    let pods = json!({"type": "object", "required": ["namespace"], "properties": {"namespace": text("Where they are."), "selector": selector}});
    let host = text("An address; 127.0.0.1, if it is not said.");
    let port = json!({"type": "integer", "minimum": 1, "maximum": 65535, "description": "The port."});
    let http = json!({"type": "object", "required": ["port"], "description": "Well with an answer below 400.",
        "properties": {"host": host, "port": port, "path": text("With its slash; / if it is not said.")}});
    let tcp = json!({"type": "object", "required": ["port"], "description": "Well if it takes a connection.",
        "properties": {"host": host, "port": port}});
    let gate = json!({"type": "object",
        "description": "What the new system has to show before it is kept, beyond that its services run and its node is Ready.",
        "properties": {
            "pods": {"type": "array", "items": pods, "x-kubernetes-list-type": "atomic",
                "description": "Of each there is one at least, and all are Ready."},
            "probe": {"type": "object", "description": "A question to this machine's own workload.", "maxProperties": 1, "minProperties": 1,
                "properties": {"httpGet": http, "tcpSocket": tcp}},
            "soakSeconds": number("How long nothing may be missing; 30, if it is not said."),
            "limitSeconds": number("After which it has failed, since the kernel's start; 600, if it is not said."),
            "coldBoot": flag("It has to come through a second start as well.")}});
    let clock = |description: &str| json!({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "description": description});
    let window = json!({"type": "object", "required": ["start", "end"],
        "description": "When things may be fetched and systems started, in UTC. One that ends before it starts goes over midnight.",
        "properties": {"start": clock("Such as 02:00."), "end": clock("Such as 05:00.")}});
    let spec = json!({"type": "object", "required": ["source"],
        "description": "The system that the machine shall run. It is fetched into the slot that does not run, started on trial, and kept if it is well.",
        "properties": {
            "source": {"type": "string", "minLength": 1, "maxLength": 2048,
                "description": "Where the bundle lies: http://, https://, or oci://HOST/REPOSITORY:TAG (oci+http:// without TLS). {board} stands for the board's name."},
            "certificateAuthorities": text("PEM: whose certificate the server may show, beside those that everybody trusts. The bundle's own signature is checked in any case."),
            "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$", "description": "Of the slot manifest that is meant; any, if it is not said."},
            "attempt": number("A higher number asks once more for what failed."),
            "activate": flag("false: it is fetched and lies ready, and is started when this becomes true. true, if it is not said."),
            "bytesPerSecond": {"type": "integer", "format": "int64", "minimum": 1, "description": "How fast it may be fetched; as fast as may be, if it is not said."},
            "window": window, "gate": gate}});
    let status = json!({"type": "object", "description": "What became of the upgrade that its source and attempt name.", "properties": {
        "source": text("As it was asked for."), "attempt": number("As it was asked for."),
        "digest": text("Of the slot manifest."), "version": text("The version of the system that it brings."),
        "phase": text("Waiting, Fetching, Installed (it lies ready), Trying, Committed, or Failed (the old system runs)."),
        "message": text("For people."),
        "fetchedBytes": number("Of those that the machine lacks."), "totalBytes": number("Those that the machine lacks."),
        "startedAt": {"type": "string", "format": "date-time"}, "finishedAt": {"type": "string", "format": "date-time"}}});
    Schemas { spec, status }
}
