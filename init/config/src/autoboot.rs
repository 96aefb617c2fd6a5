//! `autoboot.txt` on the first partition of a Raspberry Pi's card: which slot's partition the firmware boots, and which one when it was
//! asked to try (raspberrypi.com, documentation, config.txt, "autoboot.txt"). The image tool writes the first one; whoever commits the
//! other slot writes it anew, as a file of another name that is then renamed.

use crate::names::MBR_PARTITIONS;
use crate::slot::SlotName;

pub const FILE: &str = "autoboot.txt";
/// The argument of reboot(2) that has the firmware boot the other slot once. Raspberry Pi's own kernels pass it on, Debian's do not.
pub const TRY: &str = "0 tryboot";

/// Boots `slot`; the other one when asked to try.
pub fn text(slot: SlotName) -> String {
    let (own, other) = (number(slot), number(slot.other()));
    format!("[all]\ntryboot_a_b=1\nboot_partition={own}\n[tryboot]\nboot_partition={other}\n")
}

fn number(slot: SlotName) -> u32 {
    let row = MBR_PARTITIONS.iter().find(|row| row.partition.name == slot.boot_partition());
    // Zero is the firmware's word for "the first that can be booted".
    row.map_or(0, |row| row.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_as_documented() {
        let expected = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
        assert_eq!(text(SlotName::A), expected);
        assert_eq!(text(SlotName::B), expected.replace('2', "x").replace('3', "2").replace('x', "3"));
        assert!(expected.len() <= 512);
    }
}
