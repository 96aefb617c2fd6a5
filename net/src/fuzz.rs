//! What must hold of the readers of the network's and the kernel's messages, whatever comes: what fuzzers throw at them.

use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use crate::Mac;
use crate::dhcp::{machine, message, packet};
use crate::dns::message as dns;
use crate::nft::wire;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// A packet of a DHCP server, or the message in one.
pub fn dhcp(data: &[u8]) {
    let message = data.get(..1400).unwrap_or(data);
    assert_eq!(packet::unwrap(&from_server(message)), Some(message));
    let message = packet::unwrap(data).unwrap_or(data);
    let Some(reply) = message::decode(message, MAC) else { return };
    let mut client = machine::Machine::new(MAC, Default::default(), 7, Duration::ZERO);
    for second in 0..4 {
        let now = Duration::from_secs(second);
        let _actions = (client.tick(now), client.receive(reply.clone(), now));
        assert!(client.deadline() >= now || client.deadline() + Duration::from_secs(1) >= now);
    }
}

/// A packet to the client, where `packet::wrap` makes one of the client's.
fn from_server(message: &[u8]) -> Vec<u8> {
    let mut packet = packet::wrap(message);
    // The ports of UDP, after 20 bytes of IPv4.
    if let Some(ports) = packet.get_mut(20..24) {
        ports.rotate_left(2);
    }
    packet
}

/// A datagram of a DNS client.
pub fn dns_query(data: &[u8]) {
    let (answer, limit) = match dns::read(data) {
        dns::Received::Question(question) => {
            assert!(question.name.len() <= 1024 && !question.name.ends_with('.'));
            (question.answer(ResponseCode::NoError), question.udp_limit())
        }
        dns::Received::Refuse(answer) => (answer, 512),
        dns::Received::Ignore => return,
    };
    let Some(bytes) = dns::encode(answer, limit) else { return };
    assert!(bytes.len() <= limit, "{} of {limit}", bytes.len());
    assert!(Message::from_vec(&bytes).is_ok());
    assert!(matches!(dns::read(&bytes), dns::Received::Ignore), "an answer is taken for a query");
}

/// A datagram of another DNS server.
pub fn dns_answer(data: &[u8]) {
    let Ok(name) = Name::from_ascii("a.example.") else { return };
    let query = Query::query(name, RecordType::A);
    let id = data.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    let Some(answer) = dns::read_answer(data, &query, id) else { return };
    for limit in [512, 1232, 65535] {
        let Some(bytes) = dns::encode(answer.clone(), limit) else { continue };
        assert!(bytes.len() <= limit, "{} of {limit}", bytes.len());
        assert!(Message::from_vec(&bytes).is_ok());
    }
}

/// A datagram of the kernel's.
pub fn netlink(data: &[u8]) {
    let mut bytes = 0;
    for message in wire::split(data) {
        bytes += message.payload.len();
        for (_, value) in wire::attributes(message.payload) {
            assert!(wire::attributes(value).count() <= value.len() / 4);
        }
    }
    assert!(bytes <= data.len());
}

/// Good messages, for a fuzzer to begin with.
pub fn dhcp_seeds() -> Vec<Vec<u8>> {
    use crate::dhcp::message::Request;
    let made = [Request::Discover { wanted: None }, Request::Extend { address: [10, 0, 0, 2].into() }]
        .map(|request| message::encode(request, 7, Duration::ZERO, MAC, &Default::default()));
    let mut seeds: Vec<Vec<u8>> = made.into_iter().collect();
    let mut offer = seeds.first().cloned().unwrap_or_default();
    // A server's: type BOOTREPLY, an address, and the options of an answer before the end.
    for (at, byte) in [(0, 2), (16, 10), (19, 2)] {
        if let Some(place) = offer.get_mut(at) {
            *place = byte;
        }
    }
    offer.truncate(240);
    let options: &[&[u8]] = &[
        &[53, 1, 5],
        &[54, 4, 10, 0, 0, 1],
        &[51, 4, 0, 0, 14, 16],
        &[1, 4, 255, 255, 255, 0],
        &[3, 4, 10, 0, 0, 1],
        &[6, 8, 10, 0, 0, 1, 8, 8, 8, 8],
        &[12, 1, b'a'],
        &[15, 3, b'a', b'.', b'b'],
        &[26, 2, 5, 220],
        &[42, 4, 10, 0, 0, 1],
        &[121, 9, 16, 10, 1, 10, 0, 0, 1, 0, 10],
        &[58, 4, 0, 0, 7, 8],
        &[59, 4, 0, 0, 12, 0],
        &[255],
    ];
    offer.extend(options.concat());
    seeds.extend([from_server(&offer), offer]);
    seeds
}

/// A query, and an answer to it.
pub fn dns_seeds() -> Vec<Vec<u8>> {
    let Ok(name) = Name::from_ascii("a.example.") else { return Vec::new() };
    let query = Query::query(name, RecordType::A);
    let asked = dns::ask(&query, 0).unwrap_or_default();
    let answered = match dns::read(&asked) {
        dns::Received::Question(question) => dns::encode(question.answer(ResponseCode::NoError), 1232),
        dns::Received::Refuse(_) | dns::Received::Ignore => None,
    };
    let with_record = answered.iter().map(|answer| {
        let mut answer = answer.clone();
        if let Some(count) = answer.get_mut(7) {
            *count = 1;
        }
        // Before the additional record: the name again, A, IN, a minute, an address.
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1];
        let at = answer.len().saturating_sub(11);
        answer.splice(at..at, record);
        answer
    });
    with_record.collect::<Vec<_>>().into_iter().chain(answered).chain([asked]).collect()
}

pub fn netlink_seeds() -> Vec<Vec<u8>> {
    let mut messages = wire::Messages::default();
    messages.message(0x0a00, wire::NLM_F_ACK, 2, 0, |out| {
        out.text(1, "kedge");
        out.nest(2, |out| out.number(1, 7));
    });
    vec![messages.bytes().to_vec()]
}
