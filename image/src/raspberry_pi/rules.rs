//! What must hold for a Raspberry Pi to start a card, each rule with where it is written. `documentation/` is raspberrypi/documentation,
//! `documentation/asciidoc/computers/`.

use super::{FAT_KINDS, Seen, Wanted, config_txt, device_tree};

pub struct Rule {
    pub name: &'static str,
    pub source: &'static str,
    /// What is wrong, in words.
    pub check: fn(&Seen) -> Result<(), String>,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "rule \"{}\"", self.name)
    }
}

/// In the order in which the firmware meets them.
pub const RULES: &[Rule] = &[
    Rule {
        name: "the boot ROM looks for a FAT partition of type 0x0b or 0x0c",
        source: "raspberrypi/firmware#1711",
        check: first_partition,
    },
    Rule {
        name: "without an EEPROM, bootcode.bin lies on the first FAT partition",
        source: "documentation/raspberry-pi/bootflow-legacy.adoc",
        check: bootcode,
    },
    Rule {
        name: "autoboot.txt has at most 512 bytes",
        source: "documentation/config_txt/autoboot.adoc",
        check: autoboot_length,
    },
    Rule {
        name: "autoboot.txt knows the filters all, none and tryboot",
        source: "documentation/config_txt/autoboot.adoc",
        check: autoboot_filters,
    },
    Rule {
        name: "with tryboot_a_b=1 the other partition is tried, else the file tryboot.txt",
        source: "documentation/config_txt/autoboot.adoc, \"tryboot_a_b\"",
        check: tryboot,
    },
    Rule {
        name: "boot_partition is one of the MBR's 1 to 4, and FAT",
        source: "documentation/config_txt/autoboot.adoc, \"boot_partition\"",
        check: boot_partition,
    },
    Rule {
        name: "a partition can be booted if it holds start.elf, on a Raspberry Pi 5 config.txt",
        source: "documentation/config_txt/autoboot.adoc, \"boot_partition\"",
        check: bootable,
    },
    Rule {
        name: "start*.elf and fixup*.dat are matched pairs",
        source: "documentation/configuration/boot_folder.adoc",
        check: matched_pair,
    },
    Rule {
        name: "a line of config.txt has at most 98 bytes",
        source: "documentation/config_txt/what_is_config_txt.adoc, \"File Format\"",
        check: line_length,
    },
    Rule {
        name: "only filters that are documented",
        source: "documentation/config_txt/conditional.adoc",
        check: filters,
    },
    Rule {
        name: "arm_64bit=1 starts a 64-bit kernel, which the processor must be able to run",
        source: "documentation/config_txt/boot.adoc, \"arm_64bit\"",
        check: kernel,
    },
    Rule {
        name: "the initramfs that config.txt names is there",
        source: "documentation/config_txt/boot.adoc, \"initramfs\"; Linux, driver-api/early-userspace/buffer-format.rst",
        check: initramfs,
    },
    Rule {
        name: "there is a device tree of the model",
        source: "documentation/configuration/device-tree.adoc; Devicetree Specification 0.4, 5.2",
        check: device_tree,
    },
    Rule {
        name: "the kernel's command line is one line",
        source: "documentation/configuration/kernel-command-line-config.adoc",
        check: command_line,
    },
    Rule {
        name: "overlays that config.txt names are there",
        source: "documentation/configuration/device-tree.adoc, \"dtoverlay\"",
        check: overlays,
    },
];

fn needs(file: &Wanted, partition: u32) -> Result<&[u8], String> {
    file.bytes.as_deref().ok_or_else(|| format!("there is no \"{}\" on partition {partition}", file.name))
}

fn first_partition(seen: &Seen) -> Result<(), String> {
    let kind = seen.partitions.iter().find(|(number, _)| Some(*number) == seen.first).map(|(_, kind)| *kind);
    match kind {
        Some(0x0b | 0x0c) => Ok(()),
        Some(kind) => Err(format!("the first FAT partition has type {kind:#04x}")),
        None => Err("there is no FAT partition".into()),
    }
}

fn bootcode(seen: &Seen) -> Result<(), String> {
    if seen.has_eeprom() { Ok(()) } else { needs(&seen.bootcode, seen.first.unwrap_or(0)).map(drop) }
}

fn autoboot_length(seen: &Seen) -> Result<(), String> {
    let length = seen.autoboot.bytes.as_ref().map_or(0, Vec::len);
    if length > 512 { Err(format!("autoboot.txt has {length} bytes")) } else { Ok(()) }
}

fn autoboot_filters(seen: &Seen) -> Result<(), String> {
    let text = seen.autoboot.text();
    let strange = text.lines().find(|line| line.starts_with('[') && !["[all]", "[none]", "[tryboot]"].contains(line));
    strange.map_or(Ok(()), |line| Err(format!("autoboot.txt has a filter {line}")))
}

fn tryboot(seen: &Seen) -> Result<(), String> {
    if !seen.tryboot || seen.choice.number("tryboot_a_b") == Some(1) {
        return Ok(());
    }
    Err("autoboot.txt does not say tryboot_a_b=1".into())
}

