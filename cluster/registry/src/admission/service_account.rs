//! Every pod runs as a service account, and finds its token where clients look for it.

use std::collections::HashSet;

use kedge_api::resource::known;
use kedge_api::{Key, Status};
use serde_json::{Value, json};

use super::{Attributes, Operation};
use crate::names;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A static pod's twin, which the agent made: it has its own credentials.
const MIRROR: &str = "kubernetes.io/config.mirror";
const TOKEN_SECONDS: i64 = 3607;
/// An account's pods may use no other secrets than the account's own.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

fn is_mirror(pod: &Value) -> bool {
    pod.look("metadata.annotations").get(MIRROR).is_some()
}

pub(super) fn default(scope: &Scope<'_>, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create || is_mirror(pod) {
        return Ok(());
    }
    if pod.text("spec.serviceAccountName").is_empty() {
        pod.set("spec.serviceAccountName", "default");
    }
    let name = pod.text("spec.serviceAccountName").to_owned();
    pod.set("spec.serviceAccount", name);
    let account = account(scope, attributes, pod)?;
    let wanted = pod.look("spec.automountServiceAccountToken").as_bool();
    if wanted.or_else(|| account.look("automountServiceAccountToken").as_bool()).unwrap_or(true) {
        mount(pod);
    }
    if pod.items("spec.imagePullSecrets").is_empty() && !account.items("imagePullSecrets").is_empty() {
        pod.set("spec.imagePullSecrets", account.look("imagePullSecrets").clone());
    }
    Ok(())
}

fn account(scope: &Scope<'_>, attributes: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
    let (namespace, name) = (attributes.namespace, pod.text("spec.serviceAccountName"));
    let key = Key::new(known::SERVICE_ACCOUNTS, namespace, name);
    scope.snapshot.get(&key).map(|account| account.decode()).unwrap_or_else(|| {
        let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
        Err(attributes.forbidden(pod, &why))
    })
}

fn mount(pod: &mut Value) {
    let existing = pod.items("spec.volumes").iter().map(|v| v.text("name")).find(|n| n.starts_with("kube-api-access-"));
    let name = existing.map_or_else(|| format!("kube-api-access-{}", names::random_suffix()), str::to_owned);
    let mut used = false;
    for list in ["spec.initContainers", "spec.containers"] {
        for container in pod.items_mut(list) {
            if container.items("volumeMounts").iter().any(|m| m.text("mountPath") == TOKEN_PATH) {
                continue;
            }
            let mut mounts = container.items("volumeMounts").to_vec();
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
            container.set("volumeMounts", mounts);
            used = true;
        }
    }
    if !used || pod.items("spec.volumes").iter().any(|v| v.text("name") == name) {
        return;
    }
    let field = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    let mut volumes = pod.items("spec.volumes").to_vec();
    volumes.push(json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [field]}},
    ]}}));
    pod.set("spec.volumes", volumes);
}

pub(super) fn check(
    scope: &Scope<'_>,
    attributes: &Attributes<'_>,
    pod: &Value,
    _: &mut Vec<String>,
) -> Result<(), Status> {
    let wrong = match (attributes.operation, attributes.subresource) {
        (Operation::Create, "") if is_mirror(pod) => beyond_mirror(pod).map(str::to_owned),
        (Operation::Create, "") | (_, "ephemeralcontainers") => {
            let account = account(scope, attributes, pod)?;
            let lists: &[(&str, &str)] = if attributes.subresource.is_empty() {
                &LISTS
            } else {
                &[("spec.ephemeralContainers", "ephemeral container")]
            };
            enforces(&account).then(|| stranger(pod, &account, lists)).flatten()
        }
        _ => None,
    };
    wrong.map_or(Ok(()), |why| Err(attributes.forbidden(pod, &why)))
}

const LISTS: [(&str, &str); 2] = [("spec.initContainers", "init container"), ("spec.containers", "container")];

fn enforces(account: &Value) -> bool {
    let mark = account.look("metadata.annotations").get(ENFORCE).and_then(Value::as_str);
    mark.is_some_and(|mark| ["1", "t", "T", "true", "TRUE", "True"].contains(&mark))
}

/// The first secret that is not one of the account's.
fn stranger(pod: &Value, account: &Value, lists: &[(&str, &str)]) -> Option<String> {
    let set = |list: &str| -> HashSet<&str> { account.items(list).iter().map(|secret| secret.text("name")).collect() };
    let (mountable, pulling, name) = (set("secrets"), set("imagePullSecrets"), account.text("metadata.name"));
    let refused = |place: String, secret: &str| {
        (!mountable.contains(secret)).then(|| {
            format!("{place} secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret")
        })
    };
    let whole_pod = lists.len() > 1;
    let volumes = pod.items("spec.volumes").iter().filter(|volume| whole_pod && volume.has("secret"));
    let mut found = volumes.filter_map(|volume| refused("volume with".to_owned(), volume.text("secret.secretName")));
    if let Some(why) = found.next() {
        return Some(why);
    }
    for (list, word) in lists {
        for container in pod.items(list) {
            let called = container.text("name");
            for var in container.items("env").iter().filter(|var| var.has("valueFrom.secretKeyRef")) {
                let place = format!("{word} {called} with envVar {} referencing", var.text("name"));
                if let Some(why) = refused(place, var.text("valueFrom.secretKeyRef.name")) {
                    return Some(why);
                }
            }
            for from in container.items("envFrom").iter().filter(|from| from.has("secretRef")) {
                let place = format!("{word} {called} with envFrom referencing");
                if let Some(why) = refused(place, from.text("secretRef.name")) {
                    return Some(why);
                }
            }
        }
    }
    let mut pulls = pod.items("spec.imagePullSecrets").iter().enumerate().filter(|_| whole_pod);
    pulls.find(|(_, secret)| !pulling.contains(secret.text("name"))).map(|(at, secret)| {
        format!(
            "imagePullSecrets[{at}].name=\"{}\" is not allowed because service account {name} does not reference that imagePullSecret",
            secret.text("name")
        )
    })
}

