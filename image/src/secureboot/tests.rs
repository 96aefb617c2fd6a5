//! A small made-up EFI program gets sections and a signature, and sbverify judges.

use super::*;
use std::process::Command;

/// A 64-bit EFI program with one section; `headers` bytes are kept for its headers.
pub fn program(headers: u32) -> Vec<u8> {
    let mut bytes = b"MZ".to_vec();
    bytes.resize(0x3c, 0);
    bytes.extend(0x40_u32.to_le_bytes());
    bytes.extend(b"PE\0\0");
    // The file header: x86-64, one section, the optional header's length, an executable image.
    for half in [0x8664_u16, 1] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend([0; 12]);
    for half in [240_u16, 0x22e] {
        bytes.extend(half.to_le_bytes());
    }
    let optional = bytes.len();
    bytes.extend(0x20b_u16.to_le_bytes());
    bytes.resize(optional + 240, 0);
    let mut put = |at: usize, value: u32| bytes[optional + at..optional + at + 4].copy_from_slice(&value.to_le_bytes());
    // Alignments, the image's length and the headers', the checksum, the subsystem, the number of directories.
    for (at, value) in [
        (16, 0x1000),
        (20, 0x1000),
        (32, 0x1000),
        (36, 0x200),
        (56, 0x2000),
        (60, headers),
        (64, 7),
        (68, 10),
        (108, 16),
    ] {
        put(at, value);
    }
    bytes.extend(b".text\0\0\0");
    for field in [0x200_u32, 0x1000, 0x200, headers, 0, 0, 0, 0x6000_0020] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.resize(headers as usize, 0);
    bytes.extend([0xc3; 0x200]);
    bytes
}

fn owner(folder: &Path, name: &str) -> Owner {
    let owner = Owner { key: folder.join(format!("{name}.key")), certificate: folder.join(format!("{name}.crt")) };
    let mut made = Command::new("openssl");
    made.args(["req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "99", "-subj"]).arg(format!("/CN={name}/"));
    let output = made.arg("-keyout").arg(&owner.key).arg("-out").arg(&owner.certificate).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    owner
}

fn verifies(folder: &Path, program: &[u8], owner: &Owner) -> bool {
    let path = folder.join("program.efi");
    std::fs::write(&path, program).unwrap();
    let mut verify = Command::new("sbverify");
    verify.arg("--cert").arg(&owner.certificate).arg(&path).output().expect("install sbsigntool").status.success()
}

#[test]
fn what_is_signed_is_taken_by_sbverify_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (owner(folder.path(), "ours"), owner(folder.path(), "other"));
    let sealer = Sealer::read(&ours).unwrap();
    let whole = pe::with_sections(&program(0x400), &[(".osrel", b"ID=kedge\n"), (".linux", &[7; 5000])]).unwrap();
    // A length that does not fill eight bytes is filled up before it is hashed.
    for plain in [program(0x400), whole.clone(), [whole.as_slice(), &[1, 2, 3]].concat()] {
        let signed = sealer.loader(&plain).unwrap().read().unwrap();
        assert!(verifies(folder.path(), &signed, &ours));
        assert!(!verifies(folder.path(), &signed, &other));
        assert!(!verifies(folder.path(), &plain, &ours));
        assert!(sealer.loader(&plain).unwrap().read().unwrap() == signed, "the same bytes");
        for at in [0x2, 0x200, 0x400, plain.len() - 1] {
            let mut changed = signed.to_vec();
            changed[at] ^= 1;
            assert!(!verifies(folder.path(), &changed, &ours), "a change at {at}");
        }
        let again = sealer.loader(&signed).unwrap_err().to_string();
        assert_eq!(again, "the boot loader: the EFI program is signed already");
    }
}

#[test]
fn sections_are_found_again() {
    let whole = pe::with_sections(&program(0x400), &[(".cmdline", b"quiet"), (".linux", &[7; 5000])]).unwrap();
    assert_eq!(pe::section(&whole, ".cmdline"), Some(&b"quiet"[..]));
    assert_eq!(pe::section(&whole, ".linux"), Some(&[7; 5000][..]));
    assert_eq!(pe::section(&whole, ".initrd"), None);
    assert_eq!(pe::section(b"MZ", ".linux"), None);
}

#[test]
fn what_is_no_program_or_has_no_room_is_told() {
    let add = |bytes: &[u8]| pe::with_sections(bytes, &[(".linux", b"x")]);
    assert_eq!(add(b"\x7fELF"), Err(pe::PeError::None));
    assert_eq!(add(&program(0x170)), Err(pe::PeError::Full(1)));
    let whole = program(0x400);
    for end in 0..whole.len() {
        assert!(add(&whole[..end]).is_err(), "cut at {end}");
        let _ = pe::hash(&whole[..end]);
    }
}

#[test]
fn keys_that_are_none_or_do_not_belong_together_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (owner(folder.path(), "ours"), owner(folder.path(), "other"));
    let told = |owner: Owner| Sealer::read(&owner).err().unwrap().to_string();
    let apart = told(Owner { key: ours.key.clone(), certificate: other.certificate });
    assert!(apart.ends_with("ours.key") && apart.contains("other.crt does not belong to "), "{apart}");
    let swapped = told(Owner { key: ours.certificate.clone(), certificate: ours.certificate.clone() });
    assert!(swapped.contains("ours.crt is no RSA private key"), "{swapped}");
    let none = told(Owner { key: ours.key.clone(), certificate: ours.key });
    assert!(none.ends_with("ours.key is no certificate in PEM"), "{none}");
}

proptest::proptest! {
    /// Headers that lie about everything: an answer, and no more memory than the file has.
    #[test]
    fn any_change_of_the_headers_is_answered(changes in proptest::collection::vec((0_usize..0x158, proptest::num::u8::ANY), 1..8)) {
        let mut bytes = program(0x400);
        changes.into_iter().for_each(|(at, value)| bytes[at] = value);
        let _ = (pe::hash(&bytes), pe::section(&bytes, ".text"), pe::unsigned(&bytes).map(|bytes| pe::attach(bytes, b"x")));
        if let Ok(whole) = pe::with_sections(&bytes, &[(".linux", b"x")]) {
            proptest::prop_assert!(whole.len() < 256 << 10, "{} bytes", whole.len());
        }
    }
}
