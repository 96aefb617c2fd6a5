//! An authorizer that is asked over TLS on loopback, and one that is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use kedge_api::User;
use kedge_registry::Guard as _;

use crate::authz::Authorizer;
use crate::clock::Clock;
use crate::document::{Document, Given};
use crate::fixture::{Objects, kubeconfig, outside};
use crate::pki::{Names, Pki};

use super::*;

struct World {
    dir: tempfile::TempDir,
    pki: Pki,
    port: u16,
    asked: Arc<AtomicUsize>,
    now: Arc<AtomicI64>,
}

impl World {
    /// A server that allows jane, denies eve, and has no opinion of others.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open(dir.path(), Names::new("n1", vec![]), Clock::system()).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let port = outside(&pki, move |request| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                let review: Value = serde_json::from_slice(request.body()).unwrap();
                let status = match review["spec"]["user"].as_str().unwrap() {
                    "jane" => json!({"allowed": true, "reason": "known"}),
                    "eve" => json!({"allowed": false, "denied": true, "reason": "banned"}),
                    _ => json!({"allowed": false, "reason": "who?"}),
                };
                http::Response::new(Bytes::from(json!({"status": status}).to_string()))
            }
        })
        .await;
        Self { dir, pki, port, asked, now: Arc::new(AtomicI64::new(1_790_000_000)) }
    }

    fn authorizer(&self, port: u16, failure: &str) -> Authorizer {
        let path = self.dir.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig(&self.pki, port, "/authorize")).unwrap();
        let config = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [
                {"type": "Webhook", "name": "out", "webhook": {
                    "timeout": "3s", "authorizedTTL": "5m", "unauthorizedTTL": "30s", "subjectAccessReviewVersion": "v1",
                    "matchConditionSubjectAccessReviewVersion": "v1", "failurePolicy": failure,
                    "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": path},
                    "matchConditions": [
                        {"expression": "has(request.resourceAttributes)"},
                        {"expression": "request.resourceAttributes.namespace != 'kube-system'"},
                    ],
                }},
                {"type": "RBAC", "name": "rbac"},
            ],
        });
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || Timestamp::from_second(now.load(Ordering::Relaxed)).unwrap());
        let given = Given::Text { name: "f".into(), text: config.to_string() };
        Authorizer::open(Arc::new(Objects::default()), Some(given), clock).unwrap()
    }
}

fn pods<'a>(user: &'a User, namespace: &'a str) -> Attributes<'a> {
    Attributes { namespace, ..Attributes::resource(user, "list", "", "pods") }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_in_its_turn_and_its_answers_are_kept() {
    let world = World::new().await;
    let authorizer = world.authorizer(world.port, "Deny");
    let asked = || world.asked.load(Ordering::Relaxed);
    let [jane, eve, joe, root] = ["jane", "eve", "joe", "root"].map(|name| {
        let groups: &[&str] = if name == "root" { &["system:masters"] } else { &[] };
        User::new(name, groups)
    });
    let ask = async |user, namespace| {
        authorizer.decide(&pods(user, namespace)).await.map_err(|refusal| (refusal.why, refusal.denied))
    };
    assert_eq!(ask(&jane, "n").await, Ok("known".to_owned()));
    assert_eq!(ask(&eve, "n").await, Err(("banned".to_owned(), true)));
    assert_eq!(ask(&joe, "n").await, Err(("who?".to_owned(), false)));
    assert_eq!(ask(&root, "n").await, Ok(String::new()));
    assert_eq!(asked(), 3);
    // What conditions leave out is for the next one to say.
    assert_eq!(ask(&jane, "kube-system").await, Err((String::new(), false)));
    assert!(authorizer.decide(&Attributes::path(&jane, "get", "/metrics")).await.is_err());
    assert_eq!(ask(&jane, "n").await, Ok("known".to_owned()));
    assert_eq!(asked(), 3);
    world.now.fetch_add(31, Ordering::Relaxed);
    assert!(ask(&jane, "n").await.is_ok() && ask(&eve, "n").await.is_err());
    assert_eq!(asked(), 4);
    // A write is judged where nobody can wait.
    let target = kedge_api::Target {
        resource: kedge_api::resource::known::PODS,
        version: "v1".into(),
        namespace: "n".into(),
        name: "p".into(),
        subresource: String::new(),
    };
    assert!(authorizer.may_write(&jane, &target, &json!({}), None).is_ok());
    assert!(authorizer.may_write(&eve, &target, &json!({}), None).is_err());
}

#[tokio::test]
async fn one_that_cannot_be_asked_forbids_or_leaves_it_to_the_next() {
    let world = World::new().await;
    let jane = User::new("jane", &[]);
    for (failure, denied) in [("Deny", true), ("NoOpinion", false)] {
        let authorizer = world.authorizer(1, failure);
        let refusal = authorizer.decide(&pods(&jane, "n")).await.unwrap_err();
        assert!(refusal.failed.starts_with("Post \"https://127.0.0.1:1/authorize\": dial tcp"), "{refusal:?}");
        assert_eq!(refusal.denied, denied);
        let status = authorizer.check(&pods(&jane, "n")).await.unwrap_err();
        assert_eq!(status.reason, kedge_api::Reason::InternalError);
    }
}

#[test]
fn what_is_wrong_is_told_as_upstream_does_with_its_line() {
    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\n";
    const HOOK: &str = "authorizers:\n- type: Webhook\n  name: a\n  webhook:\n    timeout: 3s\n    subjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /none}\n";
    for (text, expected) in [
        ("", "1: authorizers: Required value: at least one authorization mode must be defined"),
        ("authorizers:\n- type: ABAC\n  name: a\n", "4: authorizers[0].type: Unsupported value: \"ABAC\": supported values: \"Node\", \"RBAC\", \"Webhook\""),
        ("authorizers:\n- {type: RBAC, name: a}\n- {type: RBAC, name: b}\n", "5: authorizers[1].type: Duplicate value: \"RBAC\""),
        ("authorizers:\n- type: RBAC\n  name: A_\n", "5: authorizers[0].name: Invalid value: \"A_\": a lowercase RFC 1123 subdomain"),
        ("authorizers:\n- type: Webhook\n  name: a\n", "4: authorizers[0].webhook: Required value: required when type=Webhook"),
        (HOOK, "10: authorizers[0].webhook.connectionInfo.kubeConfigFile: Invalid value: \"/none\": no such file or directory"),
        (&HOOK.replace("timeout: 3s", "timeout: 31s"), "7: authorizers[0].webhook.timeout: Invalid value: \"31s\": must be <= 30s"),
        (&HOOK.replace("timeout: 3s", "timeout: 0s"), "7: authorizers[0].webhook.timeout: Invalid value: \"0s\": must be > 0s"),
        (&HOOK.replace("Deny", "Ask"), "9: authorizers[0].webhook.failurePolicy: Unsupported value: \"Ask\": supported values: \"Deny\", \"NoOpinion\""),
        (
            &format!("{HOOK}    matchConditionSubjectAccessReviewVersion: v1\n    matchConditions:\n    - expression: request.a\n").replace("/none", "/"),
            "13: authorizers[0].webhook.matchConditions[0].expression: Invalid value: \"request.a\": compilation failed: ERROR: <input>:1:8: undefined field 'a'",
        ),
    ] {
        let document = Document { name: "f".into(), text: format!("{HEAD}{text}") };
        let told = config::parse(&document).unwrap_err().to_string();
        assert!(told.lines().any(|line| line.starts_with(&format!("f:{expected}"))), "{text}\n{told}\nexpected {expected}");
    }
}
