//! The kernel's side: a batch of messages becomes true as a whole or not at all.

use std::io;
use std::os::fd::AsFd;

use rtnetlink::sys::{Socket as NetlinkSocket, SocketAddr, protocols::NETLINK_NETFILTER};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};

use super::conntrack::{self, Stale};
use super::operation::{GET_TABLE, INET, Operation};
use super::wire::{Messages, Received, split};
use super::{Plan, TABLE};

/// What the kernel said to a transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netfilter netlink socket: {0}")]
    Open(#[source] io::Error),
    #[error("cannot send {bytes} bytes of nf_tables operations: {source}")]
    Send { bytes: usize, source: io::Error },
    #[error("cannot read the kernel's answer to nf_tables operations: {0}")]
    Receive(#[source] io::Error),
    #[error("the kernel refused `{operation}`: {source}{hint}")]
    Refused { operation: String, source: io::Error, hint: &'static str },
    #[error("the kernel did not acknowledge the nf_tables transaction")]
    NoAnswer,
}

const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const SUBSYSTEM_NFTABLES: u16 = 10;

/// Room for a datagram of this many bytes, and some more for the kernel's own bookkeeping.
const LEAST_SEND_BUFFER: usize = 1 << 16;

/// A socket to nf_tables of the namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    socket: NetlinkSocket,
    send_buffer: usize,
}

impl Socket {
    pub fn open() -> Result<Self, Error> {
        let mut socket = NetlinkSocket::new(NETLINK_NETFILTER).map_err(Error::Open)?;
        socket.bind_auto().map_err(Error::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(Error::Open)?;
        socket.set_non_blocking(true).map_err(Error::Open)?;
        // Errors then come without a copy of the message that they are about.
        socket.set_cap_ack(true).map_err(Error::Open)?;
        Ok(Self { socket, send_buffer: 0 })
    }

    /// Whether our table is there: it outlives us when we are replaced by `execve`.
    pub fn has_table(&mut self) -> Result<bool, Error> {
        let mut messages = Messages::default();
        messages.message(GET_TABLE, 0, INET, 0, |out| out.text(1, TABLE));
        self.send(messages.bytes())?;
        let mut there = None;
        self.receive(|message| match error_of(&message) {
            Some(Ok(())) => {}
            Some(Err(error)) => there = Some(Err(error)),
            None => there = Some(Ok(true)),
        })?;
        match there {
            Some(Err(error)) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(false),
            Some(Err(source)) => {
                let operation = format!("get table inet {TABLE}");
                Err(Error::Refused { operation, source, hint: "" })
            }
            Some(Ok(there)) => Ok(there),
            None => Err(Error::NoAnswer),
        }
    }

    /// Makes all operations true at once. On an error none of them is.
    pub fn commit(&mut self, operations: &[Operation]) -> Result<(), Error> {
        if operations.is_empty() {
            return Ok(());
        }
        let mut messages = Messages::default();
        messages.message(BATCH_BEGIN, 0, 0, SUBSYSTEM_NFTABLES, |_| {});
        for (id, operation) in (1u32..).zip(operations) {
            operation.encode(id, &mut messages);
        }
        messages.acknowledge_last();
        let last = messages.sequence();
        messages.message(BATCH_END, 0, 0, SUBSYSTEM_NFTABLES, |_| {});
        self.send(messages.bytes())?;

        // The kernel has answered all when `send` returns: the first error explains the others.
        let mut outcome = Err(Error::NoAnswer);
        let mut first_error = true;
        self.receive(|message| match error_of(&message) {
            Some(Err(source)) if first_error => {
                first_error = false;
                outcome = Err(refused(operations, message.sequence, source));
            }
            Some(Ok(())) if message.sequence == last && first_error => outcome = Ok(()),
            Some(_) | None => {}
        })?;
        outcome
    }

    /// Makes a plan's operations true, and has the kernel forget connections to endpoints that are gone.
    pub fn carry_out(&mut self, plan: &Plan) -> Result<(), Error> {
        self.commit(&plan.operations)?;
        self.forget(&plan.stale);
        Ok(())
    }

    /// What the plan's operations leave behind in the kernel's memory of connections. That this fails is no reason to
    /// undo them.
    pub fn forget(&mut self, stale: &Stale) {
        if let Err(error) = conntrack::forget(self, stale) {
            tracing::warn!(%error, "UDP connections to endpoints that are gone may live on");
        }
    }

    /// Sends messages that are no transaction and shows all answers.
    pub(super) fn exchange(&mut self, messages: &Messages, each: impl FnMut(Received<'_>)) -> Result<(), Error> {
        self.send(messages.bytes())?;
        self.receive(each)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = |source| Error::Send { bytes: bytes.len(), source };
        let wanted = bytes.len().max(LEAST_SEND_BUFFER);
        if wanted > self.send_buffer {
            let fd = self.socket.as_fd();
            if set_socket_send_buffer_size_force(fd, wanted).is_err() {
                set_socket_send_buffer_size(fd, wanted).map_err(|errno| failed(errno.into()))?;
            }
            self.send_buffer = wanted;
        }
        self.socket.send(bytes, 0).map_err(failed).map(drop)
    }

    fn receive(&mut self, mut each: impl FnMut(Received<'_>)) -> Result<(), Error> {
        let mut buffer = Vec::with_capacity(32768);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Ok(_) => split(&buffer).for_each(&mut each),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // More errors than the buffer holds: those that came first are the ones that matter.
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
                Err(error) => return Err(Error::Receive(error)),
            }
        }
    }
}

fn error_of(message: &Received<'_>) -> Option<io::Result<()>> {
    if message.kind != NLMSG_ERROR {
        return None;
    }
    let code = message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    Some(if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) })
}

/// Message 1 is the batch's begin, so operation `n` has sequence number `n + 2`.
fn refused(operations: &[Operation], sequence: u32, source: io::Error) -> Error {
    let at = (sequence as usize).checked_sub(2);
    let operation = at.and_then(|at| operations.get(at)).map_or_else(|| "transaction".to_owned(), first_line);
    let hint = match source.raw_os_error() {
        Some(errno) if errno == Errno::NOENT.raw_os_error() || errno == Errno::OPNOTSUPP.raw_os_error() => {
            " (is a kernel module for this expression missing?)"
        }
        Some(errno) if errno == Errno::PERM.raw_os_error() => " (CAP_NET_ADMIN is needed)",
        _ => "",
    };
    Error::Refused { operation, source, hint }
}

fn first_line(operation: &Operation) -> String {
    operation.to_string().lines().next().unwrap_or_default().to_owned()
}
