//! Whole images from small made-up inputs: the same twice, laid out as agreed, and each kind of damage told.

use super::*;
use crate::disk::layout::Layout;
use crate::elf::made;
use crate::inspect::Disk;
use crate::kernel::modules::Modules;
use crate::oci::bake::Wanted;
use crate::oci::from_dir::{self, Recipe};
use crate::plan::{Board, KernelSource, LoaderSource};
use crate::signing::SigningKey;
use kedge_config::BoardConfig;
use kedge_config::boot_files::Role;
use kedge_config::signing::Key;
use std::io::{Read, Seek, SeekFrom};

const BOARD: &str = "\
name: test
architecture: x86_64
kernel: {package: linux-image-test, suite: trixie, commandLine: quiet}
bootloader: {kind: systemd-boot, package: systemd-boot-efi}
partitions: {esp: 34MiB, system: 2MiB, meta: 1MiB, state: 16MiB}
modules:
  stage1: [disk]
  system: [overlay, disk, net]
console: [ttyS0]
";

fn plan(out: &Path, images: Vec<Wanted>, board: &str) -> Plan {
    let config = BoardConfig::parse("test.yaml", board).unwrap();
    Plan {
        name: config.name.clone(),
        architecture: "x86_64",
        suite: "trixie".into(),
        kernel: KernelSource::Package { package: "linux-image-test".into() },
        bootloader: LoaderSource::Package { package: "systemd-boot-efi".into() },
        lock: out.join("test.lock"),
        update_lock: false,
        allow_newer: false,
        mirror: None,
        kedge: "kedge".into(),
        stage1: "kedge-stage1".into(),
        images,
        machine: "hostname: unit\n".into(),
        machine_file: None,
        sign_key: Some(key(out)),
        trust: Vec::new(),
        secure_boot: None,
        system_version: kedge_config::VERSION.into(),
        rollback_index: 2,
        epoch: Some(1_700_000_000),
        command_line: String::new(),
        layout: Layout::new(config.bootloader.kind, &config.partitions),
        out: out.to_owned(),
        board: Board { path: "test.yaml".into(), text: board.to_owned(), config },
    }
}

const SEED: [u8; 32] = [9; 32];

/// The same for every image of a test.
fn key(out: &Path) -> PathBuf {
    std::fs::create_dir_all(out).unwrap();
    let path = out.join("test.key");
    std::fs::write(&path, crate::signing::text_of(&SEED)).unwrap();
    path
}

/// Bytes that no compression makes smaller.
fn noise(length: u64) -> Content {
    let bytes = (0..length).scan(1_u64, |state, _| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        Some(*state as u8)
    });
    Content::bytes(bytes.collect::<Vec<_>>())
}

fn inputs() -> Inputs {
    let mut modules = Modules::default();
    for (path, text) in [
        ("kernel/drivers/disk.ko", "depends="),
        ("kernel/fs/overlay.ko", "depends="),
        ("kernel/drivers/md/dm-verity.ko", "depends="),
        ("kernel/net/net.ko", "depends=fail-over"),
        ("kernel/net/fail-over.ko", "depends="),
    ] {
        modules.add(path, Content::bytes(made::module(format!("{text}\0").as_bytes()))).unwrap();
    }
    let kernel = Kernel {
        release: "6.1-test".into(),
        image: Content::bytes(vec![0x4b; 20_000]),
        modules,
        device_trees: Files::new(),
        origin: "package linux-image-test 1".into(),
    };
    Inputs {
        kernel,
        loader: Files::from([("EFI/BOOT/BOOTX64.EFI".into(), Content::bytes("MZ loader"))]),
        loader_origin: "package systemd-boot-efi 1".into(),
        firmware: Vec::new(),
        stub: None,
        kedge: Content::bytes((0..60_000).map(|number: u32| format!("{number}\n")).collect::<String>()),
        stage1: Content::bytes(made::program(None)),
        supplied: Vec::new(),
        locked_epoch: None,
    }
}

fn container_image(folder: &Path) -> Vec<Wanted> {
    let root = folder.join("root");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(root.join("bin/tool"), "tool").unwrap();
    let recipe = Recipe { name: "tool:1".into(), architecture: "amd64".into(), ..Recipe::default() };
    from_dir::make(&root, &recipe, &folder.join("tool.tar")).unwrap();
    vec![Wanted { name: None, path: folder.join("tool.tar") }]
}

