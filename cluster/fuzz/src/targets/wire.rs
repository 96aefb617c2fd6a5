//! What a client sends to the API server: bodies in three encodings, paths, queries, headers, tokens.

use std::sync::LazyLock;

use http::Method;
use kedge_api::schema;
use kedge_serve::authn::token::{Bound, ISSUER, Ref, Tokens};
use kedge_serve::clock::Clock;
use kedge_serve::wire::body::{decode, unrecognized};
use kedge_serve::wire::media::{Format, Offer, body_type, negotiate};
use kedge_serve::wire::query::Query;
use kedge_serve::wire::{path as paths, protobuf as protobufs};
use serde_json::Value;

use crate::objects::object;
use crate::random::Random;
use crate::texts;

/// A body in either strictness; what is read.
fn body(data: &[u8], format: Format) -> Option<Value> {
    let (lax, strict) = (decode(data, format, false), decode(data, format, true));
    match (lax, strict) {
        (Ok(lax), Ok(strict)) => {
            assert_eq!(lax.value, strict.value);
            assert!(lax.duplicates.len() <= 100);
            assert_eq!(lax.duplicates.is_empty(), strict.duplicates.is_empty());
            Some(lax.value)
        }
        (Err(lax), Err(strict)) => {
            assert_eq!(lax, strict);
            assert!(!lax.is_empty() && unrecognized("X", &lax, data, format).reason.code() == 400);
            None
        }
        (lax, strict) => {
            assert_eq!(lax, strict, "to be strict is about duplicates only");
            None
        }
    }
}

/// What was read is written as JSON and read as the same.
fn comes_back(value: &Value) {
    let written = value.to_string();
    let read = decode(written.as_bytes(), Format::Json, true);
    assert!(
        read.as_ref().is_ok_and(|read| alike(&read.value, value) && read.duplicates.is_empty()),
        "{read:?} of {written}"
    );
}

/// Equal, but for the last bit of a fraction: that one serde_json does not promise to keep (its feature `float_roundtrip` would).
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((m, a), (n, b))| m == n && alike(a, b))
        }
        (Value::Number(x), Value::Number(y)) if x.is_f64() && y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap_or_default(), y.as_f64().unwrap_or_default());
            (x - y).abs() <= x.abs() * 1e-15 || x == y
        }
        (a, b) => a == b,
    }
}

pub fn json(data: &[u8]) {
    if let Some(value) = body(data, Format::Json) {
        comes_back(&value);
    }
}

pub fn json_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v","k":"w","\u00e9":"\ud83d\ude00"}}"#,
        r#"[1,-2,3.5e-7,1e400,0.1,123456789012345678901234567890,true,null,{"":[]}]"#,
        r#"{"a":{"b":{"a":1,"a":{"c":2},"a":{"c":3}}}}"#,
        "{",
        "\u{feff}{}",
    ])
}

pub fn yaml(data: &[u8]) {
    if let Some(value) = body(data, Format::Yaml) {
        comes_back(&value);
    }
}

pub fn yaml_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: |\n    text\n  k: >-\n    other\n",
        "a: &x [1, 2.5, .inf, 0x10, 0o17, ~, yes, 'q', \"\\u00e9\"]\nb: *x\n1: {<<: {c: d}}\n",
        "- - a\n  - b: c\n    d: e\n---\nsecond: document\n",
        "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]\n",
        "!!binary aGVsbG8=\n",
        "{\"a\": 1, b: [}",
    ])
}

pub fn protobuf(data: &[u8]) {
    let Ok(value) = protobufs::decode(data, None) else { return };
    let Some(written) = protobufs::encode(&value) else { return assert!(value.is_null(), "{value} cannot be written") };
    // Once more, since what is zero may be left out of the first.
    let read = protobufs::decode(&written, None);
    assert!(read.is_ok(), "{read:?}: {value}");
    let Ok(read) = read else { return };
    let again = protobufs::encode(&read).unwrap_or_default();
    let again = protobufs::decode(&again, None);
    assert!(again.as_ref().is_ok_and(|again| alike(again, &read)), "{again:?} of {read}");
}

/// One object of each kind.
pub fn protobuf_seeds() -> Vec<Vec<u8>> {
    let mut random = Random::named("protobuf");
    schema::types().filter_map(|of| object(&mut random, of)).filter_map(|o| protobufs::encode(&o)).collect()
}

