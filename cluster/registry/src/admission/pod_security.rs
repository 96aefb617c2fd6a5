//! The Pod Security Standards: a namespace's labels say which level its pods must, or should, keep to.
//!
//! Source: "Pod Security Standards" and "Pod Security Admission" of Kubernetes' documentation.

mod baseline;
mod check;
mod policy;
mod restricted;

use std::collections::BTreeMap;

use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Status};
use serde_json::Value;

use self::check::{Failure, failures};
use self::policy::{Bound, Fault, Policy};
use super::Attributes;
use crate::errors::{Errors, Path, quote};
use crate::notes;
use crate::strategy::Scope;
use crate::value::Look as _;

/// What holds a pod's template: its author is warned early, but only the pod itself is refused.
pub(super) const CONTROLLERS: &[GroupResource] = &[
    known::REPLICATION_CONTROLLERS,
    GroupResource::of("", "podtemplates"),
    known::REPLICA_SETS,
    known::DEPLOYMENTS,
    known::DAEMON_SETS,
    known::STATEFUL_SETS,
    known::JOBS,
    known::CRON_JOBS,
];

/// So many of a namespace's pods are looked at when its level changes.
const MOST_PODS: usize = 3000;

fn reasons(failures: &[Failure]) -> String {
    failures.iter().map(|f| f.reason.as_str()).collect::<Vec<_>>().join(", ")
}

fn details(failures: &[Failure]) -> String {
    let one = |f: &Failure| if f.detail.is_empty() { f.reason.clone() } else { format!("{} ({})", f.reason, f.detail) };
    failures.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The policy of the namespace that an object is in; nothing is asked of one that is unknown.
fn policy(scope: &Scope<'_>, namespace: &str) -> Policy {
    let found = scope.snapshot.get(&Key::new(known::NAMESPACES, "", namespace));
    let labels = found.and_then(|namespace| namespace.meta.labels.as_ref());
    Policy::of(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str)).0
}

fn note(key: &str, value: impl FnOnce() -> String) {
    notes::note(format!("pod-security.kubernetes.io/{key}"), value);
}

/// Notes in the audit log what the client is not told.
fn audit(bound: Bound, meta: &Value, spec: &Value) {
    let failures = failures(bound, meta, spec);
    if !failures.is_empty() {
        let level = quote(&bound.to_string());
        note("audit-violations", || format!("would violate PodSecurity {level}: {}", details(&failures)));
    }
}

fn warn(bound: Bound, meta: &Value, spec: &Value, warnings: &mut Vec<String>) {
    let failures = failures(bound, meta, spec);
    if !failures.is_empty() {
        let level = quote(&bound.to_string());
        warnings.push(format!("would violate PodSecurity {level}: {}", details(&failures)));
    }
}

pub(super) fn pod(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    pod: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let policy = policy(scope, attributes.namespace);
    if policy.asks_nothing() || attributes.old.is_some_and(|old| !matters(pod, old)) {
        return Ok(());
    }
    let (meta, spec) = (pod.look("metadata"), pod.look("spec"));
    note("enforce-policy", || policy.enforce.to_string());
    let refused = failures(policy.enforce, meta, spec);
    audit(policy.audit, meta, spec);
    if !refused.is_empty() {
        let level = quote(&policy.enforce.to_string());
        return Err(attributes.forbidden(pod, &format!("violates PodSecurity {level}: {}", details(&refused))));
    }
    warn(policy.warn, meta, spec, warnings);
    Ok(())
}

