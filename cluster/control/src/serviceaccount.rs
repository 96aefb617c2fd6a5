//! What every namespace has from the start: the ServiceAccount `default` and the ConfigMap with the cluster's CA.
//!
//! Owns these two objects' existence and the CA's text; never issues a token.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kedge_api::resource::known::{CONFIG_MAPS, NAMESPACES, SERVICE_ACCOUNTS};
use kedge_api::{Change, GroupResource, Key, Snapshot, Status};
use serde_json::json;

use crate::controller::{Controller, Now, Plan, Step, read, value};

const WATCHES: &[GroupResource] = &[NAMESPACES, SERVICE_ACCOUNTS, CONFIG_MAPS];
const ACCOUNT: &str = "default";
const BUNDLE: &str = "kube-root-ca.crt";
const CERTIFICATES: &str = "ca.crt";

pub struct NamespaceDefaults {
    /// The cluster's CA certificates.
    pub ca_pem: String,
}

impl Controller for NamespaceDefaults {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, _: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        let key = &change.key;
        if key.resource == NAMESPACES {
            keys.push(key.clone());
        } else if (key.resource == SERVICE_ACCOUNTS && *key.name == *ACCOUNT)
            || (key.resource == CONFIG_MAPS && *key.name == *BUNDLE)
        {
            keys.push(Key::new(NAMESPACES, "", &key.namespace));
        }
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        if snapshot.get(key).is_none_or(|namespace| namespace.is_deleting()) {
            return Ok(plan);
        }
        let meta = |name: &str| ObjectMeta {
            name: Some(name.into()),
            namespace: Some(key.name.to_string()),
            ..ObjectMeta::default()
        };
        if snapshot.get(&Key::new(SERVICE_ACCOUNTS, &key.name, ACCOUNT)).is_none() {
            let account = ServiceAccount { metadata: meta(ACCOUNT), ..ServiceAccount::default() };
            plan.push(Step::Create { resource: SERVICE_ACCOUNTS, objects: vec![value(&account)?], told: None });
        }
        let bundle = Key::new(CONFIG_MAPS, &key.name, BUNDLE);
        let data = BTreeMap::from([(CERTIFICATES.to_owned(), self.ca_pem.clone())]);
        match (snapshot.get(&bundle), read::<ConfigMap>(snapshot, &bundle)?) {
            (Some(object), Some(found)) if found.data.as_ref() != Some(&data) => {
                let mut others: serde_json::Map<_, _> =
                    found.data.into_iter().flatten().map(|(k, _)| (k, json!(null))).collect();
                others.insert(CERTIFICATES.into(), self.ca_pem.as_str().into());
                plan.patch(object, "", json!({"data": others}));
            }
            (Some(_), Some(_)) => {}
            _ => {
                let mut metadata = meta(BUNDLE);
                let about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as \
                    the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
                    clusters.";
                metadata.annotations = Some([("kubernetes.io/description".to_owned(), about.to_owned())].into());
                let map = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
                plan.push(Step::Create { resource: CONFIG_MAPS, objects: vec![value(&map)?], told: None });
            }
        }
        Ok(plan)
    }
}
