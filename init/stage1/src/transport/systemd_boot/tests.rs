//! Folders as EFI system partitions, read as systemd-boot reads them (252 to 257, `src/boot/efi/boot.c`).

use super::*;
use crate::transport::tests::manifest;
use kedge_config::boot_entry::FIRST_RANK;
use kedge_config::slot::{Choice, Firmware, Kernel, Record, SWITCH_LIMIT, Verdict, Way};
use std::cmp::{Ordering, Reverse};
use std::path::PathBuf;
use tempfile::TempDir;

/// What the boot loader knows of an entry.
#[derive(Debug, Clone)]
struct Seen {
    file: String,
    id: String,
    left: Option<u32>,
    key: String,
    version: u64,
    program: String,
}

/// All entries whose program is there, in the order of the menu.
fn menu(esp: &Path) -> Vec<Seen> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(esp.join(FOLDER)).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let Some(stem) = file.strip_suffix(".conf") else { continue };
        let text = fs::read_to_string(esp.join(FOLDER).join(&file)).unwrap();
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            line.unwrap_or_default().to_owned()
        };
        let (id, counter) = stem.split_once('+').map_or((stem, None), |(id, counter)| (id, Some(counter)));
        let left = counter.map(|counter| counter.split('-').next().unwrap().parse().unwrap());
        let program = [value("linux"), value("efi")].concat();
        if esp.join(program.trim_start_matches('/')).exists() {
            let (key, version) = (value("sort-key"), value("version").parse().unwrap());
            seen.push(Seen { id: id.to_owned(), left, key, version, program, file });
        }
    }
    let order = |one: &Seen, other: &Seen| -> Ordering {
        let rank =
            |seen: &Seen| (seen.left == Some(0), seen.key.clone(), Reverse(seen.version), Reverse(seen.id.clone()));
        rank(one).cmp(&rank(other))
    };
    seen.sort_by(order);
    seen
}

/// Starts the first entry, counted as systemd-boot counts before it does. Gives the slot whose kernel it is.
fn start(esp: &Path) -> SlotName {
    let first = menu(esp).first().cloned().expect("something to start");
    let name = Name::parse(&first.file).unwrap();
    if let Kind::Counted { left, done } = name.kind {
        let counted = Name { kind: Kind::Counted { left: left.saturating_sub(1), done: done + 1 }, ..name };
        fs::rename(esp.join(path(name)), esp.join(path(counted))).unwrap();
    }
    assert_ne!(name.kind, Kind::Forced, "a person's entry is never the first");
    assert_eq!(first.program, format!("/kedge/{}/kedge.efi", name.slot));
    name.slot
}

struct Esp(TempDir);

impl Esp {
    /// As the image tool leaves it; slot B has a kernel as well.
    fn new() -> Self {
        let esp = Self(tempfile::tempdir().unwrap());
        for slot in SlotName::ALL {
            let folder = esp.0.path().join(boot_entry::slot_folder(slot));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("kedge.efi"), "MZ").unwrap();
        }
        let made = manifest(Role::Unified, 1);
        let entry =
            Entry { slot: SlotName::A, version: "0.1.0", rank: FIRST_RANK, files: &made.boot, command_line: "" };
        let name = Name { slot: SlotName::A, kind: Kind::Plain };
        Step::Write { path: path(name), text: entry.text(false).unwrap() }.apply(esp.0.path()).unwrap();
        esp
    }

    fn found(&self) -> Vec<Found> {
        read(self.0.path()).unwrap()
    }

    fn files(&self) -> Vec<String> {
        self.found().into_iter().map(|found| found.file).collect()
    }

    fn apply(&self, steps: &[Step]) {
        steps.iter().for_each(|step| step.apply(self.0.path()).unwrap());
    }

    fn try_next(&self, slot: SlotName, id: u8) {
        self.apply(&steps_to_try(&self.found(), slot, id));
    }

    fn copy(&self) -> Self {
        let copy = Self(tempfile::tempdir().unwrap());
        let mut open = vec![PathBuf::new()];
        while let Some(folder) = open.pop() {
            fs::create_dir_all(copy.0.path().join(&folder)).unwrap();
            for entry in fs::read_dir(self.0.path().join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = folder.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    open.push(path);
                } else {
                    fs::copy(entry.path(), copy.0.path().join(path)).unwrap();
                }
            }
        }
        copy
    }
}

