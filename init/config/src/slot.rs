//! The slot record: which system boots next, how often it may still be tried, and what is known of it.
//!
//! It lives on the META partition in two copies. A write goes to the copy that is not the newest, so power may fail in the middle
//! of it: the other copy is whole, and reading takes the newest whole one. All here is pure; stage 1 and init do the reading and writing.
//!
//! ```text
//! stage 1: read ─▶ choose ─▶ way ─▶ count_try ─▶ write ─▶ mount ─▶ switch_root   init: running well ─▶ confirm ─▶ write
//!                    ▲        │ its kernel is another       │ corrupt                    asked to end ─▶ excuse ──▶ write
//!                    │        ├─▶ count_switch ─▶ restart   │
//!                    │        ▼ it never comes up           │
//!                    └────────┴─────── condemn ◀────────────┘
//! ```

use std::fmt;

/// Bytes of one encoded copy: one disk sector, which disks write whole or not at all (and if not, the checksum tells).
pub const COPY_BYTES: usize = 512;
/// Where the copies start within META. Far apart, so that one bad erase block does not take both.
pub const COPY_OFFSETS: [u64; 2] = [0, 512 * 1024];
/// Boots in a row that a good system may leave unconfirmed before another good one is preferred.
pub const UNCONFIRMED_LIMIT: u8 = 6;
/// Automatic reboots out of the recovery state, after which it waits for a person.
pub const RECOVERY_LIMIT: u32 = 3;
/// Restarts in a row by which stage 1 asks for another slot's kernel.
pub const SWITCH_LIMIT: u8 = 3;
/// The same for a system on trial, whose kernel was asked for when it was put on trial: where a kernel hangs, each costs a person a way.
pub const TRIAL_SWITCH_LIMIT: u8 = 1;

const MAGIC: [u8; 8] = *b"KEDGEMET";
const VERSION: u32 = 1;
const NOTE_BYTES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotName {
    A,
    B,
}

impl SlotName {
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The partition that holds the slot's system.
    pub fn partition(self) -> &'static str {
        match self {
            Self::A => crate::names::SYSTEM_A.name,
            Self::B => crate::names::SYSTEM_B.name,
        }
    }

    /// The partition that holds what the firmware starts of the slot, on boards that have one.
    pub fn boot_partition(self) -> &'static str {
        match self {
            Self::A => crate::names::BOOT_A.name,
            Self::B => crate::names::BOOT_B.name,
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// On the kernel command line before the slot that a person wants.
    pub const FORCED: &str = "kedge.force-slot=";

    /// The slot that a person asks for on the kernel command line.
    pub fn forced(command_line: &str) -> Option<Self> {
        command_line.split_ascii_whitespace().rev().find_map(|word| match word.strip_prefix(Self::FORCED)? {
            "a" | "A" => Some(Self::A),
            "b" | "B" => Some(Self::B),
            _ => None,
        })
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// What is known of a slot's system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was ever written to it.
    Empty,
    /// It has proved itself.
    Good,
    /// It has not proved itself yet; it may be tried as often as `tries` says.
    Trial,
    /// It failed, or was found corrupt. It is booted on a person's demand only.
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub verdict: Verdict,
    /// The highest bootable one boots.
    pub priority: u8,
    /// Boots a system on trial has left.
    pub tries: u8,
    /// Boots in a row that init did not confirm.
    pub unconfirmed: u8,
    /// Why it is as it is, for people; cut to 100 bytes.
    pub note: String,
}

impl Slot {
    fn empty() -> Self {
        Self { verdict: Verdict::Empty, priority: 0, tries: 0, unconfirmed: 0, note: String::new() }
    }

    fn bootable(&self) -> bool {
        match self.verdict {
            Verdict::Good => true,
            Verdict::Trial => self.tries > 0,
            Verdict::Empty | Verdict::Bad => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Counts the writes; the higher copy is the newer.
    pub generation: u64,
    pub a: Slot,
    pub b: Slot,
    /// Automatic reboots out of the recovery state since the last confirmed boot.
    pub recoveries: u32,
    /// The highest of the systems that proved themselves: one with a lower rollback index is never booted again.
    pub rollback_index: u64,
    /// Restarts for another slot's kernel since a system was last booted.
    pub switches: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    #[error("no copy of the slot record is whole (first: {first}; second: {second})")]
    Neither { first: CopyError, second: CopyError },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    #[error("{0} bytes, expected {COPY_BYTES}")]
    Length(usize),
    #[error("no slot record")]
    Magic,
    #[error("checksum {found:08x}, expected {expected:08x}")]
    Checksum { found: u32, expected: u32 },
    #[error("layout version {0}, expected {VERSION}")]
    Version(u32),
    #[error("verdict {0} is unknown")]
    Verdict(u8),
}

/// What stage 1 shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Boot(SlotName),
    /// No slot is bootable. Reboot by itself after the seconds given, or wait for a person.
    Recover {
        reboot_after: Option<u32>,
    },
}

/// What the running kernel is to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// It and its initramfs belong to the slot, by its boot id.
    Own,
    /// Its modules are for this release. More is not known.
    Fits,
    Other,
}

/// What starts kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// It can be told which slot's. `spent`: it has given this slot's up, which never came up.
    Told { spent: bool },
    /// It cannot: the kernel is chosen by others.
    Fixed,
}

