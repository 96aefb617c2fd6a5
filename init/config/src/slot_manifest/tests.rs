use super::*;
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

fn sample() -> SlotManifest {
    SlotManifest {
        board: "test".into(),
        version: "0.1.0".into(),
        kernel_release: "6.12.1-test".into(),
        rollback_index: 3,
        boot_id: Digest([0x55; 32]),
        boot: boot_files::tests::sample(),
        system_bytes: 8193,
        tree_offset: 12288,
        root_hash: Digest([0x33; 32]),
        salt: Digest([0x44; 32]),
        epoch: 1_700_000_000,
    }
}

fn pair(seed: u8) -> (Ed25519KeyPair, Key) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = Key::new(pair.public_key().as_ref().try_into().unwrap());
    (pair, key)
}

fn seal(manifest: &SlotManifest, seed: u8) -> Sealed {
    let (pair, key) = pair(seed);
    let signature = pair.sign(manifest.body().unwrap().as_bytes()).as_ref().try_into().unwrap();
    Sealed::new(manifest, key.id(), signature).unwrap()
}

fn area(text: &str) -> Vec<u8> {
    let mut area = text.as_bytes().to_vec();
    area.resize(AREA_BYTES as usize, 0);
    area
}

#[test]
fn the_text_is_as_agreed() {
    let [one, two, three, four, five] = ["0b", "16", "33", "44", "55"].map(|byte| byte.repeat(32));
    let line = "21".repeat(32);
    let expected = format!(
        "kedge slot manifest 1\nboard test\nversion 0.1.0\nkernel-release 6.12.1-test\nrollback-index 3\nboot-id {five}\n\
         command-line 33 {line} cmdline.txt\ninitramfs 22 {two} initramfs\nkernel 11 {one} linux\nsystem-bytes 8193\ntree-offset 12288\nroot-hash {three}\nsalt {four}\nepoch 1700000000\n"
    );
    assert_eq!(sample().body().unwrap(), expected);
    assert_eq!(SlotManifest::parse(&expected).unwrap(), sample());
}

#[test]
fn only_a_trusted_key_opens_it() {
    let sealed = seal(&sample(), 1);
    let read = Sealed::read(&area(&sealed.to_text())).unwrap();
    assert_eq!(read, sealed);
    assert_eq!(Sealed::read(sealed.to_text().as_bytes()).unwrap(), sealed);
    let (one, two) = (pair(1).1, pair(2).1);
    assert_eq!(read.open(&[two, one]).unwrap(), sample());
    let error = read.open(&[two]).unwrap_err();
    assert!(matches!(error, ManifestError::Signature(SignatureError::Unknown { key, .. }) if key == one.id()));
    // Another's signature under a trusted name.
    let forged = Sealed { key: two.id(), ..read };
    assert_eq!(forged.open(&[one, two]).unwrap_err(), ManifestError::Signature(SignatureError::Wrong(two.id())));
}

#[test]
fn every_changed_byte_is_refused() {
    let text = seal(&sample(), 1).to_text();
    let keys = [pair(1).1];
    for at in 0..text.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bytes = area(&text);
            bytes[at] ^= bit;
            assert!(Sealed::read(&bytes).and_then(|sealed| sealed.open(&keys)).is_err(), "byte {at}, bit {bit:02x}");
        }
    }
    for length in 0..text.len() {
        assert!(Sealed::read(&text.as_bytes()[..length]).and_then(|sealed| sealed.open(&keys)).is_err(), "{length}");
    }
}

#[test]
fn what_is_not_in_its_form_is_told() {
    let told = |from: &str, to: &str| {
        let body = sample().body().unwrap();
        assert!(body.contains(from), "{from}");
        SlotManifest::parse(&body.replacen(from, to, 1)).unwrap_err().to_string()
    };
    let (line, text) = ("the slot manifest's line", "text is not in the form in which it is written");
    assert_eq!(
        told("board test", "bored test"),
        format!("{line} 2: found \"bored test\", expected \"board\" and its value")
    );
    assert_eq!(told("slot manifest 1", "slot manifest 2").split(": ").next().unwrap(), format!("{line} 1"));
    assert!(told("rollback-index 3", "rollback-index -3").ends_with("found \"-3\", expected a number"));
    for number in ["03", "+3"] {
        assert!(told("rollback-index 3", &format!("rollback-index {number}")).ends_with(text));
    }
    assert!(told("kernel 11 0b", "kernel 11  0b").ends_with("expected a length, 64 hexadecimal digits and a path"));
    assert!(told(" linux\n", " ../linux\n").contains("boot file \"../linux\" has a path that is none"));
    assert!(told("initramfs 22", "file 22").contains("boot files have 1 kernels, 0 initramfs"));
    assert!(told("kernel 11", "colonel 11").ends_with("expected \"system-bytes\" and its value"));
    assert!(told("system-bytes 8193", "system-bytes 12289").contains("expected a multiple of 4096 from 16384 to "));
    assert!(told("tree-offset 12288", "tree-offset 12289").contains("tree-offset is 12289"));
    assert!(told("system-bytes 8193", "system-bytes 0").contains("system-bytes is 0, expected 1 to "));
    assert!(told("version 0.1.0", "version a b").contains("version is \"a b\""));
    assert!(told("epoch 1700000000\n", "epoch 1700000000\nmore\n").ends_with(text));
    let unwritable = SlotManifest { version: "two\nlines".into(), ..sample() };
    assert!(unwritable.body().is_err());
}

