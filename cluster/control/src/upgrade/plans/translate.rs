//! From a Plan's spec to an Upgrade's, or to what stands against it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha224};

use super::window;
use crate::upgrade::rollout::DRAIN_LIMIT;

/// Fields that need a container or a Job, or move pods otherwise than Kedge does, and what to do without them.
const REFUSED: &[(&str, &str)] = &[
    ("prepare", "no container is run before an upgrade: all machines fetch and install beforehand"),
    ("upgrade.command", "no container is run: the image is a bundle"),
    ("upgrade.args", "no container is run: the image is a bundle"),
    ("upgrade.envs", "no container is run: the image is a bundle"),
    ("upgrade.envFrom", "no container is run: the image is a bundle"),
    ("upgrade.volumes", "no container is run: the image is a bundle"),
    ("upgrade.securityContext", "no container is run: the image is a bundle"),
    ("secrets", "no container is run that could mount them"),
    ("imagePullSecrets", "machines fetch bundles by themselves and know no Secrets"),
    ("drain.disableEviction", "pods are evicted, so that disruption budgets hold"),
    ("drain.podSelector", "all pods leave the node"),
];
/// Fields that say how a Job runs.
const WITHOUT_MEANING: &[&str] = &[
    "serviceAccountName",
    "tolerations",
    "priorityClassName",
    "jobActiveDeadlineSecs",
    "drain.skipWaitForDeleteTimeout",
];
/// Images that upgrade other systems.
const OTHERS: &[&str] = &["k3s-upgrade", "rke2-upgrade", "k3os"];
/// On nodes: this and the Plan's name; what hash of it they have come to, or `disabled`.
const LABEL: &str = "plan.upgrade.cattle.io";

#[derive(Debug, PartialEq)]
pub struct Translated {
    /// Of the Upgrade.
    pub spec: Value,
    pub version: String,
    pub hash: String,
    /// For nodes that are done.
    pub labels: BTreeMap<String, String>,
    pub without_meaning: Vec<&'static str>,
    /// When the same Plan means something else.
    pub again: Option<Timestamp>,
}

impl Translated {
    pub fn source(&self) -> &str {
        self.spec.get("source").and_then(Value::as_str).unwrap_or_default()
    }
}

#[derive(Debug, PartialEq)]
pub struct Refusal {
    pub reason: &'static str,
    pub message: String,
    /// All is well but the version.
    pub unresolved: bool,
}

impl Refusal {
    pub fn new(reason: &'static str, message: String) -> Self {
        Self { reason, message, unresolved: false }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("Error", message.into())
    }

    fn unresolved(reason: &'static str, message: &str) -> Self {
        Self { reason, message: message.to_owned(), unresolved: true }
    }
}

/// The label of nodes that a Plan has come to.
pub fn label(plan: &str) -> String {
    format!("{LABEL}/{plan}")
}

fn at<'a>(spec: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(spec, |value, field| value.get(field)).filter(|value| !is_zero(value))
}

/// Whether it is what Go leaves out.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

