//! The few system calls that no safe wrapper offers. The only `unsafe` of this crate.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::libc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::reaper::Ended;

/// Which child to look at.
#[derive(Debug, Clone, Copy)]
pub enum Child {
    /// Any; sleeps until there is one that ended.
    Any,
    /// This one; returns at once.
    One(u32),
}

/// An ended child, left in the kernel as it is. `None`: nothing ended. `ECHILD`: no such child.
pub fn peek(which: Child) -> io::Result<Option<(u32, Ended)>> {
    let (kind, id, flags) = match which {
        Child::Any => (libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT),
        Child::One(pid) => (libc::P_PID, pid, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG),
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a writable siginfo_t; waitid writes nothing else. All-zero bytes are a valid siginfo_t, so it is
    // initialised even where waitid leaves it alone (WNOHANG with nothing to tell).
    let (result, info) = unsafe { (libc::waitid(kind, id, info.as_mut_ptr(), flags), info.assume_init()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid fills the SIGCHLD members of the union, and zeroes are valid where it filled nothing.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid <= 0 {
        return Ok(None);
    }
    let ended = if info.si_code == libc::CLD_EXITED { Ended::from_code(status) } else { Ended::from_signal(status) };
    Ok(Some((pid.unsigned_abs(), ended)))
}

/// Takes an ended child from the kernel; its pid may be used again from then on.
pub fn take(pid: u32) {
    // SAFETY: a null pointer is allowed for the siginfo that nobody wants (waitid(2), Linux).
    unsafe { libc::waitid(libc::P_PID, pid, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG) };
}

/// Children become zombies again where whoever started this process had SIGCHLD ignored.
pub fn keep_zombies() {
    // SAFETY: SIG_DFL installs no handler, so there is no code that could run in a signal context.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Every signal back to its default and none blocked, as a program expects when it starts. To be called just before `execve`.
pub fn reset_signals() {
    // SAFETY: SIG_DFL installs no handler; numbers that cannot be set (SIGKILL, SIGSTOP, the C library's own) fail without effect.
    // The set is initialised by sigemptyset before it is used.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = MaybeUninit::<libc::sigset_t>::zeroed();
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
}

/// Closes every descriptor from 3 up: those inherited from the parent, which keeps some open across its own `execve` on purpose.
/// Only for a process that has just begun and holds no descriptor of its own yet.
pub fn close_inherited() {
    // SAFETY: called first thing in `main`, before anything in this process owns a descriptor above 2.
    unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint) };
}

/// Owns a descriptor that was inherited across this process' own `execve`.
///
/// The caller has made sure, by what it found in `/proc/self/fd`, that the number is open and that nothing else owns it.
pub fn inherited(fd: RawFd) -> OwnedFd {
    // SAFETY: see above: the number came from before `execve`, when no value of this program existed that could own it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Has the reactor tell when the descriptor, which must be non-blocking, can be read or written.
pub fn register(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the descriptor is owned, so it stays open, and the number stays its own, as long as the Arc inside AsyncFd lives.
    unsafe { Ok(AsyncFd::register_with_interest(fd, interest)?) }
}
