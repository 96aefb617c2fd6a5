//! Every pod runs as a service account, and finds its token where clients look for it.

use kedge_api::resource::known;
use kedge_api::{Key, Resource, Status};
use serde_json::{Value, json};

use super::forbidden;
use crate::names;
use crate::strategy::Scope;
use crate::value::{Fill as _, Look as _};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A static pod's twin, which the agent made: it has its own credentials.
const MIRROR: &str = "kubernetes.io/config.mirror";
const TOKEN_SECONDS: i64 = 3607;

pub(super) fn default(scope: &Scope<'_>, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
    if resource.id != known::PODS || pod.look("metadata.annotations").get(MIRROR).is_some() {
        return Ok(());
    }
    if pod.text("spec.serviceAccountName").is_empty() {
        pod.set("spec.serviceAccountName", "default");
    }
    let account = pod.text("spec.serviceAccountName").to_owned();
    pod.set("spec.serviceAccount", account.as_str());
    let namespace = pod.text("metadata.namespace").to_owned();
    let key = Key::new(known::SERVICE_ACCOUNTS, &namespace, &account);
    let Some(found) = scope.snapshot.get(&key) else {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount \"{account}\" not found");
        return Err(forbidden(resource, pod.text("metadata.name"), &why));
    };
    let found: Value = found.decode()?;
    if pod.items("spec.imagePullSecrets").is_empty() && !found.items("imagePullSecrets").is_empty() {
        pod.set("spec.imagePullSecrets", found.look("imagePullSecrets").clone());
    }
    let wanted = pod.look("spec.automountServiceAccountToken").as_bool();
    if wanted.or_else(|| found.look("automountServiceAccountToken").as_bool()).unwrap_or(true) {
        mount(pod);
    }
    Ok(())
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