pub fn translate(spec: &Value, name: &str, now: Timestamp) -> Result<Translated, Refusal> {
    let text = |path: &str| at(spec, path).and_then(Value::as_str).unwrap_or_default();
    let image = image(text("upgrade.image"))?;
    let unsupported = REFUSED.iter().find(|(path, _)| at(spec, path).is_some());
    if let Some((path, why)) = unsupported {
        return Err(Refusal::new("NotSupported", format!("spec.{path}: {why}")));
    }
    let selector = spec.get("nodeSelector").filter(|selector| selector.is_object());
    let Some(selector) = selector else {
        return Err(Refusal::invalid("spec.nodeSelector: no nodes are selected without one; {} selects all"));
    };
    let (drain, disabled) = drain(spec)?;
    let delay = match spec.get("postCompleteDelay").and_then(Value::as_str) {
        None => 0,
        Some(text) => duration(text)
            .ok_or_else(|| Refusal::invalid(format!("spec.postCompleteDelay: {text:?} is no duration")))?,
    };
    let (open, again) = window::state(spec.get("window"), now).map_err(Refusal::invalid)?;
    let version = text("version").replace('+', "-");
    if version.is_empty() {
        return Err(match text("channel") {
            "" => Refusal::unresolved("Error", "cannot resolve plan: missing channel and version"),
            _ => Refusal::unresolved("NotSupported", "spec.channel is not asked for versions: give spec.version"),
        });
    }
    let source = match image.rsplit('/').next().is_some_and(|last| last.contains([':', '@'])) {
        true => format!("oci://{image}"),
        false => format!("oci://{image}:{version}"),
    };
    let mut selector = selector.clone();
    let not_disabled = json!({"key": label(name), "operator": "NotIn", "values": ["disabled"]});
    if let Some(fields) = selector.as_object_mut() {
        let all = fields.entry("matchExpressions").or_insert_with(|| json!([]));
        all.as_array_mut().into_iter().for_each(|all| all.push(not_disabled.clone()));
    }
    let concurrency = spec.get("concurrency").and_then(Value::as_i64).unwrap_or(1).max(1);
    let mut upgrade = json!({"source": source, "nodeSelector": selector, "concurrency": concurrency, "drain": drain});
    if let Some(fields) = upgrade.as_object_mut() {
        fields.extend((delay > 0).then(|| ("minReadySeconds".to_owned(), delay.into())));
        fields.extend(again.is_some().then(|| ("paused".to_owned(), (!open).into())));
    }
    let hash = Sha224::new().chain_update(&version).chain_update(text("serviceAccountName")).finalize();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let expand = |value: &str| value.replace("$(LATEST_VERSION)", &version).replace("$(LATEST_HASH)", &hash);
    let labels = at(spec, "postCompleteLabels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.map(|(key, value)| (key.clone(), expand(value.as_str().unwrap_or_default()))).collect();
    let mut without_meaning: Vec<_> = WITHOUT_MEANING.iter().copied().filter(|path| at(spec, path).is_some()).collect();
    // A node is cordoned whatever it says.
    without_meaning.extend((disabled && at(spec, "cordon").is_none()).then_some("cordon: false"));
    Ok(Translated { spec: upgrade, version, hash, labels, without_meaning, again })
}

/// A bundle's repository in a registry, `HOST/REPOSITORY`, perhaps with a tag or digest.
fn image(image: &str) -> Result<&str, Refusal> {
    let plain = image.strip_prefix("oci://").unwrap_or(image);
    let refused = |why: &str| Err(Refusal::new("NotABundle", format!("spec.upgrade.image: {image:?} {why}")));
    let (host, repository) = plain.split_once('/').unwrap_or_default();
    let last = repository.rsplit('/').next().unwrap_or_default();
    let name = last.split([':', '@']).next().unwrap_or_default();
    if OTHERS.contains(&name) || OTHERS.contains(&plain.rsplit('/').next().unwrap_or_default()) {
        return refused(
            "is a container that upgrades another system: none is run on Kedge, which upgrades from a bundle, oci://HOST/REPOSITORY",
        );
    }
    if plain.contains("://") || name.is_empty() || !(host.contains(['.', ':']) || host == "localhost") {
        return refused("names no bundle in a registry: it must be HOST/REPOSITORY, with or without oci:// before it");
    }
    Ok(plain)
}

/// The Upgrade's drain, and whether there is none.
fn drain(spec: &Value) -> Result<(Value, bool), Refusal> {
    let Some(drain) = spec.get("drain").filter(|drain| drain.is_object()) else {
        return Ok((json!({"disabled": true, "timeoutSeconds": DRAIN_LIMIT}), true));
    };
    let flag = |field: &str| drain.get(field).and_then(Value::as_bool);
    if drain.get("gracePeriod").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0) {
        return Err(Refusal::new("NotSupported", "spec.drain.gracePeriod: each pod has its own".to_owned()));
    }
    if flag("ignoreDaemonSets") == Some(false) {
        return Err(Refusal::new(
            "NotSupported",
            "spec.drain.ignoreDaemonSets: pods of daemon sets always stay".to_owned(),
        ));
    }
    if flag("deleteEmptydirData").is_some() && flag("deleteLocalData").is_some() {
        return Err(Refusal::invalid("spec.drain cannot specify both deleteEmptydirData and deleteLocalData"));
    }
    let limit = match drain.get("timeout") {
        Some(Value::Number(nanoseconds)) => nanoseconds.as_u64().map(|number| number / 1_000_000_000),
        Some(Value::String(text)) => duration(text),
        _ => Some(0),
    };
    let limit = limit.ok_or_else(|| Refusal::invalid("spec.drain.timeout: it is no duration"))?;
    let limit = if limit == 0 { u64::from(DRAIN_LIMIT) } else { limit };
    let data = flag("deleteEmptydirData").or(flag("deleteLocalData")).unwrap_or(true);
    let force = flag("force").unwrap_or(false);
    Ok((json!({"disabled": false, "force": force, "deleteEmptyDirData": data, "timeoutSeconds": limit}), false))
}

/// Whole seconds of a duration as Go writes it, such as `1h30m`.
fn duration(text: &str) -> Option<u64> {
    let duration: SignedDuration = text.parse().ok()?;
    duration.as_secs().try_into().ok()
}
