//! The boards of the repository, laid out as on a card and read back as the firmware reads it; and each rule, broken once.

use super::rules::RULES;
use super::*;
use crate::disk::boot::{self, Boot, Files};
use crate::disk::esp::{self, Volume};
use crate::disk::layout::Layout;
use crate::disk::write::{self, Body};
use crate::tree::{Content, Node, Tree};
use kedge_config::board::{Architecture, BootloaderKind};
use kedge_config::slot::SlotName;
use kedge_config::{BoardConfig, names};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn boards() -> Vec<BoardConfig> {
    let mut boards: Vec<BoardConfig> = std::fs::read_dir("../board-configs")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| BoardConfig::parse(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap()).unwrap())
        .filter(|board| board.bootloader.kind == BootloaderKind::RaspberryPi)
        .collect();
    boards.sort_by(|a, b| a.name.cmp(&b.name));
    boards
}

/// The models that a board's config.txt names by their type.
fn models(board: &BoardConfig) -> Vec<&'static Model> {
    let named =
        |model: &&Model| board.bootloader.device_trees.contains_key(&format!("board-type={:#04x}", model.board_type));
    let found: Vec<_> = MODELS.iter().filter(named).collect();
    assert_eq!(found.len(), board.bootloader.device_trees.len(), "{}: a type that is no model's", board.name);
    found
}

fn kernel(architecture: Architecture) -> Content {
    let mut bytes = vec![0; 5000];
    match architecture {
        Architecture::Aarch64 => bytes[56..60].copy_from_slice(b"ARM\x64"),
        Architecture::Armv7 | Architecture::X86_64 => bytes[36..40].copy_from_slice(&[0x18, 0x28, 0x6f, 0x01]),
    }
    Content::bytes(bytes)
}

/// What packages would hold.
fn inputs(board: &BoardConfig) -> Boot {
    let loader: Files = boot::package_files(board)
        .into_iter()
        .map(|(name, path)| {
            assert_eq!(path, format!("usr/lib/raspi-firmware/{name}"));
            let bytes = if name.ends_with(".elf") { "\x7fELF" } else { "firmware" };
            (name, Content::bytes(bytes))
        })
        .collect();
    let tree = |model: &&Model| {
        let name = &board.bootloader.device_trees[&format!("board-type={:#04x}", model.board_type)];
        (name.clone(), Content::bytes(device_tree::made::tree(&[model.compatible, "brcm,chip"])))
    };
    Boot {
        loader,
        loader_origin: "package raspi-firmware 1".into(),
        kernel: kernel(board.architecture),
        kernel_origin: "package linux 1".into(),
        device_trees: models(board).iter().map(tree).collect(),
        initramfs: Content::bytes("070701"),
        unified: None,
    }
}

/// A card with these files on its FAT partitions, and nothing on the others.
fn card(board: &BoardConfig, trees: &[boot::Partition], path: &Path) -> Disk {
    let layout = Layout::new(board.bootloader.kind, &board.partitions);
    let body = |place: &crate::disk::layout::Place| match trees.iter().find(|(name, _)| *name == place.name) {
        Some((_, tree)) => {
            let volume = Volume { id: 1, label: esp::LABEL, start: place.start };
            Body::Pieces(esp::make(tree, place.size, volume).unwrap())
        }
        None => Body::Empty,
    };
    let bodies: Vec<Body> = layout.places.iter().map(body).collect();
    write::write(path, &layout, &bodies, "seed", &|_| ()).unwrap();
    Disk::open(path).unwrap()
}

fn replaced(trees: &[boot::Partition], name: &str, tree: Tree) -> Vec<boot::Partition> {
    trees.iter().map(|(known, old)| (*known, if *known == name { tree.clone() } else { old.clone() })).collect()
}

