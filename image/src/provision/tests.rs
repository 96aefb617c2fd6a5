//! A factory's day in a temporary folder: made, read back as the device and the fleet's server would, stopped halfway, gone on, revoked.

use super::*;
use crate::inspect::Disk;
use kedge_config::{MachineConfig, names};
use std::collections::BTreeMap;
use std::io::Read;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{CertificateRevocationList, FromDer};

fn options(out: &Path, count: u32) -> Options {
    Options {
        template: None,
        wanted: order::Wanted::Count { count, prefix: "edge".into() },
        out: out.to_owned(),
        form: Form::Archive,
        proof: Proof::Certificate,
        key: KeyKind::Ed25519,
        authority: None,
        days: 3650,
        token_days: 30,
    }
}

fn make(options: &Options) -> Result<Done, String> {
    provision(options, Progress::Silent).map_err(|error| error.to_string())
}

fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(File::open(path).unwrap());
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.insert(name, text);
    }
    found
}

fn ledger(out: &Path) -> Vec<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(out.join(ledger::JSON)).unwrap()).unwrap()
}

#[test]
fn each_device_has_a_key_of_its_own_that_the_fleets_authority_vouches_for() {
    let folder = tempfile::tempdir().unwrap();
    for key in [KeyKind::Ed25519, KeyKind::EcdsaP256] {
        let out = folder.path().join(format!("{key:?}"));
        let done = make(&Options { key, ..options(&out, 5) }).unwrap();
        assert_eq!((done.devices, done.issued, done.known), (5, 5, 0));
        let (_, authority) = parse_x509_pem(&std::fs::read(out.join(authority::CERTIFICATE)).unwrap()).unwrap();
        let authority = authority.parse_x509().unwrap();
        let mut keys = std::collections::BTreeSet::new();
        for row in ledger(&out) {
            let name = row["name"].as_str().unwrap();
            let path = out.join(format!("{name}.tar"));
            assert_eq!(row["sha256"], digest::of_file(&path).unwrap());
            let files = unpacked(&path);
            let machine = MachineConfig::parse("seed", &files[names::SEED_MACHINE]).unwrap();
            assert_eq!(machine.hostname.as_deref(), Some(name));
            let (_, pem) = parse_x509_pem(files[names::SEED_CERTIFICATE].as_bytes()).unwrap();
            let certificate = pem.parse_x509().unwrap();
            certificate.verify_signature(Some(authority.public_key())).unwrap();
            assert_eq!(certificate.subject().to_string(), format!("CN=kedge:device:{name}, O=system:bootstrappers"));
            assert!(!certificate.is_ca() && certificate.extended_key_usage().unwrap().unwrap().value.client_auth);
            assert_eq!(row["certificateSha256"], digest::of_bytes(&pem.contents));
            let pair = rcgen::KeyPair::from_pem(&files[names::SEED_KEY]).unwrap();
            assert!(rcgen::PublicKeyData::subject_public_key_info(&pair) == certificate.public_key().raw);
            assert_eq!(
                files[names::SEED_AUTHORITY],
                std::fs::read_to_string(out.join(authority::CERTIFICATE)).unwrap()
            );
            keys.insert(files[names::SEED_KEY].clone());
        }
        assert_eq!(keys.len(), 5);
    }
}

#[test]
fn secrets_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    make(&Options { proof: Proof::Token, ..options(&out, 1) }).unwrap();
    make(&options(&folder.path().join("two"), 1)).unwrap();
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(["out", "two"].map(mode), [0o700, 0o700]);
    let secret = ["out/ledger.jsonl", "out/edge-0001.tar", "two/edge-0001.tar", "two/fleet-ca.key"];
    assert_eq!(secret.map(mode), [0o600; 4]);
}

#[test]
fn a_second_run_goes_on_and_issues_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    make(&options(out, 3)).unwrap();
    let read = || ["edge-0001.tar", "edge-0003.tar"].map(|name| std::fs::read(out.join(name)).unwrap());
    let before = read();
    let done = make(&options(out, 70)).unwrap();
    assert_eq!((done.devices, done.issued, done.known), (70, 67, 3));
    assert!(read() == before);
    assert_eq!(ledger(out).len(), 70);
}

