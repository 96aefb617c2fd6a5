//! `EncryptionConfiguration` of `apiserver.config.k8s.io`: which resources lie encrypted, and by which keys.
//!
//! Source: "Encrypting Confidential Data at Rest" of Kubernetes' documentation; the rules are upstream's, in its words.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kedge_encrypt::{Cipher, Keyring, NamedKey, Pattern, Provider};
use kedge_serve::document::{Checks, Document, Mistakes};
use serde::{Deserialize, Serialize};

pub(super) const KIND: &str = "EncryptionConfiguration";
pub(super) const VERSION: &str = "apiserver.config.k8s.io/v1";
const NO_REST: &[&str] = &["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Form {
    pub(super) kind: String,
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) resources: Vec<ResourcesForm>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResourcesForm {
    #[serde(default)]
    pub(super) resources: Vec<String>,
    #[serde(default)]
    pub(super) providers: Vec<ProviderForm>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ProviderForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aesgcm: Option<KeysForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aescbc: Option<KeysForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secretbox: Option<KeysForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<IdentityForm>,
    #[serde(skip_serializing)]
    pub(super) kms: Option<serde::de::IgnoredAny>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityForm {}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeysForm {
    pub(super) keys: Vec<KeyForm>,
}

#[derive(Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KeyForm {
    pub(super) name: String,
    pub(super) secret: String,
}

/// Never the key itself.
impl std::fmt::Debug for KeyForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeyForm").field(&self.name).finish()
    }
}

pub(super) fn form(document: &Document) -> Result<Form, Mistakes> {
    document.parse(KIND, &[VERSION])
}

pub(super) fn parse(document: &Document) -> Result<Keyring, Mistakes> {
    let form = form(document)?;
    let mut checks = Checks::of(document);
    if form.resources.is_empty() {
        checks.required("resources", "at least one resources is required");
    }
    let mut rules = Vec::new();
    for (at, ResourcesForm { resources, providers }) in form.resources.iter().enumerate() {
        let path = format!("resources[{at}].resources");
        if resources.is_empty() {
            checks.required(&path, &format!("at least one {path} is required"));
        }
        overlaps(resources, &path, &mut checks);
        for (at, resource) in resources.iter().enumerate() {
            if let Some(why) = wrong_name(resource) {
                checks.invalid(&format!("{path}[{at}]"), resource, why);
            }
        }
        let path = format!("resources[{at}].providers");
        if providers.is_empty() {
            checks.required(&path, &format!("at least one {path} is required"));
        }
        let made =
            providers.iter().enumerate().filter_map(|(at, one)| provider(one, &format!("{path}[{at}]"), &mut checks));
        let made: Vec<Arc<Provider>> = made.map(Arc::new).collect();
        rules.extend(resources.iter().map(|resource| (Pattern::parse(resource), made.clone())));
    }
    checks.done()?;
    Keyring::new(rules).map_err(|masked| {
        let mut checks = Checks::of(document);
        checks.wrong("resources", masked.to_string());
        checks.done().err().unwrap_or_default()
    })
}

fn overlaps(resources: &[String], path: &str, checks: &mut Checks<'_>) {
    let all: Vec<Pattern> = resources.iter().map(|resource| Pattern::parse(resource)).collect();
    let pairs = || all.iter().enumerate().flat_map(|(at, one)| all.iter().skip(at + 1).map(move |two| (one, two)));
    let everything = Pattern::everything();
    let twice = pairs().any(|(one, two)| one == two);
    let masks = pairs().filter(|(one, two)| one != two).any(|(one, two)| {
        *one == everything
            || *two == everything
            || one.group == two.group && (one.resource == "*" || two.resource == "*")
    });
    let shown = serde_json::to_string(resources).unwrap_or_default();
    for (wrong, why) in [
        (twice, "the same resource cannot be specified multiple times"),
        (
            masks,
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked",
        ),
    ] {
        if wrong {
            checks.wrong(path, format!("Invalid value: {shown}: {why}"));
        }
    }
}

