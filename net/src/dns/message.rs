//! Queries and answers: from bytes, out of a zone's plain records, and to bytes of bounded length.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record as WireRecord, RecordType as WireType};

use super::zone::{Authority, Data, Record, RecordType, ZoneAnswer};

/// RFC 1035: what every client takes by UDP.
const LEAST_PAYLOAD: u16 = 512;
/// What passes every link unfragmented (DNS flag day 2020), also what we tell others to send.
pub const PAYLOAD: u16 = 1232;
const HEADER: usize = 12;

/// One question that can be answered.
#[derive(Debug, Clone)]
pub struct Question {
    pub query: Query,
    /// Lower-case, without the trailing dot.
    pub name: String,
    id: u16,
    recursion_desired: bool,
    /// The client's UDP payload, when it speaks EDNS.
    edns_payload: Option<u16>,
}

/// What to do with bytes from a client.
#[derive(Debug)]
pub enum Received {
    Question(Question),
    /// Not answerable, but worth saying so.
    Refuse(Message),
    /// No query at all: an answer could be part of a loop.
    Ignore,
}

/// Reads what a client sent.
pub fn read(bytes: &[u8]) -> Received {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>() else { return Received::Ignore };
    let [id0, id1, flags, ..] = *header;
    if flags & 0x80 != 0 {
        return Received::Ignore;
    }
    let id = u16::from_be_bytes([id0, id1]);
    let refuse = |code, op_code| Received::Refuse(Message::error_msg(id, op_code, code));
    let Ok(mut message) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr, OpCode::Query) };
    if message.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp, message.metadata.op_code);
    }
    let edns_payload = message.edns.as_ref().map(|edns| edns.max_payload().max(LEAST_PAYLOAD));
    let bad_version = message.edns.as_ref().is_some_and(|edns| edns.version() != 0);
    let (Some(query), true) = (message.queries.pop(), message.queries.is_empty()) else {
        return refuse(ResponseCode::FormErr, OpCode::Query);
    };
    let name = plain(query.name());
    let recursion_desired = message.metadata.recursion_desired;
    let class = query.query_class();
    let question = Question { query, name, id, recursion_desired, edns_payload };
    if bad_version {
        return Received::Refuse(question.answer(ResponseCode::BADVERS));
    }
    match class {
        DNSClass::IN | DNSClass::ANY => Received::Question(question),
        _ => Received::Refuse(question.answer(ResponseCode::Refused)),
    }
}

/// A name as zones and the cache know it.
fn plain(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    text.truncate(text.trim_end_matches('.').len());
    text
}

impl Question {
    pub fn record_type(&self) -> RecordType {
        match self.query.query_type() {
            WireType::A => RecordType::A,
            WireType::AAAA => RecordType::Aaaa,
            WireType::ANY => RecordType::Any,
            WireType::CNAME => RecordType::Cname,
            WireType::NS => RecordType::Ns,
            WireType::PTR => RecordType::Ptr,
            WireType::SOA => RecordType::Soa,
            WireType::SRV => RecordType::Srv,
            WireType::TXT => RecordType::Txt,
            other => RecordType::Other(other.into()),
        }
    }

    /// How long an answer by UDP may be.
    pub fn udp_limit(&self) -> usize {
        usize::from(self.edns_payload.unwrap_or(LEAST_PAYLOAD).min(PAYLOAD))
    }

    /// An answer without records.
    pub fn answer(&self, code: ResponseCode) -> Message {
        let mut message = Message::new(self.id, MessageType::Response, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.add_query(self.query.clone());
        if self.edns_payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            message.set_edns(edns);
        }
        message
    }