#[test]
fn every_board_starts_on_every_model_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let boards = boards();
    assert!(boards.len() >= 4);
    for board in boards {
        let (inputs, path) = (inputs(&board), folder.path().join(&board.name));
        let trees = boot::partitions(&board, &inputs, &[]).unwrap();
        let disk = card(&board, &trees, &path);
        assert_eq!(check(&disk), [""; 0], "{}", board.name);
        for model in models(&board) {
            let started = start(&disk, model, false).unwrap();
            assert_eq!(started.partition, 2);
            assert_eq!(started.command_line, boot::command_line(&board));
            assert_eq!(started.kernel, kernel(board.architecture).read().unwrap().to_vec());
            assert_eq!(started.initramfs.as_deref(), Some(&b"070701"[..]));
            let names = device_tree::compatible(&started.device_tree).unwrap();
            assert_eq!(names[0], model.compatible);
            // Nothing was written to the other slot yet: there is nothing to try.
            let error = start(&disk, model, true).unwrap_err().to_string();
            assert!(error.contains("asked to try, does not start: there is no \""), "{error}");
        }
    }
}

#[test]
fn the_other_slot_is_tried_and_then_committed() {
    let folder = tempfile::tempdir().unwrap();
    for board in boards() {
        let (inputs, path) = (inputs(&board), folder.path().join(&board.name));
        let trees = boot::partitions(&board, &inputs, &[]).unwrap();
        let trees = replaced(&trees, names::BOOT_B.name, trees[1].1.clone());
        let disk = card(&board, &trees, &path);
        let started = |disk: &Disk, tryboot| start(disk, models(&board)[0], tryboot).unwrap().partition;
        assert_eq!((started(&disk, false), started(&disk, true)), (2, 3));

        let mut first = trees[0].1.clone();
        first.file(autoboot::FILE, 0o644, Content::bytes(autoboot::text(SlotName::B)), &"test".into()).unwrap();
        let disk = card(&board, &replaced(&trees, names::ESP.name, first), &path);
        assert_eq!((started(&disk, false), started(&disk, true)), (3, 2));
    }
}

/// A card in memory, to break.
struct Loose {
    partitions: Vec<(u32, u8)>,
    files: BTreeMap<(u32, String), Vec<u8>>,
}

impl Card for Loose {
    fn partitions(&self) -> Vec<(u32, u8)> {
        self.partitions.clone()
    }

    fn read(&self, partition: u32, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(&(partition, path.to_owned())).cloned())
    }
}

impl Loose {
    fn of(board: &BoardConfig) -> Self {
        let mut files = BTreeMap::new();
        for ((number, (_, tree)), _) in (1..).zip(boot::partitions(board, &inputs(board), &[]).unwrap()).zip(0..) {
            for (path, entry) in tree.iter() {
                if let Node::File(content) = &entry.node {
                    files.insert((number, path.display().to_string()), content.read().unwrap().to_vec());
                }
            }
        }
        Self { partitions: names::MBR_PARTITIONS.iter().map(|row| (row.number, row.kind)).collect(), files }
    }

    fn set(&mut self, partition: u32, file: &str, bytes: impl Into<Vec<u8>>) {
        self.files.insert((partition, file.into()), bytes.into());
    }

    fn lose(&mut self, partition: u32, file: &str) {
        self.files.remove(&(partition, file.to_owned())).expect("it was there");
    }

    /// Adds to a file's end.
    fn add(&mut self, partition: u32, file: &str, text: &str) {
        self.files.get_mut(&(partition, file.to_owned())).expect("it is there").extend(text.bytes());
    }
}

