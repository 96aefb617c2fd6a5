//! The history of a deployment: which set is of which template, and the annotations by which `kubectl rollout` knows them.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kedge_api::resource::known::REPLICA_SETS;
use kedge_api::{Key, Snapshot, Status};
use serde_json::Value;

use super::{Set, Work, rollout};
use crate::controller::{Step, value};
use crate::hash::template_hash;
use crate::owner::{Owner, controller_of};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub const MOST: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
/// Annotations of a deployment that its sets do not take over.
const OWN: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];
/// Longest text of [`HISTORY`], in bytes.
const HISTORY_BYTES: usize = 2000;

pub enum Created {
    Set {
        step: Box<Step>,
        name: String,
        replicas: i32,
    },
    /// The name is taken by a set of another template: hash again with a salt.
    Collision,
}

/// Whether a set was made of this template.
pub fn is_of(set: &Set, template: &PodTemplateSpec) -> bool {
    set.rs.spec.as_ref().and_then(|spec| spec.template.as_ref()).is_some_and(|own| unhashed(own) == unhashed(template))
}

fn unhashed(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.take().filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    template
}

pub fn number(set: &Set) -> i64 {
    set.annotation(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// The revision a set has or is about to have.
pub fn planned(set: &Set) -> Option<String> {
    set.annotations.get(REVISION).and_then(Value::as_str).or_else(|| set.annotation(REVISION)).map(str::to_owned)
}

impl Work<'_> {
    fn next_revision(&self) -> i64 {
        self.old.iter().map(number).max().unwrap_or(0) + 1
    }

    /// Gives the new set, if there is one already, the newest revision and the deployment's annotations and `minReadySeconds`.
    pub fn adopt_revision(&mut self) {
        let next = self.next_revision();
        let min_ready = self.spec.min_ready_seconds.unwrap_or(0);
        let inherited = self.inherited();
        let Some(set) = &mut self.new else { return };
        for (name, text) in inherited {
            if set.annotation(&name) != Some(text.as_str()) {
                set.annotations.insert(name, text.into());
            }
        }
        if number(set) < next {
            if let Some(old) = set.annotation(REVISION).filter(|old| !old.is_empty()).map(str::to_owned) {
                let mut history: Vec<_> = set.annotation(HISTORY).into_iter().flat_map(|h| h.split(',')).collect();
                history.push(&old);
                while history.iter().map(|r| r.len() + 1).sum::<usize>() > HISTORY_BYTES {
                    history.remove(0);
                }
                let history = history.join(",");
                set.annotations.insert(HISTORY.into(), history.into());
            }
            set.annotations.insert(REVISION.into(), next.to_string().into());
        }
        if set.rs.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0) != min_ready {
            set.min_ready_seconds = Some(min_ready);
        }
    }

    fn inherited(&self) -> Vec<(String, String)> {
        let all = self.deployment.metadata.annotations.iter().flatten();
        all.filter(|(name, _)| !OWN.contains(&name.as_str())).map(|(name, text)| (name.clone(), text.clone())).collect()
    }

    /// The set for the present template, named by its hash, so that making it twice makes it once.
    pub fn create(&self, owner: &Owner<'_>, snapshot: &Snapshot) -> Result<Created, Status> {
        let meta = &self.deployment.metadata;
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template_hash(&self.spec.template, collisions)?;
        let name = format!("{}-{hash}", meta.name.as_deref().unwrap_or_default());
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        if let Some(taken) = snapshot.get(&Key::new(REPLICA_SETS, namespace, &name)) {
            let ours = controller_of(&taken.meta).is_some_and(|reference| Some(&reference.uid) == meta.uid.as_ref());
            tracing::debug!(set = name, ours, "name of a new replica set is taken");
            return Ok(Created::Collision);
        }
        let mut template = self.spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH.into(), hash.clone());
        let labels = labels.clone();
        let mut selector: LabelSelector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH.into(), hash);
        let replicas = rollout::size_of_new(self);
        let most = self.replicas() + rollout::fences(self.spec).surge;
        let mut annotations: std::collections::BTreeMap<_, _> = self.inherited().into_iter().collect();
        annotations.extend([
            (REVISION.to_owned(), self.next_revision().to_string()),
            (DESIRED.to_owned(), self.replicas().to_string()),
            (MOST.to_owned(), most.to_string()),
        ]);
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owner.reference()]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        let step = Step::Create { resource: REPLICA_SETS, objects: vec![value(&set)?], told: None };
        Ok(Created::Set { step: Box::new(step), name, replicas })
    }
}
