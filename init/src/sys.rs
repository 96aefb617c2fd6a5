//! The few system calls that no safe wrapper offers. The only `unsafe` of this crate.

use nix::libc;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use tokio::io::unix::AsyncFd;

/// Signals that mean that this process is broken.
pub const FATAL: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What the crash handler needs, made while all is well: a handler may neither allocate nor lock.
struct Successor {
    path: CString,
    arguments: Vec<CString>,
    /// One environment for each of [`FATAL`].
    environments: Vec<Vec<CString>>,
    /// The same with null-terminated pointers into the above, as `execve` wants them.
    argument_pointers: Vec<*const libc::c_char>,
    environment_pointers: Vec<Vec<*const libc::c_char>>,
}

// SAFETY: the pointers point into the strings beside them, which are never changed or moved (their bytes lie on the heap) and live
// as long as the static that holds them.
unsafe impl Send for Successor {}
// SAFETY: as above; nothing writes after construction.
unsafe impl Sync for Successor {}

static SUCCESSOR: OnceLock<Successor> = OnceLock::new();

/// From now on a fatal signal replaces this process by a fresh one of the same program, with the same pid and the same children.
/// `environment` gives the successor's environment for a signal; where it gives none, the machine is rebooted instead.
/// May be called once; later calls change nothing.
pub fn replace_on_crash(arguments: &[CString], environment: impl Fn(i32) -> Option<Vec<CString>>) -> io::Result<()> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let arguments = arguments.to_vec();
    let environments: Vec<Vec<CString>> = FATAL.iter().filter_map(|signal| environment(*signal)).collect();
    let successor = Successor {
        path: c"/proc/self/exe".to_owned(),
        argument_pointers: pointers(&arguments),
        environment_pointers: environments.iter().map(|strings| pointers(strings)).collect(),
        arguments,
        environments,
    };
    if SUCCESSOR.set(successor).is_err() {
        return Ok(());
    }
    for signal in FATAL {
        // SAFETY: an all-zero sigaction is valid; the handler has the signature that SA_SIGINFO's absence asks for and calls only
        // async-signal-safe functions. SA_ONSTACK lets it run where the stack has overflowed: Rust gives every thread such a stack.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = crashed as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESETHAND;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn crashed(signal: libc::c_int) {
    let Some(successor) = SUCCESSOR.get() else { return };
    say(b"<2>kedge: fatal signal, replacing this process\n");
    let index = FATAL.iter().position(|fatal| *fatal == signal).unwrap_or(0);
    // SAFETY: sigemptyset, pthread_sigmask, execve, sync and reboot are plain system calls, allowed in a handler; the pointers are
    // those of SUCCESSOR, made for this. The mask is emptied since `execve` hands it on.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        if let Some(environment) = successor.environment_pointers.get(index) {
            libc::execve(successor.path.as_ptr(), successor.argument_pointers.as_ptr(), environment.as_ptr());
        }
        // No successor, or none that can be started: only a reboot helps. What is in the page cache is saved first.
        say(b"<0>kedge: crashed too often, rebooting\n");
        if libc::getpid() == 1 {
            libc::sync();
            libc::reboot(libc::RB_AUTOBOOT);
        }
    }
    // Returning runs the instruction again, and the kernel's default action follows (SA_RESETHAND).
    let _ = (&successor.arguments, &successor.environments);
}

/// To the kernel log, without allocating.
fn say(line: &[u8]) {
    const KMSG: &CStr = c"/dev/kmsg";
    // SAFETY: open, write and close on a constant path and a valid buffer; a failed open gives -1, which write refuses.
    unsafe {
        let log = libc::open(KMSG.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        libc::write(log, line.as_ptr().cast(), line.len());
        libc::close(log);
    }
}

/// Breaks this process on purpose, to prove that it comes back.
pub fn crash() {
    // SAFETY: not safe, by purpose: the write to an unmapped page raises SIGSEGV. Reached only with `kedge.faults=1` on the kernel's
    // command line.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
}

/// Sends a signal to every process but this one (kill(2) with -1). For PID 1 at the end of a machine's day.
pub fn signal_everyone(signal: i32) {
    // SAFETY: kill only takes numbers; that there is nobody (ESRCH) is as good.
    unsafe { libc::kill(-1, signal) };
}

/// Lets the async runtime wait for an open file that was opened non-blocking.
pub fn register(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a File owns its descriptor and keeps it open and the same for as long as it lives, which is what is asked for.
    unsafe { AsyncFd::register(file) }.map_err(io::Error::from)
}

/// Fewer heaps and an eager return of memory: this process lives for months beside its guests.
pub fn small_heap() {
    // SAFETY: called once before there are threads; mallopt only sets numbers, and a refused one (0) leaves the default.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
    }
}

/// `struct blkpg_partition` and `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct BlkpgPartition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    pno: libc::c_int,
    devname: [u8; 64],
    volname: [u8; 64],
}

#[repr(C)]
struct BlkpgArgument {
    op: libc::c_int,
    flags: libc::c_int,
    datalen: libc::c_int,
    data: *mut libc::c_void,
}

const BLKPG: libc::c_ulong = 0x1269;
const BLKPG_RESIZE_PARTITION: libc::c_int = 3;

/// Tells the kernel the new size of a partition, in bytes, though others of the same disk are in use.
pub fn resize_partition(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: start.try_into().map_err(invalid)?,
        length: length.try_into().map_err(invalid)?,
        pno: number.try_into().map_err(invalid)?,
        devname: [0; 64],
        volname: [0; 64],
    };
    let mut argument = BlkpgArgument {
        op: BLKPG_RESIZE_PARTITION,
        flags: 0,
        datalen: size_of::<BlkpgPartition>() as libc::c_int,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: the descriptor is open, the argument and what it points to are as linux/blkpg.h says and outlive the call.
    match unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw mut argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `EXT4_IOC_RESIZE_FS` of fs/ext4/ext4.h: `_IOW('f', 16, __u64)`. The same number on x86 and ARM.
const EXT4_IOC_RESIZE_FS: libc::c_ulong = 0x4008_6610;

/// Grows the mounted ext4 file system that `root` is a folder of to so many blocks.
pub fn resize_ext4(root: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open and the argument a 64-bit number that outlives the call.
    match unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &raw const blocks) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_refuses_what_is_no_disk_and_no_ext4() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(resize_partition(&file, 1, 0, 512).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert!(resize_ext4(&File::open("/proc").unwrap(), 1).is_err());
        assert_eq!(resize_partition(&file, 1, u64::MAX, 512).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
