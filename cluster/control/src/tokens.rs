//! Secrets that hold a token of a service account for as long as both exist: who makes one gets it filled in.
//!
//! Owns their `data` and the annotation that binds them to the very account; never signs: whoever has the key is asked.
//! Source: "Manually create a long-lived API token for a ServiceAccount" of Kubernetes' documentation.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kedge_api::resource::known::{SECRETS, SERVICE_ACCOUNTS};
use kedge_api::{Change, GroupResource, Key, Object, Snapshot, Status};
use serde_json::{Map, Value};

use crate::controller::{Controller, Now, Plan, Step, Victim, read};

const WATCHES: &[GroupResource] = &[SECRETS, SERVICE_ACCOUNTS];
const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

/// What a token is for: an account, and the secret that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder<'a> {
    pub namespace: &'a str,
    pub account: &'a str,
    pub uid: &'a str,
    pub secret: &'a str,
}

/// Signs a token that has no end of its own.
pub type Sign = Arc<dyn Fn(Holder<'_>) -> Result<String, Status> + Send + Sync>;

pub struct TokenSecrets {
    pub ca_pem: String,
    pub sign: Sign,
}

fn annotation<'a>(object: &'a Object, name: &str) -> &'a str {
    object.meta.annotations.as_ref().and_then(|all| all.get(name)).map(String::as_str).unwrap_or_default()
}

impl Controller for TokenSecrets {
    fn name(&self) -> &'static str {
        "serviceaccount-token-controller"
    }

    /// As upstream, which has no account for it.
    fn account(&self) -> &'static str {
        "system:kube-controller-manager"
    }

    fn watches(&self) -> &'static [GroupResource] {
        WATCHES
    }

    fn keys(&self, snapshot: &Snapshot, change: &Change, keys: &mut Vec<Key>) {
        if change.key.resource == SECRETS {
            let named = change.after.as_ref().filter(|secret| !annotation(secret, NAME).is_empty());
            keys.extend(named.map(|secret| secret.key.clone()));
            return;
        }
        let of_it = |secret: &&Arc<Object>| annotation(secret, NAME) == &*change.key.name;
        keys.extend(snapshot.list(&SECRETS, &change.key.namespace).filter(of_it).map(|secret| secret.key.clone()));
    }

    fn plan(&self, snapshot: &Snapshot, key: &Key, _: Now) -> Result<Plan, Status> {
        let mut plan = Plan::default();
        let (Some(object), Some(secret)) = (snapshot.get(key), read::<Secret>(snapshot, key)?) else {
            return Ok(plan);
        };
        if secret.type_.as_deref() != Some(TYPE) || object.is_deleting() {
            return Ok(plan);
        }
        let (name, bound) = (annotation(object, NAME), annotation(object, UID));
        let account = snapshot.get(&Key::new(SERVICE_ACCOUNTS, &key.namespace, name));
        let Some(account) = account.filter(|account| bound.is_empty() || bound == account.uid()) else {
            let targets = vec![Victim::of(object)];
            plan.push(Step::Delete { resource: SECRETS, targets, told: None });
            return Ok(plan);
        };
        let held = secret.data.unwrap_or_default();
        let has = |field: &str| held.get(field).map(|bytes| bytes.0.as_slice()).unwrap_or_default();
        let mut data = Map::new();
        if has("ca.crt") != self.ca_pem.as_bytes() {
            data.insert("ca.crt".to_owned(), STANDARD.encode(&self.ca_pem).into());
        }
        if has("namespace").is_empty() {
            data.insert("namespace".to_owned(), STANDARD.encode(&*key.namespace).into());
        }
        if has("token").is_empty() || bound.is_empty() {
            let holder = Holder { namespace: &key.namespace, account: name, uid: account.uid(), secret: &key.name };
            data.insert("token".to_owned(), STANDARD.encode((self.sign)(holder)?).into());
        }
        if !data.is_empty() {
            let mut whole: Value = object.decode()?;
            if let Some(Value::Object(annotations)) = whole.pointer_mut("/metadata/annotations") {
                annotations.insert(UID.to_owned(), account.uid().into());
            }
            match whole.pointer_mut("/data") {
                Some(Value::Object(held)) => held.extend(data),
                _ => _ = whole.as_object_mut().map(|whole| whole.insert("data".to_owned(), data.into())),
            }
            plan.push(Step::Update { resource: SECRETS, subresource: "", object: whole });
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Facts, at};

    fn plan(secret: Value, account: Option<&str>) -> Plan {
        let mut facts = Facts::default();
        if let Some(uid) = account {
            facts.add(SERVICE_ACCOUNTS, json!({"metadata": {"namespace": "n", "name": "sa", "uid": uid}}));
        }
        let object = facts.add(SECRETS, secret);
        let sign: Sign = Arc::new(|holder| Ok(format!("{holder:?}")));
        let secrets = TokenSecrets { ca_pem: "CA".into(), sign };
        secrets.plan(&facts.snapshot, &object.key, at(0)).unwrap()
    }

    fn secret(annotations: Value, data: Value) -> Value {
        json!({"metadata": {"namespace": "n", "name": "s", "annotations": annotations}, "type": TYPE, "data": data})
    }

    #[test]
    fn a_secret_is_filled_in_once_and_goes_with_its_account() {
        let fresh = || secret(json!({NAME: "sa"}), json!({"mine": ""}));
        let made = plan(fresh(), Some("u1"));
        let [Step::Update { object: filled, .. }] = made.steps.as_slice() else { panic!("{made:?}") };
        assert_eq!(filled["metadata"]["annotations"], json!({NAME: "sa", UID: "u1"}));
        let holder = Holder { namespace: "n", account: "sa", uid: "u1", secret: "s" };
        let text = |text: &str| STANDARD.encode(text);
        let full =
            json!({"mine": "", "ca.crt": text("CA"), "namespace": text("n"), "token": text(&format!("{holder:?}"))});
        assert_eq!(filled["data"], full);
        let bound = |uid: &str| secret(json!({NAME: "sa", UID: uid}), full.clone());
        assert_eq!(plan(bound("u1"), Some("u1")), Plan::default());
        for gone in [plan(fresh(), None), plan(bound("u1"), Some("u2"))] {
            assert!(matches!(gone.steps.as_slice(), [Step::Delete { .. }]), "{gone:?}");
        }
        let mut opaque = fresh();
        opaque["type"] = json!("Opaque");
        assert_eq!(plan(opaque, None), Plan::default());
    }
}
