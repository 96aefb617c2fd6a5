//! APIService: which server answers for a version of a group.

use std::borrow::Cow;

use kedge_api::Resource;
use kedge_api::groups::{GROUPS, REGISTRATION};
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::{API_EXTENSIONS, STATUS, cluster_resource, columns, workload};
use crate::errors::{Errors, Path};
use crate::metadata::stamp;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Service", |o| service(o.look("spec.service")).into()),
    columns::text("Available", |o| available(o).into()),
    columns::AGE,
];

const MOST_GROUP_PRIORITY: i64 = 20_000;
const MOST_VERSION_PRIORITY: i64 = 1000;
const STATES: &[&str] = &["True", "False", "Unknown"];

pub(crate) fn row() -> Row {
    let schema = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService";
    let base = cluster_resource(REGISTRATION, "apiservices", "apiservice", "APIService", schema, COLUMNS);
    let resource = Resource { categories: Cow::Borrowed(API_EXTENSIONS), subresources: &[STATUS], ..base };
    let strategy = Strategy {
        name: names::path_segment,
        status: true,
        unconditional_update: false,
        default,
        prepare_create,
        prepare_status,
        validate,
        validate_status: |new, _, errors| validate_status(new, errors),
        ..Strategy::PLAIN
    };
    Row::new(resource, strategy)
}

fn service(service: &Value) -> String {
    match service {
        Value::Null => "Local".into(),
        service => format!("{}/{}", service.text("namespace"), service.text("name")),
    }
}

fn available(api: &Value) -> String {
    let conditions = api.items("status.conditions");
    match conditions.iter().find(|c| c.text("type") == "Available") {
        None => "Unknown".into(),
        Some(condition) if condition.text("status") == "True" => "True".into(),
        Some(condition) => format!("{} ({})", condition.text("status"), condition.text("reason")),
    }
}

fn default(api: &mut Value) {
    for field in ["spec", "status"] {
        api.fill(field, json!({}));
    }
    for field in ["groupPriorityMinimum", "versionPriority"] {
        api.fill(&format!("spec.{field}"), 0);
    }
    if api.has("spec.service") {
        api.fill("spec.service.port", 443);
    }
    workload::null_times(api, "status.conditions", &["lastTransitionTime"]);
}

/// What this server answers for itself needs nobody to find out whether it is there.
fn prepare_create(api: &mut Value) {
    api.set("status", json!({}));
    if !api.has("spec.service") {
        let condition = json!({"type": "Available", "status": "True", "reason": "Local",
            "lastTransitionTime": stamp(jiff::Timestamp::now()), "message": "Local APIServices are always available"});
        api.set("status.conditions", json!([condition]));
    }
}

fn prepare_status(new: &mut Value, old: &Value) {
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let path = format!("metadata.{field}");
        match old.look(&path) {
            Value::Null => {
                new.cut(&path);
            }
            value => new.set(&path, value.clone()),
        }
    }
}

fn validate(api: &Value, errors: &mut Errors) {
    let path = Path::root("spec");
    let (group, version) = (api.text("spec.group"), api.text("spec.version"));
    let (name, wanted) = (api.text("metadata.name"), format!("{version}.{group}"));
    if !name.is_empty() && names::path_segment(name).is_empty() && name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.invalid(&Path::root("metadata.name"), name, &why);
    }
    if group.is_empty() && version != "v1" {
        errors.required(&path.child("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        errors.all_invalid(&path.child("group"), group, names::subdomain(group));
    }
    errors.all_invalid(&path.child("version"), version, names::old_label(version));
    for (field, most) in [("groupPriorityMinimum", MOST_GROUP_PRIORITY), ("versionPriority", MOST_VERSION_PRIORITY)] {
        let priority = columns::count(api.look("spec"), field);
        if !(1..=most).contains(&priority) {
            errors.invalid(&path.child(field), priority, &format!("must be positive and less than {most}"));
        }
    }
    validate_server(api.look("spec"), &path, errors);
}

fn validate_server(spec: &Value, path: &Path<'_>, errors: &mut Errors) {
    let bundle = super::config_map::decoded_len(spec.text("caBundle"));
    let insecure = spec.flag("insecureSkipTLSVerify");
    let insecure_path = path.child("insecureSkipTLSVerify");
    let service = spec.look("service");
    if service.is_null() {
        if bundle > 0 {
            let shown = format!("{bundle} bytes");
            errors.invalid(&path.child("caBundle"), shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            errors.invalid(&insecure_path, true, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    let here = path.child("service");
    for field in ["namespace", "name"] {
        if service.text(field).is_empty() {
            errors.required(&here.child(field), "");
        }
    }
    let port = service.int("port").unwrap_or(0);
    for why in names::port_number(port) {
        errors.invalid(&here.child("port"), port, &format!("port is not valid: {why}"));
    }
    if insecure && bundle > 0 {
        errors.invalid(&insecure_path, true, "may not be true if caBundle is present");
    }
}

fn validate_status(api: &Value, errors: &mut Errors) {
    let list = Path::root("status.conditions");
    for (at, condition) in api.items("status.conditions").iter().enumerate() {
        let state = condition.text("status");
        if !STATES.contains(&state) {
            errors.not_supported(&list.index(at).child("status"), state, STATES);
        }
    }
}

/// One for each version that this server answers for itself.
pub(crate) fn local() -> impl Iterator<Item = Value> {
    GROUPS.iter().flat_map(|group| {
        group.versions.iter().map(|(version, priority)| {
            let labels = json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
            let mut spec =
                json!({"version": version, "groupPriorityMinimum": group.priority, "versionPriority": priority});
            if !group.name.is_empty() {
                spec.set("group", group.name);
            }
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "spec": spec,
                "metadata": {"name": format!("{version}.{}", group.name), "labels": labels}})
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(api: &Value) -> usize {
        let mut api = api.clone();
        default(&mut api);
        let mut errors = Errors::default();
        validate(&api, &mut errors);
        errors.len()
    }

    #[test]
    fn local_ones_are_right_and_available() {
        for mut api in local() {
            assert_eq!(wrong(&api), 0, "{api}");
            prepare_create(&mut api);
            assert_eq!((service(api.look("spec.service")), available(&api)), ("Local".into(), "True".into()));
        }
    }

    #[test]
    fn a_name_says_version_and_group() {
        let api = json!({"metadata": {"name": "v1.g.io"}, "spec": {"group": "g.io", "version": "v1", "groupPriorityMinimum": 1,
            "versionPriority": 1, "service": {"name": "s", "namespace": "n"}}});
        assert_eq!(wrong(&api), 0);
        for (field, value, count) in [
            ("metadata.name", json!("v2.g.io"), 1),
            ("spec.versionPriority", json!(1001), 1),
            ("spec.groupPriorityMinimum", json!(0), 1),
            ("spec.service.port", json!(0), 1),
            ("spec.service", json!({}), 2),
        ] {
            let mut changed = api.clone();
            changed.set(field, value);
            assert_eq!(wrong(&changed), count, "{field}");
        }
        let mut local = api.clone();
        local.cut("spec.service");
        local.set("spec.insecureSkipTLSVerify", true);
        local.set("spec.caBundle", "Zm9v");
        assert_eq!(wrong(&local), 2);
    }
}
