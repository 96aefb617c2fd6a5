//! Waiting for links to come and go: the kernel tells, nobody polls.

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_core::NetlinkMessage;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::SocketAddr;

use super::{Error, Link, Links};

/// What a link must have to be worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Present,
    Carrier,
}

/// Tells that some link or address changed.
#[derive(Debug)]
pub struct Changes {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// The connection ends with its last handle.
    _handle: rtnetlink::Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Changes {
    /// Returns after at least one change since the last call. Many changes may be told as one.
    pub async fn next(&mut self) -> Result<(), Error> {
        self.messages.next().await.ok_or(Error::NoMoreChanges)?;
        while let Ok(message) = self.messages.try_recv() {
            drop(message);
        }
        Ok(())
    }
}

impl Links {
    /// Changes of links and addresses in the calling thread's namespace from now on.
    pub fn changes() -> Result<Changes, Error> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups).map_err(Error::Open)?;
        Ok(Changes { messages, _handle: handle, task: tokio::spawn(connection) })
    }

    /// The first link, by index, whose name matches and that has what is wanted; waits until there is one. The caller
    /// sets the time limit.
    pub async fn wait(&self, pattern: &str, wanted: Wanted) -> Result<Link, Error> {
        let mut changes = Self::changes()?;
        loop {
            let mut links = self.list().await?.into_iter();
            if let Some(link) = links.find(|link| is_wanted(link, pattern, wanted)) {
                return Ok(link);
            }
            changes.next().await?;
        }
    }
}

fn is_wanted(link: &Link, pattern: &str, wanted: Wanted) -> bool {
    let has = match wanted {
        Wanted::Present => true,
        Wanted::Carrier => link.carrier,
    };
    has && matches(pattern, &link.name)
}

/// Whether a name is what the pattern says; `*` stands for any characters, also none. Alternatives are separated by
/// white space: `eth* en*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    pattern.split_whitespace().any(|pattern| {
        let mut parts = pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        rest.ends_with(last)
    })
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0", true),
            ("eth*", "wlan0", false),
            ("eth* en*", "enp0s3", true),
            ("*", "anything", true),
            ("e*p*3", "enp0s3", true),
            ("e*p*4", "enp0s3", false),
            ("*0*0", "a0b0", true),
            ("*0*0", "a0", false),
            ("", "eth0", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
