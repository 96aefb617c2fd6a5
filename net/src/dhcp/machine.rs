//! The client's states, RFC 2131 figure 5. Pure: time and chance come in, messages and events go out.
//!
//! ```text
//! Waiting ─▶ Selecting ─offer─▶ Requesting ─ack─▶ Bound ─T1─▶ Renewing ─T2─▶ Rebinding ─expired─▶ Waiting
//!    │                             │ nak, silence ▲ ▲            │ ack            │ ack, nak ─▶ Waiting
//!    └─ address known ─▶ Rebooting ┴──────────────┘ └────────────┴────────────────┘
//! ```

use std::net::Ipv4Addr;
use std::time::Duration;

use super::lease::{Event, Lease, Options};
use super::message::{Reply, Request, encode};
use crate::Mac;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting { until: Duration },
    Selecting { try_: Try },
    Requesting { try_: Try, address: Ipv4Addr, server: Ipv4Addr },
    Rebooting { try_: Try, address: Ipv4Addr },
    Bound { lease: Lease, since: Duration },
    Renewing { lease: Lease, since: Duration, try_: Try },
    Rebinding { lease: Lease, since: Duration, try_: Try },
}

/// One exchange: its number, when it began, and when the message is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Try {
    xid: u32,
    begun: Duration,
    sent: u32,
    again: Duration,
}

/// What the outside has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Send { message: Vec<u8>, to: Destination },
    Tell(Event),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Without an address of our own.
    Everyone,
    /// From the leased address; a broadcast when there is no server to name.
    FromAddress { address: Ipv4Addr, server: Option<Ipv4Addr> },
}

/// How answers can reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// Nothing is expected.
    No,
    /// There is no address yet: on the link.
    Link,
    /// At the leased address.
    Address,
}

#[derive(Debug)]
pub struct Machine {
    mac: Mac,
    options: Options,
    state: State,
    random: u64,
}

const FIRST_RESEND: Duration = Duration::from_secs(2);
const LONGEST_RESEND: Duration = Duration::from_secs(64);
/// Requests to one server, or for one known address, before it is given up.
const PATIENCE: u32 = 3;
/// After a refusal, so that two machines at odds do not fill the network.
const AFTER_NAK: Duration = Duration::from_secs(2);
/// RFC 2131 4.4.5: not more often than each minute, while half of what remains is longer.
const LEAST_RENEW: Duration = Duration::from_secs(60);

impl Machine {
    /// `seed` differs between devices and boots.
    pub fn new(mac: Mac, options: Options, seed: u64, now: Duration) -> Self {
        Self { mac, options, state: State::Waiting { until: now }, random: seed | 1 }
    }

    /// When [`Machine::tick`] has to be called.
    pub fn deadline(&self) -> Duration {
        match &self.state {
            State::Waiting { until } => *until,
            State::Selecting { try_ } | State::Requesting { try_, .. } | State::Rebooting { try_, .. } => try_.again,
            State::Bound { lease, since } => since.saturating_add(lease.renew_after),
            State::Renewing { lease, since, try_ } => try_.again.min(since.saturating_add(lease.rebind_after)),
            State::Rebinding { lease, since, try_ } => try_.again.min(since.saturating_add(lease.lifetime)),
        }
    }

    pub fn listening(&self) -> Listening {
        match &self.state {
            State::Waiting { .. } | State::Bound { .. } => Listening::No,
            State::Selecting { .. } | State::Requesting { .. } | State::Rebooting { .. } => Listening::Link,
            State::Renewing { .. } | State::Rebinding { .. } => Listening::Address,
        }
    }