    /// What a zone knows; `None` when the name is not its own.
    pub fn answer_of_zone(&self, answer: ZoneAnswer, authority: Option<Authority>) -> Option<Message> {
        let (code, records) = match answer {
            ZoneAnswer::Records(records) => (ResponseCode::NoError, records),
            ZoneAnswer::NoData => (ResponseCode::NoError, Vec::new()),
            ZoneAnswer::NxDomain => (ResponseCode::NXDomain, Vec::new()),
            ZoneAnswer::NotMine => return None,
        };
        let mut message = self.answer(code);
        message.metadata.authoritative = true;
        for record in &records {
            match wire_record(record) {
                Some(record) => drop(message.add_answer(record)),
                None => tracing::warn!(name = %record.name, "a record that cannot be encoded is left out"),
            }
        }
        if message.answers.is_empty()
            && let Some(soa) = authority.and_then(|authority| start_of_authority(&authority))
        {
            message.add_authority(soa);
        }
        Some(message)
    }

    /// Another server's answer as this client's: its number, its flags, `age` seconds later.
    pub fn relay(&self, answer: &Message, age: u32) -> Message {
        let mut message = self.answer(answer.metadata.response_code);
        let aged = |records: &[WireRecord]| {
            records
                .iter()
                .cloned()
                .map(|mut record| {
                    record.decrement_ttl(age);
                    record
                })
                .collect::<Vec<_>>()
        };
        message.answers = aged(&answer.answers);
        message.authorities = aged(&answer.authorities);
        message.additionals = aged(&answer.additionals);
        message
    }
}

/// The bytes of an answer. If it is longer than the limit, as many answers as fit and the truncation bit.
pub fn encode(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = message.to_vec().ok()?;
    if bytes.len() > limit {
        message.metadata.truncation = true;
        message.authorities.clear();
        message.additionals.clear();
    }
    while bytes.len() > limit {
        if message.answers.is_empty() && message.edns.is_none() {
            return None;
        }
        // Records of an answer are about equally long: the share that fits, and at least one less each time.
        let fit = message.answers.len() * limit / bytes.len();
        let fewer = message.answers.len().saturating_sub(1);
        if message.answers.is_empty() {
            message.edns = None;
        }
        message.answers.truncate(fit.min(fewer));
        bytes = message.to_vec().ok()?;
    }
    Some(bytes)
}

/// A name of the zone, absolute.
fn name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn wire_record(record: &Record) -> Option<WireRecord> {
    let data = match &record.data {
        Data::A(address) => RData::A(A(*address)),
        Data::Aaaa(address) => RData::AAAA(AAAA(*address)),
        Data::Cname(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Ptr(target) => RData::PTR(PTR(name(target)?)),
        Data::Srv { priority, weight, port, target } => RData::SRV(SRV::new(*priority, *weight, *port, name(target)?)),
        Data::Txt(strings) if strings.iter().all(|string| string.len() <= 255) => RData::TXT(TXT::new(strings.clone())),
        Data::Txt(_) => return None,
    };
    Some(WireRecord::from_rdata(name(&record.name)?, record.ttl, data))
}

/// Lets resolvers keep a negative answer, RFC 2308.
fn start_of_authority(authority: &Authority) -> Option<WireRecord> {
    let apex = name(&authority.apex)?;
    let server = name(&format!("ns.dns.{}", authority.apex))?;
    let mailbox = name(&format!("hostmaster.{}", authority.apex))?;
    let ttl = authority.negative_ttl;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, ttl);
    Some(WireRecord::from_rdata(apex, ttl, RData::SOA(soa)))
}

/// A query of our own for another server.
pub fn ask(query: &Query, id: u16) -> Option<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// Reads another server's answer to [`ask`]; `None` when it is the answer to something else.
pub fn read_answer(bytes: &[u8], query: &Query, id: u16) -> Option<Message> {
    let message = Message::from_vec(bytes).ok()?;
    let ours = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.queries.first().is_some_and(|echo| {
            echo.name() == query.name()
                && echo.query_type() == query.query_type()
                && echo.query_class() == query.query_class()
        });
    ours.then_some(message)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
