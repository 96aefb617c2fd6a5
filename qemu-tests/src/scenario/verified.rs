//! Verified boot: what was not signed, was changed by a byte, or is older than what has proved itself is never booted; the other slot is, and
//! where there is none the machine says why and waits.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kedge_config::slot::{Record, SlotName, Verdict};
use kedge_config::slot_manifest::{AREA_BYTES, SlotManifest, area_offset};
use kedge_image::assemble::slot;
use kedge_image::inspect::Disk;
use kedge_image::signing::{self, SigningKey};

use super::{BOOT, SOON, boot};
use crate::guest::{Guest, Setup, fresh_disk};
use crate::report::step;

/// A disk with the same system in both slots; A is preferred.
pub struct Card {
    pub path: PathBuf,
}

impl Card {
    pub fn new(setup: &Setup, dir: &Path) -> Result<Self> {
        let card = Self { path: fresh_disk(setup, dir)? };
        let (from, to) = (card.place(SlotName::A)?, card.place(SlotName::B)?);
        let mut bytes = Vec::new();
        let mut file = OpenOptions::new().read(true).write(true).open(&card.path)?;
        file.seek(SeekFrom::Start(from))?;
        (&mut file).take(card.size(SlotName::A)?).read_to_end(&mut bytes)?;
        file.seek(SeekFrom::Start(to))?;
        file.write_all(&bytes)?;
        card.record(|record| {
            record.a.priority = 2;
            record.b = record.a.clone();
            record.b.priority = 1;
        })?;
        Ok(card)
    }

    fn place(&self, slot: SlotName) -> Result<u64> {
        Ok(Disk::open(&self.path)?.place(slot.partition())?.start)
    }

    fn size(&self, slot: SlotName) -> Result<u64> {
        let place = Disk::open(&self.path)?.place(slot.partition())?;
        Ok(place.end - place.start)
    }

    fn read_record(&self) -> Result<Record> {
        Ok(Disk::open(&self.path)?.record()??)
    }

    pub fn record(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.read_record()?;
        change(&mut record);
        let meta = Disk::open(&self.path)?.place("META")?.start;
        let file = OpenOptions::new().write(true).open(&self.path)?;
        for (at, bytes) in record.initial_writes() {
            file.write_all_at(&bytes, meta + at)?;
        }
        Ok(())
    }

    /// Changes one bit at `at` within the slot.
    fn flip(&self, slot: SlotName, at: u64) -> Result<()> {
        self.change(slot, at, |byte| byte ^ 1)
    }

