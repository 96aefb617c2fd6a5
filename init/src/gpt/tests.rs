use super::*;
use proptest::prelude::*;

/// A disk in memory which loses power after so many sectors written.
struct Memory {
    bytes: Vec<u8>,
    power: usize,
}

impl Disk for Memory {
    fn sectors(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64 / SECTOR)
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> io::Result<()> {
        let at = (sector * SECTOR) as usize;
        into.copy_from_slice(self.bytes.get(at..at + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) -> io::Result<()> {
        for (at, one) in bytes.chunks(SECTOR as usize).enumerate() {
            self.power = self.power.checked_sub(1).ok_or(io::ErrorKind::Other)?;
            let at = sector as usize * 512 + at * 512;
            self.bytes[at..at + one.len()].copy_from_slice(one);
        }
        Ok(())
    }
}

const MIB: usize = 1 << 20;

/// A table of two partitions, as an image tool writes it, on a disk of `image` MiB, copied to a disk of `card` MiB.
fn card(image: usize, card: usize) -> Memory {
    let last = (image * MIB / 512 - 1) as u64;
    let mut table = Table { header: [0; 512], entries: vec![0; 128 * 128] };
    table.header[..8].copy_from_slice(&SIGNATURE);
    table.set_u32(8, 0x10000);
    table.set_u32(HEADER_SIZE, 92);
    table.set_u64(FIRST_USABLE, 34);
    table.set_u64(LAST_USABLE, last - 33);
    table.set_u32(ENTRY_COUNT, 128);
    table.set_u32(ENTRY_SIZE, 128);
    let rows = [("META", 2048, 4095), ("STATE", 4096, (image * MIB / 512 - 2048 - 1) as u64)];
    for (index, (name, start, end)) in rows.into_iter().enumerate() {
        let row = &mut table.entries[index * 128..][..128];
        row[..16].fill(7);
        row[STARTING_LBA..][..8].copy_from_slice(&u64::to_le_bytes(start));
        row[ENDING_LBA..][..8].copy_from_slice(&end.to_le_bytes());
        for (at, unit) in name.encode_utf16().enumerate() {
            row[NAME + 2 * at..][..2].copy_from_slice(&unit.to_le_bytes());
        }
    }
    let mut disk = Memory { bytes: vec![0; image * MIB], power: usize::MAX };
    for (my, alternate, entries) in [(1, last, 2), (last, 1, last - 32)] {
        table.set_u64(MY_LBA, my);
        table.set_u64(ALTERNATE_LBA, alternate);
        table.set_u64(ENTRIES_LBA, entries);
        table.seal();
        disk.write(entries, &table.entries).unwrap();
        disk.write(my, &table.header).unwrap();
    }
    disk.bytes.resize(card * MIB, 0);
    disk
}

#[test]
fn the_last_partition_grows_to_the_end_and_then_stays() {
    let mut disk = card(16, 100);
    let growth = grow_last(&mut disk, "STATE").unwrap();
    let expected = Extent { number: 2, start: 4096, sectors: (99 * MIB / 512) as u64 - 4096 };
    assert_eq!(growth, Growth { extent: expected, grown: true });
    disk.power = 0;
    assert_eq!(grow_last(&mut disk, "STATE").unwrap(), Growth { extent: expected, grown: false });
    // Both copies are whole and tell the same.
    let last = disk.sectors().unwrap() - 1;
    let (one, two) = (Table::read(&mut disk, 1, last).unwrap(), Table::read(&mut disk, last, last).unwrap());
    assert_eq!(one.entries, two.entries);
    assert_eq!((one.get_u64(ALTERNATE_LBA), two.get_u64(ALTERNATE_LBA)), (last, 1));
    assert_eq!(one.find("META").unwrap(), (0, 2048, 4095));
}

#[test]
fn power_may_fail_after_any_sector() {
    for power in 0..67 {
        let mut disk = card(4, 8);
        disk.power = power;
        let cut = grow_last(&mut disk, "STATE");
        assert_eq!(cut.is_err(), power < 66, "{power}");
        disk.power = usize::MAX;
        let growth = grow_last(&mut disk, "STATE").unwrap();
        assert_eq!(growth.extent.start, 4096, "{power}");
        assert_eq!(growth.extent.sectors, (7 * MIB / 512) as u64 - 4096, "{power}");
        assert!(!grow_last(&mut disk, "STATE").unwrap().grown, "{power}");
    }
}

#[test]
fn what_cannot_grow_is_told() {
    let told = |disk: &mut Memory, name: &str| grow_last(disk, name).unwrap_err().to_string();
    assert_eq!(told(&mut card(16, 40), "META"), "partition META is not the last on its disk, so it cannot grow");
    assert_eq!(told(&mut card(16, 40), "OTHER"), "the partition table has no partition named OTHER");
    let mut blank = Memory { bytes: vec![0; MIB], power: 0 };
    assert_eq!(
        told(&mut blank, "STATE"),
        "no whole partition table (first copy: no signature; second copy: no signature)"
    );
    let mut damaged = card(16, 40);
    damaged.bytes[1024 + 40] ^= 1;
    assert!(told(&mut damaged, "STATE").contains("first copy: wrong checksum of the entries"));
    let mut tiny = Memory { bytes: vec![0; 512], power: 0 };
    assert!(told(&mut tiny, "STATE").contains("unreadable"));
}

proptest! {
    #[test]
    fn a_sealed_header_of_any_fields_is_answered(fields in prop::collection::vec(any::<u32>(), 128), small in any::<bool>()) {
        let mut disk = card(4, 4);
        let mut table = Table { header: [0; 512], entries: Vec::new() };
        for (at, field) in fields.iter().enumerate() {
            table.set_u32(at * 4, if small { field % 256 } else { *field });
        }
        table.header[..8].copy_from_slice(&SIGNATURE);
        table.set_u32(HEADER_SIZE, 92);
        table.set_u64(MY_LBA, 1);
        let crc = table.header_crc();
        table.set_u32(HEADER_CRC, crc);
        disk.bytes[512..1024].copy_from_slice(&table.header);
        let _ = grow_last(&mut disk, "STATE");
    }
}
