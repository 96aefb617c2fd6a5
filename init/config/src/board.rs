//! Board config: what the hardware is. One file a board in `board-configs/`; baked into the image as `/etc/kedge/board.yaml`.
//!
//! # Adding a board
//! is adding one file, `board-configs/NAME.yaml`. No code knows a board by its name. Begin with a copy of the nearest one, then:
//! 1. `name` is the file's name; `architecture`, `kernel.package` and `kernel.suite` choose Debian's kernel (`apt-cache search linux-image`).
//! 2. `modules.stage1` is what it takes to reach the disk and read it: its controller, `squashfs`, `ext4`, `vfat`. On a running Debian,
//!    `lsblk -o NAME,TRAN,MODEL` and `lsmod` tell. `modules.system` is the rest, the network card first. What they depend on is added, what the kernel
//!    has built in is left out, and a name that is neither is an error that says so.
//!    `firmware` is what a driver loads by name, such as that of a Wi-Fi chip.
//! 3. `console`: the last one shows the status screen. `watchdog`: the device, and how long init may be silent.
//! 4. `qemu`, if a virtual machine can stand for it: `{disk}` and `{network}` in `args` say how they are attached.
//! 5. `kedge-image validate FILE`, then `kedge-image build --board NAME`, which writes `NAME.lock` beside it: commit both.

use crate::document::{self, ConfigError};
use crate::size::Size;
use crate::slot::SlotName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole board file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoardConfig {
    /// The file's name without `.yaml`.
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    pub architecture: Architecture,
    pub kernel: Kernel,
    pub bootloader: Bootloader,
    #[serde(default)]
    pub partitions: Partitions,
    pub modules: Modules,
    /// Files that drivers load by name (`request_firmware`), in the system image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<Firmware>,
    /// Kernel consoles, such as `tty0` and `ttyS0`, or `ttyS0,115200` where the driver does not take over a speed; the last one is
    /// `/dev/console`, where the status screen is drawn.
    #[serde(default)]
    pub console: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// The virtual machine that stands for this board in `kedge-image run` and in tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<Qemu>,
}

/// The names of Rust's targets, which are the kernel's for two of three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Architecture {
    #[serde(rename = "x86_64")]
    X86_64,
    #[serde(rename = "aarch64")]
    Aarch64,
    #[serde(rename = "armv7")]
    Armv7,
}

impl Architecture {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// Debian's name of the architecture.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "armhf",
        }
    }

    /// The name in OCI image platforms and in a node's `kubernetes.io/arch`.
    pub fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Armv7 => "arm",
        }
    }

    /// The target triple that `kedge` is built for.
    pub fn rust_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }
}

/// Where the kernel comes from and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kernel {
    /// A Debian package; a meta package such as `linux-image-cloud-amd64` is followed to what it depends on.
    pub package: String,
    /// The Debian suite the packages are taken from.
    pub suite: String,
    /// Its components that packages may come from. Vendors' firmware lies in `non-free-firmware`: to use it is a decision.
    #[serde(default = "main_only")]
    pub components: Vec<String>,
    /// Without `console=` (see [`BoardConfig::console`]) and `kedge.force-slot=` (a person's).
    #[serde(default)]
    pub command_line: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bootloader {
    pub kind: BootloaderKind,
    /// The Debian package that holds it; none where it lies on the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Files of that package that the first stage loads from the first FAT partition ([`BootloaderKind::RaspberryPi`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
    /// Files of that package that are loaded from a slot's FAT partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Which device tree of the kernel's package a model takes; the models are those of config.txt's filters, such as `board-type=0x11`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub device_trees: BTreeMap<String, String>,
    /// Further lines of config.txt, for all models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<String>,
}

/// Files of one package, by their names below `/lib/firmware` and by their names there in the package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Firmware {
    /// A Debian package.
    pub package: String,
    /// What the driver asks for, and the file that it gets.
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootloaderKind {
    /// Boot entries as files on the ESP, one a slot. The disk has a GPT.
    SystemdBoot,
    /// The firmware of a Raspberry Pi: it chooses one of two FAT partitions by `autoboot.txt`. The disk has an MBR.
    RaspberryPi,
}

/// Sizes on disk. STATE is as small as is useful: init grows it to the disk's end at first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Partitions {
    pub esp: Size,
    /// Of each slot's FAT partition, where the boot loader wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Size>,
    /// Of each of the two slots.
    pub system: Size,
    pub meta: Size,
    pub state: Size,
}