#[test]
fn wherever_a_run_was_stopped_the_next_one_finds_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    make(&options(out, 3)).unwrap();
    let journal = out.join(ledger::JOURNAL);
    let whole = std::fs::read_to_string(&journal).unwrap();
    // Stopped between journal and name: the file is there under its other name.
    let first = std::fs::read(out.join("edge-0001.tar")).unwrap();
    std::fs::rename(out.join("edge-0001.tar"), part(out, "edge-0001.tar")).unwrap();
    // Stopped within the journal's line: the third was never told of, so it was never handed out.
    std::fs::write(&journal, &whole[..whole.len() - 40]).unwrap();
    let third = std::fs::read(out.join("edge-0003.tar")).unwrap();
    let done = make(&options(out, 3)).unwrap();
    assert_eq!((done.issued, done.known), (1, 2));
    assert!(std::fs::read(out.join("edge-0001.tar")).unwrap() == first);
    assert!(std::fs::read(out.join("edge-0003.tar")).unwrap() != third);
    let rows = ledger(out);
    assert_eq!(rows[2]["sha256"], digest::of_file(&out.join("edge-0003.tar")).unwrap());
    assert!(!part(out, "edge-0001.tar").exists());

    // What is gone is told and not made anew.
    std::fs::remove_file(out.join("edge-0002.tar")).unwrap();
    let error = make(&options(out, 3)).unwrap_err();
    assert!(error.starts_with("edge-0002 was issued, and its file edge-0002.tar is gone"), "{error}");
}

#[test]
fn another_config_for_a_device_that_has_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("devices.csv");
    let out = folder.path().join("out");
    let order = || Options { wanted: order::Wanted::Table(table.clone()), ..options(&out, 0) };
    std::fs::write(&table, "name,label:site\ntill-1,bern\n").unwrap();
    make(&order()).unwrap();
    std::fs::write(&table, "name,label:site\ntill-1,bern\ntill-2,chur\n").unwrap();
    assert_eq!(make(&order()).unwrap().issued, 1);
    std::fs::write(&table, "name,label:site\ntill-1,chur\n").unwrap();
    let error = make(&order()).unwrap_err();
    assert!(error.starts_with("till-1 was issued with another machine config"), "{error}");
}

#[test]
fn a_given_authority_signs_and_another_does_not_take_over() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other, out) = (folder.path().join("own"), folder.path().join("other"), folder.path().join("out"));
    make(&options(&own, 1)).unwrap();
    make(&options(&other, 1)).unwrap();
    let of = |folder: &Path| Some((folder.join(authority::CERTIFICATE), folder.join(authority::KEY)));
    make(&Options { authority: of(&own), ..options(&out, 1) }).unwrap();
    assert!(std::fs::symlink_metadata(out.join(authority::KEY)).unwrap().is_symlink(), "the key is not copied");
    // Later runs and `revoke` find it by themselves.
    assert_eq!(make(&options(&out, 2)).unwrap().issued, 1);
    revoke(&out, &["edge-0001".into()], "lost").unwrap();
    let error = make(&Options { authority: of(&other), ..options(&out, 2) }).unwrap_err();
    assert!(error.contains("was begun with another authority"), "{error}");
    let mixed = Some((own.join(authority::CERTIFICATE), other.join(authority::KEY)));
    let error = make(&Options { authority: mixed, ..options(&folder.path().join("mixed"), 1) }).unwrap_err();
    assert!(error.ends_with("do not belong together"), "{error}");
    let leaf = folder.path().join("leaf");
    std::fs::create_dir(&leaf).unwrap();
    let files = unpacked(&own.join("edge-0001.tar"));
    std::fs::write(leaf.join("c"), &files[names::SEED_CERTIFICATE]).unwrap();
    std::fs::write(leaf.join("k"), &files[names::SEED_KEY]).unwrap();
    let device = Some((leaf.join("c"), leaf.join("k")));
    let error = make(&Options { authority: device, ..options(&folder.path().join("device"), 1) }).unwrap_err();
    assert!(error.contains("is no certificate or key of an authority"), "{error}");
}

