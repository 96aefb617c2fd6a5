use super::*;
use crate::digest;
use crate::signing::SigningKey;
use kedge_bundle::difference::Old;
use kedge_bundle::install::{self, Running, Target};
use kedge_bundle::open::{Bundle, Source};
use kedge_config::boot_files::{BootFile, Role};
use kedge_config::signing::Key;
use kedge_config::slot_manifest::{AREA_BYTES, Blob, Digest, Sealed, SlotManifest, area_offset};
use kedge_config::verity;
use std::cell::{Cell, RefCell};

fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn system(folder: &Path, version: &str, kernel: &[u8], system: &[u8]) -> System {
    let (initramfs, line) = (noise(3, 70_000), b"quiet\n".to_vec());
    let blob = |bytes: &[u8]| Blob { bytes: bytes.len() as u64, sha256: digest::of_bytes_raw(bytes) };
    let files = [
        (Role::CommandLine, "cmdline.txt", &line[..]),
        (Role::Initramfs, "initramfs", &initramfs),
        (Role::Kernel, "linux", kernel),
    ];
    let mut boot = Vec::new();
    for (_, _, bytes) in files {
        boot.extend_from_slice(bytes);
        boot.resize(boot.len().next_multiple_of(4096), 0);
    }
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
        boot_id: digest::of_bytes_raw(kernel),
        boot: files.map(|(role, path, bytes)| BootFile { role, path: path.into(), blob: blob(bytes) }).to_vec(),
        system_bytes: system.len() as u64,
        tree_offset: padded.len() as u64,
        root_hash: tree.root,
        salt,
        epoch: 1,
    };
    let path = folder.join("key");
    let key = SigningKey::read(&path).or_else(|_| SigningKey::create(&path)).unwrap();
    let sealed = key.seal(&manifest).unwrap().to_text();
    System { manifest, sealed, boot, system: padded }
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
        upgrade.fetched * 10 < upgrade.without_differences && upgrade.without_differences * 4 < written.bytes * 3,
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

/// A disk whose power fails after some writes; what was not synced by then is there in parts.
struct Card {
    durable: RefCell<Vec<u8>>,
    waiting: RefCell<Vec<(usize, Vec<u8>)>>,
    left: Cell<usize>,
}

impl Card {
    fn new(bytes: Vec<u8>) -> Self {
        Self { durable: RefCell::new(bytes), waiting: RefCell::default(), left: Cell::new(usize::MAX) }
    }

    fn seen(&self) -> Vec<u8> {
        let mut bytes = self.durable.borrow().clone();
        self.waiting.borrow().iter().for_each(|(at, new)| bytes[*at..at + new.len()].copy_from_slice(new));
        bytes
    }

    fn cut(&self, seed: u32) {
        let kept: Vec<_> = self.waiting.take().into_iter().zip(noise(seed, 10_000)).collect();
        for ((at, new), luck) in kept {
            // A write is there, or is not, or is torn.
            let length = new.len() * usize::from(luck % 4).min(2) / 2;
            self.durable.borrow_mut()[at..at + length].copy_from_slice(&new[..length]);
        }
        self.left.set(usize::MAX);
    }
}

impl Old for Card {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        self.seen().as_slice().read_at(to, at)
    }
}

impl Target for Card {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
        self.left.set(left);
        self.waiting.borrow_mut().push((at as usize, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.left.set(self.left.get().checked_sub(1).ok_or_else(|| io::Error::other("no power"))?);
        *self.durable.borrow_mut() = self.seen();
        self.waiting.borrow_mut().clear();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.durable.borrow().len() as u64)
    }
}

struct Served(Vec<u8>);

