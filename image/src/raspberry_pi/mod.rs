//! A Raspberry Pi's firmware, as far as it decides what is started: it reads a card as Raspberry Pi's documentation says its boot ROM,
//! `bootcode.bin` or EEPROM and `start*.elf` do. The image is checked by it, and QEMU, which has no such firmware, is started by it.
//!
//! ```text
//! first FAT partition ─▶ autoboot.txt [tryboot] ─▶ boot_partition ─▶ config.txt [model] ─▶ kernel, initramfs, device tree, cmdline.txt
//! ```
//!
//! What was found is a [`Seen`]; whether it starts is what the table [`rules::RULES`] says.

pub mod config_txt;
pub mod device_tree;
pub mod models;
pub mod rules;

use crate::disk::boot::COMMAND_LINE;
use crate::disk::boot::raspberry_pi::CONFIG;
use crate::inspect::{Disk, InspectError};
use config_txt::{Machine, Settings};
use kedge_config::{autoboot, mbr};
use models::{FirstStage, MODELS, Model};
use std::io;

/// What the firmware reads from.
pub trait Card {
    /// Number and type byte of each partition, in order.
    fn partitions(&self) -> Vec<(u32, u8)>;
    /// A file, whole; `None` where there is none.
    fn read(&self, partition: u32, path: &str) -> io::Result<Option<Vec<u8>>>;
}

impl Card for Disk {
    fn partitions(&self) -> Vec<(u32, u8)> {
        let kind = |text: &str| u8::from_str_radix(text, 16).unwrap_or(0);
        Disk::partitions(self).iter().map(|partition| (partition.number, kind(&partition.kind))).collect()
    }

    fn read(&self, partition: u32, path: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(row) = mbr::partition(partition) else { return Ok(None) };
        match self.fat_file(row.partition.name, path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(InspectError::Fat { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// A file that the firmware asks for: its name, and its bytes if it is there.
#[derive(Debug, Default)]
pub struct Wanted {
    pub name: String,
    pub bytes: Option<Vec<u8>>,
}

/// All that the firmware of a model looks at.
pub struct Seen {
    pub model: &'static Model,
    pub tryboot: bool,
    /// The first FAT partition; the others' numbers and types as well.
    pub first: Option<u32>,
    pub partitions: Vec<(u32, u8)>,
    pub bootcode: Wanted,
    pub autoboot: Wanted,
    /// What `autoboot.txt` says for this start.
    pub choice: Settings,
    /// The partition that is started.
    pub partition: u32,
    pub start: Option<(Wanted, Wanted)>,
    pub config: Wanted,
    pub settings: Settings,
    pub kernel: Wanted,
    pub initramfs: Option<Wanted>,
    pub device_tree: Wanted,
    pub command_line: Wanted,
    pub overlays: Vec<Wanted>,
}

/// What the kernel is started with.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    pub partition: u32,
    pub kernel: Vec<u8>,
    pub initramfs: Option<Vec<u8>>,
    pub device_tree: Vec<u8>,
    pub command_line: String,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{model}{tryboot} does not start: {problem} ({rule}: {source})", source = rule.source)]
    Rule { model: &'static str, tryboot: &'static str, problem: String, rule: &'static rules::Rule },
}

/// FAT with 12, 16 and 32 bits, with cylinders and with sector numbers.
pub const FAT_KINDS: [u8; 5] = [0x01, 0x04, 0x06, 0x0b, 0x0c];

/// Looks at the card as the firmware of `model` does; nothing is judged yet.
pub fn look(card: &dyn Card, model: &'static Model, tryboot: bool) -> io::Result<Seen> {
    let partitions = card.partitions();
    let first = partitions.iter().find(|(_, kind)| FAT_KINDS.contains(kind)).map(|(number, _)| *number);
    let get = |partition: Option<u32>, name: &str| -> io::Result<Wanted> {
        let bytes = partition.map(|partition| card.read(partition, name)).transpose()?.flatten();
        Ok(Wanted { name: name.to_owned(), bytes })
    };
    let machine = Machine { model, tryboot };
    let autoboot = get(first, autoboot::FILE)?;
    let choice = Settings::parse(&autoboot.text(), &machine);
    // 0 and nothing mean the first one.
    let partition = choice.number("boot_partition").filter(|number| *number != 0).or(first).unwrap_or(0);
    let at =
        |name: &str| get(Some(partition).filter(|number| partitions.iter().any(|(known, _)| known == number)), name);
    let name = if tryboot && choice.number("tryboot_a_b") != Some(1) { "tryboot.txt" } else { CONFIG };
    let config = at(name)?;
    let settings = Settings::parse(&config.text(), &machine);
    let start = match model.start {
        Some((start, fixup)) => {
            Some((at(settings.get("start_file").unwrap_or(start))?, at(settings.get("fixup_file").unwrap_or(fixup))?))
        }
        None => None,
    };
    let initramfs = settings.get("initramfs").and_then(|value| value.split_whitespace().next());
    let overlay_names =
        settings.all("dtoverlay").filter_map(|value| value.split([',', ':']).next()).filter(|name| !name.is_empty());
    let overlays = overlay_names.map(|name| at(&format!("overlays/{name}.dtbo"))).collect::<io::Result<_>>()?;
    Ok(Seen {
        model,
        tryboot,
        first,
        bootcode: get(first, models::BOOTCODE)?,
        autoboot,
        choice,
        partition,
        start,
        kernel: at(settings.get("kernel").unwrap_or(if settings.wide() { "kernel8.img" } else { model.kernel }))?,
        initramfs: initramfs.map(at).transpose()?,
        device_tree: at(settings.get("device_tree").unwrap_or(model.device_tree))?,
        command_line: at(settings.get("cmdline").unwrap_or(COMMAND_LINE))?,
        overlays,
        config,
        settings,
        partitions,
    })
}

/// What `model` would start from the card, or the rule by which it does not.
pub fn start(card: &dyn Card, model: &'static Model, tryboot: bool) -> Result<Start, StartError> {
    let seen = look(card, model, tryboot)?;
    for rule in rules::RULES {
        (rule.check)(&seen).map_err(|problem| StartError::Rule {
            model: model.name,
            tryboot: if tryboot { ", asked to try," } else { "" },
            problem,
            rule,
        })?;
    }
    Ok(Start {
        partition: seen.partition,
        command_line: seen.command_line.text().trim_end().to_owned(),
        kernel: seen.kernel.bytes.unwrap_or_default(),
        initramfs: seen.initramfs.and_then(|file| file.bytes),
        device_tree: seen.device_tree.bytes.unwrap_or_default(),
    })
}

/// What keeps a model that the card's config.txt names from starting it.
pub fn check(card: &dyn Card) -> Vec<String> {
    let named = |model: &&'static Model| match look(card, model, false) {
        Ok(seen) => seen.settings.get("device_tree").is_some(),
        Err(_) => false,
    };
    let models: Vec<&'static Model> = MODELS.iter().filter(named).collect();
    if models.is_empty() {
        // Nothing that could be read names one: what is wrong is told for any.
        return MODELS
            .iter()
            .find_map(|model| start(card, model, false).err())
            .map(|error| error.to_string())
            .into_iter()
            .collect();
    }
    models.into_iter().filter_map(|model| start(card, model, false).err()).map(|error| error.to_string()).collect()
}

impl Wanted {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes.as_deref().unwrap_or_default()).into_owned()
    }
}

impl Seen {
    pub fn has_eeprom(&self) -> bool {
        self.model.first_stage == FirstStage::Eeprom
    }
}

#[cfg(test)]
mod tests;
