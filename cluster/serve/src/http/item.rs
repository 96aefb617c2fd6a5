//! One stored object inside a list, a Table or a watch, cut out of its bytes without parsing more than needed.

use std::ops::Range;

use bytes::Bytes;
use kedge_api::{Object, Status};
use serde_json::{Value, json};

/// The object without its top-level `apiVersion` and `kind`, which a list states once for all.
pub fn untyped(json: &Bytes) -> Vec<Bytes> {
    let mut parts: Vec<Bytes> = vec![Bytes::from_static(b"{")];
    let mut first = true;
    for member in members(json) {
        if matches!(json.get(member.key.clone()), Some(b"\"apiVersion\"" | b"\"kind\"")) {
            continue;
        }
        if !first {
            parts.push(Bytes::from_static(b","));
        }
        first = false;
        parts.push(json.slice(member.key.start..member.end));
    }
    parts.push(Bytes::from_static(b"}"));
    parts
}

struct Member {
    key: Range<usize>,
    /// Behind the value.
    end: usize,
}

/// The members of the outermost object. The bytes are our own encoding, so they are known to be well-formed; on anything
/// else the walk ends early, and never goes out of bounds.
fn members(json: &[u8]) -> Vec<Member> {
    let mut out = Vec::with_capacity(6);
    let (mut depth, mut key, mut at) = (0_usize, None, 0);
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = string_end(json, at);
                if depth == 1 && key.is_none() {
                    key = Some(at..end);
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    out.extend(key.take().map(|key| Member { key, end: at }));
                    return out;
                }
            }
            b',' if depth == 1 => out.extend(key.take().map(|key| Member { key, end: at })),
            _ => {}
        }
        at += 1;
    }
    out
}

fn string_end(json: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// Only type and metadata.
pub fn partial(object: &Value, meta_version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{meta_version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

pub fn parse(object: &Object) -> Result<Value, Status> {
    object.decode()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(value: &Value) -> Value {
        let bytes: Vec<u8> = untyped(&Bytes::from(value.to_string())).into_iter().flatten().collect();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn only_the_outermost_type_is_cut() {
        let object = json!({"apiVersion": "v1", "data": {"kind": "x", "a\"b{": "}\\\""}, "kind": "ConfigMap",
            "metadata": {"ownerReferences": [{"kind": "Y", "apiVersion": "z"}]}});
        let mut want = object.clone();
        want.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
        assert_eq!(stripped(&object), want);
        assert_eq!(stripped(&json!({"kind": "A"})), json!({}));
        assert_eq!(stripped(&json!({})), json!({}));
    }

    proptest! {
        #[test]
        fn the_rest_stays_what_it_was(keys in proptest::collection::btree_map("kind|apiVersion|[a-z\"\\\\{},:]{0,4}", "[a-z\"\\\\{}\\[\\],:]{0,8}", 0..6)) {
            let object: Value = keys.iter().map(|(k, v)| (k.clone(), json!([v, {"kind": v}]))).collect::<serde_json::Map<_, _>>().into();
            let mut want = object.clone();
            want.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
            prop_assert_eq!(stripped(&object), want);
        }

        #[test]
        fn broken_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let out: usize = untyped(&Bytes::from(bytes.clone())).iter().map(Bytes::len).sum();
            prop_assert!(out <= bytes.len() + 2 + bytes.len());
        }
    }
}