#[test]
fn an_area_holds_one_manifest_and_zeros() {
    let text = seal(&sample(), 1).to_text();
    assert!(matches!(Sealed::read(&[0; 65536]), Err(ManifestError::None(_))));
    assert!(matches!(Sealed::read(b""), Err(ManifestError::None(_))));
    let mut behind = area(&text);
    behind[60_000] = 1;
    assert_eq!(Sealed::read(&behind), Err(ManifestError::Trailing));
    assert!(Sealed::read(&area(&format!("{text}\n"))).is_err());
    let long = format!("{TITLE}\n{}", "x".repeat(MOST_BYTES));
    assert_eq!(Sealed::read(&area(&long)), Err(ManifestError::Endless));
    let path = |n: usize| format!("y{n:03}{}", "x".repeat(boot_files::LONGEST_PATH - 4));
    let more = (3..boot_files::MOST).map(|n| boot_files::tests::file(Role::Other, &path(n), 1 << 30));
    let word = "w".repeat(LONGEST_WORD);
    let [board, version, kernel_release] = [word.clone(), word.clone(), word];
    let boot = sample().boot.into_iter().chain(more).collect();
    let largest = SlotManifest { board, version, kernel_release, boot, ..sample() };
    let text = seal(&largest, 1).to_text();
    assert!(text.len() <= MOST_BYTES && MOST_BYTES < AREA_BYTES as usize, "{}", text.len());
}

#[test]
fn a_slot_that_is_too_small_is_told() {
    // Three blocks of data, one of hashes, the manifest.
    assert_eq!(sample().fits(12288 + 4096 + 65536), Ok(()));
    let error = sample().fits(12288 + 4096 + 65535).unwrap_err().to_string();
    assert_eq!(error, "the slot manifest's system needs 81920 bytes, the partition has 81919");
    assert_eq!((area_offset(65536), area_offset(65535)), (Some(0), None));
}

#[test]
fn levels_are_those_of_dm_verity() {
    assert_eq!(levels(0), [0; 0]);
    assert_eq!(levels(1), [0; 0]);
    assert_eq!(levels(2), [1]);
    assert_eq!(levels(128), [1]);
    assert_eq!(levels(129), [2, 1]);
    assert_eq!(levels(128 * 128 + 1), [129, 2, 1]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        word in "[!-~]{1,64}", index: u64, epoch: u32, bytes in 0..=1_u64 << 30, digest: [u8; 32],
        paths in prop::collection::btree_set("[a-z0-9]{1,5}(/[a-z]{1,5}\\.[a-z]{2})?", 0..30),
        system in 1..=LARGEST / 2, gap in 0_u64..9,
    ) {
        let blob = Blob { bytes, sha256: Digest(digest) };
        let mut boot = sample().boot;
        boot.extend(paths.into_iter().map(|path| BootFile { role: Role::Other, path: format!("z/{path}/f"), blob }));
        boot.sort_by(|one, other| one.path.cmp(&other.path));
        let manifest = SlotManifest {
            board: word.clone(), version: word.clone(), kernel_release: word, rollback_index: index, boot_id: Digest(digest), boot,
            system_bytes: system, tree_offset: system.next_multiple_of(BLOCK) + gap * BLOCK,
            root_hash: Digest(digest), salt: Digest(digest), epoch,
        };
        let sealed = seal(&manifest, 7);
        prop_assert!(sealed.to_text().len() <= MOST_BYTES);
        prop_assert_eq!(Sealed::read(&area(&sealed.to_text())).unwrap().open(&[pair(7).1]).unwrap(), manifest);
    }

    #[test]
    fn nothing_else_is(text in "[ -~\n]{0,400}") {
        if let Ok(manifest) = SlotManifest::parse(&format!("{TITLE}\n{text}")) {
            prop_assert_eq!(manifest.body().unwrap(), format!("{TITLE}\n{text}"));
        }
    }
}