fn wrong_name(resource: &str) -> Option<&'static str> {
    let pattern = Pattern::parse(resource);
    if resource.to_lowercase() != resource {
        Some("resource name should not contain capital letters")
    } else if resource == "*" {
        Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
    } else if NO_REST.contains(&resource) {
        Some("resources which do not have REST API/s cannot be encrypted")
    } else if pattern.group == "events.k8s.io" {
        Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        )
    } else if pattern.group == "extensions" {
        Some("'extensions' group has been removed and cannot be used for encryption")
    } else if pattern.group == "*" && pattern.resource != "*" {
        Some("encrypting the same resource across groups is not supported")
    } else {
        None
    }
}

/// None where something of it is wrong, which is then told.
fn provider(form: &ProviderForm, path: &str, checks: &mut Checks<'_>) -> Option<Provider> {
    let ProviderForm { aesgcm, aescbc, secretbox, identity, kms } = form;
    let ciphers = [(Cipher::AesGcm, aesgcm), (Cipher::AesCbc, aescbc), (Cipher::Secretbox, secretbox)];
    let with_keys: Vec<_> = ciphers.into_iter().filter_map(|(cipher, keys)| Some((cipher, keys.as_ref()?))).collect();
    match (with_keys.as_slice(), identity, kms) {
        ([(cipher, form)], None, None) => keys(*cipher, form, &format!("{path}.{}.keys", cipher.name()), checks),
        ([], Some(_), None) => Some(Provider::Identity),
        ([], None, Some(_)) => {
            checks.wrong(&format!("{path}.kms"), "this server has no KMS providers: use another one".to_owned());
            None
        }
        ([], None, None) => {
            let why =
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
            checks.wrong(path, format!("Invalid value: {{}}: {why}"));
            None
        }
        _ => {
            let why = "more than one provider specified in a single element, should split into different list elements";
            checks.wrong(path, format!("Invalid value: {why}"));
            None
        }
    }
}

fn keys(cipher: Cipher, form: &KeysForm, path: &str, checks: &mut Checks<'_>) -> Option<Provider> {
    if form.keys.is_empty() {
        checks.required(path, "at least one keys is required");
        return None;
    }
    let each = form.keys.iter().enumerate().map(|(at, form)| key(cipher, form, &format!("{path}[{at}]"), checks));
    // All of them are looked at before one that is wrong ends it.
    let each: Vec<Option<NamedKey>> = each.collect();
    Some(Provider::Keys(cipher, each.into_iter().collect::<Option<_>>()?))
}