    /// The cable was plugged in again: perhaps elsewhere. A lease is confirmed, anything else begins anew.
    pub fn restart(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let lease = match std::mem::replace(&mut self.state, State::Waiting { until: now }) {
            State::Bound { lease, .. } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => lease,
            State::Waiting { .. } | State::Selecting { .. } | State::Requesting { .. } | State::Rebooting { .. } => {
                return actions;
            }
        };
        if let std::net::IpAddr::V4(address) = lease.address.address() {
            self.options.wanted = Some(address);
        }
        actions.push(Action::Tell(Event::Lost(lease)));
        actions
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.deadline() <= now {
            let state = std::mem::replace(&mut self.state, State::Waiting { until: now });
            self.state = self.due(state, now, &mut actions);
        }
        actions
    }

    fn due(&mut self, state: State, now: Duration, actions: &mut Vec<Action>) -> State {
        match state {
            State::Waiting { .. } => {
                let mut try_ = self.begin(now);
                match self.options.wanted {
                    Some(address) => {
                        self.send(Request::Confirm { address }, Destination::Everyone, &mut try_, now, actions);
                        State::Rebooting { try_, address }
                    }
                    None => self.discover(try_, now, actions),
                }
            }
            State::Selecting { try_ } => self.discover(try_, now, actions),
            State::Requesting { try_, .. } if try_.sent >= PATIENCE => {
                let try_ = self.begin(now);
                self.discover(try_, now, actions)
            }
            State::Requesting { mut try_, address, server } => {
                let request = Request::Take { address, server };
                self.send(request, Destination::Everyone, &mut try_, now, actions);
                State::Requesting { try_, address, server }
            }
            State::Rebooting { mut try_, address } => {
                if try_.sent >= PATIENCE {
                    self.options.wanted = None;
                    let try_ = self.begin(now);
                    return self.discover_wanting(Some(address), try_, now, actions);
                }
                self.send(Request::Confirm { address }, Destination::Everyone, &mut try_, now, actions);
                State::Rebooting { try_, address }
            }
            State::Bound { lease, since } => {
                let try_ = self.begin(now);
                self.extend(lease, since, try_, now, actions)
            }
            State::Renewing { lease, since, try_ } | State::Rebinding { lease, since, try_ } => {
                self.extend(lease, since, try_, now, actions)
            }
        }
    }

    fn discover(&mut self, try_: Try, now: Duration, actions: &mut Vec<Action>) -> State {
        self.discover_wanting(None, try_, now, actions)
    }

    fn discover_wanting(
        &mut self,
        wanted: Option<Ipv4Addr>,
        mut try_: Try,
        now: Duration,
        actions: &mut Vec<Action>,
    ) -> State {
        self.send(Request::Discover { wanted }, Destination::Everyone, &mut try_, now, actions);
        State::Selecting { try_ }
    }

    /// Asks for more time: the server that gave the lease, then any server, until the lease is over.
    fn extend(&mut self, lease: Lease, since: Duration, mut try_: Try, now: Duration, out: &mut Vec<Action>) -> State {
        let (rebind_at, end) = (since.saturating_add(lease.rebind_after), since.saturating_add(lease.lifetime));
        let std::net::IpAddr::V4(address) = lease.address.address() else { return State::Waiting { until: now } };
        if now >= end {
            self.options.wanted = None;
            out.push(Action::Tell(Event::Lost(lease)));
            return State::Waiting { until: now };
        }
        let rebinding = now >= rebind_at;
        let server = (!rebinding).then_some(lease.server);
        let to = Destination::FromAddress { address, server };
        self.send(Request::Extend { address }, to, &mut try_, now, out);
        let limit = if rebinding { end } else { rebind_at };
        try_.again = now.saturating_add((limit.saturating_sub(now) / 2).max(LEAST_RENEW)).min(limit);
        if rebinding { State::Rebinding { lease, since, try_ } } else { State::Renewing { lease, since, try_ } }
    }

    /// Takes in a server's answer.
    pub fn receive(&mut self, reply: Reply, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let state = std::mem::replace(&mut self.state, State::Waiting { until: now });
        self.state = self.answered(state, reply, now, &mut actions);
        actions
    }