impl Source for Served {
    fn read(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let bytes = self.0.get(at as usize..(at + length) as usize);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// What a slot's manifest vouches for, if there is one that is signed: whether it is there.
fn is_whole(slot: &[u8], keys: &[Key]) -> Option<bool> {
    let area = area_offset(slot.len() as u64).unwrap() as usize;
    let manifest = Sealed::read(&slot[area..]).ok()?.open(keys).ok()?;
    let fault = crate::assemble::slot::fault(&manifest, io::Cursor::new(slot)).unwrap();
    Some(fault.is_none())
}

/// Small, so that every write can be the last one.
fn world() -> (tempfile::TempDir, System, System, Served, Vec<Key>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut bytes = noise(7, 90 * 4096);
    bytes.extend(vec![3; 200 * 4096]);
    let old = system(folder.path(), "1", &noise(1, 5000), &bytes);
    bytes[500] ^= 1;
    bytes.splice(20 * 4096..20 * 4096, noise(8, 4096));
    bytes.extend(noise(9, 100 * 4096 + 77));
    let new = system(folder.path(), "22", &noise(1, 5000), &bytes);
    pack(&old, &[], &[], &path("old"), Progress::Silent).unwrap();
    let earlier = System::read(&path("old")).unwrap();
    pack(&new, &[earlier], &[path("old")], &path("new"), Progress::Silent).unwrap();
    let served = Served(std::fs::read(path("new")).unwrap());
    let keys = vec![SigningKey::read(&path("key")).unwrap().public()];
    (folder, old, new, served, keys)
}

#[test]
fn a_power_cut_at_any_write_leaves_no_manifest_or_a_whole_slot() {
    let (_folder, old, new, mut served, keys) = world();
    let bundle = Bundle::open(&mut served, &keys, "test").unwrap();
    let running = Running { bytes: &old.system.as_slice(), manifest: &old.manifest };
    let size = new.system.len() + (1 << 20);
    // What the idle slot held: a system of its own, whole.
    let mut before = vec![0; size];
    before[..old.system.len()].copy_from_slice(&old.system);
    let tree = verity::tree(&old.system[..old.system.len() - 4096], &old.manifest.salt).unwrap().bytes;
    before[old.system.len()..][..tree.len()].copy_from_slice(&tree);
    before[size - AREA_BYTES as usize..][..old.sealed.len()].copy_from_slice(old.sealed.as_bytes());
    assert_eq!(is_whole(&before, &keys), Some(true));
    let mut cuts = 0;
    for left in 0.. {
        let card = Card::new(before.clone());
        card.left.set(left);
        let first = install::system(&bundle, &mut served, &card, Some(&running), &mut |_| Ok(()));
        if let Ok(fetched) = first {
            assert_eq!(is_whole(&card.seen(), &keys), Some(true));
            assert!(card.seen().starts_with(&new.system) && fetched > 0);
            break;
        }
        cuts += 1;
        card.cut(left as u32 * 7 + 1);
        let held = card.seen();
        assert_ne!(is_whole(&held, &keys), Some(false), "cut after {left} writes");
        install::system(&bundle, &mut served, &card, Some(&running), &mut |_| Ok(())).unwrap();
        assert!(
            is_whole(&card.seen(), &keys) == Some(true) && card.seen().starts_with(&new.system),
            "cut after {left} writes"
        );
    }
    assert!(cuts >= 8, "{cuts}");
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (_folder, old, new, mut served, keys) = world();
    let bundle = Bundle::open(&mut served, &keys, "test").unwrap();
    let card = Card::new(vec![0; new.system.len() + (1 << 20)]);
    let whole = install::system(&bundle, &mut served, &card, None, &mut |_| Ok(())).unwrap();
    let again = install::system(&bundle, &mut served, &card, None, &mut |_| Ok(())).unwrap();
    assert!(whole > 0 && again == 0, "{whole} {again}");

    let running = Running { bytes: &old.system.as_slice(), manifest: &old.manifest };
    let card = Card::new(vec![0; new.system.len() + (1 << 20)]);
    let mut asked = Vec::new();
    let stopped = install::system(&bundle, &mut served, &card, Some(&running), &mut |far| {
        asked.push(*far);
        Err("not now".into())
    });
    assert_eq!(stopped.unwrap_err().to_string(), "stopped: not now");
    let less = install::system(&bundle, &mut served, &card, Some(&running), &mut |_| Ok(())).unwrap();
    assert!(less < whole && asked[0].to_fetch >= less, "{less} of {whole}, {asked:?}");

    // The boot files did not change.
    let running = Running { bytes: &old.boot.as_slice(), manifest: &old.manifest };
    let cards: Vec<Card> = new.manifest.boot.iter().map(|file| Card::new(vec![0; file.blob.bytes as usize])).collect();
    assert_eq!(install::boot(&bundle, &mut served, &cards, Some(&running), &mut |_| Ok(())).unwrap(), 0);
    let (layout, _) = new.manifest.boot_layout();
    for (card, place) in cards.iter().zip(layout) {
        assert!(card.seen() == new.boot[place.start as usize..place.end as usize]);
    }
}

#[test]
fn what_must_not_be_installed_is_not() {
    let (folder, _, new, served, keys) = world();
    let slot = || Card::new(vec![0; new.system.len() + (1 << 20)]);
    let told = |bytes: Vec<u8>, keys: &[Key], board: &str, slot: &Card| {
        let mut source = Served(bytes);
        let opened = Bundle::open(&mut source, keys, board);
        let done = opened.and_then(|bundle| install::system(&bundle, &mut source, slot, None, &mut |_| Ok(())));
        assert_eq!(is_whole(&slot.seen(), keys), done.is_ok().then_some(true));
        done.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(told(served.0.clone(), &keys, "test", &slot()), Ok(()));
    let stranger = SigningKey::create(&folder.path().join("stranger")).unwrap().public();
    let error = told(served.0.clone(), &[stranger], "test", &slot()).unwrap_err();
    assert!(error.contains("which is not trusted here"), "{error}");
    let error = told(served.0.clone(), &keys, "other", &slot()).unwrap_err();
    assert_eq!(error, "the bundle is for board test, this is other");
    let error = told(served.0.clone(), &keys, "test", &Card::new(vec![0; new.system.len()])).unwrap_err();
    assert!(error.contains("system needs"), "{error}");
    // Wherever it is damaged or cut off, a slot gets its manifest only if it is whole.
    for at in (0..served.0.len()).step_by(served.0.len() / 60) {
        let mut damaged = served.0.clone();
        damaged[at] ^= 0x40;
        let _told_above = told(damaged, &keys, "test", &slot());
        let _told_as_well = told(served.0[..at].to_vec(), &keys, "test", &slot());
    }
}

#[test]
fn a_boot_file_that_nobody_signed_is_found_out() {
    let (folder, _, mut forged, _, keys) = world();
    // The index tells of it, and nobody signed the index.
    let last = forged.boot.len() - 1;
    forged.boot[last - 4096] ^= 1;
    pack(&forged, &[], &[], &folder.path().join("forged"), Progress::Silent).unwrap();
    let mut source = Served(std::fs::read(folder.path().join("forged")).unwrap());
    let bundle = Bundle::open(&mut source, &keys, "test").unwrap();
    let cards: Vec<Card> =
        bundle.manifest.boot.iter().map(|file| Card::new(vec![0; file.blob.bytes as usize])).collect();
    let error = install::boot(&bundle, &mut source, &cards, None, &mut |_| Ok(())).unwrap_err().to_string();
    assert_eq!(error, "boot file \"linux\" is not the one that the slot manifest tells of");
}
