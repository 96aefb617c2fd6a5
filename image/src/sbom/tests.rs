//! The bill of a made-up image with the real crates: each reference leads somewhere, and both forms say the same.

use super::*;
use crate::fetch::inputs::Debian;
use std::collections::BTreeSet;

fn bill() -> Bill {
    let subject = Subject { board: "test".into(), sha256: "ab".repeat(32), epoch: 1_700_000_000 };
    let debian = || Some(Debian { architecture: "amd64".into(), suite: "trixie".into() });
    let package = |role, name: &str, version: &str, licence: &str| Supplied {
        role,
        name: name.into(),
        version: version.into(),
        sha256: "cd".repeat(32),
        debian: debian(),
        licence: Licence::of_debian(&format!("Files: *\nLicense: {licence}\n")),
    };
    let packages = [
        package(Role::Kernel, "linux-image-6.12+deb13-amd64", "1:6.12.1-1~x", "GPL-2"),
        package(Role::BootLoader, "raspi-firmware", "1", "Broadcom"),
    ];
    let images = [Baked {
        names: vec!["docker.io/library/busybox:1.37".into()],
        digest: format!("sha256:{}", "ef".repeat(32)),
        layers: Vec::new(),
        config: Value::Null,
        size: 0,
    }];
    let programs = [("kedge", "01".repeat(32)), ("kedge-stage1", "02".repeat(32))];
    Bill::new(Parts { subject, packages: &packages, programs: &programs, images: &images }).unwrap()
}

fn find<'b>(bill: &'b Bill, id: &str) -> &'b Component {
    bill.components.iter().find(|one| one.id == id).unwrap_or_else(|| panic!("no {id}"))
}

#[test]
fn every_part_is_there_once_and_every_need_leads_to_one() {
    let bill = bill();
    let ids: BTreeSet<&str> = bill.components.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(ids.len(), bill.components.len());
    for one in &bill.components {
        assert!(one.needs.iter().all(|need| ids.contains(need.as_str())), "{}: {:?}", one.id, one.needs);
        assert!(one.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)), "{}", one.id);
    }
    let version = kedge_config::VERSION;
    let whole = find(&bill, "image");
    for part in
        ["kernel-linux-image-6.12-deb13-amd64", "boot-raspi-firmware", "container-docker.io-library-busybox-1.37"]
    {
        assert!(whole.needs.contains(&part.to_owned()), "{part} is not in {:?}", whole.needs);
    }
    let kedge = find(&bill, &format!("crate-kedge-{version}"));
    assert_eq!((kedge.kind, kedge.sha256.clone()), (Kind::Program, Some("01".repeat(32))));
    assert!(kedge.needs.iter().any(|need| need.starts_with("crate-tokio-1.")), "{:?}", kedge.needs);
}

#[test]
fn only_what_is_linked_is_told() {
    let bill = bill();
    let names: BTreeSet<&str> =
        bill.components.iter().filter(|one| one.kind == Kind::Crate).map(|one| one.name.as_str()).collect();
    assert!(names.len() > 100 && names.contains("libcontainer") && names.contains("rustls"));
    for absent in ["proptest", "serde_derive", "cc", "kedge-image", "fatfs", "clap_derive"] {
        assert!(!names.contains(absent), "{absent} is in no device");
    }
    let strange: Vec<String> = bill
        .components
        .iter()
        .filter(|one| one.kind == Kind::Crate && one.licence.is_none())
        .map(|one| one.name.clone())
        .collect();
    // Its manifest names a file. The list may only shrink.
    assert_eq!(strange, ["rust-criu"]);
}

#[test]
fn package_urls_are_escaped() {
    let bill = bill();
    let purl = |id: &str| find(&bill, id).purl.clone().unwrap();
    let expected = "pkg:deb/debian/linux-image-6.12%2Bdeb13-amd64@1%3A6.12.1-1~x?arch=amd64&distro=trixie";
    assert_eq!(purl("kernel-linux-image-6.12-deb13-amd64"), expected);
    let container = purl("container-docker.io-library-busybox-1.37");
    assert!(container.starts_with("pkg:oci/busybox@sha256%3Aefef") && container.ends_with("&tag=1.37"), "{container}");
    let serde = bill.components.iter().find(|one| one.name == "serde").unwrap();
    assert!(purl(&serde.id).starts_with("pkg:cargo/serde@1."));
}

#[test]
fn spdx_and_cyclonedx_name_the_same_parts_and_the_images_time() {
    let made = bill();
    let (spdx, cyclone) = (spdx::document(&made), cyclonedx::document(&made));
    assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    assert_eq!(cyclone["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let packages = spdx["packages"].as_array().unwrap().len();
    assert_eq!(packages, made.components.len());
    assert_eq!(cyclone["components"].as_array().unwrap().len() + 1, packages);
    let arrows: usize = made.components.iter().map(|one| one.needs.len()).sum();
    assert_eq!(spdx["relationships"].as_array().unwrap().len(), arrows + 1);
    // A licence that SPDX's list lacks is explained.
    assert_eq!(spdx["hasExtractedLicensingInfos"][0]["licenseId"], "LicenseRef-Debian-Broadcom");
    assert_eq!(to_text(&spdx).unwrap(), to_text(&spdx::document(&bill())).unwrap());
}

#[test]
fn the_licence_list_has_a_line_for_each_part() {
    let bill = bill();
    let list = bill.licences();
    assert_eq!(list.lines().count(), bill.components.len());
    let kernel = |line: &str| line.starts_with("GPL-2.0-only") && line.contains("linux-image-6.12+deb13-amd64");
    assert!(list.lines().any(kernel), "{list}");
}