fn boot_partition(seen: &Seen) -> Result<(), String> {
    let number = seen.partition;
    let fat = seen.partitions.iter().any(|(known, kind)| *known == number && FAT_KINDS.contains(kind));
    if (1..=4).contains(&number) && fat { Ok(()) } else { Err(format!("partition {number} is none to boot from")) }
}

fn bootable(seen: &Seen) -> Result<(), String> {
    match &seen.start {
        Some((start, _)) => {
            let bytes = needs(start, seen.partition)?;
            if bytes.starts_with(b"\x7fELF") { Ok(()) } else { Err(format!("\"{}\" is no ELF file", start.name)) }
        }
        None => needs(&seen.config, seen.partition).map(drop),
    }
}

fn matched_pair(seen: &Seen) -> Result<(), String> {
    let Some((start, fixup)) = &seen.start else { return Ok(()) };
    let middle = |name: &str, head: &str, tail: &str| {
        name.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail)).map(str::to_owned)
    };
    if middle(&start.name, "start", ".elf") != middle(&fixup.name, "fixup", ".dat") {
        return Err(format!("\"{}\" goes with \"{}\"", start.name, fixup.name));
    }
    needs(fixup, seen.partition).map(drop)
}

fn line_length(seen: &Seen) -> Result<(), String> {
    let text = seen.config.text();
    let long = text.lines().find(|line| line.len() > config_txt::LINE_BYTES);
    long.map_or(Ok(()), |line| Err(format!("{} has a line of {} bytes", seen.config.name, line.len())))
}

fn filters(seen: &Seen) -> Result<(), String> {
    seen.settings.unknown.first().map_or(Ok(()), |name| Err(format!("{} has a filter [{name}]", seen.config.name)))
}

/// What a kernel image's first bytes say it is for.
#[derive(Debug, PartialEq, Eq)]
enum Image {
    /// Linux, `Documentation/arch/arm64/booting.rst`: "ARM\x64" at 56.
    Wide,
    /// The same, packed.
    Packed,
    /// Linux, `arch/arm/boot/compressed/head.S`: 0x016f2818 at 36.
    Narrow,
}

fn image(bytes: &[u8]) -> Option<Image> {
    let at = |start: usize| bytes.get(start..start + 4);
    match (at(56), at(36)) {
        (Some(b"ARM\x64"), _) => Some(Image::Wide),
        (_, Some(&[0x18, 0x28, 0x6f, 0x01])) => Some(Image::Narrow),
        _ if bytes.starts_with(&[0x1f, 0x8b]) => Some(Image::Packed),
        _ => None,
    }
}

fn kernel(seen: &Seen) -> Result<(), String> {
    let bytes = needs(&seen.kernel, seen.partition)?;
    let (name, wide) = (&seen.kernel.name, seen.settings.wide());
    if wide && !seen.model.wide {
        return Err("arm_64bit=1, and the processor has 32 bits".into());
    }
    match image(bytes) {
        None => Err(format!("\"{name}\" is no kernel for ARM")),
        Some(Image::Wide | Image::Packed) if wide => Ok(()),
        Some(Image::Narrow) if !wide => Ok(()),
        Some(other) => Err(format!("\"{name}\" is {other:?}, arm_64bit is {}", u8::from(wide))),
    }
}

fn initramfs(seen: &Seen) -> Result<(), String> {
    let Some(file) = &seen.initramfs else { return Ok(()) };
    let bytes = needs(file, seen.partition)?;
    let packed: [&[u8]; 3] = [&[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, 0x37, 0x7a, 0x58]];
    let known = bytes.starts_with(b"070701") || packed.iter().any(|magic| bytes.starts_with(magic));
    if known { Ok(()) } else { Err(format!("\"{}\" is no initramfs", file.name)) }
}

fn device_tree(seen: &Seen) -> Result<(), String> {
    let bytes = needs(&seen.device_tree, seen.partition)?;
    let (name, wanted) = (&seen.device_tree.name, seen.model.compatible);
    let names = device_tree::compatible(bytes).map_err(|error| format!("\"{name}\" is {error}"))?;
    if names.iter().any(|one| one == wanted) {
        return Ok(());
    }
    Err(format!("\"{name}\" is for {}, expected {wanted}", names.join(", ")))
}

fn command_line(seen: &Seen) -> Result<(), String> {
    let bytes = needs(&seen.command_line, seen.partition)?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    if lines == 1 { Ok(()) } else { Err(format!("\"{}\" has {lines} lines", seen.command_line.name)) }
}

fn overlays(seen: &Seen) -> Result<(), String> {
    seen.overlays.iter().try_for_each(|file| needs(file, seen.partition).map(drop))
}

/// The laws of the table of partitions are the firmware's as well: what it boots from can be reached by its numbers.
#[cfg(test)]
#[test]
fn boot_partitions_are_primary_and_fat() {
    for row in kedge_config::names::MBR_PARTITIONS.iter().filter(|row| row.kind != 0x83) {
        assert!((1..=4).contains(&row.number) && FAT_KINDS.contains(&row.kind), "{}", row.partition.name);
        assert_eq!(kedge_config::mbr::partition(row.number), Some(*row));
    }
}
