//! Event: one object with two faces, `v1` and `events.k8s.io/v1`. Kept in memory only.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::Value;

use super::{columns, resource};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::names;
use crate::pick::pick;
use crate::strategy::Strategy;
use crate::table::{Alias, Row};
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Last Seen", |o| columns::since(last_seen(o)).into()),
    columns::text("Type", |o| o.text("type").into()),
    columns::text("Reason", |o| o.text("reason").into()),
    columns::text("Object", |o| object(o).into()),
    columns::wide("Subobject", |o| of_either(o, "involvedObject.fieldPath", "regarding.fieldPath").into()),
    columns::wide("Source", |o| source(o).into()),
    columns::text("Message", |o| of_either(o, "message", "note").trim().into()),
    columns::wide("First Seen", |o| columns::since(first_seen(o)).into()),
    columns::wide("Count", |o| count(o).into()),
    Column { name: "Name", r#type: "string", format: "name", priority: 1, cell: |o| o.text("metadata.name").into() },
];

const SELECTABLE: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// The same in the newer form's words, which has no name for where an event comes from.
const NEW_SELECTABLE: &[&str] = &[
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
    "regarding.apiVersion",
    "regarding.resourceVersion",
    "regarding.fieldPath",
    "reason",
    "reportingController",
    "type",
];

/// Names in the core group's form and in the newer one's.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(crate) fn core_row() -> Row {
    let base = resource("", "events", "event", "Event", "io.k8s.api.core.v1.Event", COLUMNS);
    let resource = Resource { short_names: Cow::Borrowed(&["ev"]), selectable: SELECTABLE, volatile: true, ..base };
    Row::new(resource, STRATEGY)
}

pub(crate) fn events_row() -> Row {
    let base = resource("events.k8s.io", "events", "event", "Event", "io.k8s.api.events.v1.Event", COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["ev"]),
        selectable: NEW_SELECTABLE,
        volatile: true,
        stored_in: Some(("", "v1")),
        ..base
    };
    let alias = Alias { resource: ("", "events"), show, keep };
    let strategy = Strategy {
        name: names::subdomain,
        metadata_checks: (1, 0),
        validate: |_, _| {},
        validate_create: create_new,
        validate_update: update_new,
        field: new_field,
        error_group: Some(""),
        ..STRATEGY
    };
    Row::alias(resource, strategy, alias)
}

/// Of the older form nothing is asked that every API does not ask, its name's form least of all.
const STRATEGY: Strategy = Strategy {
    name: names::path_segment,
    metadata_checks: (0, 0),
    create_on_update: true,
    default,
    validate,
    field,
    ..Strategy::PLAIN
};

fn rename(event: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    for (from, to) in pairs {
        if let Some(value) = event.cut(from) {
            event.set(to, value);
        }
    }
}

fn show(event: &mut Value) {
    rename(event, RENAMED.iter().copied());
    event.set("apiVersion", "events.k8s.io/v1");
    // What the newer form leaves out when empty.
    for name in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "reportingController", "reportingInstance"] {
        if event.look(name).is_null() || event.text(name).is_empty() {
            event.cut(name);
        }
    }
}

fn keep(event: &mut Value) {
    rename(event, RENAMED.iter().map(|(old, new)| (*new, *old)));
    event.set("apiVersion", "v1");
}

/// What upstream's types always write.
fn default(event: &mut Value) {
    for name in ["firstTimestamp", "lastTimestamp", "eventTime"] {
        event.fill(name, Value::Null);
    }
    for name in ["reportingComponent", "reportingInstance"] {
        event.fill(name, "");
    }
    for name in ["source", "involvedObject"] {
        event.fill(name, serde_json::Map::new());
    }
}

/// The rules of both faces; `controller` is what this one calls the reporter.
fn sensible(event: &Value, controller: &str, errors: &mut Errors) {
    let (place, namespace) = (event.text("involvedObject.namespace"), event.text("metadata.namespace"));
    // Events about objects of cluster scope lie in `default`.
    let timed = !event.text("eventTime").is_empty();
    let fits = match (place.is_empty(), timed) {
        (true, true) => namespace == "default" || namespace == "kube-system",
        (true, false) => namespace == "default",
        (false, true) => true,
        (false, false) => place == namespace,
    };
    if !fits {
        errors.invalid(&Path::root("involvedObject.namespace"), place, "does not match event.namespace");
    }
    if !timed {
        return;
    }
    let reporter = event.text("reportingComponent");
    let path = Path::root(controller);
    if reporter.is_empty() {
        errors.required(&path, "");
    }
    errors.all_invalid(&path, reporter, names::qualified(reporter));
    for (field, least, most) in
        [("reportingInstance", 1, 128), ("action", 1, 128), ("reason", 1, 128), ("message", 0, 1024)]
    {
        let (path, length) = (Path::root(field), event.text(field).len());
        if length < least {
            errors.required(&path, "");
        }
        if length > most {
            errors.invalid(&path, "", &format!("can have at most {most} characters"));
        }
    }
}

fn validate(event: &Value, errors: &mut Errors) {
    sensible(event, "reportingComponent", errors);
}

