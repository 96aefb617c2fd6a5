//! Bootstrap tokens: what a new node shows before it has a certificate. Each is a Secret of `kube-system`.
//! Source: "Authenticating with Bootstrap Tokens" of Kubernetes' documentation.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kedge_api::resource::known;
use kedge_api::{Key, Snapshot, User};
use serde::Deserialize;

use super::fixed::is_same;

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const ID: usize = 6;
const SECRET: usize = 16;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BootstrapError {
    #[error("there is no bootstrap token {0:?}")]
    Unknown(String),
    #[error("bootstrap token {0:?} has another secret")]
    Secret(String),
    #[error("bootstrap token {0:?} has expired")]
    Expired(String),
    #[error("bootstrap token {0:?} is not for authentication")]
    Usage(String),
    #[error("bootstrap token {0:?} names the group {1:?}, which is none of those that it may")]
    Group(String, String),
}

#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl Form {
    fn text(&self, key: &str) -> String {
        let bytes = self.data.get(key).and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    }
}

/// The parts of a token of the form `[a-z0-9]{6}.[a-z0-9]{16}`.
pub fn parts(token: &str) -> Option<(&str, &str)> {
    let is =
        |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    token.split_once('.').filter(|(id, secret)| is(id, ID) && is(secret, SECRET))
}

/// Whose a token of that form is.
pub fn user(id: &str, secret: &str, snapshot: &Snapshot, now: Timestamp) -> Result<User, BootstrapError> {
    let unknown = || BootstrapError::Unknown(id.to_owned());
    let object = snapshot.get(&Key::new(known::SECRETS, NAMESPACE, &format!("{PREFIX}{id}"))).ok_or_else(unknown)?;
    let form: Form = object.decode().map_err(|_| unknown())?;
    if form.r#type != TYPE || object.is_deleting() || form.text("token-id") != id {
        return Err(unknown());
    }
    if !is_same(&form.text("token-secret"), secret) {
        return Err(BootstrapError::Secret(id.to_owned()));
    }
    // A time that cannot be read has passed.
    let expires = form.text("expiration");
    if !expires.is_empty() && expires.parse::<Timestamp>().ok().is_none_or(|at| at <= now) {
        return Err(BootstrapError::Expired(id.to_owned()));
    }
    if form.text("usage-bootstrap-authentication") != "true" {
        return Err(BootstrapError::Usage(id.to_owned()));
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    for group in form.text("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
        if !is_allowed(group) {
            return Err(BootstrapError::Group(id.to_owned(), group.to_owned()));
        }
        groups.insert(group.to_owned());
    }
    Ok(super::user(&format!("system:bootstrap:{id}"), "", groups.into_iter().collect(), BTreeMap::new()))
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`
fn is_allowed(group: &str) -> bool {
    let end = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| {
        rest.len() <= 256
            && rest.bytes().all(|b| end(b) || b == b':' || b == b'-')
            && rest.bytes().next_back().is_some_and(end)
    })
}

#[cfg(test)]
mod tests {
    use kedge_api::Informer;
    use serde_json::{Value, json};

    use super::*;
    use crate::fixture::Objects;

    fn ask(token: &str, change: &[(&str, &str)]) -> Result<User, BootstrapError> {
        let mut data = BTreeMap::from([
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ]);
        data.extend(change.iter().copied());
        let data: serde_json::Map<String, Value> =
            data.into_iter().map(|(k, v)| (k.to_owned(), STANDARD.encode(v).into())).collect();
        let objects = Objects::default();
        let metadata = json!({"namespace": NAMESPACE, "name": "bootstrap-token-abcdef"});
        objects.put(known::SECRETS, json!({"metadata": metadata, "type": TYPE, "data": data}));
        let (id, secret) = parts(token).unwrap();
        user(id, secret, &objects.snapshot(), "2026-06-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_token_is_good_as_long_as_its_secret_says_so() {
        const TOKEN: &str = "abcdef.0123456789abcdef";
        let jane = ask(TOKEN, &[("auth-extra-groups", "system:bootstrappers:z,system:bootstrappers:a-b:c")]).unwrap();
        assert_eq!(&*jane.name, "system:bootstrap:abcdef");
        let groups =
            ["system:bootstrappers", "system:bootstrappers:a-b:c", "system:bootstrappers:z", "system:authenticated"];
        assert_eq!(&*jane.groups, groups);
        assert!(ask(TOKEN, &[("expiration", "2026-06-01T00:00:01Z")]).is_ok());
        let id = || "abcdef".to_owned();
        for (token, change, want) in [
            ("abcdef.0123456789abcdee", ("a", ""), BootstrapError::Secret(id())),
            ("abcdeg.0123456789abcdef", ("a", ""), BootstrapError::Unknown("abcdeg".to_owned())),
            (TOKEN, ("token-id", "other1"), BootstrapError::Unknown(id())),
            (TOKEN, ("expiration", "2026-05-31T23:59:59Z"), BootstrapError::Expired(id())),
            (TOKEN, ("expiration", "soon"), BootstrapError::Expired(id())),
            (TOKEN, ("usage-bootstrap-authentication", "yes"), BootstrapError::Usage(id())),
            (TOKEN, ("auth-extra-groups", "system:masters"), BootstrapError::Group(id(), "system:masters".to_owned())),
            (
                TOKEN,
                ("auth-extra-groups", "system:bootstrappers:-"),
                BootstrapError::Group(id(), "system:bootstrappers:-".to_owned()),
            ),
        ] {
            assert_eq!(ask(token, &[change]), Err(want));
        }
        for text in
            ["abcdef", "abcdef.", "abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef.x"]
        {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
