//! A Raspberry Pi's card while it is told to start another slot: power may fail at any step, and the firmware, read by the rules of its
//! documentation, starts the slot that it started before or the one that is asked for.
#![cfg(test)]

use std::io;
use std::path::{Path, PathBuf};

use kedge_config::autoboot;
use kedge_config::slot::SlotName;
use kedge_image::raspberry_pi::models::MODELS;
use kedge_image::raspberry_pi::{self, Card};
use kedge_stage1::transport::{Step, raspberry_pi as transport};

/// Folders as FAT partitions, by their numbers.
struct Folders(PathBuf);

impl Folders {
    fn partition(&self, number: u32) -> PathBuf {
        self.0.join(number.to_string())
    }
}

impl Card for Folders {
    fn partitions(&self) -> Vec<(u32, u8)> {
        [1, 2, 3].map(|number| (number, 0x0c)).to_vec()
    }

    fn read(&self, partition: u32, path: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.partition(partition).join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A card with a kernel in both slots.
fn card(at: &Path) -> Folders {
    let card = Folders(at.to_owned());
    for number in [1, 2, 3] {
        std::fs::create_dir_all(card.partition(number)).unwrap();
    }
    for number in [2, 3] {
        std::fs::write(card.partition(number).join("config.txt"), "kernel=linux\n").unwrap();
        std::fs::write(card.partition(number).join("linux"), number.to_string()).unwrap();
    }
    std::fs::write(card.partition(1).join(autoboot::FILE), autoboot::text(SlotName::A)).unwrap();
    card
}

/// The partition that every model starts, and the one when it is asked to try.
fn started(card: &Folders) -> (u32, u32) {
    let start = |tryboot| {
        let mut partitions = MODELS.iter().map(|model| {
            let seen = raspberry_pi::look(card, model, tryboot).unwrap();
            assert_eq!(seen.kernel.text(), seen.partition.to_string());
            seen.partition
        });
        let first = partitions.next().unwrap();
        assert!(partitions.all(|partition| partition == first));
        first
    };
    (start(false), start(true))
}

#[test]
fn a_slot_is_started_before_and_after_each_step() {
    let folder = tempfile::tempdir().unwrap();
    let card = card(folder.path());
    let first = card.partition(1);
    assert_eq!(started(&card), (2, 3));
    assert_eq!(transport::steps(&first, SlotName::A).unwrap(), []);
    for (slot, before, after) in
        [(SlotName::B, (2, 3), (3, 2)), (SlotName::A, (3, 2), (2, 3)), (SlotName::B, (2, 3), (3, 2))]
    {
        let steps = transport::steps(&first, slot).unwrap();
        let [Step::Write { path, text }] = steps.as_slice() else { panic!("{steps:?}") };
        // What the step writes first has another name.
        for length in 0..=text.len() {
            std::fs::write(first.join(path).with_extension("new"), &text[..length]).unwrap();
            assert_eq!(started(&card), before, "cut off after {length} bytes");
        }
        steps[0].apply(&first).unwrap();
        assert_eq!(started(&card), after);
    }
}
