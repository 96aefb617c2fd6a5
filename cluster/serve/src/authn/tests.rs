use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderMap;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::authz::Authorizer;
use crate::authz::Selectors;
use crate::fixture::Objects;
use crate::pki::{Names, Pki, Profile};

const START: i64 = 1_790_000_000;

struct World {
    _dir: tempfile::TempDir,
    pki: Pki,
    objects: Arc<Objects>,
    tokens: Arc<Tokens>,
    authn: Authenticator,
    now: Arc<AtomicI64>,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicI64::new(START));
    let shared = Arc::clone(&now);
    let clock = Clock::new(move || Timestamp::from_second(shared.load(Ordering::Relaxed)).unwrap());
    let pki = Pki::open(dir.path(), Names::new("n1", vec![]), clock.clone()).unwrap();
    let objects = Arc::new(Objects::default());
    let tokens = Arc::new(Tokens::new(pki.token_key(), clock.clone()).unwrap());
    let fixed = FixedTokens::parse("t0ken,root,,system:masters").unwrap();
    let authn = Authenticator::new(Trust::of(&pki).unwrap(), Arc::clone(&tokens), fixed, objects.clone(), clock);
    World { _dir: dir, pki, objects, tokens, authn, now }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn peer(world: &World, profile: &Profile) -> Peer {
    world.authn.peer(Some(&[world.pki.identity(profile).unwrap().certificate.clone()]))
}