pub(crate) fn bake(folder: &Path, name: &str) -> Built {
    let out = folder.join(name);
    build(&plan(&out, container_image(folder), BOARD), inputs(), Progress::Silent).unwrap()
}

#[test]
fn the_same_inputs_give_the_same_bytes_and_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (bake(folder.path(), "one"), bake(folder.path(), "two"));
    assert_eq!(one.sizes.len(), 11);
    for (a, b) in one.sizes.iter().zip(&two.sizes) {
        assert_eq!(a.sha256, b.sha256, "{}", a.name);
    }
    let read = |built: &Built| std::fs::read(&built.manifest).unwrap();
    assert!(read(&one) == read(&two));

    let mut other = inputs();
    other.stage1 = Content::bytes("another");
    let other = build(&plan(&folder.path().join("three"), Vec::new(), BOARD), other, Progress::Silent).unwrap();
    let guid = |built: &Built| Disk::open(&built.image).unwrap().report().unwrap().disk_guid;
    assert_ne!(guid(&one), guid(&other));
}

#[test]
fn the_block_map_holds_all_that_is_not_zero_and_what_unpacks_is_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let path = |name: &str| built.sizes.iter().find(|part| part.name == name).unwrap().path.clone();
    let map = BlockMap::parse("map", &std::fs::read_to_string(path("block map")).unwrap()).unwrap();
    let mut image = std::fs::read(path("image")).unwrap();
    assert!(zstd::decode_all(File::open(path("compressed image")).unwrap()).unwrap() == image);
    assert_eq!(map.size, image.len() as u64);
    assert!(map.mapped() < map.size / 2, "{} of {} bytes are mapped", map.mapped(), map.size);
    for extent in &map.extents {
        let bytes = &mut image[extent.bytes.start as usize..extent.bytes.end as usize];
        assert_eq!(digest::of_bytes(bytes), extent.sha256);
        bytes.fill(0);
    }
    assert!(image.iter().all(|byte| *byte == 0));
}

#[test]
fn the_layout_is_as_agreed() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let report = Disk::open(&built.image).unwrap().report().unwrap();
    assert_eq!(report.problems, [""; 0]);
    let places: Vec<String> = report
        .partitions
        .iter()
        .map(|p| format!("{} {} {}+{} {}", p.number, p.name, p.start >> 20, p.size >> 20, p.kind))
        .collect();
    let expected = [
        "1 ESP 1+34 c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "2 SYSTEM-A 35+2 db3fc47d-7c14-40bb-b55f-5d1ab7b35879",
        "3 SYSTEM-B 37+2 db3fc47d-7c14-40bb-b55f-5d1ab7b35879",
        "4 META 39+1 ba79066f-fde5-4512-b858-c3938b87fcb8",
        "5 STATE 40+16 0fc63daf-8483-4772-8e79-3d69d8477de4",
    ];
    assert_eq!(places, expected);
    let boot: Vec<&str> = report.boot_files.iter().map(|file| file.path.as_str()).collect();
    let expected = [
        "/EFI/BOOT/BOOTX64.EFI",
        "/kedge/a/cmdline.txt",
        "/kedge/a/initramfs",
        "/kedge/a/linux",
        "/loader/entries/kedge-a-force.conf",
        "/loader/entries/kedge-a.conf",
        "/loader/loader.conf",
    ];
    assert_eq!(boot, expected);
    let verdicts: Vec<_> = report.slots.iter().map(|slot| slot.verdict.clone().unwrap()).collect();
    assert_eq!(verdicts, ["good", "empty"]);
    let system = report.slots[0].system.as_ref().unwrap();
    assert_eq!(system.kernel_release.as_deref(), Some("6.1-test"));
    assert_eq!((system.version.as_deref(), system.board.as_deref()), (Some(kedge_config::VERSION), Some("test")));
    assert_eq!((system.modules, system.epoch), (3, 1_700_000_000));
    assert_eq!(system.container_images[0].names, ["docker.io/library/tool:1"]);
    assert_eq!(report.state.unwrap().label, "STATE");

    let disk = Disk::open(&built.image).unwrap();
    let entry = |name: &str| String::from_utf8(disk.esp_file(&format!("loader/entries/{name}")).unwrap()).unwrap();
    let files = "linux /kedge/a/linux\ninitrd /kedge/a/initramfs\noptions quiet console=ttyS0";
    assert!(entry("kedge-a.conf").ends_with(&format!("\nversion 1\n{files}\n")), "{}", entry("kedge-a.conf"));
    assert!(entry("kedge-a-force.conf").ends_with(&format!("{files} kedge.force-slot=a\n")));
    let loader = String::from_utf8(disk.esp_file("loader/loader.conf").unwrap()).unwrap();
    assert!(!loader.contains("default"), "a default entry would be pinned");
    assert_eq!(disk.record().unwrap().unwrap(), Record::fresh());
}

