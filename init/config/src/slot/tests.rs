use super::*;
use proptest::prelude::*;

/// A META partition in memory.
struct Meta {
    bytes: Vec<u8>,
}

impl Meta {
    fn new(record: &Record) -> Self {
        let mut meta = Self { bytes: vec![0xA5; 1 << 20] };
        for (offset, copy) in record.initial_writes() {
            meta.write(offset, &copy);
        }
        meta
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn read(&self) -> Result<Record, SlotError> {
        let copy = |offset: u64| &self.bytes[offset as usize..offset as usize + COPY_BYTES];
        Record::decode(copy(COPY_OFFSETS[0]), copy(COPY_OFFSETS[1]))
    }
}

fn slots() -> impl Strategy<Value = Slot> {
    let verdict = prop::sample::select(vec![Verdict::Empty, Verdict::Good, Verdict::Trial, Verdict::Bad]);
    (verdict, any::<u8>(), any::<u8>(), any::<u8>(), "[a-zé ]{0,50}").prop_map(
        |(verdict, priority, tries, unconfirmed, note)| Slot {
            verdict,
            priority,
            tries,
            unconfirmed,
            note: note.trim_end().to_owned(),
        },
    )
}

fn records() -> impl Strategy<Value = Record> {
    (0..u64::MAX / 2, slots(), slots(), any::<u32>(), any::<u64>(), any::<u8>()).prop_map(
        |(generation, a, b, recoveries, rollback_index, switches)| Record {
            generation,
            a,
            b,
            recoveries,
            rollback_index,
            switches,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(record in records()) {
        prop_assert_eq!(Meta::new(&record).read(), Ok(record));
    }

    /// Power fails in a write: any mixture of old and new bytes may be on disk. The old or the new record is read, never neither.
    #[test]
    fn a_torn_write_leaves_the_old_or_the_new_record(
        old in records(), mut new in records(), writes in 0u64..3, torn in prop::collection::vec(any::<bool>(), COPY_BYTES),
    ) {
        let mut meta = Meta::new(&old);
        let mut old = old;
        for _ in 0..writes {
            let (offset, copy) = old.next_write();
            meta.write(offset, &copy);
        }
        new.generation = old.generation;
        let (offset, copy) = new.next_write();
        for (at, byte) in copy.iter().enumerate() {
            if torn[at] {
                meta.bytes[offset as usize + at] = *byte;
            }
        }
        let read = meta.read();
        prop_assert!(read == Ok(old) || read == Ok(new), "{:?}", read);
    }

    #[test]
    fn any_bytes_are_answered(first in prop::collection::vec(any::<u8>(), 0..600), second in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Record::decode(&first, &second).is_err());
    }

    /// However often somebody reboots before the system has proved itself, it costs none of its tries.
    #[test]
    fn a_deliberate_reboot_is_not_counted(mut before in records(), times in 1..300) {
        before.switches = 0;
        if let Choice::Boot(name) = before.choose(None, &[]) {
            // Counts stop at the top of their range: a taken-back one would be lost there.
            before.slot_mut(name).unconfirmed %= u8::MAX;
            if before.slot(name).verdict != Verdict::Trial {
                before.slot_mut(name).tries = 0;
            }
            let mut after = before.clone();
            for _ in 0..times {
                after.count_try(name);
                prop_assert!(after.excuse(name));
            }
            prop_assert_eq!(&after, &before);
            prop_assert_eq!(after.choose(None, &[]), Choice::Boot(name));
        }
    }

    /// Whatever the record says, a boot that fails everywhere ends in recovery after at most two slots, and recovery ends in waiting.
    #[test]
    fn nothing_loops(mut record in records(), forced in prop::option::of(prop::sample::select(SlotName::ALL.to_vec()))) {
        record.recoveries %= RECOVERY_LIMIT + 1;
        for _ in 0..=RECOVERY_LIMIT {
            let mut failed = Vec::new();
            loop {
                match record.choose(forced, &failed) {
                    Choice::Boot(name) => {
                        prop_assert!(!failed.contains(&name));
                        record.count_try(name);
                        record.condemn(name, "corrupt");
                        failed.push(name);
                    }
                    Choice::Recover { reboot_after: Some(_) } => { record.count_recovery(); break }
                    Choice::Recover { reboot_after: None } => return Ok(()),
                }
            }
        }
        prop_assert!(false, "still rebooting");
    }
}

proptest! {
    /// Firmware never starts what it is asked for: whatever kernel runs, restarts for another one end.
    #[test]
    fn switching_ends(mut record in records(), fits: bool, spent: bool) {
        record.switches = 0;
        let kernel = if fits { Kernel::Fits } else { Kernel::Other };
        let mut failed = Vec::new();
        for _ in 0..=SWITCH_LIMIT + 2 {
            let Choice::Boot(name) = record.choose(None, &failed) else { return Ok(()) };
            match record.way(name, false, kernel, Firmware::Told { spent }) {
                Way::Boot => {
                    prop_assert!(fits && record.slot(name).verdict != Verdict::Trial);
                    return Ok(());
                }
                Way::Switch => { record.count_switch(); failed.clear() }
                Way::Condemn => record.condemn(name, "x"),
                Way::Pass => failed.push(name),
            }
        }
        prop_assert!(false, "still switching: {:?}", record);
    }
}

#[test]
fn a_slot_is_booted_by_its_own_kernel() {
    const TOLD: Firmware = Firmware::Told { spent: false };
    const SPENT: Firmware = Firmware::Told { spent: true };
    let mut record = Record::fresh();
    record.put_on_trial(SlotName::B, 3);
    let way = |record: &Record, name, kernel, firmware| record.way(name, false, kernel, firmware);
    let (a, b) = (SlotName::A, SlotName::B);
    for firmware in [TOLD, SPENT, Firmware::Fixed] {
        assert_eq!(way(&record, b, Kernel::Own, firmware), Way::Boot);
        assert_eq!(record.way(b, true, Kernel::Fits, firmware), Way::Boot);
        assert_eq!(record.way(b, true, Kernel::Other, firmware), Way::Pass);
    }
    // A kernel that nobody can change is as good as its release.
    assert_eq!(way(&record, b, Kernel::Fits, Firmware::Fixed), Way::Boot);
    assert_eq!(way(&record, b, Kernel::Other, Firmware::Fixed), Way::Pass);
    for kernel in [Kernel::Fits, Kernel::Other] {
        assert_eq!(way(&record, b, kernel, TOLD), Way::Switch);
        assert_eq!(way(&record, b, kernel, SPENT), Way::Condemn);
        assert_eq!(way(&record, a, kernel, TOLD), Way::Switch);
    }
    record.count_switch();
    for kernel in [Kernel::Fits, Kernel::Other] {
        assert_eq!(way(&record, b, kernel, TOLD), Way::Condemn);
        assert_eq!(way(&record, a, kernel, TOLD), Way::Switch);
    }
    (1..SWITCH_LIMIT).for_each(|_| record.count_switch());
    assert_eq!(Meta::new(&record).read().unwrap().switches, SWITCH_LIMIT);
    assert_eq!(way(&record, a, Kernel::Fits, TOLD), Way::Boot);
    assert_eq!(way(&record, a, Kernel::Other, TOLD), Way::Pass);
    record.count_try(a);
    assert_eq!(record.switches, 0);
}

#[test]
fn a_damaged_newest_copy_gives_way_to_the_older() {
    let mut record = Record::fresh();
    let mut meta = Meta::new(&record);
    record.condemn(SlotName::A, "squashfs: bad superblock");
    let (offset, copy) = record.next_write();
    meta.write(offset, &copy);
    assert_eq!(meta.read().unwrap(), record);
    meta.bytes[offset as usize + 30] ^= 1;
    assert_eq!(meta.read().unwrap(), Record::fresh());
    meta.bytes[(512 * 1024 - offset) as usize + 30] ^= 1;
    let error = meta.read().unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn a_fresh_image_boots_a_for_ever_even_unconfirmed() {
    let mut record = Record::fresh();
    for _ in 0..300 {
        assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::A));
        record.count_try(SlotName::A);
    }
    assert!(record.needs_confirmation(SlotName::A, 0));
    record.confirm(SlotName::A, 0);
    assert!(!record.needs_confirmation(SlotName::A, 0));
    assert_eq!(record.slot(SlotName::A), Record::fresh().slot(SlotName::A));
}

#[test]
fn a_trial_has_its_tries_and_then_the_old_system_is_back() {
    let mut record = Record::fresh();
    record.put_on_trial(SlotName::B, 3);
    for _ in 0..3 {
        assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::B));
        record.count_try(SlotName::B);
    }
    assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::A));
    record.put_on_trial(SlotName::B, 1);
    record.count_try(SlotName::B);
    record.confirm(SlotName::B, 0);
    assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::B));
}

