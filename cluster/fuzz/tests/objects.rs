//! Objects of every kind through the encodings.
#![cfg(test)]

use kedge_api::schema;
use kedge_fuzz::objects::object;
use kedge_fuzz::random::Random;
use kedge_serve::wire::body::decode;
use kedge_serve::wire::media::Format;
use kedge_serve::wire::protobuf;

/// What a kind can hold comes back from protobuf, and from JSON, as it was.
#[test]
fn every_kind_comes_back_from_every_encoding() {
    let mut kinds = 0;
    for of in schema::types() {
        let mut random = Random::named(of.name());
        for _ in 0..8 {
            let Some(object) = object(&mut random, of) else { break };
            let json = decode(object.to_string().as_bytes(), Format::Json, true).unwrap();
            assert_eq!((json.value, json.duplicates.len()), (object.clone(), 0));
            let Some(bytes) = protobuf::encode(&object) else { break };
            kinds += 1;
            let back = protobuf::decode(&bytes, None).unwrap();
            assert_eq!(back, object, "{}", of.name());
        }
    }
    assert!(kinds > 8 * 100, "{kinds}");
}