impl Default for Partitions {
    fn default() -> Self {
        Self { esp: Size::mib(64), boot: None, system: Size::mib(48), meta: Size::mib(1), state: Size::mib(64) }
    }
}

/// Kernel modules by name; the image tool adds what they depend on and puts them in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Modules {
    /// In the initramfs: what it takes to find the disk and mount the system. A module that the kernel has built in is skipped.
    pub stage1: Vec<String>,
    /// In the system image: everything else, loaded by init.
    pub system: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Watchdog {
    pub device: String,
    /// The hardware resets when init was silent for so long.
    pub timeout_seconds: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Qemu {
    pub binary: String,
    pub machine: String,
    pub cpu: String,
    #[serde(default = "one")]
    pub cpus: u32,
    pub memory: Size,
    /// It is a machine as it was built: neither processors nor memory can be chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fixed: bool,
    /// Words that the kernel is told besides the image's, for what the model does otherwise than the machine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub append: String,
    /// UEFI firmware file names, tried in order in the usual folders of the host.
    #[serde(default)]
    pub firmware: Vec<String>,
    /// Further arguments. `{disk}` is replaced by the image's path, `{network}` by the user network with its port forwards and `{console}` by
    /// what the serial port is connected to.
    #[serde(default)]
    pub args: Vec<String>,
}

fn one() -> u32 {
    1
}

fn main_only() -> Vec<String> {
    vec!["main".into()]
}

const MIB: u64 = 1 << 20;

impl BoardConfig {
    /// Reads and checks a board file. `file` is only for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let board: Self = document::parse(file, text)?;
        match board.mistakes().into_iter().next() {
            Some((path, message)) => Err(ConfigError::at(file, text, path, message)),
            None => Ok(board),
        }
    }

    /// What is wrong although each field has the right type: where, and what was expected.
    fn mistakes(&self) -> Vec<(&'static [&'static str], String)> {
        let mut found: Vec<(&'static [&'static str], String)> = Vec::new();
        if !is_label(&self.name) {
            found.push((&["name"], format!("name \"{}\", expected letters, digits, \"-\" and \"_\"", self.name)));
        }
        let kernel: (&'static [&'static str], &str) = (&["kernel", "package"], &self.kernel.package);
        let loader = self.bootloader.package.as_deref().map(|name| (&["bootloader", "package"] as &'static [_], name));
        let firmware = self.firmware.iter().map(|one| (&["firmware"] as &'static [&'static str], one.package.as_str()));
        for (path, package) in std::iter::once(kernel).chain(loader).chain(firmware) {
            if !is_package(package) {
                found.push((path, format!("\"{package}\" is no Debian package name")));
            }
        }
        for forbidden in ["console=", SlotName::FORCED] {
            if self.kernel.command_line.split_whitespace().any(|word| word.starts_with(forbidden)) {
                let message = format!("\"{forbidden}\" is added by the image tool, expected a command line without it");
                found.push((&["kernel", "commandLine"], message));
            }
        }
        let mut sizes: Vec<(&'static [&'static str], Size, u64)> = vec![
            (&["partitions", "esp"], self.partitions.esp, 33),
            (&["partitions", "system"], self.partitions.system, 1),
            (&["partitions", "meta"], self.partitions.meta, 1),
            (&["partitions", "state"], self.partitions.state, 16),
        ];
        sizes.extend(self.partitions.boot.map(|size| (&["partitions", "boot"] as &'static [&'static str], size, 33)));
        for (path, size, least) in sizes {
            if size.bytes() % MIB != 0 || size.bytes() < least * MIB {
                found.push((path, format!("size {size}, expected whole MiB, at least {least}MiB")));
            }
        }
        let lists: [(&'static [&'static str], &Vec<String>, &str); 5] = [
            (&["modules", "stage1"], &self.modules.stage1, ""),
            (&["modules", "system"], &self.modules.system, ""),
            (&["console"], &self.console, ","),
            (&["bootloader", "first"], &self.bootloader.first, "."),
            (&["bootloader", "files"], &self.bootloader.files, "."),
        ];
        for (path, list, also) in lists {
            for (at, name) in list.iter().enumerate() {
                if !is_label(&name.replace(|c| also.contains(c), "")) {
                    let also: String = also.chars().map(|sign| format!(", \"{sign}\"")).collect();
                    found.push((path, format!("\"{name}\", expected letters, digits{also}, \"-\" and \"_\"")));
                } else if list.iter().take(at).any(|before| before == name) {
                    found.push((path, format!("\"{name}\" is listed twice")));
                }
            }
        }
        found.extend(self.bootloader_mistakes());
        for component in &self.kernel.components {
            if !["main", "contrib", "non-free", "non-free-firmware"].contains(&component.as_str()) {
                let message =
                    format!("\"{component}\" is no component of Debian, expected \"main\" or \"non-free-firmware\"");
                found.push((&["kernel", "components"], message));
            }
        }
        let files = self.firmware.iter().flat_map(|one| one.files.iter().flat_map(|(name, file)| [name, file]));
        for name in files.filter(|name| !is_relative(name)) {
            found.push((&["firmware"], format!("\"{name}\", expected a path below /lib/firmware without \"..\"")));
        }
        found
    }

    /// What one kind of boot loader needs another has no use for.
    fn bootloader_mistakes(&self) -> Vec<(&'static [&'static str], String)> {
        let Bootloader { kind, package, first, files, device_trees, settings, .. } = &self.bootloader;
        let mut found: Vec<(&'static [&'static str], String)> = Vec::new();
        let files_of_none = package.is_none() && (!first.is_empty() || !files.is_empty());
        if files_of_none || (package.is_none() && *kind == BootloaderKind::SystemdBoot) {
            found.push((&["bootloader"], "it needs \"bootloader.package\" as well".into()));
        }
        let given: [(&'static [&'static str], bool); 5] = [
            (&["partitions", "boot"], self.partitions.boot.is_some()),
            (&["bootloader", "deviceTrees"], !device_trees.is_empty()),
            (&["bootloader", "first"], !first.is_empty()),
            (&["bootloader", "files"], !files.is_empty()),
            (&["bootloader", "settings"], !settings.is_empty()),
        ];
        match kind {
            BootloaderKind::SystemdBoot => {
                let useless = given.into_iter().filter(|(_, given)| *given);
                found.extend(useless.map(|(path, _)| (path, "systemd-boot has no use for it".to_owned())));
            }
            BootloaderKind::RaspberryPi => {
                let lacking = given.into_iter().take(2).filter(|(_, given)| !given);
                found.extend(lacking.map(|(path, _)| {
                    (&["bootloader"] as &'static [&'static str], format!("it needs \"{}\" as well", path.join(".")))
                }));
                for (model, tree) in device_trees {
                    let is_model = is_label(&model.replace(['=', '+'], ""));
                    if !is_model || !tree.ends_with(".dtb") || !is_label(&tree.replace('.', "")) {
                        let message = format!(
                            "\"{model}: {tree}\", expected a filter of config.txt and a file such as bcm2711-rpi-4-b.dtb"
                        );
                        found.push((&["bootloader", "deviceTrees"], message));
                    }
                }
                // What is longer the firmware leaves out (raspberrypi.com, config.txt, "File Format").
                for line in
                    settings.iter().filter(|line| line.len() > 98 || line.contains('\n') || line.starts_with('['))
                {
                    let message = format!("\"{line}\", expected one line of at most 98 bytes that is no filter");
                    found.push((&["bootloader", "settings"], message));
                }
            }
        }
        found
    }
}