#[test]
fn what_is_revoked_is_on_the_signed_list_and_on_no_label() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    make(&options(out, 3)).unwrap();
    let rows = ledger(out);
    let serial = rows[2]["serial"].as_str().unwrap().to_owned();
    let done = revoke(out, &["edge-0001".into(), serial.clone()], "stolen").unwrap();
    assert_eq!((done.devices, done.revoked), (3, 2));
    // Once more changes nothing.
    assert_eq!(revoke(out, &["edge-0001".into()], "stolen").unwrap().revoked, 2);

    let list = std::fs::read(out.join(authority::REVOCATION_LIST)).unwrap();
    let (_, list) = x509_parser::pem::parse_x509_pem(&list).unwrap();
    let (_, list) = CertificateRevocationList::from_der(&list.contents).unwrap();
    let (_, authority) = parse_x509_pem(&std::fs::read(out.join(authority::CERTIFICATE)).unwrap()).unwrap();
    list.verify_signature(authority.parse_x509().unwrap().public_key()).unwrap();
    let listed: Vec<String> = list
        .iter_revoked_certificates()
        .map(|one| one.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    assert_eq!(listed, [rows[0]["serial"].as_str().unwrap(), &serial]);
    let status: Vec<_> = ledger(out).iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(status, ["revoked", "issued", "revoked"]);
    let csv = std::fs::read_to_string(out.join(ledger::CSV)).unwrap();
    assert!(csv.lines().nth(3).unwrap().ends_with(",stolen"), "{csv}");
    let error = revoke(out, &["edge-9".into()], "").unwrap_err().to_string();
    assert!(error.starts_with("there is no device edge-9 in "), "{error}");
}

#[test]
fn a_token_is_in_the_seed_and_in_the_clusters_secret_and_not_in_the_ledger_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    make(&Options { proof: Proof::Token, ..options(out, 2) }).unwrap();
    assert!(!out.join(authority::CERTIFICATE).exists());
    let files = unpacked(&out.join("edge-0002.tar"));
    assert_eq!(files.keys().collect::<Vec<_>>(), [names::SEED_MACHINE]);
    let machine = MachineConfig::parse("seed", &files[names::SEED_MACHINE]).unwrap();
    let token = machine.token.unwrap().reveal().to_owned();
    let (id, secret) = token.split_once('.').unwrap();
    assert!(id.len() == 6 && secret.len() == 16 && token.bytes().all(|b| b == b'.' || b.is_ascii_alphanumeric()));
    let manifest = std::fs::read_to_string(out.join(token::FILE)).unwrap();
    let secrets: Vec<serde_yaml::Value> = manifest
        .split("---\n")
        .filter(|document| !document.is_empty())
        .map(|document| serde_yaml::from_str(document).unwrap())
        .collect();
    assert_eq!(secrets.len(), 2);
    assert_eq!(secrets[1]["stringData"]["token-secret"].as_str(), Some(secret));
    assert_eq!(secrets[1]["metadata"]["name"].as_str(), Some(format!("bootstrap-token-{id}").as_str()));
    for name in [ledger::JSON, ledger::CSV] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        assert!(text.contains(id) && !text.contains(secret), "{name}");
    }
    revoke(out, &["edge-0002".into()], "").unwrap();
    assert!(!std::fs::read_to_string(out.join(token::FILE)).unwrap().contains(secret));
}

/// What Debian's checker says of a FAT that we wrote: nothing.
fn checked(mut fat: crate::inspect::region::Region<'_>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::copy(&mut fat, &mut file).unwrap();
    match std::process::Command::new("fsck.fat").arg("-n").arg(file.path()).output() {
        Err(_) => eprintln!("SKIPPED: fsck.fat is not installed (Debian's dosfstools)"),
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
    }
}

