//! The models, as far as starting them differs.

/// What runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStage {
    /// The boot ROM loads `bootcode.bin` from the first FAT partition.
    BootRom,
    /// It lies in an EEPROM on the board.
    Eeprom,
}

pub const BOOTCODE: &str = "bootcode.bin";

#[derive(Debug)]
pub struct Model {
    pub name: &'static str,
    /// `[board-type=]`: the type field of its revision code.
    pub board_type: u32,
    /// Its other filters in config.txt.
    pub filters: &'static [&'static str],
    /// The first name in its device tree's `compatible`.
    pub compatible: &'static str,
    pub first_stage: FirstStage,
    /// The usual `start*.elf` and `fixup*.dat`; `None` where the EEPROM holds them.
    pub start: Option<(&'static str, &'static str)>,
    /// The 32-bit kernel that is taken when none is named.
    pub kernel: &'static str,
    /// The device tree that is taken when none is named.
    pub device_tree: &'static str,
    /// Whether its processor has a 64-bit state.
    pub wide: bool,
    /// QEMU's model of it.
    pub qemu: Option<&'static str>,
}

const OLD: Option<(&str, &str)> = Some(("start.elf", "fixup.dat"));
const FOUR: Option<(&str, &str)> = Some(("start4.elf", "fixup4.dat"));

/// Of raspberrypi/documentation: names and types are those of "Raspberry Pi revision codes", filters those of "Model Filters", files and kernels
/// those of "The boot folder". `device_tree` is Raspberry Pi's own name, which Debian's kernel does not have for all: config.txt says which.
pub const MODELS: &[Model] = &[
    Model {
        name: "Raspberry Pi 2 Model B",
        board_type: 0x04,
        filters: &["pi2"],
        compatible: "raspberrypi,2-model-b",
        first_stage: FirstStage::BootRom,
        start: OLD,
        kernel: "kernel7.img",
        device_tree: "bcm2709-rpi-2-b.dtb",
        // Revision 1.2 has, but its type is the same.
        wide: false,
        qemu: Some("raspi2b"),
    },
    Model {
        name: "Raspberry Pi 3 Model B",
        board_type: 0x08,
        filters: &["pi3"],
        compatible: "raspberrypi,3-model-b",
        first_stage: FirstStage::BootRom,
        start: OLD,
        kernel: "kernel7.img",
        device_tree: "bcm2710-rpi-3-b.dtb",
        wide: true,
        qemu: Some("raspi3b"),
    },
    Model {
        name: "Raspberry Pi Compute Module 3",
        board_type: 0x0a,
        filters: &["pi3"],
        compatible: "raspberrypi,3-compute-module",
        first_stage: FirstStage::BootRom,
        start: OLD,
        kernel: "kernel7.img",
        device_tree: "bcm2710-rpi-cm3.dtb",
        wide: true,
        qemu: None,
    },
    Model {
        name: "Raspberry Pi 3 Model B+",
        board_type: 0x0d,
        filters: &["pi3", "pi3+"],
        compatible: "raspberrypi,3-model-b-plus",
        first_stage: FirstStage::BootRom,
        start: OLD,
        kernel: "kernel7.img",
        device_tree: "bcm2710-rpi-3-b-plus.dtb",
        wide: true,
        qemu: None,
    },
    Model {
        name: "Raspberry Pi 3 Model A+",
        board_type: 0x0e,
        filters: &["pi3", "pi3+"],
        compatible: "raspberrypi,3-model-a-plus",
        first_stage: FirstStage::BootRom,
        start: OLD,
        kernel: "kernel7.img",
        device_tree: "bcm2710-rpi-3-b-plus.dtb",
        wide: true,
        qemu: Some("raspi3ap"),
    },
    Model {
        name: "Raspberry Pi 4 Model B",
        board_type: 0x11,
        filters: &["pi4"],
        compatible: "raspberrypi,4-model-b",
        first_stage: FirstStage::Eeprom,
        start: FOUR,
        kernel: "kernel7l.img",
        device_tree: "bcm2711-rpi-4-b.dtb",
        wide: true,
        qemu: Some("raspi4b"),
    },
    Model {
        name: "Raspberry Pi Zero 2 W",
        board_type: 0x12,
        filters: &["pi0", "pi0w", "pi02"],
        compatible: "raspberrypi,model-zero-2-w",
        first_stage: FirstStage::BootRom,
        start: OLD,
        kernel: "kernel7.img",
        device_tree: "bcm2710-rpi-zero-2-w.dtb",
        wide: true,
        qemu: None,
    },
    Model {
        name: "Raspberry Pi 400",
        board_type: 0x13,
        filters: &["pi4", "pi400"],
        compatible: "raspberrypi,400",
        first_stage: FirstStage::Eeprom,
        start: FOUR,
        kernel: "kernel7l.img",
        device_tree: "bcm2711-rpi-400.dtb",
        wide: true,
        qemu: None,
    },
    Model {
        name: "Raspberry Pi Compute Module 4",
        board_type: 0x14,
        filters: &["pi4", "cm4"],
        compatible: "raspberrypi,4-compute-module",
        first_stage: FirstStage::Eeprom,
        start: FOUR,
        kernel: "kernel7l.img",
        device_tree: "bcm2711-rpi-cm4.dtb",
        wide: true,
        qemu: None,
    },
    Model {
        name: "Raspberry Pi 5",
        board_type: 0x17,
        filters: &["pi5"],
        compatible: "raspberrypi,5-model-b",
        first_stage: FirstStage::Eeprom,
        start: None,
        kernel: "kernel8.img",
        device_tree: "bcm2712-rpi-5-b.dtb",
        wide: true,
        qemu: None,
    },
];

/// The model that a machine of QEMU stands for.
pub fn of_qemu(machine: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.qemu == Some(machine))
}