/// A way to break a card, whether the firmware is asked to try, and what it says then.
type Break = (fn(&mut Loose), bool, &'static str);

const BREAKS: &[Break] = &[
    (|card| card.partitions[0].1 = 0x06, false, "the first FAT partition has type 0x06"),
    (|card| card.partitions.retain(|(_, kind)| *kind == 0x83), false, "there is no FAT partition"),
    (|card| card.lose(1, "bootcode.bin"), false, "there is no \"bootcode.bin\" on partition 1"),
    (|card| card.add(1, "autoboot.txt", &"#".repeat(600)), false, "autoboot.txt has 664 bytes"),
    (|card| card.add(1, "autoboot.txt", "[pi3]\n"), false, "autoboot.txt has a filter [pi3]"),
    (|card| card.set(1, "autoboot.txt", "boot_partition=2\n"), true, "autoboot.txt does not say tryboot_a_b=1"),
    (|card| card.add(1, "autoboot.txt", "[all]\nboot_partition=5\n"), false, "partition 5 is none to boot from"),
    (|card| card.lose(2, "start.elf"), false, "there is no \"start.elf\" on partition 2"),
    (|card| card.set(2, "start.elf", "x"), false, "\"start.elf\" is no ELF file"),
    (|card| card.lose(2, "fixup.dat"), false, "there is no \"fixup.dat\" on partition 2"),
    (|card| card.add(2, "config.txt", "fixup_file=fixup_x.dat\n"), false, "\"start.elf\" goes with \"fixup_x.dat\""),
    (|card| card.add(2, "config.txt", &"x".repeat(99)), false, "config.txt has a line of 99 bytes"),
    (|card| card.add(2, "config.txt", "[EDID=X]\n"), false, "config.txt has a filter [EDID=X]"),
    (|card| card.lose(2, "linux"), false, "there is no \"linux\" on partition 2"),
    (|card| card.set(2, "linux", "MZ"), false, "\"linux\" is no kernel for ARM"),
    (|card| card.add(2, "config.txt", "arm_64bit=0\n"), false, "\"linux\" is Wide, arm_64bit is 0"),
    (|card| card.lose(2, "initramfs"), false, "there is no \"initramfs\" on partition 2"),
    (|card| card.set(2, "initramfs", "MZ"), false, "\"initramfs\" is no initramfs"),
    (|card| card.lose(2, "bcm2837-rpi-3-b.dtb"), false, "there is no \"bcm2837-rpi-3-b.dtb\" on partition 2"),
    (|card| card.set(2, "bcm2837-rpi-3-b.dtb", "MZ"), false, "\"bcm2837-rpi-3-b.dtb\" is no device tree"),
    (
        |card| card.add(2, "config.txt", "device_tree=bcm2837-rpi-3-b-plus.dtb\n"),
        false,
        "\"bcm2837-rpi-3-b-plus.dtb\" is for raspberrypi,3-model-b-plus, brcm,chip, expected raspberrypi,3-model-b",
    ),
    (|card| card.add(2, "cmdline.txt", "quiet\n"), false, "\"cmdline.txt\" has 2 lines"),
    (
        |card| card.add(2, "config.txt", "dtoverlay=vc4,x=1\n"),
        false,
        "there is no \"overlays/vc4.dtbo\" on partition 2",
    ),
];

#[test]
fn every_rule_can_be_broken_and_is_told() {
    let board = boards().into_iter().find(|board| board.name == "rpi3").unwrap();
    let model = MODELS.iter().find(|model| model.board_type == 0x08).unwrap();
    start(&Loose::of(&board), model, false).unwrap();
    let mut broken = BTreeSet::new();
    for (change, tryboot, expected) in BREAKS {
        let mut card = Loose::of(&board);
        change(&mut card);
        let error = start(&card, model, *tryboot).unwrap_err();
        let StartError::Rule { problem, rule, .. } = &error else { panic!("{error}") };
        assert_eq!(problem, expected);
        assert!(error.to_string().ends_with(&format!("(rule \"{}\": {})", rule.name, rule.source)), "{error}");
        broken.insert(rule.name);
    }
    let all: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(broken, all, "a rule that nothing breaks is none");
}

#[test]
fn a_narrow_processor_starts_no_wide_kernel() {
    let board = boards().into_iter().find(|board| board.name == "rpi2").unwrap();
    let mut card = Loose::of(&board);
    card.add(2, "config.txt", "arm_64bit=1\n");
    let error = start(&card, models(&board)[0], false).unwrap_err().to_string();
    assert!(error.contains("arm_64bit=1, and the processor has 32 bits"), "{error}");
    assert_eq!(check(&card).len(), 1);
}
