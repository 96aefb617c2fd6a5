//! What makes a pod of a StatefulSet that very one: its ordinal, its names, its claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::pods;
use crate::revisions::HASH;

const NAME: &str = "statefulset.kubernetes.io/pod-name";
const INDEX: &str = "apps.kubernetes.io/pod-index";

pub fn name(set: &str, ordinal: i32) -> String {
    format!("{set}-{ordinal}")
}

/// Of a pod that is called as those of the set are.
pub fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let plain = digits == "0" || !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The pod of an ordinal, as a revision has it.
pub fn pod(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    ordinal: i32,
    revision: &str,
    owner: OwnerReference,
) -> Pod {
    let name = name(set.metadata.name.as_deref().unwrap_or_default(), ordinal);
    let mut pod = pods::from_template(template, set.metadata.namespace.as_deref(), String::new(), owner);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    pod.metadata.labels.get_or_insert_default().extend(
        [(NAME, name.clone()), (INDEX, ordinal.to_string()), (HASH, revision.to_owned())]
            .map(|(k, v)| (k.to_owned(), v)),
    );
    let claimed = spec.volume_claim_templates.iter().flatten();
    let claimed: BTreeMap<String, Volume> = claimed.map(|claim| volume(claim, &name)).collect();
    let of = pod.spec.get_or_insert_default();
    of.hostname = Some(name);
    of.subdomain = Some(spec.service_name.clone().unwrap_or_default()).filter(|name| !name.is_empty());
    if !claimed.is_empty() {
        let volumes = of.volumes.get_or_insert_default();
        volumes.retain(|volume| !claimed.contains_key(&volume.name));
        let own = std::mem::take(volumes);
        *volumes = claimed.into_values().chain(own).collect();
    }
    pod
}

fn claim_name(template: &PersistentVolumeClaim, pod: &str) -> String {
    format!("{}-{pod}", template.metadata.name.as_deref().unwrap_or_default())
}

fn volume(template: &PersistentVolumeClaim, pod: &str) -> (String, Volume) {
    let name = template.metadata.name.clone().unwrap_or_default();
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name(template, pod), read_only: Some(false) };
    (name.clone(), Volume { name, persistent_volume_claim: Some(source), ..Volume::default() })
}

/// What the pod of an ordinal claims.
pub fn claims<'a>(
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    pod: &'a str,
) -> impl Iterator<Item = PersistentVolumeClaim> + 'a {
    spec.volume_claim_templates.iter().flatten().map(move |template| {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim_name(template, pod)),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: template.metadata.annotations.clone(),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    })
}
