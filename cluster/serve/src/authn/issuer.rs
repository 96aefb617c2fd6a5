//! `serviceaccounts/token`: what a token is bound to is looked up, then the token is signed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Informer, Key, Object, Snapshot, Status};
use kedge_registry::TokenIssuer;
use serde_json::{Value, json};

use super::token::{Bound, ISSUER, Ref, Tokens};
use crate::clock::Clock;
use crate::wire::set;

const DEFAULT_SECONDS: u64 = 3600;

/// Issues tokens of service accounts for the registry.
pub struct Issuer {
    tokens: Arc<Tokens>,
    informer: Arc<dyn Informer>,
    clock: Clock,
}

impl Issuer {
    pub fn new(tokens: Arc<Tokens>, informer: Arc<dyn Informer>, clock: Clock) -> Self {
        Self { tokens, informer, clock }
    }
}

#[async_trait]
impl TokenIssuer for Issuer {
    async fn issue(&self, namespace: &str, name: &str, uid: &str, mut request: Value) -> Result<Value, Status> {
        let spec = request.get("spec").cloned().unwrap_or_default();
        let audiences: Vec<String> = match spec.get("audiences").and_then(Value::as_array) {
            Some(list) if !list.is_empty() => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => vec![ISSUER.to_owned()],
        };
        let seconds = spec.get("expirationSeconds").and_then(Value::as_u64).unwrap_or(DEFAULT_SECONDS);
        let mut bound = Bound {
            namespace: namespace.to_owned(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: Ref { name: name.to_owned(), uid: uid.to_owned() },
            warnafter: None,
        };
        if let Some(wanted) = spec.get("boundObjectRef").filter(|r| !r.is_null()) {
            bind(&mut bound, wanted, &self.informer.snapshot())?;
        }
        let token = self.tokens.issue(bound, &audiences, seconds);
        let token = token.map_err(|e| Status::internal(format!("signing a token: {e}")))?;
        let expires = self.clock.text(Duration::from_secs(seconds));
        if let Some(spec) = request.get_mut("spec") {
            set(spec, "audiences", audiences);
        }
        if let Some(request) = request.as_object_mut() {
            request.insert("status".to_owned(), json!({"token": token, "expirationTimestamp": expires}));
        }
        Ok(request)
    }
}

fn bind(bound: &mut Bound, wanted: &Value, snapshot: &Snapshot) -> Result<(), Status> {
    let text = |key: &str| wanted.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let namespace = bound.namespace.clone();
    let find = |resource: GroupResource, namespace: &str| -> Result<Arc<Object>, Status> {
        let object = snapshot.get(&Key::new(resource.clone(), namespace, name));
        let object = object.cloned().ok_or_else(|| Status::not_found(&resource, name))?;
        if !uid.is_empty() && object.uid() != uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(&resource, name, &why));
        }
        Ok(object)
    };
    let to = |object: &Object| Some(Ref { name: name.to_owned(), uid: object.uid().to_owned() });
    match kind {
        "Pod" => {
            let pod = find(known::PODS, &namespace)?;
            let spec: Value = pod.decode::<Value>()?.get("spec").cloned().unwrap_or_default();
            let field = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let account = &bound.serviceaccount.name;
            if field("serviceAccountName") != *account {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            let node = field("nodeName");
            if !node.is_empty() {
                let object = snapshot.get(&Key::new(known::NODES, "", &node));
                bound.node = Some(Ref { uid: object.map(|o| o.uid().to_owned()).unwrap_or_default(), name: node });
            }
            bound.pod = to(&pod);
        }
        "Secret" => bound.secret = to(&*find(known::SECRETS, &namespace)?),
        "Node" => bound.node = to(&*find(known::NODES, "")?),
        other => return Err(Status::bad_request(format!("cannot bind token to object of type {other}"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;
    use crate::fixture::Objects;

    async fn ask(spec: Value) -> Result<Bound, String> {
        let objects = Objects::default();
        let object = |namespace: &str, name: &str, uid: &str, spec: Value| json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}, "spec": spec});
        objects.put(known::PODS, object("ns", "web", "w1", json!({"serviceAccountName": "sa", "nodeName": "n1"})));
        objects.put(known::PODS, object("ns", "other", "o1", json!({"serviceAccountName": "default"})));
        objects.put(known::NODES, json!({"metadata": {"name": "n1", "uid": "u1"}}));
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let tokens = Arc::new(Tokens::new(&PrivatePkcs8KeyDer::from(key.as_ref().to_vec()), Clock::system()).unwrap());
        let issuer = Issuer::new(Arc::clone(&tokens), Arc::new(objects), Clock::system());
        let answer = issuer
            .issue("ns", "sa", "s1", json!({"kind": "TokenRequest", "spec": spec}))
            .await
            .map_err(|e| e.message)?;
        assert!(answer["spec"]["audiences"].as_array().is_some_and(|list| list.len() == 1));
        let token = answer.pointer("/status/token").and_then(Value::as_str).unwrap();
        Ok(tokens.verify(token, &[ISSUER, "vault"]).unwrap().bound)
    }

    #[tokio::test]
    async fn tokens_are_bound_to_what_exists() {
        let bound = ask(json!({"audiences": ["vault"], "boundObjectRef": {"kind": "Pod", "name": "web", "uid": "w1"}}))
            .await
            .unwrap();
        let of = |name: &str, uid: &str| Some(Ref { name: name.into(), uid: uid.into() });
        assert_eq!((bound.pod, bound.node, bound.serviceaccount.uid.as_str()), (of("web", "w1"), of("n1", "u1"), "s1"));
        assert_eq!(ask(json!({})).await.unwrap().pod, None);
        for (reference, want) in [
            (json!({"kind": "Pod", "name": "web", "uid": "w2"}), "does not match the UID in record"),
            (json!({"kind": "Pod", "name": "gone"}), "pods \"gone\" not found"),
            (json!({"kind": "Pod", "name": "other"}), "different serviceaccount name"),
            (json!({"kind": "Job", "name": "j"}), "cannot bind token to object of type Job"),
        ] {
            let error = ask(json!({"boundObjectRef": reference})).await.unwrap_err();
            assert!(error.contains(want), "{error}");
        }
    }
}
