//! StatefulSet.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kedge_api::Resource;
use kedge_api::resource::Column;
use serde_json::{Value, json};

use super::columns::{self, count};
use super::{SCALE, STATUS, deployment, persistent_volume_claim as claim, resource, workload};
use crate::errors::{Errors, Path};
use crate::golang;
use crate::names;
use crate::strategy::Strategy;
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const COLUMNS: &[Column] = &[
    columns::text("Ready", |o| format!("{}/{}", count(o, "status.readyReplicas"), count(o, "spec.replicas")).into()),
    columns::AGE,
    columns::CONTAINERS,
    columns::IMAGES,
];

const CLAIMS: &str = "spec.volumeClaimTemplates";
/// A feature that is off by default upstream: dropped where it is not there already.
const MAX_UNAVAILABLE: &str = "spec.updateStrategy.rollingUpdate.maxUnavailable";

pub(crate) fn row() -> Row {
    let schema = "io.k8s.api.apps.v1.StatefulSet";
    let base = resource("apps", "statefulsets", "statefulset", "StatefulSet", schema, COLUMNS);
    let resource = Resource {
        short_names: Cow::Borrowed(&["sts"]),
        categories: Cow::Borrowed(&["all"]),
        subresources: &[SCALE, STATUS],
        ..base
    };
    let strategy = Strategy {
        // Pods have it as their host's name.
        name: names::label,
        default,
        prepare_create: |set| {
            set.set("status", json!({"replicas": 0, "availableReplicas": 0}));
            set.cut(MAX_UNAVAILABLE);
        },
        prepare_update: |new, old| {
            if !old.has(MAX_UNAVAILABLE) {
                new.cut(MAX_UNAVAILABLE);
            }
        },
        validate_create: |set, errors| validate(set, Told::New, errors),
        validate_update,
        validate_status,
        warnings,
        ..Strategy::SPEC
    };
    Row::new(resource, strategy)
}

fn default(set: &mut Value) {
    workload::default_template(set);
    set.fill("spec.replicas", 1);
    set.fill("spec.serviceName", "");
    set.fill_text("spec.podManagementPolicy", "OrderedReady");
    if set.text("spec.updateStrategy.type").is_empty() {
        set.set("spec.updateStrategy.type", "RollingUpdate");
        set.fill("spec.updateStrategy.rollingUpdate", json!({}));
    }
    if set.text("spec.updateStrategy.type") == "RollingUpdate" && set.has("spec.updateStrategy.rollingUpdate") {
        set.fill("spec.updateStrategy.rollingUpdate.partition", 0);
    }
    if let Some(ordinals) = set.find_mut("spec.ordinals") {
        ordinals.fill("start", 0);
    }
    for event in ["whenDeleted", "whenScaled"] {
        set.fill_text(&format!("spec.persistentVolumeClaimRetentionPolicy.{event}"), "Retain");
    }
    set.fill("spec.revisionHistoryLimit", 10);
    for template in set.items_mut(CLAIMS) {
        template.set("kind", "PersistentVolumeClaim");
        template.set("apiVersion", "v1");
        template.fill("metadata", json!({}));
        claim::default(template);
    }
    for number in ["replicas", "availableReplicas"] {
        set.fill(&format!("status.{number}"), 0);
    }
    workload::null_times(set, "status.conditions", &["lastTransitionTime"]);
}

/// How much of a set is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    New,
    /// What cannot change is not looked at again.
    Changed,
    /// … nor the template, where the one before was no better.
    Tolerated,
}