    fn change(&self, slot: SlotName, at: u64, other: fn(u8) -> u8) -> Result<()> {
        let at = self.place(slot)? + at;
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&byte.map(other), at).map_err(Into::into)
    }

    pub fn manifest(&self, slot: SlotName) -> Result<SlotManifest> {
        let disk = Disk::open(&self.path)?;
        let region = disk.region(slot.partition())?;
        Ok(slot::read(region, region.len())??.unverified()?)
    }

    /// Signs a slot anew after a change.
    pub fn sign(&self, slot: SlotName, key: &SigningKey, change: impl FnOnce(&mut SlotManifest)) -> Result<()> {
        let mut manifest = self.manifest(slot)?;
        change(&mut manifest);
        let mut area = key.seal(&manifest)?.to_text().into_bytes();
        area.resize(AREA_BYTES as usize, 0);
        let end = area_offset(self.size(slot)?).context("the slot is too small")?;
        let at = self.place(slot)? + end;
        OpenOptions::new().write(true).open(&self.path)?.write_all_at(&area, at).map_err(Into::into)
    }

    /// Waits until the slot record is as wanted. The guest writes it through to the file.
    pub fn until(&self, guest: &Guest, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            // Between two reads the guest may write: one look at a half-written record is none.
            let record = self.read_record();
            if record.as_ref().is_ok_and(&wanted) {
                return Ok(());
            }
            if start.elapsed() > SOON {
                bail!("the slot record does not say that {what}: {record:?}; {}", guest.tail());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

pub fn own_key(setup: &Setup) -> Result<SigningKey> {
    Ok(SigningKey::read(&setup.out.join(signing::DEVELOPMENT))?)
}

/// Waits for the node and for slot B to be confirmed.
pub fn runs_from_b(card: &Card, guest: &mut Guest) -> Result<()> {
    let kubectl = step("slot b's API answers", || guest.kubectl(BOOT))?;
    step("its node is Ready", || boot::ready(&kubectl))?;
    step("slot b is confirmed", || {
        card.until(guest, "b is good and confirmed", |record| {
            record.b.verdict == Verdict::Good && record.b.unconfirmed == 0
        })
    })
}

/// A byte that stage 1 reads itself, and one that only the running system does.
pub fn flipped_byte(setup: &Setup, dir: &Path) -> Result<()> {
    let card = Card::new(setup, dir)?;
    // The start of the first file's data: /usr/bin/kedge, whose head stage 1 reads.
    card.flip(SlotName::A, 5 * 4096)?;
    let mut guest = Guest::boot(setup, &card.path, dir, "")?;
    step("stage 1 finds it and takes the other slot", || {
        guest.wait_console("slot a is refused: partition SYSTEM-A", BOOT)?;
        guest.wait_console("; trying slot b", SOON)
    })?;
    runs_from_b(&card, &mut guest)?;
    let record = card.read_record()?;
    ensure!(record.a.verdict == Verdict::Bad && !record.a.note.is_empty(), "{record:?}");
    guest.kill()?;

    let card = Card::new(setup, dir)?;
    let length = card.manifest(SlotName::A)?.system_bytes;
    card.flip(SlotName::A, length / 2)?;
    let mut guest = Guest::boot(setup, &card.path, dir, "")?;
    step("one deep in the system: the kernel restarts, the next stage 1 finds it", || {
        guest.wait_console("is corrupt: the block at byte", BOOT)?;
        guest.wait_console("; trying slot b", SOON)?;
        ensure!(guest.starts() >= 2, "{} starts; {}", guest.starts(), guest.tail());
        Ok(())
    })?;
    runs_from_b(&card, &mut guest)
}

/// A signature that is wrong, and one by a key that nobody here trusts.
pub fn signature(setup: &Setup, dir: &Path) -> Result<()> {
    let card = Card::new(setup, dir)?;
    let own = own_key(setup)?.public().id();
    let text = card.manifest(SlotName::A)?.body()?;
    // The last digit of the signature that follows the manifest.
    let end = area_offset(card.size(SlotName::A)?).context("the slot is too small")?;
    let digit = end + text.len() as u64 + "signature 0123456789abcdef ".len() as u64 + 127;
    card.change(SlotName::A, digit, |digit| if digit == b'0' { b'1' } else { b'0' })?;
    let mut guest = Guest::boot(setup, &card.path, dir, "")?;
    step("a wrong signature is refused", || {
        guest.wait_console(&format!("the signature by key {own} is wrong"), BOOT)?;
        guest.wait_console("; trying slot b", SOON)
    })?;
    runs_from_b(&card, &mut guest)?;
    guest.kill()?;

    let card = Card::new(setup, dir)?;
    let stranger = SigningKey::from_seed([7; 32]);
    card.sign(SlotName::A, &stranger, |_| ())?;
    let mut guest = Guest::boot(setup, &card.path, dir, "")?;
    step("a stranger's signature is refused", || {
        let told = format!("signed by key {}, which is not trusted here; trusted are {own}", stranger.public().id());
        guest.wait_console(&told, BOOT)?;
        guest.wait_console("; trying slot b", SOON)
    })?;
    runs_from_b(&card, &mut guest)
}

pub fn rollback(setup: &Setup, dir: &Path) -> Result<()> {
    let card = Card::new(setup, dir)?;
    card.sign(SlotName::B, &own_key(setup)?, |manifest| manifest.rollback_index = 3)?;
    let mut guest = Guest::boot(setup, &card.path, dir, "kedge.force-slot=b")?;
    runs_from_b(&card, &mut guest)?;
    step("what proved itself raises the rollback index", || {
        card.until(&guest, "the rollback index is 3", |record| record.rollback_index == 3)
    })?;
    guest.kill()?;
    let mut guest = Guest::boot(setup, &card.path, dir, "kedge.force-slot=a")?;
    step("an older system is refused even where a person asks for it", || {
        guest.wait_console("its rollback index is 0; a system with 3 has proved itself here", BOOT)?;
        guest.wait_console("; trying slot b", SOON)
    })?;
    runs_from_b(&card, &mut guest)
}

/// Nothing to boot in either slot: the reasons are told, three times it is tried again, then it waits.
pub fn nothing_left(setup: &Setup, dir: &Path) -> Result<()> {
    let card = Card::new(setup, dir)?;
    card.flip(SlotName::A, 5 * 4096)?;
    card.sign(SlotName::B, &SigningKey::from_seed([7; 32]), |_| ())?;
    card.record(|record| record.recoveries = 2)?;
    let mut guest = Guest::boot(setup, &card.path, dir, "")?;
    step("both reasons are told, and what comes next", || {
        guest.wait_console("no slot is left", BOOT)?;
        guest.wait_console("Trying again in 120 seconds", SOON)?;
        let console = guest.console();
        for part in ["- slot a is refused: partition SYSTEM-A", "- slot b is refused: partition SYSTEM-B"] {
            ensure!(console.contains(part), "\"{part}\" is not told; {}", guest.tail());
        }
        Ok(())
    })?;
    let record = card.read_record()?;
    ensure!(record.recoveries == 3, "{record:?}");
    guest.kill()?;
    let mut guest = Guest::boot(setup, &card.path, dir, "")?;
    step("after three of them it waits", || guest.wait_console("Tried too often; waiting", BOOT))?;
    step("and tells why over the network", || {
        guest.wait_console("tells this over the network as well", SOON)?;
        // What was condemned before is told by the note of it.
        boot::http_until(guest.recovery_port, "- slot b: Bad (partition SYSTEM-B")?;
        let answer = ask(guest.recovery_port, "GET /status.json HTTP/1.1")?;
        let body = answer.split("\r\n\r\n").nth(1).with_context(|| format!("no body: {answer}"))?;
        let status: serde_json::Value = serde_json::from_str(body).context("status.json")?;
        let reasons = status.get("reasons").and_then(|list| list.as_array()).map_or(0, Vec::len);
        ensure!(reasons == 2 && status.get("state").is_some_and(|state| state == "recovery"), "{status}");
        Ok(())
    })?;
    step("nothing can be changed there", || {
        for request in ["POST / HTTP/1.1", "PUT /status.json HTTP/1.1", "DELETE / HTTP/1.1", "nonsense"] {
            let answer = ask(guest.recovery_port, request)?;
            ensure!(answer.starts_with("HTTP/1.1 405 "), "{request}: {answer}");
        }
        Ok(())
    })
}

fn ask(port: u16, line: &str) -> Result<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(format!("{line}\r\nHost: recovery\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