#[test]
fn a_slot_is_signed_by_the_plans_key_and_its_initramfs_trusts_it() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let disk = Disk::open(&built.image).unwrap();
    let own = SigningKey::from_seed(SEED).public();
    let report = disk.report().unwrap();
    let seal = report.slots[0].seal.as_ref().unwrap();
    assert!(seal.verified && report.slots[1].seal.is_none());
    assert_eq!((seal.key.clone(), seal.rollback_index), (own.id().to_string(), 2));
    assert_eq!((&seal.root_hash, &built.key), (&built.root_hash, &seal.key));
    let initramfs = disk.esp_file("kedge/a/initramfs").unwrap();
    assert_eq!(cpio::find(&initramfs, "keys"), Some(Key::to_list(&[own]).as_bytes()));

    // It vouches for what starts it, and that knows to whom it belongs.
    let region = disk.region(names::SYSTEM_A.name).unwrap();
    let manifest = slot::read(region, region.len()).unwrap().unwrap().open(&[own]).unwrap();
    let files: Vec<_> = manifest.boot.iter().map(|file| (file.role, file.path.as_str())).collect();
    let expected = [(Role::CommandLine, "cmdline.txt"), (Role::Initramfs, "initramfs"), (Role::Kernel, "linux")];
    assert_eq!(files, expected);
    assert_eq!(manifest.boot[1].blob.sha256, digest::of_bytes_raw(&initramfs));
    assert_eq!(cpio::find(&initramfs, "boot-id"), Some(format!("{}\n", manifest.boot_id).as_bytes()));

    assert_eq!(disk.report_by(Some(&[own])).unwrap().problems, [""; 0]);
    let other = SigningKey::from_seed([1; 32]).public();
    let problems = disk.report_by(Some(&[other])).unwrap().problems;
    let told = format!("signed by key {}, which is not trusted here; trusted are {}", own.id(), other.id());
    assert!(problems.len() == 1 && problems[0].contains(&told), "{problems:?}");
}

#[test]
fn what_lies_between_the_parts_of_a_slot_is_not_in_the_block_map() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let path = built.image.with_added_extension("bmap");
    let map = BlockMap::parse("map", &std::fs::read_to_string(path).unwrap()).unwrap();
    let of_slot: Vec<u64> =
        map.extents.iter().map(|e| e.bytes.start).filter(|at| (35 << 20..37 << 20).contains(at)).collect();
    assert_eq!(of_slot, [35 << 20, (37 << 20) - (64 << 10)]);
}

#[test]
fn the_manifest_lists_every_file_with_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&built.manifest).unwrap()).unwrap();
    let lines: Vec<String> = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} {} < {}", line["of"], line["path"], line["origin"]).replace('"', ""))
        .collect();
    for expected in [
        "esp /EFI/BOOT/BOOTX64.EFI < package systemd-boot-efi 1",
        "esp /kedge/a/linux < package linux-image-test 1",
        "initramfs /init < kedge-stage1",
        "initramfs /modules.load < generated",
        "initramfs /modules/disk.ko < package linux-image-test 1",
        "system /usr/bin/kedge < kedge",
        "system /usr/lib/modules/6.1-test/kedge.modules < generated",
        "system /usr/lib/modules/6.1-test/kernel/net/fail-over.ko < package linux-image-test 1",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.ends_with("/bin/tool < image docker.io/library/tool:1")));
    let system = lines.iter().filter(|line| line.starts_with("system ") && line.contains(".ko")).count();
    assert_eq!(system, 3, "the initramfs' module is not baked twice");
}