/// What a static pod's twin must not refer to: there is no one to give it.
fn beyond_mirror(pod: &Value) -> Option<&'static str> {
    let volumes = || pod.items("spec.volumes").iter();
    let sources = || volumes().flat_map(|v| v.items("projected.sources"));
    let containers = || LISTS.iter().flat_map(|(list, _)| pod.items(list));
    let env = |key: &str| containers().flat_map(|c| c.items("env")).any(|var| var.has(&format!("valueFrom.{key}")));
    let env_from = |key: &str| containers().flat_map(|c| c.items("envFrom")).any(|from| from.has(key));
    let secrets = volumes().any(|v| v.has("secret"))
        || sources().any(|s| s.has("secret"))
        || env("secretKeyRef")
        || env_from("secretRef")
        || !pod.items("spec.imagePullSecrets").is_empty();
    let config_maps = volumes().any(|v| v.has("configMap"))
        || sources().any(|s| s.has("configMap"))
        || env("configMapKeyRef")
        || env_from("configMapRef");
    let rules = [
        (!pod.text("spec.serviceAccountName").is_empty(), "a mirror pod may not reference service accounts"),
        (secrets, "a mirror pod may not reference secrets"),
        (config_maps, "a mirror pod may not reference configmaps"),
        (
            sources().any(|s| s.has("serviceAccountToken")),
            "a mirror pod may not use ServiceAccountToken volume projections",
        ),
        (volumes().any(|v| v.has("persistentVolumeClaim")), "a mirror pod may not reference persistentvolumeclaims"),
        (!pod.items("spec.resourceClaims").is_empty(), "a mirror pod may not reference resourceclaims"),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map(|(_, why)| why)
}

#[cfg(test)]
mod tests {
    use super::super::testing::World;
    use super::*;

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let world = World::new(&known::PODS, &[]);
        let pod = |spec: Value| json!({"metadata": {"name": "p", "annotations": {MIRROR: "x"}}, "spec": spec});
        assert_eq!(world.validate(check, None, &pod(json!({}))), Ok(vec![]));
        for (spec, what) in [
            (json!({"serviceAccountName": "a"}), "service accounts"),
            (json!({"containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "s"}}}]}]}), "secrets"),
            (json!({"volumes": [{"projected": {"sources": [{"configMap": {"name": "m"}}]}}]}), "configmaps"),
            (json!({"volumes": [{"persistentVolumeClaim": {"claimName": "m"}}]}), "persistentvolumeclaims"),
        ] {
            let why = format!("pods \"p\" is forbidden: a mirror pod may not reference {what}");
            assert_eq!(world.validate(check, None, &pod(spec)), Err(why));
        }
    }

    #[test]
    fn an_account_can_confine_its_pods_to_its_secrets() {
        let account = json!({"metadata": {"namespace": "n", "name": "a", "annotations": {ENFORCE: "true"}},
            "secrets": [{"name": "own"}], "imagePullSecrets": [{"name": "pull"}]});
        let world = World::new(&known::PODS, &[(known::SERVICE_ACCOUNTS, account)]);
        let pod = |mut spec: Value| {
            spec.set("serviceAccountName", "a");
            json!({"metadata": {"name": "p"}, "spec": spec})
        };
        let end = "is not allowed because service account a does not reference that";
        for (spec, why) in [
            (json!({"volumes": [{"secret": {"secretName": "own"}}], "imagePullSecrets": [{"name": "pull"}]}), None),
            (
                json!({"volumes": [{"secret": {"secretName": "x"}}]}),
                Some(format!("volume with secret.secretName=\"x\" {end} secret")),
            ),
            (
                json!({"containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "x"}}}]}]}),
                Some(format!("container c with envVar E referencing secret.secretName=\"x\" {end} secret")),
            ),
            (
                json!({"initContainers": [{"name": "c", "envFrom": [{"secretRef": {"name": "x"}}]}]}),
                Some(format!("init container c with envFrom referencing secret.secretName=\"x\" {end} secret")),
            ),
            (
                json!({"imagePullSecrets": [{"name": "pull"}, {"name": "x"}]}),
                Some(format!("imagePullSecrets[1].name=\"x\" {end} imagePullSecret")),
            ),
        ] {
            let expected = why.map_or(Ok(vec![]), |why| Err(format!("pods \"p\" is forbidden: {why}")));
            assert_eq!(world.validate(check, None, &pod(spec)), expected);
        }
        let missing = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "b"}});
        assert!(world.admit(default, None, missing).unwrap_err().contains("serviceaccount \"b\" not found"));
    }
}