#[tokio::test]
async fn a_certificate_is_its_subject_while_it_is_valid() {
    let world = world();
    let admin = peer(&world, &Profile::Admin);
    let user = world.authn.authenticate(&admin, &HeaderMap::new(), "/api").await.unwrap();
    assert_eq!((&*user.name, &*user.groups), ("admin", &["system:masters".to_owned(), AUTHENTICATED.to_owned()][..]));
    assert!(user.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    let node = world.authn.authenticate(&peer(&world, &Profile::Kubelet), &HeaderMap::new(), "/api").await.unwrap();
    assert_eq!(&*node.name, "system:node:n1");
    world.now.store(START + 400 * 86_400, Ordering::Relaxed);
    assert!(world.authn.authenticate(&admin, &HeaderMap::new(), "/api").await.is_err());
}

#[tokio::test]
async fn foreign_and_serving_certificates_are_refused_even_where_nobody_is_welcome() {
    let (world, other) = (world(), super::tests::world());
    for bad in [
        peer(&world, &Profile::ApiServer),
        world.authn.peer(Some(&[other.pki.identity(&Profile::Admin).unwrap().certificate.clone()])),
    ] {
        assert!(matches!(bad, Peer::Unknown { .. }), "{bad:?}");
        let error = world.authn.authenticate(&bad, &HeaderMap::new(), "/api").await.unwrap_err();
        assert_eq!((error.reason, error.message.as_str()), (Reason::Unauthorized, "Unauthorized"));
    }
}

#[tokio::test]
async fn who_shows_nothing_is_nobody_and_who_shows_something_wrong_is_refused() {
    let world = world();
    let ask = async |value: Option<&str>| {
        let header = value.map(|value| headers(&[("authorization", value)])).unwrap_or_default();
        world.authn.authenticate(&Peer::None, &header, "/api").await.map(|user| user.name.to_string())
    };
    for nothing in [None, Some("Basic dTpw"), Some("Bearer"), Some("Bearer ")] {
        assert_eq!(ask(nothing).await.unwrap(), ANONYMOUS, "{nothing:?}");
    }
    for wrong in ["Bearer garbage", "bearer a.b.c", "Bearer abcdef.0123456789abcdef"] {
        assert_eq!(ask(Some(wrong)).await.unwrap_err().reason, Reason::Unauthorized, "{wrong}");
    }
    assert_eq!(ask(Some("Bearer t0ken")).await.unwrap(), "root");
    // Tokens that name no audience are good here only.
    assert!(world.authn.token("t0ken", &[ISSUER]).await.is_ok());
    assert!(world.authn.token("t0ken", &["vault"]).await.is_err());
}

#[tokio::test]
async fn only_a_proxy_with_its_certificate_speaks_for_others() {
    let world = world();
    let remote = headers(&[("x-remote-user", "jane"), ("x-remote-group", "devs")]);
    let proxy = peer(&world, &Profile::FrontProxy);
    let jane = world.authn.authenticate(&proxy, &remote, "/api").await.unwrap();
    assert_eq!((&*jane.name, &*jane.groups), ("jane", &["devs".to_owned(), AUTHENTICATED.to_owned()][..]));
    // It is nobody of its own.
    assert!(world.authn.authenticate(&proxy, &HeaderMap::new(), "/api").await.is_err());
    let admin = world.authn.authenticate(&peer(&world, &Profile::Admin), &remote, "/api").await.unwrap();
    assert_eq!(&*admin.name, "admin");
    assert_eq!(&*world.authn.authenticate(&Peer::None, &remote, "/api").await.unwrap().name, ANONYMOUS);
    world.now.store(START + 400 * 86_400, Ordering::Relaxed);
    assert!(world.authn.authenticate(&proxy, &remote, "/api").await.is_err());
}

#[tokio::test]
async fn a_token_lives_as_long_as_what_it_is_bound_to() {
    let world = world();
    let object = |name: &str, uid: &str| json!({"metadata": {"namespace": "ns", "name": name, "uid": uid}});
    world.objects.put(known::SERVICE_ACCOUNTS, object("sa", "sa-1"));
    world.objects.put(known::PODS, object("web", "web-1"));
    let of = |name: &str, uid: &str| Ref { name: name.into(), uid: uid.into() };
    let bound = Bound {
        namespace: "ns".into(),
        node: Some(of("n1", "n1-1")),
        pod: Some(of("web", "web-1")),
        secret: None,
        serviceaccount: of("sa", "sa-1"),
        warnafter: None,
    };
    let token = world.tokens.issue(bound, &[], 600).unwrap();
    let header = headers(&[("authorization", &format!("Bearer {token}"))]);
    let ask = async || world.authn.authenticate(&Peer::None, &header, "/api").await;
    let user = ask().await.unwrap();
    assert_eq!((&*user.name, &*user.uid), ("system:serviceaccount:ns:sa", "sa-1"));
    assert_eq!(&*user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    world.objects.put(known::PODS, object("web", "web-2"));
    assert!(ask().await.is_err(), "another pod of the same name");
    world.objects.put(known::PODS, object("web", "web-1"));
    assert!(ask().await.is_ok());
    world.objects.remove(known::SERVICE_ACCOUNTS, "ns", "sa");
    assert!(ask().await.is_err(), "the account is gone");
}

#[tokio::test]
async fn a_token_in_a_secret_lives_as_long_as_that_and_its_account() {
    let world = world();
    let account = |uid: &str| json!({"metadata": {"namespace": "ns", "name": "sa", "uid": uid}});
    let token = world.tokens.issue_endless("ns", "sa", "sa-1", "s").unwrap();
    let secret = |token: &str| {
        let text = base64::engine::general_purpose::STANDARD.encode(token);
        json!({"metadata": {"namespace": "ns", "name": "s"}, "data": {"token": text}})
    };
    let ask = async || world.authn.token(&token, &[ISSUER]).await.map(|(user, _)| user);
    world.objects.put(known::SERVICE_ACCOUNTS, account("sa-1"));
    assert!(ask().await.is_err(), "there is no such secret");
    world.objects.put(known::SECRETS, secret(&token));
    let user = ask().await.unwrap();
    assert_eq!((&*user.name, &*user.uid), ("system:serviceaccount:ns:sa", "sa-1"));
    assert_eq!(&*user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]);
    assert!(world.authn.token(&token, &["vault"]).await.is_err());
    world.objects.put(known::SECRETS, secret("another"));
    assert!(ask().await.is_err(), "the secret holds another token");
    world.objects.put(known::SECRETS, secret(&token));
    world.objects.put(known::SERVICE_ACCOUNTS, account("sa-2"));
    assert!(ask().await.is_err(), "another account of the same name");
}

#[tokio::test]
async fn only_who_may_impersonate_does() {
    let authorizer = Authorizer::new(Arc::new(Objects::default()));
    let query = crate::wire::query::Query::parse("");
    let asked = crate::wire::path::parse(&http::Method::GET, "/api/v1/pods", &query).unwrap();
    let admin = || User::new("admin", &["system:masters", AUTHENTICATED]);
    let as_of = async |user, pairs: &[(&'static str, &str)]| {
        impersonated(user, &headers(pairs), &authorizer, &asked, Selectors::default()).await
    };
    assert_eq!(as_of(admin(), &[]).await.unwrap(), admin());
    assert_eq!(as_of(admin(), &[("impersonate-user", "")]).await.unwrap(), admin());
    let jane = as_of(
        admin(),
        &[("impersonate-user", "jane"), ("impersonate-group", "devs"), ("impersonate-extra-scopes", "view")],
    )
    .await
    .unwrap();
    assert_eq!((&*jane.name, &*jane.groups), ("jane", &["devs".to_owned(), AUTHENTICATED.to_owned()][..]));
    assert_eq!(jane.extra["scopes"], ["view"]);
    let account = as_of(admin(), &[("impersonate-user", "system:serviceaccount:ns:sa")]).await.unwrap();
    assert_eq!(&*account.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]);
    let refused = as_of(jane, &[("impersonate-user", "admin")]).await.unwrap_err();
    assert_eq!(
        refused.message,
        r#"users "admin" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#
    );
    // A name in another script is a name: nobody is taken for who sends it.
    let mut other = HeaderMap::new();
    other.insert("impersonate-user", http::HeaderValue::from_bytes("J\u{fc}rgen".as_bytes()).unwrap());
    assert_eq!(
        &*impersonated(admin(), &other, &authorizer, &asked, Selectors::default()).await.unwrap().name,
        "J\u{fc}rgen"
    );
    let nameless = as_of(admin(), &[("impersonate-group", "g")]).await.unwrap_err();
    assert_eq!(
        nameless.message,
        r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g"}, Extra:map[string][]string(nil)} without impersonating a user name"#
    );
}
