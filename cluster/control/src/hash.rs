//! Short hashes of pod templates, as they stand in `pod-template-hash` and in the names of ReplicaSets.
//!
//! Owns a stable text for a template: FNV-1a over its JSON, written in upstream's alphabet without vowels. Upstream hashes Go's dump
//! of the structure, so values differ from its own; nothing may rely on them but equality within one cluster.

use kedge_api::Status;
use serde::Serialize;

const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub fn template_hash<T: Serialize>(template: &T, collisions: Option<i32>) -> Result<String, Status> {
    let json = serde_json::to_vec(template).map_err(|e| Status::internal(format!("encoding a pod template: {e}")))?;
    let salt = collisions.map(i32::to_le_bytes).unwrap_or_default();
    let salt = salt.iter().filter(|_| collisions.is_some());
    let hash =
        json.iter().chain(salt).fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let letter =
        |digit: u8| ALPHABET.get(usize::from(digit) % ALPHABET.len()).map_or('b', |letter| char::from(*letter));
    Ok(hash.to_string().bytes().map(letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_templates_hash_alike_and_collisions_salt() {
        let hash = |template: &str, collisions| template_hash(&template, collisions).unwrap();
        assert_eq!(hash("a", None), hash("a", None));
        assert_ne!(hash("a", None), hash("b", None));
        assert_ne!(hash("a", None), hash("a", Some(1)));
        assert_ne!(hash("a", Some(2)), hash("a", Some(1)));
        assert!(hash("a", None).bytes().all(|b| ALPHABET.contains(&b)) && hash("a", None).len() <= 10);
    }
}