fn steps_to_try(found: &[Found], slot: SlotName, id: u8) -> Vec<Step> {
    try_next(found, slot, &manifest(Role::Unified, id), "", 3)
}

#[test]
fn a_slot_is_tried_three_times_and_then_the_old_one_is_back() {
    let esp = Esp::new();
    assert_eq!(start(esp.0.path()), SlotName::A);
    esp.try_next(SlotName::B, 2);
    assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b+3.conf"]);
    for files in ["kedge-b+2-1.conf", "kedge-b+1-2.conf", "kedge-b+0-3.conf"] {
        assert!(!spent(&esp.found(), SlotName::B));
        assert_eq!(start(esp.0.path()), SlotName::B);
        assert_eq!(esp.files()[1], files);
    }
    assert!(spent(&esp.found(), SlotName::B) && !spent(&esp.found(), SlotName::A));
    for _ in 0..3 {
        assert_eq!(start(esp.0.path()), SlotName::A);
    }
    // A next attempt has all of its tries.
    esp.apply(&commit(&esp.found(), SlotName::A).unwrap());
    esp.apply(&remove(&esp.found(), SlotName::B));
    esp.try_next(SlotName::B, 3);
    assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b+3.conf"]);
    assert_eq!(start(esp.0.path()), SlotName::B);
}

#[test]
fn a_kernel_that_comes_up_is_not_counted() {
    let esp = Esp::new();
    esp.try_next(SlotName::B, 2);
    for _ in 0..10 {
        assert_eq!(start(esp.0.path()), SlotName::B);
        esp.apply(&came_up(&esp.found(), SlotName::B, 3));
        assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b+3.conf"]);
        assert_eq!(came_up(&esp.found(), SlotName::B, 3), []);
    }
    assert_eq!(came_up(&esp.found(), SlotName::A, 3), []);
}

#[test]
fn a_name_with_zeros_is_a_file_of_its_own() {
    let esp = Esp::new();
    esp.try_next(SlotName::B, 2);
    let entries = esp.0.path().join(FOLDER);
    fs::rename(entries.join("kedge-b+3.conf"), entries.join("kedge-b+03.conf")).unwrap();
    esp.try_next(SlotName::B, 3);
    assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b+3.conf"]);
    fs::rename(entries.join("kedge-b+3.conf"), entries.join("kedge-b+03.conf")).unwrap();
    esp.apply(&commit(&esp.found(), SlotName::B).unwrap());
    assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b.conf"]);
}

#[test]
fn upgrades_go_back_and_forth() {
    let esp = Esp::new();
    let mut slot = SlotName::A;
    for id in 2..30 {
        slot = slot.other();
        esp.apply(&remove(&esp.found(), slot));
        assert_eq!(start(esp.0.path()), slot.other());
        esp.try_next(slot, id);
        assert_eq!(start(esp.0.path()), slot);
        esp.apply(&commit(&esp.found(), slot).unwrap());
        assert_eq!(start(esp.0.path()), slot);
        assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b.conf"][..esp.files().len()]);
        assert_eq!(commit(&esp.found(), slot).unwrap(), []);
    }
    // And back to the one before, which is still there.
    esp.apply(&commit(&esp.found(), slot.other()).unwrap());
    assert_eq!(start(esp.0.path()), slot.other());
    assert_eq!(esp.files().len(), 2);
    assert_eq!(commit(&[], SlotName::A), None);
}