    fn answered(&mut self, state: State, reply: Reply, now: Duration, actions: &mut Vec<Action>) -> State {
        match (state, reply) {
            (State::Selecting { try_ }, Reply::Offer { xid, address, server }) if xid == try_.xid => {
                let mut try_ = Try { sent: 0, ..try_ };
                self.send(Request::Take { address, server }, Destination::Everyone, &mut try_, now, actions);
                State::Requesting { try_, address, server }
            }
            (State::Requesting { try_, server, .. }, Reply::Ack { xid, lease })
                if xid == try_.xid && lease.server == server =>
            {
                let lease = *lease;
                actions.push(Action::Tell(Event::Bound(lease.clone())));
                State::Bound { lease, since: sent_at(&try_, now) }
            }
            (State::Rebooting { try_, .. }, Reply::Ack { xid, lease }) if xid == try_.xid => {
                let lease = *lease;
                actions.push(Action::Tell(Event::Bound(lease.clone())));
                State::Bound { lease, since: sent_at(&try_, now) }
            }
            (
                State::Renewing { lease: old, try_, .. } | State::Rebinding { lease: old, try_, .. },
                Reply::Ack { xid, lease },
            ) if xid == try_.xid => {
                let lease = *lease;
                let event = match same_but_for_times(&old, &lease) {
                    true => Event::Renewed(lease.clone()),
                    false => Event::Bound(lease.clone()),
                };
                if old.address != lease.address {
                    actions.push(Action::Tell(Event::Lost(old)));
                }
                actions.push(Action::Tell(event));
                State::Bound { lease, since: sent_at(&try_, now) }
            }
            (State::Requesting { try_, server, .. }, Reply::Nak { xid, server: from })
                if xid == try_.xid && from.is_none_or(|from| from == server) =>
            {
                State::Waiting { until: now.saturating_add(AFTER_NAK) }
            }
            (State::Rebooting { try_, .. }, Reply::Nak { xid, .. }) if xid == try_.xid => {
                self.options.wanted = None;
                State::Waiting { until: now }
            }
            (State::Renewing { lease, try_, .. } | State::Rebinding { lease, try_, .. }, Reply::Nak { xid, .. })
                if xid == try_.xid =>
            {
                self.options.wanted = None;
                actions.push(Action::Tell(Event::Lost(lease)));
                State::Waiting { until: now.saturating_add(AFTER_NAK) }
            }
            (state, Reply::Offer { .. } | Reply::Ack { .. } | Reply::Nak { .. }) => state,
        }
    }

    fn begin(&mut self, now: Duration) -> Try {
        Try { xid: (self.chance() >> 16) as u32, begun: now, sent: 0, again: now }
    }

    fn send(&mut self, request: Request, to: Destination, try_: &mut Try, now: Duration, actions: &mut Vec<Action>) {
        let elapsed = now.saturating_sub(try_.begun);
        let message = encode(request, try_.xid, elapsed, self.mac, &self.options);
        actions.push(Action::Send { message, to });
        let delay = FIRST_RESEND.saturating_mul(1 << try_.sent.min(8)).min(LONGEST_RESEND);
        try_.sent += 1;
        // An eighth more or less: devices that were switched on together do not stay in step.
        let jitter = delay.mul_f64((self.chance() % 1024) as f64 / 4096.0);
        try_.again = now.saturating_add(delay - delay / 8 + jitter);
    }

    /// xorshift64: for spreading, not for secrets.
    fn chance(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// A lease counts from when its request was sent, RFC 2131 4.4.5. Each request of a try has the same number, so it is
/// the first of them that is certain not to be too late.
fn sent_at(try_: &Try, now: Duration) -> Duration {
    if try_.sent <= 1 { now } else { try_.begun }
}

fn same_but_for_times(old: &Lease, new: &Lease) -> bool {
    let times = |lease: &Lease| (lease.lifetime, lease.renew_after, lease.rebind_after);
    let mut new = new.clone();
    (new.lifetime, new.renew_after, new.rebind_after) = times(old);
    new.server = old.server;
    *old == new
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