pub fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let query = Query::parse(query);
    for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
        let Ok(asked) = paths::parse(&method, path, &query) else { continue };
        if let paths::About::Resource(resource) = &asked.about {
            let target = &resource.target;
            for part in [&target.version, &target.namespace, &target.name, &target.subresource] {
                assert!(!part.contains('/') || path.contains("%2F") || path.contains("%2f"), "{part:?} of {path:?}");
            }
        }
        assert_eq!(paths::parse(&method, path, &query).as_ref(), Ok(&asked));
    }
}

pub fn path_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "/api/v1/namespaces/default/pods/a/log?follow=true",
        "/apis/apps/v1/namespaces/n/deployments/d/scale",
        "/api/v1/watch/namespaces/n/pods?fieldSelector=metadata.name=a",
        "/api/v1/nodes/n/proxy/a/b%2Fc/../d",
        "/apis//v1/x",
        "/healthz/etcd",
        "/%zz",
    ])
}

pub fn query(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let query = Query::parse(text);
    assert!(query.iter().count() <= text.split('&').count());
    match query.options() {
        Ok(options) => {
            assert!(options.limit.is_none_or(|limit| i64::try_from(limit).is_ok()));
            assert!(options.label_selector.is_none_or(|selector| !selector.is_empty()));
        }
        Err(refused) => assert_eq!(refused.reason.code(), 400),
    }
}

pub fn query_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "limit=5&continue=abc&labelSelector=a%3Db,c+in+(d)&fieldSelector=metadata.name%3Da&watch&resourceVersion=7&resourceVersionMatch=Exact",
        "dryRun=All&dryRun=None&fieldManager=m&force=true&fieldValidation=Strict&gracePeriodSeconds=-1&propagationPolicy=Orphan&orphanDependents=0",
        "sendInitialEvents=true&allowWatchBookmarks=1&timeoutSeconds=99999999999999999999&=&&%zz=%zz",
    ])
}

pub fn accept(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for offer in [Offer::Plain, Offer::Objects, Offer::Discovery] {
        match negotiate(Some(text), offer) {
            Ok(accepted) => assert!(["v1", "v1beta1"].contains(&accepted.meta_version)),
            Err(refused) => assert_eq!(refused.reason.code(), 406),
        }
    }
    for patch in [false, true] {
        if let Err(refused) = body_type(Some(text), patch) {
            assert_eq!(refused.reason.code(), 415);
        }
    }
}

pub fn accept_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
        "application/vnd.kubernetes.protobuf;stream=watch;q=0.9, */*;q=NaN",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        "application/strategic-merge-patch+json; charset=utf-8",
        "application/yaml;q=-1,;=;q",
    ])
}

/// Tokens, and one that is good now.
static TOKENS: LazyLock<Option<(Tokens, String)>> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().ok()?;
    let tokens =
        Tokens::new(&rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()), Clock::system()).ok()?;
    let account = Ref { name: "a".to_owned(), uid: "u".to_owned() };
    let bound = Bound {
        namespace: "n".to_owned(),
        serviceaccount: account,
        node: None,
        pod: None,
        secret: None,
        warnafter: None,
    };
    let good = tokens.issue(bound, &[], 3600).ok()?;
    Some((tokens, good))
});

/// Edits of a good token, or a token of its own.
pub fn token(data: &[u8]) {
    let Some((tokens, good)) = &*TOKENS else { return };
    assert!(tokens.verify(good, &[ISSUER]).is_ok());
    let mut edited = good.clone().into_bytes();
    if let Some((at, byte)) =
        data.first_chunk::<3>().map(|[high, low, byte]| (u16::from_be_bytes([*high, *low]), *byte))
    {
        let at = usize::from(at) % edited.len();
        edited.splice(at..at + 1, std::iter::once(byte).chain(data.get(3..).unwrap_or_default().iter().copied()));
    }
    for candidate in [edited.as_slice(), data] {
        let candidate = String::from_utf8_lossy(candidate);
        assert!(candidate == *good || tokens.verify(&candidate, &[ISSUER]).is_err(), "{candidate} is taken for {good}");
    }
}

pub fn token_seeds() -> Vec<Vec<u8>> {
    let mut seeds = texts(&["a.b.c", "e30.e30.e30", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0."]);
    seeds.push(vec![0, 5, b'x']);
    seeds
}
