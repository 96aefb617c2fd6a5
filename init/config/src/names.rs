//! Names that two programs must agree on: partitions, files in the initramfs, files in the system image.

/// A partition of the disk, in the order in which the image tool writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// The GPT partition name, by which stage 1 and init find it (`PARTNAME` in the kernel's uevent).
    pub name: &'static str,
    /// The GPT partition type in the byte order of the disk (first three fields little-endian).
    pub type_guid: [u8; 16],
}

pub const ESP: Partition = Partition { name: "ESP", type_guid: disk_guid(0xC12A7328_F81F_11D2_BA4B_00A0C93EC93B) };
pub const SYSTEM_A: Partition = Partition { name: "SYSTEM-A", type_guid: SYSTEM_TYPE };
pub const SYSTEM_B: Partition = Partition { name: "SYSTEM-B", type_guid: SYSTEM_TYPE };
pub const META: Partition = Partition { name: "META", type_guid: disk_guid(0xba79066f_fde5_4512_b858_c3938b87fcb8) };
/// Last on the disk, so that it can grow. Its type is "Linux filesystem".
pub const STATE: Partition = Partition { name: "STATE", type_guid: disk_guid(0x0FC63DAF_8483_4772_8E79_3D69D8477DE4) };

/// A device's seed where it does not lie on the ESP: on a USB stick or a second disk. Its type is "basic data", so that any computer shows it.
pub const SEED: Partition = Partition { name: "KEDGE-SEED", type_guid: BASIC_DATA };

/// On boards whose firmware starts a slot by itself: its kernel, initramfs and device trees. Their type is "basic data".
pub const BOOT_A: Partition = Partition { name: "BOOT-A", type_guid: BASIC_DATA };
pub const BOOT_B: Partition = Partition { name: "BOOT-B", type_guid: BASIC_DATA };

/// The GUID partition table, in order.
pub const PARTITIONS: [Partition; 5] = [ESP, SYSTEM_A, SYSTEM_B, META, STATE];

/// A row of an MBR, which has numbers where a GPT has names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MbrPartition {
    pub number: u32,
    /// The type byte.
    pub kind: u8,
    pub partition: Partition,
}

/// The MBR of a Raspberry Pi's card, see [`crate::mbr`]. The firmware's first FAT partition takes the ESP's part: a machine config and a
/// seed are looked for on it.
pub const MBR_PARTITIONS: [MbrPartition; 7] = [
    MbrPartition { number: 1, kind: FAT32, partition: ESP },
    MbrPartition { number: 2, kind: FAT32, partition: BOOT_A },
    MbrPartition { number: 3, kind: FAT32, partition: BOOT_B },
    MbrPartition { number: 5, kind: LINUX, partition: SYSTEM_A },
    MbrPartition { number: 6, kind: LINUX, partition: SYSTEM_B },
    MbrPartition { number: 7, kind: LINUX, partition: META },
    MbrPartition { number: 8, kind: LINUX, partition: STATE },
];

/// FAT32 with LBA: the boot ROM knows FAT partitions by it.
const FAT32: u8 = 0x0c;
const LINUX: u8 = 0x83;

const BASIC_DATA: [u8; 16] = disk_guid(0xEBD0A0A2_B9E5_4433_87C0_68B6B72699C7);

const SYSTEM_TYPE: [u8; 16] = disk_guid(0xdb3fc47d_7c14_40bb_b55f_5d1ab7b35879);

/// A GUID as GPT stores it, from the number as it is written (UEFI 2.10, appendix A).
pub const fn disk_guid(written: u128) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = written.to_be_bytes();
    [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p]
}

/// In the initramfs: one path of a raw module a line, in load order. Empty lines and lines starting with `#` are skipped.
pub const STAGE1_MODULES: &str = "/modules.load";
/// In the initramfs: the keys that systems are signed by, see [`crate::signing`].
pub const STAGE1_KEYS: &str = "/keys";
/// In the initramfs: the [`crate::slot_manifest::SlotManifest::boot_id`] of the system that it belongs to, in hexadecimal.
pub const STAGE1_BOOT_ID: &str = "/boot-id";
/// In the initramfs of a board whose watchdog is armed before the system begins: its device, a space, and after how many seconds it resets.
pub const STAGE1_WATCHDOG: &str = "/watchdog";
/// In the system image, below `/usr/lib/modules/KERNEL-RELEASE/`: the same for the modules that init loads; paths are relative to that folder.
pub const SYSTEM_MODULES: &str = "kedge.modules";
pub const MODULES_DIR: &str = "/usr/lib/modules";

/// In the system image: the board config the image was built for.
pub const BOARD_FILE: &str = "/etc/kedge/board.yaml";
/// In the system image: the lowest source of the machine config. The same file name is looked for on the ESP and in STATE.
pub const MACHINE_FILE: &str = "/etc/kedge/kedge.yaml";
/// What the factory writes for one device, on the ESP or on [`SEED`]: its machine config, its key, the key's certificate, and the
/// certificate of the authority that signed it (PEM).
pub const SEED_MACHINE: &str = "kedge.yaml";
pub const SEED_KEY: &str = "identity/device.key";
pub const SEED_CERTIFICATE: &str = "identity/device.crt";
pub const SEED_AUTHORITY: &str = "identity/fleet-ca.crt";
/// In the system image: the second since 1970 below which the clock never starts, in decimal.
pub const BUILD_EPOCH_FILE: &str = "/etc/kedge/build-epoch";
/// In the system image: unpacked container images and their index.
pub const IMAGES_DIR: &str = "/usr/lib/kedge/images";
/// The init of the system image; the same binary as `/usr/bin/kedge`.
pub const INIT: &str = "/sbin/init";
/// Where STATE is mounted.
pub const STATE_DIR: &str = "/var/lib/kedge";
/// What a successor of PID 1 needs to adopt the running system (tmpfs).
pub const RUN_DIR: &str = "/run/kedge";
/// What is said to the firmware when the machine restarts, see `kedge_stage1::transport`.
pub const RESTART: &str = "/run/kedge/restart";
/// Written by stage 1, read by init: lines `name value`; times are nanoseconds of CLOCK_MONOTONIC.
pub const STAGE1_REPORT: &str = "/run/kedge/stage1";
/// Written by stage 1: the keys of [`STAGE1_KEYS`], by which bundles have to be signed as well.
pub const RUN_KEYS: &str = "/run/kedge/keys";
/// QEMU's firmware configuration entry that carries a machine config.
pub const FW_CFG_MACHINE: &str = "opt/kedge/kedge.yaml";
/// The virtio serial port by which a guest hands its host the administrator's kubeconfig.
pub const KUBECONFIG_PORT: &str = "kedge.kubeconfig";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_byte_order_is_that_of_the_specification() {
        // UEFI 2.10, table 5.7 and appendix A: C12A7328-F81F-11D2-BA4B-00A0C93EC93B on disk.
        let on_disk = [0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B];
        assert_eq!(ESP.type_guid, on_disk);
    }

    #[test]
    fn names_fit_into_a_gpt_entry_and_are_unique() {
        for (at, partition) in PARTITIONS.iter().enumerate() {
            assert!(partition.name.len() <= 36, "{}", partition.name);
            assert!(PARTITIONS[..at].iter().all(|other| other.name != partition.name));
        }
        for (at, row) in MBR_PARTITIONS.iter().enumerate() {
            let before = MBR_PARTITIONS[..at].iter();
            assert!(
                before.clone().all(|other| other.number < row.number && other.partition.name != row.partition.name)
            );
        }
    }
}
