//! System calls that no safe crate offers: a packet socket's address and its filter.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{LinkAddr, SockaddrLike};
use tokio::io::unix::AsyncFd;

/// `sockaddr_ll` for IPv4 packets on an interface, to everyone on the link.
pub fn everyone_on(interface: u32) -> Option<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: i32::try_from(interface).ok()?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole, initialised sockaddr_ll that lives until the call returns, which copies it.
    unsafe { LinkAddr::from_raw(std::ptr::from_ref(&address).cast(), Some(length)) }
}

/// Lets only unfragmented UDP packets to this port through to the socket, so that the rest of the network's traffic
/// does not wake its owner. The packets begin with the IPv4 header.
pub fn only_udp_to(socket: BorrowedFd<'_>, port: u16) -> io::Result<()> {
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(0x30, 0, 0, 9),               // A = protocol
        step(0x15, 0, 6, 17),              // UDP?
        step(0x28, 0, 0, 6),               // A = flags and fragment offset
        step(0x45, 4, 0, 0x3fff),          // a fragment?
        step(0xb1, 0, 0, 0),               // X = length of the header
        step(0x48, 0, 0, 2),               // A = destination port
        step(0x15, 0, 1, u32::from(port)), // ours?
        step(0x06, 0, 0, u32::MAX),        // take it whole
        step(0x06, 0, 0, 0),               // leave it
    ];
    let filter = libc::sock_fprog { len: program.len() as libc::c_ushort, filter: program.as_mut_ptr() };
    // SAFETY: the option takes a sock_fprog of this size; the kernel copies the program before the call returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the runtime tell when a descriptor is ready.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always yields the same descriptor and keeps it open until it is dropped, which is after AsyncFd
    // has deregistered it.
    Ok(unsafe { AsyncFd::register(fd) }?)
}
