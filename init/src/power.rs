//! The power button and the signals that ask for an end.

use crate::request::{Request, Requests};
use crate::supervisor::Handle;
use anyhow::Context;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// linux/input-event-codes.h.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `struct input_event`: two words of time, then type, code, value.
const TIME_BYTES: usize = 2 * size_of::<usize>();
const EVENT_BYTES: usize = TIME_BYTES + 8;
const INPUT_CLASS: &str = "/sys/class/input";
const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// Waits for the button of every device that has one.
pub async fn button(requests: Requests, handle: Handle) -> anyhow::Result<()> {
    let mut devices = Vec::new();
    for device in with_power_key(Path::new(INPUT_CLASS)) {
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&device);
        devices.push(crate::sys::register(file.with_context(|| format!("open {}", device.display()))?)?);
    }
    handle.ready();
    if devices.is_empty() {
        handle.note("this machine has no power button");
        handle.stopped().await;
        return Ok(());
    }
    let presses = futures::future::select_all(devices.iter().map(|device| Box::pin(pressed(device))));
    tokio::select! {
        () = handle.stopped() => Ok(()),
        (pressed, _, _) = presses => {
            pressed?;
            // Whoever asked before has what they want.
            let _ = requests.ask(Request::PowerOff);
            handle.stopped().await;
            Ok(())
        }
    }
}

async fn pressed(device: &AsyncFd<File>) -> anyhow::Result<()> {
    let mut events = [0; EVENT_BYTES * 16];
    loop {
        let mut readable = device.readable().await?;
        let read = match readable.try_io(|file| file.get_ref().read(&mut events)) {
            Ok(read) => read.context("read the power button")?,
            Err(_would_block) => continue,
        };
        anyhow::ensure!(read > 0, "the power button is gone");
        if events.get(..read).is_some_and(|events| events.chunks_exact(EVENT_BYTES).any(is_press)) {
            return Ok(());
        }
    }
}

fn is_press(event: &[u8]) -> bool {
    let Some((kind, rest)) = event.get(TIME_BYTES..).and_then(|rest| rest.split_first_chunk::<2>()) else {
        return false;
    };
    let Some((code, value)) = rest.split_first_chunk::<2>() else { return false };
    u16::from_ne_bytes(*kind) == EV_KEY && u16::from_ne_bytes(*code) == KEY_POWER && value == 1i32.to_ne_bytes()
}

/// Device nodes of the inputs that can say "power".
fn with_power_key(class: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("event"))
        .filter(|entry| {
            fs::read_to_string(entry.path().join("device/capabilities/key")).is_ok_and(|keys| has_key(&keys, KEY_POWER))
        })
        .map(|entry| Path::new("/dev/input").join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// The bitmap is words of the kernel's `long` in hexadecimal, highest first, without leading zeroes.
fn has_key(bitmap: &str, key: u16) -> bool {
    let bits = usize::BITS as usize;
    let word = bitmap.split_whitespace().rev().nth(usize::from(key) / bits);
    word.and_then(|word| usize::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (usize::from(key) % bits) & 1 == 1)
}

/// What PID 1 is asked for by signals. Ctrl-Alt-Del comes as SIGINT (reboot(2), CAD_OFF), a failing power supply as SIGPWR.
const SIGNALS: [(i32, Request); 4] =
    [(SIGTERM, Request::PowerOff), (SIGINT, Request::Reboot), (SIGPWR, Request::PowerOff), (SIGHUP, Request::Reexec)];
const SIGTERM: i32 = nix::libc::SIGTERM;
const SIGINT: i32 = nix::libc::SIGINT;
const SIGPWR: i32 = nix::libc::SIGPWR;
const SIGHUP: i32 = nix::libc::SIGHUP;

/// Catches the signals from now on; what they ask for comes out of the returned future, again and again.
pub fn signals(requests: Requests) -> std::io::Result<impl Future<Output = ()>> {
    let caught: Vec<(Signal, Request)> = SIGNALS
        .into_iter()
        .map(|(number, request)| Ok((signal(SignalKind::from_raw(number))?, request)))
        .collect::<std::io::Result<_>>()?;
    Ok(async move {
        let each = caught.into_iter().map(|(mut signal, request)| {
            let requests = requests.clone();
            async move {
                while signal.recv().await.is_some() {
                    if let Err(refused) = requests.ask(request) {
                        tracing::warn!("signal: {refused}");
                    }
                }
            }
        });
        futures::future::join_all(each).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_of_keys_is_read_from_its_end() {
        // The ACPI power button: only bit 116.
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        // A keyboard without one.
        assert!(!has_key("402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe\n", 141));
        assert!(has_key("402000000 3803078f800d001 feffffdfffefffff fffffffffffffffe\n", KEY_POWER));
        assert!(!has_key("fffffffffffffffe\n", KEY_POWER));
        assert!(!has_key("", KEY_POWER));
        assert!(!has_key("xyz 0", KEY_POWER));
    }

    #[test]
    fn a_press_is_told_from_a_release_and_from_other_keys() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![9; TIME_BYTES];
            event.extend(kind.to_ne_bytes());
            event.extend(code.to_ne_bytes());
            event.extend(value.to_ne_bytes());
            event
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_press(&event(EV_KEY, 30, 1)));
        assert!(!is_press(&event(0, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 1)[..EVENT_BYTES - 1]));
    }
}