/// How stage 1 comes to the slot that it was to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Boot,
    /// A restart, by which firmware starts the slot's own kernel.
    Switch,
    /// Its kernel does not come up.
    Condemn,
    /// Not with this kernel.
    Pass,
}

impl Record {
    /// What the image tool writes: a good system in A, nothing in B.
    pub fn fresh() -> Self {
        let a = Slot { verdict: Verdict::Good, priority: 1, ..Slot::empty() };
        Self { generation: 1, a, b: Slot::empty(), recoveries: 0, rollback_index: 0, switches: 0 }
    }

    /// For a META that holds no whole copy: nothing is known, so both slots are worth a try, A first.
    pub fn unknown() -> Self {
        let slot =
            |priority| Slot { verdict: Verdict::Good, priority, note: "slot record was lost".into(), ..Slot::empty() };
        Self { generation: 0, a: slot(2), b: slot(1), recoveries: 0, rollback_index: 0, switches: 0 }
    }

    pub fn slot(&self, name: SlotName) -> &Slot {
        match name {
            SlotName::A => &self.a,
            SlotName::B => &self.b,
        }
    }

    pub fn slot_mut(&mut self, name: SlotName) -> &mut Slot {
        match name {
            SlotName::A => &mut self.a,
            SlotName::B => &mut self.b,
        }
    }

    /// Which slot to boot. `forced` is a person's word and overrules the record; `failed` are those this boot has tried already.
    pub fn choose(&self, forced: Option<SlotName>, failed: &[SlotName]) -> Choice {
        let open = |name: &SlotName| !failed.contains(name);
        if let Some(name) = forced.filter(open) {
            return Choice::Boot(name);
        }
        let stuck = |name: SlotName| self.slot(name).unconfirmed >= UNCONFIRMED_LIMIT;
        let rank = |name: SlotName| (!stuck(name), self.slot(name).priority, name == SlotName::A);
        match SlotName::ALL
            .into_iter()
            .filter(open)
            .filter(|name| self.slot(*name).bootable())
            .max_by_key(|name| rank(*name))
        {
            Some(name) => Choice::Boot(name),
            None if self.recoveries < RECOVERY_LIMIT => Choice::Recover { reboot_after: Some(30 << self.recoveries) },
            None => Choice::Recover { reboot_after: None },
        }
    }

