//! The status of a definition: who is called what (of two definitions of a group that want one name, the first has it), and the marks of
//! one that goes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::errors::quote;
use crate::metadata::stamp;
use crate::value::{Fill as _, Look as _};

/// Holds a definition until its objects have gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Names that are resources, as they stand in `names`, and the reason that a definition is told when one is taken.
const RESOURCES: [(&str, &str); 2] = [("plural", "PluralConflict"), ("singular", "SingularConflict")];
const KINDS: [(&str, &str); 2] = [("kind", "KindConflict"), ("listKind", "ListKindConflict")];

/// The status that a definition should have, given all of them.
pub(crate) fn of(definition: &Value, all: &[Value], now: Timestamp) -> Value {
    let group = definition.text("spec.group");
    let name = definition.text("metadata.name");
    let others = all.iter().filter(|d| d.text("spec.group") == group && d.text("metadata.name") != name);
    let accepted: Vec<&Value> = others.map(|d| d.look("status.acceptedNames")).collect();
    let texts =
        |names: &[&str]| -> Vec<&str> { accepted.iter().flat_map(|a| names.iter().map(|name| a.text(name))).collect() };
    let mut resources = texts(&["plural", "singular"]);
    resources.extend(accepted.iter().flat_map(|a| a.items("shortNames")).filter_map(Value::as_str));
    let kinds = texts(&["kind", "listKind"]);

    let wanted = definition.look("spec.names");
    let mut names = definition.look("status.acceptedNames").clone();
    let mut conflict: Option<(&str, String)> = None;
    for (table, taken) in [(RESOURCES, &resources), (KINDS, &kinds)] {
        for (field, reason) in table {
            let name = wanted.text(field);
            if !name.is_empty() && name != names.text(field) && taken.contains(&name) {
                conflict = Some((reason, format!("{} is already in use", quote(name))));
            } else {
                put(&mut names, field, wanted.look(field));
            }
        }
        if table == RESOURCES {
            let own = names.items("shortNames").to_vec();
            let short = wanted.items("shortNames").iter().filter(|name| !own.contains(name)).filter_map(Value::as_str);
            let told: Vec<String> = short
                .filter(|name| taken.contains(name))
                .map(|name| format!("{} is already in use", quote(name)))
                .collect();
            match told.as_slice() {
                [] => put(&mut names, "shortNames", wanted.look("shortNames")),
                [one] => conflict = Some(("ShortNamesConflict", one.clone())),
                many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
            }
        }
    }
    put(&mut names, "categories", wanted.look("categories"));

    let mut status = definition.look("status").clone();
    if !status.look("conditions").is_array() {
        status.set("conditions", Vec::<Value>::new());
    }
    let free = conflict.is_none();
    let (reason, message) = conflict.unwrap_or(("NoConflicts", "no conflicts found".to_owned()));
    set(&mut status, "NamesAccepted", free, reason, &message, now);
    match (condition(definition, "Established"), free) {
        (Some("True"), _) => {}
        (_, true) => {
            set(&mut status, "Established", true, "InitialNamesAccepted", "the initial names have been accepted", now);
        }
        (_, false) => set(&mut status, "Established", false, "NotAccepted", "not all names are accepted", now),
    }
    if let Some((good, reason, message)) = approval(definition) {
        set(&mut status, "KubernetesAPIApprovalPolicyConformant", good, reason, &message, now);
    }
    status.set("acceptedNames", names);
    status
}

fn put(names: &mut Value, field: &str, value: &Value) {
    match value {
        Value::Null => {
            names.cut(field);
        }
        value => names.set(field, value.clone()),
    }
}

/// What is said of a group that belongs to the Kubernetes community.
fn approval(definition: &Value) -> Option<(bool, &'static str, String)> {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    if !is_protected(definition.text("spec.group")) {
        return None;
    }
    let annotation =
        definition.look("metadata.annotations").get(ANNOTATION).and_then(Value::as_str).unwrap_or_default();
    let quoted = quote(annotation);
    Some(match annotation {
        "" => {
            let see = "see https://github.com/kubernetes/enhancements/pull/1111";
            (
                false,
                "MissingAnnotation",
                format!("protected groups must have approval annotation {ANNOTATION:?}, {see}"),
            )
        }
        text if text.starts_with("unapproved") => (false, "UnapprovedAnnotation", format!("not approved: {quoted}")),
        text if is_url(text) => (true, "ApprovedAnnotation", format!("approved in {text}")),
        _ => (
            false,
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a \
              reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
            ),
        ),
    })
}

