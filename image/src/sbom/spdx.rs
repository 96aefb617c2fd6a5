//! The bill as SPDX 2.3 (ISO/IEC 5962), in JSON.

use super::{Bill, Component, Kind, time};
use crate::digest;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UNKNOWN: &str = "NOASSERTION";

pub fn document(bill: &Bill) -> Value {
    let subject = &bill.subject;
    let version = kedge_config::VERSION;
    // Where it could be, not where it is (2.3, clause 6.5): unique for what it describes.
    let space = digest::uuid(&subject.sha256, "spdx");
    let reference = |id: &str| format!("SPDXRef-{id}");
    let contains = |from: &Component, to: &String| {
        let kind = if from.kind == Kind::Image { "CONTAINS" } else { "DEPENDS_ON" };
        json!({ "spdxElementId": reference(&from.id), "relatedSpdxElement": reference(to), "relationshipType": kind })
    };
    let describes = json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relatedSpdxElement": reference("image"), "relationshipType": "DESCRIBES"
    });
    let arrows = bill.components.iter().flat_map(|from| from.needs.iter().map(move |to| contains(from, to)));
    let own: BTreeSet<String> = bill
        .components
        .iter()
        .filter_map(|one| one.licence.as_ref())
        .flat_map(|licence| licence.references())
        .collect();
    let texts = own.iter().map(|name| {
        json!({ "licenseId": name, "extractedText": "The text is in the package's own copyright file.", "name": name })
    });
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("kedge-{}-{version}", subject.board),
        "documentNamespace": format!("https://kedge.dev/spdx/{}-{version}-{space}", subject.board),
        "creationInfo": { "created": time(subject.epoch), "creators": [format!("Tool: kedge-image-{version}")] },
        "packages": bill.components.iter().map(package).collect::<Vec<_>>(),
        "relationships": std::iter::once(describes).chain(arrows).collect::<Vec<_>>(),
        "hasExtractedLicensingInfos": texts.collect::<Vec<_>>(),
    })
}

fn package(one: &Component) -> Value {
    let purpose = match one.kind {
        Kind::Image | Kind::Kernel => "OPERATING-SYSTEM",
        Kind::BootLoader | Kind::Firmware => "FIRMWARE",
        Kind::Program => "APPLICATION",
        Kind::Crate => "LIBRARY",
        Kind::Container => "CONTAINER",
    };
    let licence = one.licence.as_ref().map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
    let mut package = json!({
        "SPDXID": format!("SPDXRef-{}", one.id),
        "name": one.name,
        "versionInfo": one.version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": licence,
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": purpose,
    });
    if let Some(fields) = package.as_object_mut() {
        if let Some(sha256) = &one.sha256 {
            fields.insert("checksums".into(), json!([{ "algorithm": "SHA256", "checksumValue": sha256 }]));
        }
        if let Some(purl) = &one.purl {
            let reference =
                json!({ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl });
            fields.insert("externalRefs".into(), json!([reference]));
        }
    }
    package
}
