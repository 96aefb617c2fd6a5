//! The bill as CycloneDX 1.6 (ECMA-424), in JSON.

use super::{Bill, Component, Kind, time};
use crate::digest;
use serde_json::{Value, json};

pub fn document(bill: &Bill) -> Value {
    let subject = &bill.subject;
    let serial = digest::uuid(&subject.sha256, "cyclonedx");
    let tool = json!({ "type": "application", "name": "kedge-image", "version": kedge_config::VERSION });
    let (whole, rest): (Vec<&Component>, Vec<&Component>) =
        bill.components.iter().partition(|one| one.kind == Kind::Image);
    let arrows = bill.components.iter().map(|one| json!({ "ref": one.id, "dependsOn": one.needs }));
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{serial}"),
        "version": 1,
        "metadata": {
            "timestamp": time(subject.epoch),
            "tools": { "components": [tool] },
            "component": whole.into_iter().map(component).next(),
        },
        "components": rest.into_iter().map(component).collect::<Vec<_>>(),
        "dependencies": arrows.collect::<Vec<_>>(),
    })
}

fn component(one: &Component) -> Value {
    let kind = match one.kind {
        Kind::Image | Kind::Kernel => "operating-system",
        Kind::BootLoader | Kind::Firmware => "firmware",
        Kind::Program => "application",
        Kind::Crate => "library",
        Kind::Container => "container",
    };
    let mut component = json!({ "type": kind, "bom-ref": one.id, "name": one.name, "version": one.version });
    if let Some(fields) = component.as_object_mut() {
        if let Some(sha256) = &one.sha256 {
            fields.insert("hashes".into(), json!([{ "alg": "SHA-256", "content": sha256 }]));
        }
        if let Some(licence) = &one.licence {
            fields.insert("licenses".into(), json!([{ "expression": licence.to_string() }]));
        }
        if let Some(purl) = &one.purl {
            fields.insert("purl".into(), json!(purl));
        }
    }
    component
}
