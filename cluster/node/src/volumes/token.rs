//! Tokens of service accounts for pods: asked for through the client, bound to the pod.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::Pod;
use kedge_api::resource::known;
use kedge_api::{Body, Client, ClientExt, Options, Status, Verb};
use serde::Deserialize;
use serde_json::json;

use super::payload::TokenAsk;
use crate::pod::after;

pub struct Token {
    pub text: String,
    /// When to ask for the next one: at 80 % of its life.
    pub renew: Timestamp,
}

pub async fn request(client: &dyn Client, pod: &Pod, ask: &TokenAsk, now: Timestamp) -> Result<Token, Status> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {
            "audiences": ask.audience.iter().collect::<Vec<_>>(),
            "expirationSeconds": ask.seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid},
        },
    });
    let at = (namespace, account, "token");
    let answer = client.verb(Verb::Create, &known::SERVICE_ACCOUNTS, at, Options::default(), Body::from(body)).await?;
    let answer =
        TokenRequest::deserialize(&answer).map_err(|e| Status::internal(format!("decoding a TokenRequest: {e}")))?;
    let status = answer.status.and_then(|s| s.token.zip(s.expiration_timestamp));
    let (text, end) = status.ok_or_else(|| Status::internal("a TokenRequest was answered without a token"))?;
    let life = end.0.duration_since(now).as_secs().max(10);
    Ok(Token { text, renew: after(now, life * 4 / 5) })
}