fn validate(set: &Value, told: Told, errors: &mut Errors) {
    const MANAGEMENT: &[&str] = &["OrderedReady", "Parallel"];
    let spec = Path::root("spec");
    let policy = set.text("spec.podManagementPolicy");
    if !MANAGEMENT.contains(&policy) {
        errors.invalid(&spec.child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'");
    }
    strategy(set.look("spec.updateStrategy"), &spec.child("updateStrategy"), errors);
    retention(set.look("spec.persistentVolumeClaimRetentionPolicy"), &spec, errors);
    let list = spec.child("volumeClaimTemplates");
    for (at, template) in set.items(CLAIMS).iter().enumerate().filter(|_| told == Told::New) {
        let item = list.index(at);
        claim::spec(template.look("spec"), &item.child("spec"), errors);
    }
    workload::counts(set, &["spec.replicas", "spec.minReadySeconds", "spec.ordinals.start"], errors);
    let service = set.text("spec.serviceName");
    if !service.is_empty() && told == Told::New {
        errors.all_invalid(&spec.child("serviceName"), service, names::label(service));
    }
    workload::selector(set, "empty selector is invalid for statefulset", errors);
    let read = workload::chosen(set, "", errors);
    template(set, read, told, &spec.child("template"), errors);
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rolling = strategy.look("rollingUpdate");
    let here = path.child("rollingUpdate");
    match strategy.text("type") {
        "OnDelete" if !rolling.is_null() => {
            errors.invalid_json(
                &here,
                &golang::show(rolling, "RollingUpdateStatefulSetStrategy"),
                "only allowed for updateStrategy 'RollingUpdate'",
            );
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            if let Some(number) = rolling.int("partition").filter(|n| *n < 0) {
                errors.invalid(&here.child("partition"), number, "must be greater than or equal to 0");
            }
        }
        _ => errors.invalid_json(
            path,
            &golang::show(strategy, "StatefulSetUpdateStrategy"),
            "must be 'RollingUpdate' or 'OnDelete'",
        ),
    }
}

fn retention(policy: &Value, spec: &Path<'_>, errors: &mut Errors) {
    const POLICIES: &[&str] = &["Retain", "Delete"];
    let path = spec.child("persistentVolumeClaimRetentionPolicy");
    for event in ["whenDeleted", "whenScaled"] {
        let wanted = policy.text(event);
        if !POLICIES.contains(&wanted) {
            errors.not_supported(&path.child(event), wanted, POLICIES);
        }
    }
}

/// Pods have a volume for each claim that is made for them, and names that the set gives them.
fn template(set: &Value, is_chosen: bool, told: Told, path: &Path<'_>, errors: &mut Errors) {
    let mut template = set.look("spec.template").clone();
    for given in ["hostname", "subdomain"] {
        template.cut(&format!("spec.{given}"));
    }
    let names: BTreeSet<_> = set.items(CLAIMS).iter().map(|claim| claim.text("metadata.name")).collect();
    if !names.is_empty() {
        let made = names.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        let own = template.items("spec.volumes").iter().filter(|volume| !names.contains(volume.text("name")));
        let volumes: Vec<Value> = made.chain(own.cloned()).collect();
        template.set("spec.volumes", volumes);
    }
    if is_chosen && told != Told::Tolerated {
        workload::pod_template(&template, path, errors);
    }
    if is_chosen {
        // Upstream looks at these a second time.
        workload::template_metadata(&template, path, errors);
    }
    let spec = path.child("spec");
    let policy = template.text("spec.restartPolicy");
    if policy != "Always" {
        errors.not_supported(&spec.child("restartPolicy"), policy, &["Always"]);
    }
    if template.has("spec.activeDeadlineSeconds") {
        let why = "activeDeadlineSeconds in StatefulSet is not Supported";
        errors.forbidden(&spec.child("activeDeadlineSeconds"), why);
    }
}

fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let mut before = Errors::default();
    validate(old, Told::Changed, &mut before);
    validate(new, if before.is_empty() { Told::Changed } else { Told::Tolerated }, errors);
    fixed(new, old, errors);
}

fn fixed(new: &Value, old: &Value, errors: &mut Errors) {
    const FREE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let rest = |set: &Value| {
        let mut spec = set.look("spec").clone();
        for field in FREE {
            spec.cut(field);
        }
        spec
    };
    if rest(new) != rest(old) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                   'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.forbidden(&Path::root("spec"), why);
    }
}

fn validate_status(new: &Value, old: &Value, errors: &mut Errors) {
    const PARTS: &[&str] = &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    const COUNTS: &[&str] = &[
        "status.replicas",
        "status.readyReplicas",
        "status.currentReplicas",
        "status.updatedReplicas",
        "status.availableReplicas",
        "status.observedGeneration",
        "status.collisionCount",
    ];
    workload::counts(new, COUNTS, errors);
    let path = Path::root("status");
    let of = |field: &str| count(new.look("status"), field);
    for field in PARTS {
        if of(field) > of("replicas") {
            errors.invalid(&path.child(field), of(field), "cannot be greater than status.replicas");
        }
    }
    if of("availableReplicas") > of("readyReplicas") {
        let why = "cannot be greater than status.readyReplicas";
        errors.invalid(&path.child("availableReplicas"), of("availableReplicas"), why);
    }
    deployment::collisions(new, old, errors);
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = workload::warnings(new, old);
    let below = if old.is_some() { ".Spec" } else { "" };
    for (at, template) in new.items(CLAIMS).iter().enumerate() {
        said.extend(claim::warnings(template.look("spec"), &format!("{CLAIMS}[{at}]{below}")));
    }
    if new.int("spec.revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        said.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_may_mount_what_is_claimed_for_them() {
        let mut set = json!({"spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
                {"name": "c", "image": "i", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}]}});
        default(&mut set);
        let mut errors = Errors::default();
        validate(&set, Told::New, &mut errors);
        assert!(errors.is_empty(), "{errors:?}");
        set.cut(CLAIMS);
        validate(&set, Told::New, &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