#[test]
fn a_persons_entry_comes_last_and_goes_with_the_slot() {
    let esp = Esp::new();
    let mut made = manifest(Role::Kernel, 2);
    let blob = made.boot[0].blob;
    let file = |role, path: &str| kedge_config::boot_files::BootFile { role, path: path.into(), blob };
    made.boot =
        vec![file(Role::CommandLine, "cmdline.txt"), file(Role::Initramfs, "i"), file(Role::Kernel, "kedge.efi")];
    fs::write(esp.0.path().join("kedge/b/cmdline.txt"), "quiet\n").unwrap();
    let line = command_line(esp.0.path(), SlotName::B, &made).unwrap();
    esp.apply(&try_next(&esp.found(), SlotName::B, &made, &line, 3));
    assert_eq!(esp.files(), ["kedge-a.conf", "kedge-b+3.conf", "kedge-b-force.conf"]);
    assert!(esp.found()[2].text.ends_with("options quiet kedge.force-slot=b\n"));
    assert_eq!(menu(esp.0.path()).last().unwrap().file, "kedge-b-force.conf");
    for expected in [SlotName::B, SlotName::B, SlotName::B, SlotName::A, SlotName::A] {
        assert_eq!(start(esp.0.path()), expected);
    }
    esp.apply(&remove(&esp.found(), SlotName::B));
    assert_eq!(esp.files(), ["kedge-a.conf"]);
}

/// Whatever is under way when power fails: what is started is the old slot or the one that is asked for, and it is never counted out.
#[test]
fn a_power_cut_between_any_two_steps_leaves_something_to_start() {
    use SlotName::{A, B};
    type Change = fn(&Esp) -> Vec<Step>;
    type State = fn(&Esp);
    let before: [(&str, State); 4] = [
        ("fresh", |_| ()),
        ("tried", |esp| esp.try_next(B, 2)),
        ("given up", |esp| {
            esp.try_next(B, 2);
            for _ in 0..3 {
                start(esp.0.path());
            }
        }),
        ("upgraded", |esp| {
            esp.try_next(B, 2);
            esp.apply(&commit(&esp.found(), B).unwrap());
        }),
    ];
    let changes: [(&str, Change, SlotName); 5] = [
        ("try b", |esp| steps_to_try(&esp.found(), B, 3), B),
        ("try a", |esp| steps_to_try(&esp.found(), A, 3), A),
        ("commit a", |esp| commit(&esp.found(), A).unwrap(), A),
        ("commit b", |esp| commit(&esp.found(), B).unwrap_or_default(), B),
        (
            "forget b",
            |esp| {
                // As `Transport::forget`: the second is decided when the first is done.
                let found = esp.found();
                [commit(&found, A).unwrap(), remove(&found, B)].concat()
            },
            A,
        ),
    ];
    let mut cuts = 0;
    for (state, make) in before {
        for (name, change, wanted) in changes {
            let esp = Esp::new();
            make(&esp);
            let old = start(esp.copy().0.path());
            let steps = change(&esp);
            for done in 0..=steps.len() {
                let cut = esp.copy();
                cut.apply(&steps[..done]);
                if let Some(step) = steps.get(done) {
                    step.cut(cut.0.path(), 40);
                }
                let started = start(cut.copy().0.path());
                assert!(started == old || started == wanted, "{state}, {name}, cut after {done}: {started}");
                cuts += 1;
                // It is done again, and then it is done.
                cut.apply(&change(&cut));
                assert!(start(cut.0.path()) == wanted || steps.is_empty(), "{state}, {name}, again after {done}");
            }
        }
    }
    assert!(cuts > 30, "{cuts}");
}

/// What firmware and stage 1 make of a disk: the slot whose system is booted, by its own kernel, and how many starts that took.
fn boot(esp: &Esp, record: &mut Record) -> (SlotName, usize) {
    for starts in 1..=usize::from(SWITCH_LIMIT) + 1 {
        let own = start(esp.0.path());
        loop {
            let Choice::Boot(name) = record.choose(None, &[]) else { panic!("nothing to boot: {record:?}") };
            let kernel = if own == name { Kernel::Own } else { Kernel::Fits };
            match record.way(name, false, kernel, Firmware::Told { spent: spent(&esp.found(), name) }) {
                Way::Boot => {
                    assert_eq!(own, name, "by the other's kernel");
                    record.count_try(name);
                    if record.slot(name).verdict == Verdict::Trial {
                        esp.apply(&came_up(&esp.found(), name, 3));
                    }
                    return (name, starts);
                }
                Way::Switch => {
                    record.count_switch();
                    match record.slot(name).verdict {
                        Verdict::Trial => esp.try_next(name, 2),
                        _ => esp.apply(&commit(&esp.found(), name).unwrap()),
                    }
                    break;
                }
                Way::Condemn => {
                    esp.apply(&commit(&esp.found(), name.other()).unwrap());
                    record.condemn(name, "did not come up");
                }
                Way::Pass => panic!("passed over"),
            }
        }
    }
    panic!("nothing was booted: {record:?}");
}