#[test]
fn what_was_confirmed_needs_no_excuse() {
    let mut record = Record::fresh();
    record.put_on_trial(SlotName::B, 1);
    record.count_try(SlotName::B);
    record.confirm(SlotName::B, 0);
    let confirmed = record.clone();
    assert!(!record.excuse(SlotName::B));
    assert_eq!(record, confirmed);
}

#[test]
fn a_system_that_was_condemned_is_not_excused_back_to_life() {
    let mut record = Record::fresh();
    record.put_on_trial(SlotName::B, 2);
    record.count_try(SlotName::B);
    record.condemn(SlotName::B, "corrupt");
    record.excuse(SlotName::B);
    assert_eq!((record.b.verdict, record.b.tries), (Verdict::Bad, 0));
    assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::A));
}

#[test]
fn a_good_system_that_never_gets_up_gives_way_to_another_good_one() {
    let mut record = Record::fresh();
    record.put_on_trial(SlotName::B, 1);
    record.confirm(SlotName::B, 0);
    for _ in 0..UNCONFIRMED_LIMIT {
        assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::B));
        record.count_try(SlotName::B);
    }
    assert_eq!(record.choose(None, &[]), Choice::Boot(SlotName::A));
}

#[test]
fn a_person_may_force_a_slot_but_a_failed_one_is_not_tried_twice() {
    let mut record = Record::fresh();
    record.condemn(SlotName::B, "x");
    assert_eq!(record.choose(Some(SlotName::B), &[]), Choice::Boot(SlotName::B));
    assert_eq!(record.choose(Some(SlotName::B), &[SlotName::B]), Choice::Boot(SlotName::A));
    assert_eq!(record.choose(None, &[SlotName::A]), Choice::Recover { reboot_after: Some(30) });
    assert_eq!(SlotName::forced("quiet kedge.force-slot=b x"), Some(SlotName::B));
    assert_eq!(SlotName::forced("kedge.force-slot=c"), None);
}

#[test]
fn priority_never_overflows() {
    let mut record = Record::fresh();
    for _ in 0..600 {
        for name in SlotName::ALL {
            record.put_on_trial(name, 1);
            assert_eq!(record.choose(None, &[]), Choice::Boot(name));
            record.confirm(name, 0);
        }
    }
}

#[test]
fn a_note_is_cut_between_characters() {
    let mut record = Record::fresh();
    record.condemn(SlotName::A, &format!("{}é", "x".repeat(99)));
    let read = Meta::new(&record).read().unwrap();
    assert_eq!(read.slot(SlotName::A).note, "x".repeat(99));
}

#[test]
fn the_rollback_index_only_rises_and_only_by_what_proved_itself() {
    let mut record = Record::fresh();
    record.put_on_trial(SlotName::B, 3);
    record.count_try(SlotName::B);
    assert_eq!(record.rollback_index, 0);
    record.confirm(SlotName::B, 7);
    assert_eq!(Meta::new(&record).read().unwrap().rollback_index, 7);
    assert!(!record.needs_confirmation(SlotName::B, 7) && record.needs_confirmation(SlotName::B, 8));
    record.confirm(SlotName::A, 3);
    assert_eq!(record.rollback_index, 7);
}