pub(crate) fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|domain| group == *domain || group.ends_with(&format!(".{domain}")))
}

pub(crate) fn is_url(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.starts_with('/'))
}

pub(crate) fn established(definition: &Value) -> bool {
    condition(definition, "Established") == Some("True")
}

/// The status of a condition.
pub(crate) fn condition<'a>(definition: &'a Value, name: &str) -> Option<&'a str> {
    definition.items("status.conditions").iter().find(|c| c.text("type") == name).map(|c| c.text("status"))
}

/// That a definition is going, or has gone.
pub(crate) fn terminating(definition: &mut Value, holds: bool, reason: &str, message: &str, now: Timestamp) {
    set(definition.slot("status"), "Terminating", holds, reason, message, now);
}

/// The marks of a definition that is to go, beside its deletion's time.
pub(crate) fn mark(definition: &mut Value) {
    let mut finalizers = definition.items("metadata.finalizers").to_vec();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    definition.set("metadata.finalizers", finalizers);
    let now = definition.text("metadata.deletionTimestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    terminating(definition, true, "InstanceDeletionPending", message, now);
}

/// Sets a condition; its time moves only with its status.
pub(super) fn set(status: &mut Value, name: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let holds = if holds { "True" } else { "False" };
    let mut condition = Map::new();
    for (field, text) in [("type", name), ("status", holds), ("reason", reason), ("message", message)] {
        condition.insert(field.to_owned(), text.into());
    }
    condition.insert("lastTransitionTime".to_owned(), stamp(now).into());
    if !status.look("conditions").is_array() {
        status.set("conditions", json!([]));
    }
    let Some(Value::Array(conditions)) = status.find_mut("conditions") else { return };
    match conditions.iter_mut().find(|c| c.text("type") == name) {
        Some(old) => {
            if old.text("status") == holds {
                condition.insert("lastTransitionTime".to_owned(), old.look("lastTransitionTime").clone());
            }
            *old = condition.into();
        }
        None => conditions.push(condition.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(name: &str, names: Value) -> Value {
        json!({"metadata": {"name": name}, "spec": {"group": "e.com", "names": names}, "status": {"acceptedNames": {"plural": "", "kind": ""}}})
    }

    fn settle(definition: &mut Value, all: &[Value]) -> Vec<String> {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let status = of(definition, all, now);
        let told = status
            .items("conditions")
            .iter()
            .map(|c| format!("{}={} {}", c.text("type"), c.text("status"), c.text("message")));
        let told = told.collect();
        definition["status"] = status;
        told
    }

    #[test]
    fn the_first_has_a_name_until_it_goes() {
        let mut first = definition(
            "as.e.com",
            json!({"plural": "as", "singular": "a", "kind": "A", "listKind": "AList", "shortNames": ["x"]}),
        );
        let told = settle(&mut first, &[]);
        assert_eq!(
            told,
            ["NamesAccepted=True no conflicts found", "Established=True the initial names have been accepted"]
        );
        assert_eq!(first["status"]["acceptedNames"], first["spec"]["names"]);
        let mut second = definition(
            "bs.e.com",
            json!({"plural": "bs", "singular": "b", "kind": "A", "listKind": "BList", "shortNames": ["x"]}),
        );
        let told = settle(&mut second, &[first.clone()]);
        assert_eq!(
            told,
            ["NamesAccepted=False \"A\" is already in use", "Established=False not all names are accepted"]
        );
        assert_eq!(
            second["status"]["acceptedNames"],
            json!({"plural": "bs", "singular": "b", "kind": "", "listKind": "BList"})
        );
        let mut other = definition("bs.f.com", json!({"plural": "as", "kind": "A"}));
        other["spec"]["group"] = "f.com".into();
        assert!(settle(&mut other, &[first])[0].starts_with("NamesAccepted=True"));
        assert!(settle(&mut second, &[])[0].starts_with("NamesAccepted=True"));
        assert_eq!(second["status"]["acceptedNames"], second["spec"]["names"]);
    }
}
