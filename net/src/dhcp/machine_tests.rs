//! Stories of a client and its servers, with the clock in hand.

use proptest::prelude::*;

use super::*;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn lease(server: Ipv4Addr) -> Lease {
    Lease {
        address: "192.0.2.7/24".parse().unwrap(),
        server,
        routers: vec![SERVER],
        dns: vec![],
        ntp: vec![],
        domain: None,
        hostname: None,
        mtu: None,
        routes: vec![],
        lifetime: seconds(1000),
        renew_after: seconds(500),
        rebind_after: seconds(875),
    }
}

fn machine(wanted: Option<Ipv4Addr>) -> Machine {
    Machine::new(Mac([2, 0, 0, 0, 0, 1]), Options { wanted, ..Options::default() }, 42, Duration::ZERO)
}

/// The transaction number and destination of the only message among the actions.
fn sent(actions: &[Action]) -> (u32, Destination) {
    let sends: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Send { message, to } => Some((u32::from_be_bytes(message[4..8].try_into().unwrap()), *to)),
            Action::Tell(_) => None,
        })
        .collect();
    assert_eq!(sends.len(), 1, "{actions:?}");
    sends[0]
}

fn told(actions: &[Action]) -> Vec<Event> {
    let event = |action: &Action| match action {
        Action::Tell(event) => Some(event.clone()),
        Action::Send { .. } => None,
    };
    actions.iter().filter_map(event).collect()
}

fn bound() -> Machine {
    let mut machine = machine(None);
    let (xid, to) = sent(&machine.tick(seconds(0)));
    assert_eq!(to, Destination::Everyone);
    let (again, _) = sent(&machine.receive(Reply::Offer { xid, address: ADDRESS, server: SERVER }, seconds(0)));
    assert_eq!(again, xid);
    let actions = machine.receive(Reply::Ack { xid, lease: lease(SERVER).into() }, seconds(0));
    assert_eq!(told(&actions), [Event::Bound(lease(SERVER))]);
    assert_eq!((machine.deadline(), machine.listening()), (seconds(500), Listening::No));
    machine
}

#[test]
fn discovers_with_growing_patience_until_someone_answers() {
    let mut machine = machine(None);
    let mut now = Duration::ZERO;
    let mut gaps = Vec::new();
    for _ in 0..10 {
        sent(&machine.tick(now));
        gaps.push((machine.deadline() - now).as_secs_f64());
        now = machine.deadline();
    }
    for (gap, expected) in gaps.iter().zip([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0, 64.0, 64.0]) {
        assert!((gap - expected).abs() <= expected / 8.0 + 0.001, "{gap} for {expected}");
    }
    assert_eq!(machine.listening(), Listening::Link);
}

#[test]
fn renews_with_its_server_then_with_any_then_lets_go() {
    let mut machine = bound();
    let (_, to) = sent(&machine.tick(seconds(500)));
    assert_eq!(to, Destination::FromAddress { address: ADDRESS, server: Some(SERVER) });
    assert_eq!(machine.listening(), Listening::Address);
    let mut now = seconds(500);
    let mut lost = Vec::new();
    let mut destinations = Vec::new();
    while lost.is_empty() {
        now = machine.deadline();
        let actions = machine.tick(now);
        lost = told(&actions);
        destinations.extend(actions.iter().filter_map(|action| match action {
            Action::Send { to, .. } => Some((now.as_secs(), *to)),
            Action::Tell(_) => None,
        }));
    }
    assert_eq!((now, lost), (seconds(1000), vec![Event::Lost(lease(SERVER))]));
    let any = Destination::FromAddress { address: ADDRESS, server: None };
    assert_eq!(destinations.iter().find(|(_, to)| *to == any).unwrap().0, 875);
    assert_eq!(destinations.last().unwrap().1, Destination::Everyone, "begins anew at once");
    assert!(destinations.len() < 12, "{destinations:?}");
}

#[test]
fn a_renewal_is_told_as_what_it_changes() {
    let renewed = |change: fn(&mut Lease)| {
        let mut machine = bound();
        let (xid, _) = sent(&machine.tick(seconds(500)));
        let mut new = lease(SERVER);
        change(&mut new);
        let actions = machine.receive(Reply::Ack { xid, lease: new.clone().into() }, seconds(501));
        assert_eq!(machine.deadline(), seconds(501) + new.renew_after);
        (told(&actions), new)
    };
    let (events, new) = renewed(|lease| lease.lifetime = seconds(2000));
    assert_eq!(events, [Event::Renewed(new)]);
    let (events, new) = renewed(|lease| lease.dns.push(OTHER));
    assert_eq!(events, [Event::Bound(new)]);
    let (events, new) = renewed(|lease| lease.address = "192.0.2.8/24".parse().unwrap());
    assert_eq!(events, [Event::Lost(lease(SERVER)), Event::Bound(new)]);
}

