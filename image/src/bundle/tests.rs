use super::*;
use crate::digest;
use crate::signing::SigningKey;
use kedge_config::slot_manifest::{Blob, Digest, SlotManifest};
use kedge_config::verity;

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn system(folder: &Path, version: &str, kernel: &[u8], system: &[u8]) -> System {
    let initramfs = noise(3, 70_000);
    let blob = |bytes: &[u8]| Blob { bytes: bytes.len() as u64, sha256: digest::of_bytes_raw(bytes) };
    let salt = Digest([version.len() as u8; 32]);
    let mut padded = system.to_vec();
    padded.resize(system.len().next_multiple_of(4096), 0);
    let tree = verity::tree(padded.as_slice(), &salt).unwrap();
    padded.extend(verity::superblock([1; 16], padded.len() as u64 / 4096, &salt));
    let manifest = SlotManifest {
        board: "test".into(),
        version: version.into(),
        kernel_release: "6.12.1".into(),
        rollback_index: 0,
        kernel: blob(kernel),
        initramfs: blob(&initramfs),
        system_bytes: system.len() as u64,
        tree_offset: padded.len() as u64,
        root_hash: tree.root,
        salt,
        epoch: 1,
    };
    let path = folder.join("key");
    let key = SigningKey::read(&path).or_else(|_| SigningKey::create(&path)).unwrap();
    let sealed = key.seal(&manifest).unwrap().to_text();
    System { manifest, sealed, kernel: kernel.to_vec(), initramfs, system: padded }
}

/// A program of which every fiftieth word is an address, all moved by `moved`, between files that stay as they are.
fn contents(moved: u32, more: &[u8]) -> Vec<u8> {
    let word = |n: u32| n.wrapping_mul(2_654_435_761) >> 5;
    let program =
        (0..50_000).flat_map(|n| (if n % 50 == 0 { word(n).wrapping_add(moved) } else { word(n) }).to_le_bytes());
    let mut bytes = noise(11, 100 * 4096);
    bytes.extend_from_slice(more);
    bytes.extend(program);
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes.extend(noise(12, 70 * 4096 + 100));
    bytes
}

#[test]
fn a_bundle_is_read_as_it_was_written_and_what_is_new_is_little() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let old = system(folder.path(), "1", &noise(1, 300_000), &contents(0, &[]));
    let new = system(folder.path(), "22", &noise(1, 300_000), &contents(0x120, &noise(5, 8192)));
    let first = pack(&old, &[], &[], &path("old"), Progress::Silent).unwrap();
    assert_eq!(first.bytes, std::fs::metadata(path("old")).unwrap().len());

    let earlier = System::read(&path("old")).unwrap();
    let written = pack(&new, &[earlier], &[path("old")], &path("new"), Progress::Silent).unwrap();
    let again = System::read(&path("new")).unwrap();
    assert!(Part::ALL.iter().all(|part| again.part(*part) == new.part(*part)) && again.sealed == new.sealed);
    let [upgrade] = &written.upgrades[..] else { panic!("{written:?}") };
    // The files that moved by whole blocks are there without a difference as well; the kernel was not touched.
    assert!(upgrade.fetched * 20 < written.bytes, "{} of {}", upgrade.fetched, written.bytes);
    assert!(
        upgrade.fetched * 10 < upgrade.without_differences && upgrade.without_differences * 2 < written.bytes,
        "{written:?}"
    );
    // The same inputs, the same bytes.
    let earlier = System::read(&path("old")).unwrap();
    pack(&new, &[earlier], &[path("old")], &path("again"), Progress::Silent).unwrap();
    assert!(std::fs::read(path("new")).unwrap() == std::fs::read(path("again")).unwrap());
}

#[test]
fn what_is_no_bundle_or_not_for_this_board_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let one = system(folder.path(), "1", &noise(1, 9000), &noise(2, 50_000));
    let written = pack(&one, &[], &[], &path("one"), Progress::Silent).unwrap();
    let mut other = system(folder.path(), "1", &noise(1, 9000), &noise(2, 50_000));
    other.manifest.board = "other".into();
    other.sealed = SigningKey::read(&path("key")).unwrap().seal(&other.manifest).unwrap().to_text();
    pack(&other, &[], &[], &path("other"), Progress::Silent).unwrap();
    let told = super::write(&path("one"), &[path("other")], &path("out"), Progress::Silent).unwrap_err().to_string();
    assert!(told.ends_with("other is for board other, the new system is for test"), "{told}");

    let bytes = std::fs::read(path("one")).unwrap();
    let read = |bytes: &[u8]| {
        std::fs::write(path("damaged"), bytes).unwrap();
        System::read(&path("damaged"))
    };
    let mut told = 0;
    for at in (0..written.bytes as usize).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        // Whose signature it is, devices ask; and a bit of a packed frame may say nothing.
        match read(&damaged) {
            Ok(read) => assert!(
                read.manifest == one.manifest && Part::ALL.iter().all(|part| read.part(*part) == one.part(*part))
            ),
            Err(_) => told += 1,
        }
    }
    assert!(told * 97 * 10 > bytes.len() * 9, "{told}");
    for length in [0, 100, 600, bytes.len() - 1] {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
}
