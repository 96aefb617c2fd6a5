//! `serviceaccounts/token`: checks a request for a token, and lets the issuer sign it.

use std::sync::Arc;

use kedge_api::request::Payload;
use kedge_api::resource::known;
use kedge_api::{Answer, GroupResource, Key, Request, Status, Target};
use serde_json::{Value, json};

use super::super::incoming::{self, Expected, Strictness};
use super::super::{answer, get, options};
use crate::Registry;
use crate::admission::{self, Operation, Writer};
use crate::errors::{Errors, Path};
use crate::table::Row;
use crate::value::{Fill as _, Look as _};

const EXPECTED: Expected<'_> = Expected {
    group: "authentication.k8s.io",
    version: "v1",
    kind: "TokenRequest",
    schema: "io.k8s.api.authentication.v1.TokenRequest",
};

/// What a token's life may be bound to.
const BINDABLE: &[(&str, GroupResource)] = &[("Pod", known::PODS), ("Secret", known::SECRETS), ("Node", known::NODES)];

pub(super) async fn issue(registry: &Registry, row: &Arc<Row>, mut request: Request) -> Result<Answer, Status> {
    let dry_run = options::write(&request.options, "CreateOptions")?;
    let (value, duplicates) = incoming::body(&mut request);
    let incoming = incoming::conform(value, duplicates, &EXPECTED, Strictness::of(&request.options))?;
    let mut token = incoming.value;
    let mut writer = Writer::of(&request, dry_run).of_kind(EXPECTED);
    admission::mutate(registry, row, &mut writer, &mut token, None).await?;
    named(&token, &request.target)?;
    let account = get::find(registry, row, &request.target)?;
    token.fill("spec", json!({}));
    token.fill("spec.expirationSeconds", 3600);
    token.fill("spec.boundObjectRef", Value::Null);
    registry.guard(&request, &token, None)?;
    check(&token)?;
    admission::validate(registry, row, &mut writer, Operation::Create, &token, None).await?;
    let warnings = incoming.warnings.into_iter().chain(writer.warnings).collect();
    bound(registry, &mut token, &request.target.namespace)?;
    let now = crate::metadata::stamp((registry.options.now)());
    token.set(
        "metadata",
        json!({"name": &*account.key.name, "namespace": &*account.key.namespace, "uid": account.uid(), "creationTimestamp": now}),
    );
    if dry_run {
        return Ok(answer(201, warnings, Payload::Value(token)));
    }
    let issuer = registry.options.tokens.as_ref().ok_or_else(crate::no_method)?;
    let signed = issuer.issue(&account.key.namespace, &account.key.name, account.uid(), token).await?;
    Ok(answer(201, warnings, Payload::Value(signed)))
}

/// A request that says whose token it wants means the account of the path.
fn named(token: &Value, target: &Target) -> Result<(), Status> {
    let metadata = Path::root("metadata");
    for (field, want) in [("name", &target.name), ("namespace", &target.namespace)] {
        let got = token.look("metadata").text(field);
        if !got.is_empty() && got != want {
            let mut errors = Errors::default();
            let why = format!("must match the service account {field} if specified");
            errors.invalid(&metadata.child(field), got, &why);
            errors.into_result(EXPECTED.group, EXPECTED.kind, &target.name)?;
        }
    }
    Ok(())
}

fn check(token: &Value) -> Result<(), Status> {
    let mut errors = Errors::default();
    let path = Path::root("spec.expirationSeconds");
    let seconds = token.int("spec.expirationSeconds").unwrap_or(0);
    if seconds < 600 {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    errors.into_result(EXPECTED.group, EXPECTED.kind, "")
}

/// The object that the token is bound to exists and is the one meant.
fn bound(registry: &Registry, token: &mut Value, namespace: &str) -> Result<(), Status> {
    let reference = token.look("spec.boundObjectRef").clone();
    if reference.is_null() {
        return Ok(());
    }
    let (kind, version, name) = (reference.text("kind"), reference.text("apiVersion"), reference.text("name"));
    let found = BINDABLE.iter().find(|(known, _)| *known == kind && version == "v1");
    let Some((_, resource)) = found else {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        return Err(Status::bad_request(format!("cannot bind token to object of type {group}/{version}, Kind={kind}")));
    };
    let namespace = if *resource == known::NODES { "" } else { namespace };
    let key = Key::new(resource.clone(), namespace, name);
    let object = registry.cache.snapshot().get(&key).cloned().ok_or_else(|| Status::not_found(resource, name))?;
    let uid = reference.text("uid");
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(resource, name, &why));
    }
    token.set("spec.boundObjectRef.uid", object.uid());
    Ok(())
}
