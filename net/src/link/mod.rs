//! Links, addresses and routes of one network namespace, through rtnetlink.
//!
//! A netlink socket belongs to the namespace in which it was opened, for good. So a namespace is configured from
//! outside: [`Links::open_in`] opens the socket in a short-lived thread that has entered the namespace, and no task of
//! the runtime ever changes its own.

mod change;
mod list;
mod route;
pub mod sysctl;
mod wait;

use std::io;
use std::os::fd::BorrowedFd;

use rtnetlink::Handle;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub use change::VethPair;
pub use list::Link;
pub use route::{Route, RouteScope};
pub use wait::{Changes, Wanted, matches};

/// What the kernel refused, and on what.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a route netlink socket: {0}")]
    Open(#[source] io::Error),
    #[error("cannot enter the network namespace: {0}")]
    Enter(#[source] io::Error),
    #[error("cannot {action} `{object}`: {source}")]
    Refused { action: &'static str, object: String, source: io::Error },
    #[error("there is no interface `{0}`")]
    NoSuchLink(String),
    #[error("interface name `{0}` is not 1 to 15 characters without `/` and white space")]
    BadName(String),
    #[error("cannot write `{value}` to {path}: {source}")]
    Sysctl { path: String, value: String, source: io::Error },
    #[error("the kernel stopped telling about link changes")]
    NoMoreChanges,
}

/// One namespace's links. Cheap to clone; the socket closes with the last clone.
#[derive(Clone, Debug)]
pub struct Links {
    handle: Handle,
}

impl Links {
    /// The namespace of the calling thread. Must be called within a tokio runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The namespace behind a descriptor. Must be called within a tokio runtime.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = std::thread::scope(|scope| {
            let opener = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
                move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
                    .map_err(|errno| Error::Enter(errno.into()))?;
                let _within = runtime.enter();
                rtnetlink::new_connection().map_err(Error::Open)
            });
            match opener.map_err(Error::Enter)?.join() {
                Ok(opened) => opened,
                Err(_) => Err(Error::Enter(io::Error::other("the opening thread panicked"))),
            }
        })?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

/// The kernel's answer with what was being done to what.
fn refused(action: &'static str, object: impl Into<String>, error: rtnetlink::Error) -> Error {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    };
    Error::Refused { action, object: object.into(), source }
}

/// Whether the kernel said this errno.
fn is_errno(error: &rtnetlink::Error, errno: rustix::io::Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno.raw_os_error())
}

/// Refuses names that the kernel would refuse, before they reach a path below `/proc/sys`.
fn check_name(name: &str) -> Result<(), Error> {
    let fits = !name.is_empty() && name.len() <= 15 && name != "." && name != "..";
    if fits && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        Ok(())
    } else {
        Err(Error::BadName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_directory_are_refused() {
        for good in ["lo", "eth0", "enp0s31f6", "kedge0"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "0123456789abcdef", "eth0:1"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