/// Whether a change of a pod can make it safer or less safe: its images, its containers, its annotations about profiles.
fn matters(new: &Value, old: &Value) -> bool {
    let marks = |pod: &Value| -> Vec<(String, Value)> {
        let about = |key: &str| key.contains("seccomp.security.alpha") || key.starts_with(check::APPARMOR);
        pod.entries("metadata.annotations").filter(|(key, _)| about(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let containers = |pod: &Value, list: &str| -> Vec<(String, String)> {
        pod.items(list).iter().map(|c| (c.text("name").to_owned(), c.text("image").to_owned())).collect()
    };
    marks(new) != marks(old)
        || check::CONTAINERS.iter().any(|list| {
            let list = format!("spec.{list}");
            containers(new, &list) != containers(old, &list)
        })
}

pub(super) fn controller(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    object: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let policy = policy(scope, attributes.namespace);
    let template = match attributes.resource.id.resource.as_str() {
        "podtemplates" => object.look("template"),
        "cronjobs" => object.look("spec.jobTemplate.spec.template"),
        _ => object.look("spec.template"),
    };
    if !policy.asks_nothing() && template.is_object() {
        audit(policy.audit, template.look("metadata"), template.look("spec"));
        warn(policy.warn, template.look("metadata"), template.look("spec"), warnings);
    }
    Ok(())
}

fn of_labels(namespace: &Value) -> (Policy, Vec<Fault>) {
    Policy::of(|key| namespace.look("metadata.labels").get(key).and_then(Value::as_str))
}

/// A namespace's labels must make sense; who tightens its level is told which pods would not keep to it.
pub(super) fn namespace(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    namespace: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let (new, wrong) = of_labels(namespace);
    let name = namespace.text("metadata.name");
    let old = attributes.old.map(of_labels);
    if !wrong.is_empty() && old.as_ref().is_none_or(|(_, before)| *before != wrong) {
        let (mut errors, path) = (Errors::default(), Path::root("metadata.labels"));
        for fault in &wrong {
            errors.invalid(&path.key(&fault.label), fault.value.as_str(), fault.why);
        }
        return errors.of(attributes.resource, name);
    }
    if let Some((old, _)) = old
        && new.enforce.tightens(old.enforce)
    {
        warnings.extend(existing(scope, name, new.enforce));
    }
    Ok(())
}

/// Pods that are there already and would not be let in any more, by what is wrong with them.
fn existing(scope: &Scope<'_>, namespace: &str, bound: Bound) -> Vec<String> {
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for object in scope.snapshot.list(&known::PODS, namespace).take(MOST_PODS) {
        let Ok(pod) = object.decode::<Value>() else { continue };
        let failures = failures(bound, pod.look("metadata"), pod.look("spec"));
        if !failures.is_empty() {
            found.entry(reasons(&failures)).or_insert_with(|| (object.key.name.to_string(), 0)).1 += 1;
        }
    }
    let mut lines: Vec<_> = found
        .into_iter()
        .map(|(why, (name, count))| match count {
            0 | 1 => format!("{name}: {why}"),
            2 => format!("{name} (and 1 other pod): {why}"),
            more => format!("{name} (and {} other pods): {why}", more - 1),
        })
        .collect();
    lines.sort();
    if !lines.is_empty() {
        let level = quote(&bound.to_string());
        let head = format!(
            "existing pods in namespace {} violate the new PodSecurity enforce level {level}",
            quote(namespace)
        );
        lines.insert(0, head);
    }
    lines
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;

    fn space(labels: Value) -> (GroupResource, Value) {
        (known::NAMESPACES, json!({"metadata": {"name": "n", "labels": labels}}))
    }

    fn privileged(name: &str) -> Value {
        json!({"metadata": {"namespace": "n", "name": name}, "spec": {"containers": [{"name": "c", "image": "x", "securityContext": {"privileged": true}}]}})
    }

    const WHY: &str = "privileged (container \"c\" must not set securityContext.privileged=true)";

    #[test]
    fn pods_are_refused_and_their_templates_warned_of() {
        let labels =
            json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "privileged"});
        let world = World::new(&known::PODS, &[space(labels)]);
        let refused = format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {WHY}");
        assert_eq!(world.validate(pod, None, &privileged("p")), Err(refused.clone()));
        let (mut old, mut newer) = (privileged("p"), privileged("p"));
        newer["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(world.validate(pod, Some(&old), &newer), Ok(vec![]), "nothing that matters changed");
        old["spec"]["containers"][0]["image"] = "y".into();
        assert_eq!(world.validate(pod, Some(&old), &newer), Err(refused));

        let world =
            World::new(&known::DEPLOYMENTS, &[space(json!({"pod-security.kubernetes.io/enforce": "baseline"}))]);
        let deployment = json!({"spec": {"template": privileged("")}});
        let warned = format!("would violate PodSecurity \"baseline:latest\": {WHY}");
        assert_eq!(world.validate(controller, None, &deployment), Ok(vec![warned]));
        let open = World::new(&known::PODS, &[space(json!({}))]);
        assert_eq!(open.validate(pod, None, &privileged("p")), Ok(vec![]));
    }

    #[test]
    fn tightening_a_level_tells_who_would_not_keep_to_it() {
        let pods = ["a", "b", "d"].map(|name| (known::PODS, privileged(name)));
        let world = World::new(&known::NAMESPACES, &pods);
        let labelled =
            |level: &str| json!({"metadata": {"name": "n", "labels": {"pod-security.kubernetes.io/enforce": level}}});
        assert_eq!(
            world.validate(namespace, Some(&labelled("privileged")), &labelled("baseline")),
            Ok(vec![
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\""
                    .to_owned(),
                "a (and 2 other pods): privileged".to_owned(),
            ])
        );
        assert_eq!(world.validate(namespace, Some(&labelled("restricted")), &labelled("baseline")), Ok(vec![]));
        assert_eq!(
            world.validate(namespace, Some(&labelled("baseline")), &labelled("nope")),
            Err(" \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"nope\": must be one of \
                 privileged, baseline, restricted"
                .to_owned())
        );
        assert_eq!(
            world.validate(namespace, Some(&labelled("nope")), &labelled("nope")),
            Ok(vec![]),
            "it was so before"
        );
    }
}
