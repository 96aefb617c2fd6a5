//! The few system calls that no safe wrapper offers. The only `unsafe` of this crate.

use rustix::io::{Errno, Result};
use rustix::ioctl::{Updater, ioctl, opcode};
use std::ffi::CStr;
use std::os::fd::AsFd;

/// Bytes of `struct dm_ioctl` (Linux, `include/uapi/linux/dm-ioctl.h`), the same on every architecture; the call's number holds it.
pub const DM_HEADER_BYTES: usize = 312;
/// Header and table of one target: more than any needs.
pub const DM_BUFFER_BYTES: usize = 4096;
/// What the kernel knows of the buffer is what the header says: its field `data_size`.
pub type DmBuffer = [u8; DM_BUFFER_BYTES];

/// A device-mapper command. Each is `_IOWR(0xfd, number, struct dm_ioctl)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmCommand {
    Create = 3,
    Remove = 4,
    /// Suspends or, without that flag, resumes.
    Suspend = 6,
    Load = 9,
}

/// The kernel reads the request out of `buffer` and writes its answer into it.
pub fn device_mapper(control: impl AsFd, command: DmCommand, buffer: &mut DmBuffer) -> Result<()> {
    const fn number(command: DmCommand) -> rustix::ioctl::Opcode {
        opcode::read_write::<[u8; DM_HEADER_BYTES]>(0xfd, command as u8)
    }
    // The kernel takes the length from the buffer: none that it does not have.
    set_length(buffer);
    // SAFETY: each number is of a command that reads and writes at most the `data_size` bytes that `buffer` was just said to have; the
    // buffer is plain bytes, valid whatever is written.
    unsafe {
        match command {
            DmCommand::Create => ioctl(control, Updater::<{ number(DmCommand::Create) }, DmBuffer>::new(buffer)),
            DmCommand::Remove => ioctl(control, Updater::<{ number(DmCommand::Remove) }, DmBuffer>::new(buffer)),
            DmCommand::Suspend => ioctl(control, Updater::<{ number(DmCommand::Suspend) }, DmBuffer>::new(buffer)),
            DmCommand::Load => ioctl(control, Updater::<{ number(DmCommand::Load) }, DmBuffer>::new(buffer)),
        }
    }
}

fn set_length(buffer: &mut DmBuffer) {
    if let Some(field) = buffer.get_mut(12..16) {
        field.copy_from_slice(&(DM_BUFFER_BYTES as u32).to_ne_bytes());
    }
}

/// Restarts the machine with a word to its firmware (reboot(2), `LINUX_REBOOT_CMD_RESTART2`). Returns only on failure.
pub fn restart(word: &CStr) -> Result<()> {
    use nix::libc;
    // SAFETY: the call reads the word up to its zero, within the 256 bytes that the kernel takes of it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_RESTART2,
            word.as_ptr(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(nix::errno::Errno::last_raw())) }
}

/// Sets a watchdog's time limit (`WDIOC_SETTIMEOUT` of Linux, `include/uapi/linux/watchdog.h`); gives what it became.
pub fn watchdog_timeout(device: impl AsFd, seconds: u32) -> Result<u32> {
    const SET: rustix::ioctl::Opcode = opcode::read_write::<i32>(b'W', 6);
    let mut value = i32::try_from(seconds).unwrap_or(i32::MAX);
    // SAFETY: the call reads one int and writes one.
    unsafe { ioctl(device, Updater::<SET, i32>::new(&mut value))? };
    Ok(u32::try_from(value).unwrap_or(seconds))
}