#[test]
fn a_seed_disk_has_one_partition_with_the_seed_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    make(&Options { form: Form::Disk, ..options(out, 1) }).unwrap();
    let row = &ledger(out)[0];
    assert_eq!(row["digestOf"], "edge-0001.seed.img.bmap");
    assert_eq!(row["sha256"], digest::of_file(&out.join("edge-0001.seed.img.bmap")).unwrap());
    let disk = Disk::open(&out.join("edge-0001.seed.img")).unwrap();
    checked(disk.region(names::SEED.name).unwrap());
    let fat = fatfs::FileSystem::new(disk.region(names::SEED.name).unwrap(), fatfs::FsOptions::new()).unwrap();
    assert_eq!(fat.volume_label(), "KEDGE-SEED");
    for name in [names::SEED_MACHINE, names::SEED_KEY, names::SEED_CERTIFICATE, names::SEED_AUTHORITY] {
        let mut text = String::new();
        fat.root_dir().open_file(name).unwrap().read_to_string(&mut text).unwrap();
        assert!(!text.is_empty(), "{name}");
    }
}

#[test]
fn a_card_is_the_image_with_the_seed_on_it_and_its_map_leaves_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let built = crate::build::tests::bake(folder.path(), "image");
    let out = folder.path().join("out");
    let form = Form::Card { image: built.image.clone() };
    make(&Options { form: form.clone(), ..options(&out, 2) }).unwrap();
    let card = out.join("edge-0002.img");
    // As a card that held something else before: only what is mapped is written.
    let map = std::fs::read_to_string(out.join("edge-0002.img.bmap")).unwrap();
    let map = crate::disk::blockmap::BlockMap::parse("map", &map).unwrap();
    let bytes = std::fs::read(&card).unwrap();
    let mut flashed = vec![0xee; bytes.len()];
    for extent in &map.extents {
        let range = extent.bytes.start as usize..extent.bytes.end as usize;
        assert_eq!(digest::of_bytes(&bytes[range.clone()]), extent.sha256);
        flashed[range.clone()].copy_from_slice(&bytes[range]);
    }
    let path = folder.path().join("flashed.img");
    std::fs::write(&path, flashed).unwrap();
    for image in [&card, &path] {
        let disk = Disk::open(image).unwrap();
        assert_eq!(disk.report().unwrap().problems, [""; 0]);
        let machine = String::from_utf8(disk.esp_file(names::SEED_MACHINE).unwrap()).unwrap();
        assert_eq!(MachineConfig::parse("seed", &machine).unwrap().hostname.as_deref(), Some("edge-0002"));
        assert!(disk.esp_file(names::SEED_KEY).unwrap().starts_with(b"-----BEGIN PRIVATE KEY"));
        assert_eq!(disk.esp_file("kedge/a/linux").unwrap().len(), 20_000);
        checked(disk.region(names::ESP.name).unwrap());
    }
    let error =
        make(&Options { form: Form::Card { image: card }, ..options(&folder.path().join("again"), 1) }).unwrap_err();
    assert!(error.contains("edge-0002.img holds \"kedge.yaml\" already"), "{error}");
}

#[test]
fn labels_fill_pages_of_twenty_four_and_hold_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    make(&Options { proof: Proof::Token, ..options(out, 25) }).unwrap();
    let pages =
        || String::from_utf8_lossy(&std::fs::read(out.join(labels::FILE)).unwrap()).matches("/MediaBox").count();
    assert_eq!(pages(), 2);
    let book = Ledger::open(out).unwrap();
    let issued = book.find("edge-0001").unwrap();
    let text = labels::text(issued);
    assert!(
        text.starts_with("kedge:device/edge-0001?token=") && !text.contains(&issued.token.as_ref().unwrap().secret),
        "{text}"
    );
    revoke(out, &["edge-0001".into()], "").unwrap();
    assert_eq!(pages(), 1);
}

#[test]
fn two_runs_in_one_folder_at_a_time_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = lock(folder.path()).unwrap();
    assert!(make(&options(folder.path(), 1)).unwrap_err().contains("is used by another run"));
}