fn key(cipher: Cipher, form: &KeyForm, path: &str, checks: &mut Checks<'_>) -> Option<NamedKey> {
    let KeyForm { name, secret } = form;
    if name.is_empty() {
        checks.required(&format!("{path}.name"), "name is a mandatory field for a key");
    }
    let path = format!("{path}.secret");
    if secret.is_empty() {
        checks.required(&path, "secret is a mandatory field for a key");
        return None;
    }
    let Ok(bytes) = STANDARD.decode(secret) else {
        checks.invalid(&path, "REDACTED", "secrets must be base64 encoded");
        return None;
    };
    match NamedKey::new(cipher, name, &bytes) {
        Ok(key) => Some(key),
        Err(why) => {
            checks.invalid(&path, "REDACTED", &why.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use kedge_api::resource::known::{CONFIG_MAPS, SECRETS};

    use super::*;

    fn told(resources: &str) -> Result<Keyring, String> {
        let text = format!("apiVersion: {VERSION}\nkind: {KIND}\nresources:\n{resources}");
        let document = Document { name: "f".to_owned(), text };
        parse(&document).map_err(|mistakes| mistakes.to_string())
    }

    fn key(length: usize) -> String {
        STANDARD.encode(vec![7; length])
    }

    #[test]
    fn a_configuration_as_upstreams_documentation_shows_it() {
        let (short, long) = (key(16), key(32));
        let ring = told(&format!(
            "- resources:\n  - secrets\n  - widgets.example.com\n  providers:\n  - identity: {{}}\n  - aesgcm:\n      keys:\n      - name: key1\n        \
             secret: {short}\n  - aescbc:\n      keys:\n      - {{name: key1, secret: {long}}}\n- resources: ['*.']\n  providers:\n  \
             - secretbox: {{keys: [{{name: all, secret: {long}}}, {{name: old, secret: {long}}}]}}\n"
        ))
        .unwrap();
        assert_eq!(ring.writes(&SECRETS), None);
        assert_eq!(ring.writes(&CONFIG_MAPS).unwrap(), "secretbox key \"all\"");
    }

    #[test]
    fn what_is_wrong_is_told_as_upstream_tells_it_and_no_key_is_shown() {
        let sound = format!("aesgcm: {{keys: [{{name: a, secret: {}}}]}}", key(16));
        let of = |resources: &str, provider: &str| format!("- resources: {resources}\n  providers:\n  - {provider}\n");
        let cases = [
            ("  []".to_owned(), "f:3: resources: Required value: at least one resources is required"),
            (
                of("[]", "identity: {}"),
                "f:4: resources[0].resources: Required value: at least one resources[0].resources is required",
            ),
            (
                "- resources: [secrets]\n  providers: []\n".to_owned(),
                "f:5: resources[0].providers: Required value: at least one resources[0].providers is required",
            ),
            (of("[Secrets]", &sound), "Invalid value: \"Secrets\": resource name should not contain capital letters"),
            (of("['*']", &sound), "Invalid value: \"*\": use '*.' to encrypt all the resources from core API group"),
            (of("[apiserveripinfo]", &sound), "resources which do not have REST API/s cannot be encrypted"),
            (of("[events.events.k8s.io]", &sound), "Use 'events' instead in the config file"),
            (of("[a.extensions]", &sound), "'extensions' group has been removed and cannot be used for encryption"),
            (of("['secrets.*']", &sound), "encrypting the same resource across groups is not supported"),
            (
                of("[secrets, secrets]", &sound),
                "f:4: resources[0].resources: Invalid value: [\"secrets\",\"secrets\"]: the same resource cannot be specified multiple times",
            ),
            (of("[secrets, '*.']", &sound), "is not allowed as they will be masked"),
            (of("[a.b, '*.*']", &sound), "is not allowed as they will be masked"),
            (of("[secrets]", "{}"), "f:6: resources[0].providers[0]: Invalid value: {}: provider does not contain any"),
            (
                of("[secrets]", &format!("{{identity: {{}}, {sound}}}")),
                "more than one provider specified in a single element",
            ),
            (of("[secrets]", "kms: {name: x}"), "resources[0].providers[0].kms: this server has no KMS providers"),
            (
                of("[secrets]", "aescbc: {keys: []}"),
                "resources[0].providers[0].aescbc.keys: Required value: at least one keys is required",
            ),
            (
                of("[secrets]", "aescbc: {keys: [{secret: eA==}]}"),
                "aescbc.keys[0].name: Required value: name is a mandatory field for a key",
            ),
            (
                of("[secrets]", "aescbc: {keys: [{name: a}]}"),
                "aescbc.keys[0].secret: Required value: secret is a mandatory field for a key",
            ),
            (
                of("[secrets]", "aescbc: {keys: [{name: a, secret: SECRETS!}]}"),
                "secret: Invalid value: \"REDACTED\": secrets must be base64 encoded",
            ),
            (
                of("[secrets]", "secretbox: {keys: [{name: a, secret: eA==}]}"),
                "secret is not of the expected length, got 1, expected one of [32]",
            ),
            (
                of("['*.']", &sound) + &of("[secrets]", &sound),
                "f:3: resources: resource \"secrets\" is masked by earlier rule \"*.\"",
            ),
        ];
        for (text, expected) in cases {
            let told = told(&text).err().unwrap_or_default();
            assert!(told.contains(expected), "{text}\n{told}");
            assert!(!told.contains("eA==") && !told.contains("SECRETS!"), "{told}");
        }
    }
}