    /// How a slot that was chosen is booted. A system on trial is by its own kernel only: it is to prove both.
    pub fn way(&self, name: SlotName, forced: bool, kernel: Kernel, firmware: Firmware) -> Way {
        let trial = self.slot(name).verdict == Verdict::Trial;
        let more = self.switches < if trial { TRIAL_SWITCH_LIMIT } else { SWITCH_LIMIT };
        match (kernel, firmware) {
            (Kernel::Own, _) | (Kernel::Fits, Firmware::Fixed) => Way::Boot,
            // Another start would not have the person's word any more.
            (Kernel::Fits, Firmware::Told { .. }) if forced => Way::Boot,
            (Kernel::Other, Firmware::Told { .. }) if forced => Way::Pass,
            (Kernel::Fits | Kernel::Other, Firmware::Told { spent: true }) if trial => Way::Condemn,
            (Kernel::Fits | Kernel::Other, Firmware::Told { .. }) if more => Way::Switch,
            (Kernel::Fits | Kernel::Other, Firmware::Told { .. }) if trial => Way::Condemn,
            (Kernel::Fits, Firmware::Told { .. }) => Way::Boot,
            (Kernel::Other, Firmware::Told { .. } | Firmware::Fixed) => Way::Pass,
        }
    }

    /// To be written before a restart for another slot's kernel: there are not many of them.
    pub fn count_switch(&mut self) {
        self.switches = self.switches.saturating_add(1);
    }

    /// To be written before the slot is booted. A system on trial loses one of its tries, and with the last one its hope:
    /// unless this boot is confirmed, the slot is not bootable again.
    pub fn count_try(&mut self, name: SlotName) {
        let slot = self.slot_mut(name);
        slot.unconfirmed = slot.unconfirmed.saturating_add(1);
        slot.tries = slot.tries.saturating_sub(1);
        self.switches = 0;
    }

    /// Takes back what [`Record::count_try`] counted: the boot ends on somebody's word, which says nothing of its system.
    /// Gives whether there was anything to take back. A system whose last try was spent before a person forced it has one more then.
    pub fn excuse(&mut self, name: SlotName) -> bool {
        let slot = self.slot_mut(name);
        let counted = slot.unconfirmed > 0;
        if counted {
            slot.unconfirmed -= 1;
            if slot.verdict == Verdict::Trial {
                slot.tries = slot.tries.saturating_add(1);
            }
        }
        counted
    }

    /// The slot's system, which has this rollback index, runs well: it is good from now on, and the older ones are behind us.
    pub fn confirm(&mut self, name: SlotName, rollback_index: u64) {
        self.recoveries = 0;
        self.rollback_index = self.rollback_index.max(rollback_index);
        let slot = self.slot_mut(name);
        *slot = Slot { verdict: Verdict::Good, tries: 0, unconfirmed: 0, note: String::new(), ..slot.clone() };
    }

    /// Whether [`Record::confirm`] would change anything worth a write.
    pub fn needs_confirmation(&self, name: SlotName, rollback_index: u64) -> bool {
        let slot = self.slot(name);
        rollback_index > self.rollback_index
            || slot.verdict != Verdict::Good
            || slot.unconfirmed != 0
            || self.recoveries != 0
    }

    /// The slot's system cannot be booted, for this reason.
    pub fn condemn(&mut self, name: SlotName, why: &str) {
        let slot = self.slot_mut(name);
        *slot = Slot { verdict: Verdict::Bad, tries: 0, note: why.to_owned(), ..slot.clone() };
    }

    /// The slot's system is about to be overwritten.
    pub fn empty(&mut self, name: SlotName) {
        *self.slot_mut(name) = Slot::empty();
    }

    /// A new system was written to the slot: it boots next, `tries` times at most.
    pub fn put_on_trial(&mut self, name: SlotName, tries: u8) {
        let above = self.slot(name.other()).priority;
        if above == u8::MAX {
            self.slot_mut(name.other()).priority = u8::MAX - 1;
        }
        *self.slot_mut(name) = Slot {
            verdict: Verdict::Trial,
            priority: above.saturating_add(1),
            tries,
            unconfirmed: 0,
            note: String::new(),
        };
    }

    /// Counts an automatic reboot out of the recovery state.
    pub fn count_recovery(&mut self) {
        self.recoveries = self.recoveries.saturating_add(1);
    }

    /// Advances the generation and gives what to write, and where within META.
    pub fn next_write(&mut self) -> (u64, [u8; COPY_BYTES]) {
        self.generation = self.generation.wrapping_add(1);
        let [even, odd] = COPY_OFFSETS;
        (if self.generation.is_multiple_of(2) { even } else { odd }, self.encode())
    }