fn is_relative(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Debian policy 5.6.1, which also keeps a name from being taken for an option of apt.
fn is_package(text: &str) -> bool {
    text.len() >= 2
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
name: test
architecture: x86_64
kernel:
  package: linux-image-cloud-amd64
  suite: trixie
bootloader:
  kind: systemd-boot
  package: systemd-boot-efi
modules:
  stage1: [virtio_blk]
  system:
    - overlay
";

    fn error(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        BoardConfig::parse("b.yaml", &GOOD.replace(from, to)).unwrap_err().to_string()
    }

    #[test]
    fn every_board_of_the_repository_parses_and_bears_its_files_name() {
        let folder = "../../board-configs";
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Lock files lie beside the boards.
            if path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            let board =
                BoardConfig::parse(&path.display().to_string(), &std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(Some(board.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
            let written = serde_yaml::to_string(&board).unwrap();
            assert_eq!(BoardConfig::parse("again", &written).unwrap(), board);
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        assert_eq!(BoardConfig::parse("b.yaml", GOOD).unwrap().partitions, Partitions::default());
        assert_eq!(
            error("kernel:", "kernal:"),
            "b.yaml:3:1: unknown field \"kernal\", expected one of \"name\", \"description\", \"architecture\", \"kernel\", \
             \"bootloader\", \"partitions\", \"modules\", \"firmware\", \"console\", \"watchdog\", \"qemu\""
        );
        assert_eq!(
            error("  suite: trixie", "  suit: trixie"),
            "b.yaml:5:3: kernel: unknown field \"suit\", expected one of \"package\", \"suite\", \"components\", \"commandLine\""
        );
        assert_eq!(
            error("x86_64", "mips"),
            "b.yaml:2:15: architecture: unknown variant \"mips\", expected one of \"x86_64\", \"aarch64\", \"armv7\""
        );
        assert_eq!(
            error("[virtio_blk]", "virtio_blk"),
            "b.yaml:10:11: modules.stage1: invalid type: string \"virtio_blk\", expected a sequence"
        );
        assert_eq!(
            error("name: test", "name: te/st"),
            "b.yaml:1:1: name \"te/st\", expected letters, digits, \"-\" and \"_\""
        );
        assert_eq!(
            error("suite: trixie", "suite: trixie\n  commandLine: quiet console=ttyS0"),
            "b.yaml:6:3: \"console=\" is added by the image tool, expected a command line without it"
        );
        assert_eq!(
            error("modules:", "partitions:\n  state: 1MiB\nmodules:"),
            "b.yaml:10:3: size 1MiB, expected whole MiB, at least 16MiB"
        );
        assert_eq!(
            error("modules:", "partitions:\n  state: 1MB\nmodules:"),
            "b.yaml:10:10: partitions.state: \"1MB\" is not a size, expected a whole number of bytes or one with KiB, MiB, GiB or \
             TiB, such as \"64MiB\""
        );
        assert_eq!(error("- overlay", "- overlay\n    - overlay"), "b.yaml:11:3: \"overlay\" is listed twice");
    }

    #[test]
    fn each_boot_loader_says_what_it_needs() {
        let partitions = "partitions:\n  boot: 64MiB\nmodules:";
        assert_eq!(error("modules:", partitions), "b.yaml:10:3: systemd-boot has no use for it");
        assert_eq!(
            error("kind: systemd-boot", "kind: raspberry-pi"),
            "b.yaml:6:1: it needs \"partitions.boot\" as well"
        );
        assert_eq!(error("  package: systemd-boot-efi\n", ""), "b.yaml:6:1: it needs \"bootloader.package\" as well");
        let with = |tail: &str| {
            let pi = format!("kind: raspberry-pi\n  deviceTrees: {{board-type=0x11: bcm2711-rpi-4-b.dtb}}\n  {tail}");
            let text = GOOD.replace("kind: systemd-boot", &pi).replace("modules:", partitions);
            BoardConfig::parse("b.yaml", &text).map_err(|error| error.to_string())
        };
        with("first: [bootcode.bin]").unwrap();
        assert_eq!(
            with("first: [../x]").unwrap_err(),
            "b.yaml:9:3: \"../x\", expected letters, digits, \".\", \"-\" and \"_\""
        );
        let error = with("settings: [\"[pi4]\"]").unwrap_err();
        assert_eq!(error, "b.yaml:9:3: \"[pi4]\", expected one line of at most 98 bytes that is no filter");
    }

    #[test]
    fn consoles_firmware_and_components_are_checked() {
        let text = GOOD.to_owned() + "console: [\"ttyS1,115200\"]\n";
        assert_eq!(BoardConfig::parse("b.yaml", &text).unwrap().console, ["ttyS1,115200"]);
        let firmware = "firmware: [{package: firmware-x, files: {a/b.bin: ../c}}]\nmodules:";
        assert_eq!(
            error("modules:", firmware),
            "b.yaml:9:1: \"../c\", expected a path below /lib/firmware without \"..\""
        );
        assert_eq!(
            error("suite: trixie", "suite: trixie\n  components: [main, evil]"),
            "b.yaml:6:3: \"evil\" is no component of Debian, expected \"main\" or \"non-free-firmware\""
        );
    }

    #[test]
    fn a_missing_field_and_a_broken_document_are_told() {
        let missing = error("architecture: x86_64\n", "");
        assert!(missing.contains("missing field \"architecture\""), "{missing}");
        let broken = error("name: test", "name: [test");
        assert!(broken.starts_with("b.yaml:"), "{broken}");
        assert!(!broken.contains(" at line "), "{broken}");
    }
}