/// A whole upgrade, from slot A to B, cut off after any of its steps: before B is on trial in the record A is booted, and after it B is.
#[test]
fn an_upgrade_that_is_cut_off_boots_the_old_system_until_the_new_one_is_on_trial() {
    let (esp, mut record) = (Esp::new(), Record::fresh());
    let mut world: Vec<(Esp, Record, SlotName)> = Vec::new();
    let mut keep = |esp: &Esp, record: &Record, expected| world.push((esp.copy(), record.clone(), expected));
    // Firmware starts B, which held a system once: it is not to be started from now on.
    esp.try_next(SlotName::B, 1);
    esp.apply(&commit(&esp.found(), SlotName::B).unwrap());
    let each = |esp: &Esp, steps: Vec<Step>, record: &Record, keep: &mut dyn FnMut(&Esp, &Record)| {
        for step in steps {
            step.cut(esp.0.path(), 40);
            keep(esp, record);
            step.apply(esp.0.path()).unwrap();
            keep(esp, record);
        }
    };
    each(&esp, commit(&esp.found(), SlotName::A).unwrap(), &record, &mut |esp, record| keep(esp, record, SlotName::A));
    each(&esp, remove(&esp.found(), SlotName::B), &record, &mut |esp, record| keep(esp, record, SlotName::A));
    let steps = steps_to_try(&esp.found(), SlotName::B, 2);
    each(&esp, steps, &record, &mut |esp, record| keep(esp, record, SlotName::A));
    record.put_on_trial(SlotName::B, 3);
    keep(&esp, &record, SlotName::B);
    // It is well.
    let steps = commit(&esp.found(), SlotName::B).unwrap();
    each(&esp, steps, &record, &mut |esp, record| keep(esp, record, SlotName::B));
    record.confirm(SlotName::B, 0);
    keep(&esp, &record, SlotName::B);
    assert!(world.len() > 8, "{}", world.len());
    for (number, (esp, mut record, expected)) in world.into_iter().enumerate() {
        let (booted, starts) = boot(&esp, &mut record);
        assert_eq!(booted, expected, "cut {number}");
        assert!(starts <= 2, "cut {number}: {starts} starts");
        // And the next start is straight.
        assert_eq!(boot(&esp, &mut record), (expected, 1), "cut {number}");
    }
}

#[test]
fn a_kernel_that_never_comes_up_is_condemned_when_the_old_one_is_back() {
    let (esp, mut record) = (Esp::new(), Record::fresh());
    esp.try_next(SlotName::B, 2);
    record.put_on_trial(SlotName::B, 3);
    for _ in 0..3 {
        assert_eq!(start(esp.0.path()), SlotName::B);
    }
    assert_eq!(boot(&esp, &mut record), (SlotName::A, 1));
    assert_eq!((record.b.verdict, record.b.tries), (Verdict::Bad, 0));

    // A system that comes up and never proves itself has its tries; then its own stage 1 gives the machine back.
    let (esp, mut record) = (Esp::new(), Record::fresh());
    esp.try_next(SlotName::B, 2);
    record.put_on_trial(SlotName::B, 3);
    for _ in 0..3 {
        assert_eq!(boot(&esp, &mut record), (SlotName::B, 1));
    }
    assert_eq!(boot(&esp, &mut record), (SlotName::A, 2));
    assert_eq!(boot(&esp, &mut record), (SlotName::A, 1));
}