#[test]
fn a_system_that_does_not_fit_and_a_module_that_is_not_there_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut large = inputs();
    large.kedge = noise(2_200_000);
    let error = build(&plan(folder.path(), Vec::new(), BOARD), large, Progress::Silent).unwrap_err().to_string();
    assert!(error.starts_with("partition SYSTEM-A has 2097152 bytes, what goes into it has "), "{error}");

    let board = BOARD.replace("stage1: [disk]", "stage1: [dsk]");
    let error = build(&plan(folder.path(), Vec::new(), &board), inputs(), Progress::Silent).unwrap_err().to_string();
    assert!(error.starts_with("modules.stage1 of the board: module \"dsk\" is neither in"), "{error}");
}

/// What inspecting a copy of the image says is wrong after `change`.
fn damaged(built: &Built, change: impl FnOnce(&mut File)) -> String {
    let copy = built.image.with_extension("copy");
    crate::qemu::run::copy(&built.image, &copy, 0).unwrap();
    change(&mut File::options().read(true).write(true).open(&copy).unwrap());
    match Disk::open(&copy).and_then(|disk| disk.report()) {
        Ok(report) => report.problems.join("\n"),
        Err(error) => error.to_string(),
    }
}

/// Within the system, where the first packed block begins (RFC 8878, 3.1.1).
fn packed(built: &Built) -> u64 {
    let system = std::fs::read(built.image.with_file_name("system.squashfs")).unwrap();
    system.windows(4).position(|window| window == [0x28, 0xb5, 0x2f, 0xfd]).unwrap() as u64
}

#[test]
fn each_kind_of_damage_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let fill = |at: u64, length: usize| {
        move |file: &mut File| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(&vec![0xa5; length]).unwrap();
        }
    };
    let told = |expected: &str, error: String| {
        assert!(error.contains("test.copy") && error.contains(expected), "{expected}: {error}");
    };
    assert_eq!(damaged(&built, |_| ()), "");
    told("is cut off: its partition table is for ", damaged(&built, |file| file.set_len(3 << 20).unwrap()));
    told("is no disk image", damaged(&built, |file| file.set_len(0).unwrap()));
    told("ESP: ", damaged(&built, fill(1 << 20, 512)));
    let another_word = |file: &mut File| {
        file.seek(SeekFrom::Start((37 << 20) - (64 << 10) + 30)).unwrap();
        file.write_all(b"x").unwrap();
    };
    let system = built.sizes.iter().find(|part| part.name == "system").unwrap().size.next_multiple_of(4096);
    told(": the squashfs is damaged: block 3 of ", damaged(&built, fill((35 << 20) + 4096 * 3 + 7, 1)));
    told("the hash tree is damaged, the squashfs is whole", damaged(&built, fill((35 << 20) + system + 4096, 1)));
    told("slot a (SYSTEM-A): no slot manifest", damaged(&built, fill((37 << 20) - (64 << 10), 64)));
    told("the signature by key ", damaged(&built, another_word));
    told("slot a (SYSTEM-A): no squashfs that can be read: ", damaged(&built, fill(35 << 20, 4096)));
    told("slot a (SYSTEM-A): the squashfs is damaged: \"/", damaged(&built, fill((35 << 20) + packed(&built), 50)));
    told("STATE holds no ext4 file system", damaged(&built, fill((40 << 20) + 1024, 1024)));
    // The second partition table, at the disk's end, serves.
    assert_eq!(damaged(&built, fill(0, 1 << 20)), "");
    let both = damaged(&built, |file| {
        fill(39 << 20, 100)(file);
        fill((39 << 20) + (512 << 10), 100)(file);
    });
    told("META: no copy of the slot record is whole", both);
}

#[test]
fn no_damage_of_the_squashfs_is_more_than_a_message() {
    let folder = tempfile::tempdir().unwrap();
    let built = bake(folder.path(), "out");
    let system = built.sizes.iter().find(|part| part.name == "system").unwrap().size;
    let mut found = 0;
    // The superblock and the tables at the end are where a reader can be led astray.
    for at in (0..96).step_by(5).chain((system.saturating_sub(600)..system).step_by(19)) {
        let mut file = File::options().read(true).write(true).open(&built.image).unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start((35 << 20) + at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        let flip = |file: &mut File, value: u8| {
            file.seek(SeekFrom::Start((35 << 20) + at)).unwrap();
            file.write_all(&[value]).unwrap();
        };
        flip(&mut file, !byte[0]);
        found += usize::from(!Disk::open(&built.image).unwrap().report().unwrap().problems.is_empty());
        flip(&mut file, byte[0]);
    }
    assert!(found > 8, "{found} of the changes were noticed");
}
