//! The controllers: each brings the cluster one step nearer to what its objects ask for.
//!
//! Owns the decisions of all workload and cluster controllers, and one loop that runs them. Invariant: never learns how an object is
//! stored or served; it reads [`kedge_api::Snapshot`]s and writes through [`kedge_api::Client`].
//! Start reading at [`controller::Controller`], then [`runner`], then one controller, e.g. [`replicaset`].
#![forbid(unsafe_code)]

pub mod act;
pub mod certificates;
pub mod clusterroles;
pub mod controller;
pub mod counted;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
mod finalizer;
pub mod garbage;
mod hash;
pub mod job;
pub mod mirror;
pub mod namespace;
pub mod nodelife;
mod owner;
pub mod podgc;
mod pods;
pub mod policystatus;
pub mod protection;
pub mod queue;
pub mod quota;
pub mod replicaset;
mod revisions;
pub mod runner;
pub mod serviceaccount;
pub mod servicecidr;
pub mod statefulset;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod ttl;
pub mod upgrade;

use std::sync::Arc;

use kedge_api::{Client, Informer};

use controller::Controller;

/// What the controllers cannot find in the snapshot.
#[derive(Clone)]
pub struct Options {
    /// The cluster's CA certificates, published to every namespace.
    pub ca_pem: String,
    /// Signs certificates that are asked for and approved.
    pub certify: certificates::Certify,
    /// Signs the tokens of secrets that hold one.
    pub sign: tokens::Sign,
    /// From `apiVersion` and kind to resource, for owner references.
    pub mapper: garbage::Mapper,
    /// Type-checks the expressions of admission policies.
    pub type_check: policystatus::Check,
    /// Told of what the work queue does.
    pub counted: Arc<counted::Counted>,
}

/// All controllers.
pub fn all(options: Options) -> Vec<Arc<dyn Controller>> {
    vec![
        Arc::new(serviceaccount::NamespaceDefaults { ca_pem: options.ca_pem.clone() }),
        Arc::new(tokens::TokenSecrets { ca_pem: options.ca_pem, sign: options.sign }),
        Arc::new(deployment::Deployments),
        Arc::new(replicaset::ReplicaSets::SETS),
        Arc::new(replicaset::ReplicaSets::CONTROLLERS),
        Arc::new(daemonset::DaemonSets),
        Arc::new(statefulset::StatefulSets),
        Arc::new(job::Jobs),
        Arc::new(cronjob::CronJobs),
        Arc::new(ttl::FinishedJobs),
        Arc::new(disruption::DisruptionBudgets),
        Arc::new(endpoints::ServiceEndpoints),
        Arc::new(mirror::EndpointMirror),
        Arc::new(quota::ResourceQuotas),
        Arc::new(namespace::NamespaceDeletion),
        Arc::new(garbage::GarbageCollector { mapper: options.mapper }),
        Arc::new(nodelife::NodeLifecycle),
        Arc::new(podgc::PodCollector),
        Arc::new(protection::Protection::VOLUMES),
        Arc::new(protection::Protection::CLAIMS),
        Arc::new(protection::Protection::ATTRIBUTES),
        Arc::new(clusterroles::ClusterRoleAggregation),
        Arc::new(servicecidr::ServiceNetworks),
        Arc::new(policystatus::PolicyStatus { check: options.type_check }),
        Arc::new(certificates::Certificates { certify: options.certify }),
        Arc::new(upgrade::definition::UpgradeKinds),
        Arc::new(upgrade::Upgrades),
        Arc::new(upgrade::plans::Plans),
    ]
}

/// Runs all controllers until the future is dropped. Between changes and due times it sleeps. `client` acts as a service account of
/// `kube-system`, of which each controller has its own, or as a user `system:…`.
pub fn run(
    client: &dyn Fn(&str) -> Arc<dyn Client>,
    informer: Arc<dyn Informer>,
    options: Options,
) -> impl Future<Output = ()> + Send + use<> {
    let counted = options.counted.clone();
    runner::Runner::new(all(options), client, informer, counted).run()
}
