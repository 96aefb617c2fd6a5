//! Tokens that another server knows: it is sent a TokenReview. Its answers are kept for a while.
//! Source: "Webhook Token Authentication" of Kubernetes' documentation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kedge_api::User;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::token::ISSUER;
use crate::clock::Clock;
use crate::document::{Document, Mistakes};
use crate::kept::Kept;
use crate::reach::kubeconfig::Destination;

const TIMEOUT: Duration = Duration::from_secs(30);
const LIFE: SignedDuration = SignedDuration::from_secs(120);

/// Whose a token is; none if nobody's.
type Known = Option<User>;

pub struct TokenWebhook {
    destination: Destination,
    /// By hashes of tokens.
    kept: Kept<[u8; 32], Known>,
    clock: Clock,
}

#[derive(Deserialize)]
struct Review {
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: UserInfo,
    audiences: Vec<String>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserInfo {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl TokenWebhook {
    /// From a kubeconfig.
    pub fn read(document: &Document, clock: &Clock) -> Result<Self, Mistakes> {
        let folder = Path::new(&document.name).parent().unwrap_or(Path::new("/"));
        let destination = Destination::parse(&document.text, folder).map_err(|why| document.whole(why))?;
        Ok(Self { destination, kept: Kept::default(), clock: clock.clone() })
    }

    pub async fn user(&self, token: &str) -> Result<Known, String> {
        let key: [u8; 32] = Sha256::digest(token).into();
        if let Some(kept) = self.kept.get(&key, self.clock.now()) {
            return Ok(kept);
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {"creationTimestamp": null}, "spec": {"token": token, "audiences": [ISSUER]}, "status": {"user": {}},
        });
        let answer = self.destination.ask(&review, TIMEOUT).await?;
        let Review { status } = Review::deserialize(&answer).map_err(|error| error.to_string())?;
        if !status.authenticated && !status.error.is_empty() {
            return Err(status.error);
        }
        // A server that does not know of audiences means this one.
        let ours = status.audiences.is_empty() || status.audiences.iter().any(|audience| audience == ISSUER);
        let UserInfo { username, uid, groups, extra } = status.user;
        let user = (status.authenticated && ours).then(|| User {
            name: username.as_str().into(),
            uid: uid.as_str().into(),
            groups: with_authenticated(groups).into(),
            extra: Arc::new(extra),
        });
        self.kept.keep(key, user.clone(), self.clock.now(), LIFE);
        Ok(user)
    }
}

fn with_authenticated(mut groups: Vec<String>) -> Vec<String> {
    if !groups.iter().any(|group| group == super::AUTHENTICATED) {
        groups.push(super::AUTHENTICATED.to_owned());
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use crate::fixture::{kubeconfig, outside};
    use crate::pki::{Names, Pki};

    #[tokio::test]
    async fn a_token_is_whose_the_webhook_says() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), Names::new("n1", vec![]), Clock::system()).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let port = outside(&pki, move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                let review: Value = serde_json::from_slice(request.body()).unwrap();
                assert_eq!(review["spec"]["audiences"], json!([ISSUER]));
                let status = match review["spec"]["token"].as_str().unwrap() {
                    "jane" => json!({"authenticated": true, "user": {"username": "jane", "groups": ["devs"], "extra": {"a": ["b"]}}}),
                    "vault" => json!({"authenticated": true, "audiences": ["vault"], "user": {"username": "jane"}}),
                    "late" => json!({"authenticated": false, "error": "token expired"}),
                    _ => json!({"authenticated": false}),
                };
                http::Response::new(Bytes::from(json!({"kind": "TokenReview", "status": status}).to_string()))
            }
        })
        .await;
        let document = Document { name: "webhook".into(), text: kubeconfig(&pki, port, "/review") };
        let webhook = TokenWebhook::read(&document, &Clock::system()).unwrap();
        for _ in 0..2 {
            let jane = webhook.user("jane").await.unwrap().unwrap();
            assert_eq!(
                (&*jane.name, &jane.groups[..]),
                ("jane", &["devs".to_owned(), "system:authenticated".to_owned()][..])
            );
            assert_eq!(jane.extra["a"], ["b"]);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(webhook.user("vault").await, Ok(None));
        assert_eq!(webhook.user("other").await, Ok(None));
        assert_eq!(webhook.user("late").await, Err("token expired".to_owned()));
        let gone = Document { name: "webhook".into(), text: kubeconfig(&pki, 1, "/review") };
        let why = TokenWebhook::read(&gone, &Clock::system()).unwrap().user("jane").await.unwrap_err();
        assert_eq!(why, "Post \"https://127.0.0.1:1/review\": dial tcp 127.0.0.1:1: connect: connection refused");
    }
}