/// The newer form demands more of a new event: nothing of the older one's.
fn create_new(event: &Value, errors: &mut Errors) {
    sensible(event, "reportingController", errors);
    series(event, errors);
    if event.text("eventTime").is_empty() {
        errors.required(&Path::root("eventTime"), "");
    }
    let kind = event.text("type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.invalid(&Path::root("type"), "", &format!("has invalid value: {kind}"));
    }
    let set = |field: &str| !event.text(field).is_empty();
    for (field, is_set) in [
        ("firstTimestamp", set("firstTimestamp")),
        ("lastTimestamp", set("lastTimestamp")),
        ("count", event.int("count").unwrap_or(0) != 0),
        ("source", set("source.component") || set("source.host")),
    ] {
        if is_set {
            errors.invalid(&Path::root(field), "", "needs to be unset");
        }
    }
}

fn series(event: &Value, errors: &mut Errors) {
    if !event.has("series") {
        return;
    }
    if event.int("series.count").unwrap_or(0) < 2 {
        errors.invalid(&Path::root("series.count"), "", "should be at least 2");
    }
    if event.text("series.lastObservedTime").is_empty() {
        errors.required(&Path::root("series.lastObservedTime"), "");
    }
}

/// … and that of one that is there only its series goes on.
fn update_new(new: &Value, old: &Value, errors: &mut Errors) {
    /// What stays, under the name that upstream tells of, and how it shows it.
    const FIXED: &[(&str, &str, Shown)] = &[
        ("involvedObject", "involvedObject", Shown::As("ObjectReference")),
        ("reason", "reason", Shown::Text),
        ("message", "message", Shown::Text),
        ("source", "source", Shown::As("EventSource")),
        ("firstTimestamp", "firstTimestamp", Shown::Plain),
        ("lastTimestamp", "lastTimestamp", Shown::Plain),
        ("count", "count", Shown::Number),
        ("reason", "reason", Shown::Text),
        ("type", "type", Shown::Text),
        ("eventTime", "eventTime", Shown::Plain),
        ("action", "action", Shown::Text),
        ("related", "related", Shown::As("ObjectReference")),
        ("reportingComponent", "reportingController", Shown::Text),
        ("reportingInstance", "reportingInstance", Shown::Text),
    ];
    sensible(new, "reportingController", errors);
    if new.look("series") != old.look("series") {
        series(new, errors);
    }
    for (field, told, shown) in FIXED {
        let (value, path) = (new.look(field), Path::root(told));
        if value == old.look(field) {
            continue;
        }
        let why = "field is immutable";
        match shown {
            Shown::As(kind) if value.is_object() => errors.invalid_json(&path, &golang::show(value, kind), why),
            Shown::Text if value.is_null() => errors.invalid(&path, "", why),
            Shown::Number if value.is_null() => errors.invalid(&path, 0, why),
            _ => errors.invalid(&path, value.clone(), why),
        }
    }
}

/// What an empty field is to a client: nothing, or the least of its type.
enum Shown {
    As(&'static str),
    Plain,
    Text,
    Number,
}

fn field(json: &[u8], field: &str) -> String {
    match field {
        "source" => {
            let component = pick(json, "source.component");
            if component.is_empty() { pick(json, "reportingComponent") } else { component }
        }
        other => pick(json, other),
    }
}

/// Of the newer form; what is kept has the older names.
fn new_field(json: &[u8], field: &str) -> String {
    match field {
        "reportingController" => pick(json, "reportingComponent"),
        other => other
            .strip_prefix("regarding.")
            .map_or_else(|| self::field(json, other), |rest| pick(json, &format!("involvedObject.{rest}"))),
    }
}

fn of_either<'a>(event: &'a Value, old: &str, new: &str) -> &'a str {
    let text = event.text(old);
    if text.is_empty() { event.text(new) } else { text }
}

fn object(event: &Value) -> String {
    let kind = of_either(event, "involvedObject.kind", "regarding.kind").to_lowercase();
    let name = of_either(event, "involvedObject.name", "regarding.name");
    if name.is_empty() { kind } else { format!("{kind}/{name}") }
}

fn source(event: &Value) -> String {
    let component = of_either(event, "source.component", "deprecatedSource.component");
    let component =
        if component.is_empty() { of_either(event, "reportingComponent", "reportingController") } else { component };
    match of_either(event, "source.host", "deprecatedSource.host") {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}

fn last_seen(event: &Value) -> &str {
    let series = event.text("series.lastObservedTime");
    let plain = of_either(event, "lastTimestamp", "deprecatedLastTimestamp");
    [series, plain, first_seen(event)].into_iter().find(|t| !t.is_empty()).unwrap_or_default()
}

fn first_seen(event: &Value) -> &str {
    let plain = of_either(event, "firstTimestamp", "deprecatedFirstTimestamp");
    if plain.is_empty() { event.text("eventTime") } else { plain }
}

fn count(event: &Value) -> i64 {
    let counts = ["series.count", "count", "deprecatedCount"];
    counts.iter().find_map(|path| event.int(path)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_two_faces_are_one_object() {
        let stored = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "count": 3,
            "source": {"component": "c"}, "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:00:00Z"});
        let mut event = stored.clone();
        show(&mut event);
        assert_eq!(event["regarding"], json!({"name": "p"}));
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        assert!(event.get("message").is_none());
        keep(&mut event);
        assert_eq!(event, stored);
    }
}