#[test]
fn refusals() {
    let mut renewing = bound();
    let (xid, _) = sent(&renewing.tick(seconds(500)));
    let actions = renewing.receive(Reply::Nak { xid, server: Some(SERVER) }, seconds(501));
    assert_eq!(told(&actions), [Event::Lost(lease(SERVER))]);
    assert_eq!(renewing.deadline(), seconds(503), "not at once, and from the beginning");

    let mut requesting = machine(None);
    let (xid, _) = sent(&requesting.tick(seconds(0)));
    requesting.receive(Reply::Offer { xid, address: ADDRESS, server: SERVER }, seconds(0));
    assert!(requesting.receive(Reply::Nak { xid, server: Some(OTHER) }, seconds(0)).is_empty());
    assert_eq!(requesting.listening(), Listening::Link, "another server's refusal is not ours");
    requesting.receive(Reply::Nak { xid, server: Some(SERVER) }, seconds(0));
    assert_eq!((requesting.listening(), requesting.deadline()), (Listening::No, seconds(2)));
}

#[test]
fn a_known_address_is_asked_for_first() {
    let mut machine = machine(Some(ADDRESS));
    let (xid, to) = sent(&machine.tick(seconds(0)));
    assert_eq!(to, Destination::Everyone);
    let actions = machine.receive(Reply::Ack { xid, lease: lease(SERVER).into() }, seconds(0));
    assert_eq!(told(&actions), [Event::Bound(lease(SERVER))]);

    let mut refused = super::tests::machine(Some(ADDRESS));
    let (xid, _) = sent(&refused.tick(seconds(0)));
    refused.receive(Reply::Nak { xid, server: None }, seconds(0));
    let (second, _) = sent(&refused.tick(seconds(0)));
    assert_ne!(second, xid);
    let offer = Reply::Offer { xid: second, address: ADDRESS, server: SERVER };
    sent(&refused.receive(offer, seconds(0)));
}

#[test]
fn a_silent_server_is_given_up() {
    let mut machine = machine(None);
    let (xid, _) = sent(&machine.tick(seconds(0)));
    machine.receive(Reply::Offer { xid, address: ADDRESS, server: SERVER }, seconds(0));
    let mut last = xid;
    for _ in 0..PATIENCE {
        (last, _) = sent(&machine.tick(machine.deadline()));
    }
    assert_ne!(last, xid, "a new exchange");
    let offer = Reply::Offer { xid: last, address: ADDRESS, server: OTHER };
    sent(&machine.receive(offer, machine.deadline()));
}

#[test]
fn answers_to_others_change_nothing() {
    let mut machine = machine(None);
    let (xid, _) = sent(&machine.tick(seconds(0)));
    let before = machine.state.clone();
    let strangers = [
        Reply::Offer { xid: !xid, address: ADDRESS, server: SERVER },
        Reply::Ack { xid, lease: lease(SERVER).into() },
        Reply::Nak { xid, server: None },
    ];
    for reply in strangers {
        assert!(machine.receive(reply, seconds(1)).is_empty());
        assert_eq!(machine.state, before);
    }
}

#[test]
fn a_cable_plugged_in_again_has_its_lease_confirmed() {
    let mut machine = bound();
    assert_eq!(told(&machine.restart(seconds(10))), [Event::Lost(lease(SERVER))]);
    let (xid, _) = sent(&machine.tick(seconds(10)));
    let actions = machine.receive(Reply::Ack { xid, lease: lease(OTHER).into() }, seconds(10));
    assert_eq!(told(&actions), [Event::Bound(lease(OTHER))]);
}

proptest! {
    /// Whatever servers say and whenever: the clock goes on, no address is used beyond its time, and what is lost was
    /// bound before.
    #[test]
    fn never_stuck_and_never_beyond_the_lease(steps in prop::collection::vec((0u8..6, 0u64..700, any::<bool>()), 1..80)) {
        let mut machine = machine(None);
        let mut now = Duration::ZERO;
        let mut xid = 0;
        let mut held: Option<Duration> = None;
        for (what, wait, right) in steps {
            let mut actions = match what {
                0 | 1 => {
                    now = machine.deadline().max(now);
                    machine.tick(now)
                }
                2 => machine.receive(Reply::Offer { xid: if right { xid } else { 1 }, address: ADDRESS, server: SERVER }, now),
                3 => machine.receive(Reply::Ack { xid: if right { xid } else { 1 }, lease: lease(SERVER).into() }, now),
                4 => machine.receive(Reply::Nak { xid: if right { xid } else { 1 }, server: None }, now),
                _ => {
                    now += seconds(wait);
                    machine.tick(now)
                }
            };
            actions.retain(|action| match action {
                Action::Send { message, .. } => {
                    xid = u32::from_be_bytes(message[4..8].try_into().unwrap());
                    false
                }
                Action::Tell(_) => true,
            });
            for event in told(&actions) {
                match event {
                    Event::Bound(lease) | Event::Renewed(lease) => held = Some(now + lease.lifetime),
                    Event::Lost(_) => prop_assert!(held.take().is_some()),
                }
            }
            prop_assert!(held.is_none_or(|end| now < end), "held beyond its time");
            prop_assert!(machine.deadline() > now || machine.listening() == Listening::No, "stuck");
        }
    }
}
