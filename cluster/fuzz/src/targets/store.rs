//! Rows of a database that may be damaged.

use kedge_api::resource::known;
use kedge_api::{Key, Revision};

use crate::texts;

pub fn row(data: &[u8]) {
    let key = Key::new(known::CONFIG_MAPS, "default", "a");
    let Ok(object) = kedge_store::decode(key, Revision(7), data.to_vec().into()) else { return };
    let _item = object.list_item();
    let Ok(moved) = kedge_store::restamp(&object, Revision(8)) else { return };
    // Whatever else it is, it is the same under another revision.
    let back = kedge_store::restamp(&moved, Revision(7)).map(|back| back.revision);
    assert_eq!(back.ok(), Some(Revision(7)));
    assert_eq!(moved.meta.resource_version.as_deref(), Some("8"));
}

pub fn seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"resourceVersion":"7","name":"a","namespace":"default"},"data":{"k":"v"}}"#,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"resourceVersion":"7","name":"a","managedFields":[{"manager":"m","operation":"Update","fieldsV1":{"f:a":{}}}]}}"#,
        r#"{"metadata":{"name":"a","annotations":{"x":"\"resourceVersion\":\""},"resourceVersion":"7"}}"#,
    ])
}