    /// Both copies as the image tool writes them, each with its offset within META.
    pub fn initial_writes(&self) -> [(u64, [u8; COPY_BYTES]); 2] {
        COPY_OFFSETS.map(|offset| (offset, self.encode()))
    }

    /// The newest whole copy. Each argument is what was read at one of [`COPY_OFFSETS`].
    pub fn decode(first: &[u8], second: &[u8]) -> Result<Self, SlotError> {
        match (Self::decode_copy(first), Self::decode_copy(second)) {
            (Ok(first), Ok(second)) => Ok(if first.generation >= second.generation { first } else { second }),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
            (Err(first), Err(second)) => Err(SlotError::Neither { first, second }),
        }
    }

    fn encode(&self) -> [u8; COPY_BYTES] {
        let mut body = Vec::with_capacity(COPY_BYTES);
        body.extend_from_slice(&MAGIC);
        body.extend_from_slice(&VERSION.to_le_bytes());
        body.extend_from_slice(&self.generation.to_le_bytes());
        body.extend_from_slice(&self.recoveries.to_le_bytes());
        for slot in [&self.a, &self.b] {
            let verdict = match slot.verdict {
                Verdict::Empty => 0,
                Verdict::Good => 1,
                Verdict::Trial => 2,
                Verdict::Bad => 3,
            };
            body.extend_from_slice(&[verdict, slot.priority, slot.tries, slot.unconfirmed]);
            let note = cut(&slot.note);
            body.extend(note.bytes().chain(std::iter::repeat(0)).take(NOTE_BYTES));
        }
        // Where there were zeros once: a record without it has none.
        body.extend_from_slice(&self.rollback_index.to_le_bytes());
        body.push(self.switches);
        body.resize(COPY_BYTES - 4, 0);
        body.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        let mut copy = [0; COPY_BYTES];
        copy.iter_mut().zip(body).for_each(|(to, from)| *to = from);
        copy
    }

    fn decode_copy(copy: &[u8]) -> Result<Self, CopyError> {
        let (body, checksum) = copy.split_last_chunk::<4>().ok_or(CopyError::Length(copy.len()))?;
        if copy.len() != COPY_BYTES {
            return Err(CopyError::Length(copy.len()));
        }
        let mut rest = Reader(body);
        if rest.take::<8>()? != MAGIC {
            return Err(CopyError::Magic);
        }
        let (found, expected) = (u32::from_le_bytes(*checksum), crc32fast::hash(body));
        if found != expected {
            return Err(CopyError::Checksum { found, expected });
        }
        let version = u32::from_le_bytes(rest.take()?);
        if version != VERSION {
            return Err(CopyError::Version(version));
        }
        let generation = u64::from_le_bytes(rest.take()?);
        let recoveries = u32::from_le_bytes(rest.take()?);
        let (a, b) = (rest.slot()?, rest.slot()?);
        let rollback_index = u64::from_le_bytes(rest.take()?);
        let [switches] = rest.take()?;
        Ok(Self { generation, recoveries, a, b, rollback_index, switches })
    }
}

/// At most [`NOTE_BYTES`] bytes, cut between characters.
fn cut(note: &str) -> &str {
    note.get(..note.floor_char_boundary(NOTE_BYTES)).unwrap_or("")
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], CopyError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(CopyError::Length(self.0.len()))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn slot(&mut self) -> Result<Slot, CopyError> {
        let [verdict, priority, tries, unconfirmed] = self.take()?;
        let verdict = match verdict {
            0 => Verdict::Empty,
            1 => Verdict::Good,
            2 => Verdict::Trial,
            3 => Verdict::Bad,
            unknown => return Err(CopyError::Verdict(unknown)),
        };
        let note = self.take::<NOTE_BYTES>()?;
        let note = String::from_utf8_lossy(&note).trim_end_matches('\0').to_owned();
        Ok(Slot { verdict, priority, tries, unconfirmed, note })
    }
}

#[cfg(test)]
mod tests;
