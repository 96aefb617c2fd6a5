//! Answers of other servers, for as long as they may be kept. Time comes from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType as WireType};

/// Name (plain) and type, with its number.
pub type Key = (String, u16);

/// Bounded in entries and bytes; what ends soonest makes room.
#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<Key, Entry>,
    /// By end, for eviction; the number tells entries of the same moment apart.
    by_end: BTreeMap<(Duration, u64), Key>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    /// Encoded: a parsed message is several times as large.
    message: Box<[u8]>,
    since: Duration,
    end: (Duration, u64),
}

const MOST_ENTRIES: usize = 2048;
const MOST_BYTES: usize = 512 * 1024;
/// A record that nobody may change for a week is still asked for each hour: a device's clock may be wrong.
const LONGEST: u32 = 3600;
/// RFC 2308 allows hours; who creates a name after having asked for it expects to see it.
const LONGEST_NEGATIVE: u32 = 60;

impl Cache {
    /// The answer, and its age in seconds.
    pub fn get(&self, key: &Key, now: Duration) -> Option<(Message, u32)> {
        let entry = self.entries.get(key).filter(|entry| now < entry.end.0)?;
        let message = Message::from_vec(&entry.message).ok()?;
        Some((message, u32::try_from(now.saturating_sub(entry.since).as_secs()).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer if it may be kept.
    pub fn put(&mut self, key: Key, message: &Message, now: Duration) {
        let Some(seconds) = lifetime(message) else { return };
        let Ok(bytes) = message.to_vec() else { return };
        if bytes.len() > MOST_BYTES / 16 {
            return;
        }
        self.remove(&key);
        while self.entries.len() >= MOST_ENTRIES || self.bytes + bytes.len() > MOST_BYTES {
            let Some((_, oldest)) = self.by_end.first_key_value() else { break };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
        self.count += 1;
        let end = (now.saturating_add(Duration::from_secs(seconds.into())), self.count);
        self.bytes += bytes.len();
        self.by_end.insert(end, key.clone());
        self.entries.insert(key, Entry { message: bytes.into_boxed_slice(), since: now, end });
    }

    /// Forgets all: other servers may say other things.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.message.len();
            self.by_end.remove(&entry.end);
        }
    }
}

/// Seconds that an answer may be kept: its shortest record; for a negative one what its zone says.
fn lifetime(message: &Message) -> Option<u32> {
    if message.metadata.truncation {
        return None;
    }
    let negative = match message.metadata.response_code {
        ResponseCode::NoError => !answers_the_question(message),
        ResponseCode::NXDomain => true,
        _ => return None,
    };
    let shortest = message.answers.iter().map(|record| record.ttl).min();
    let seconds = if negative {
        let soa = message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })?;
        soa.min(shortest.unwrap_or(LONGEST_NEGATIVE)).min(LONGEST_NEGATIVE)
    } else {
        shortest?.min(LONGEST)
    };
    (seconds > 0).then_some(seconds)
}

fn answers_the_question(message: &Message) -> bool {
    let wanted = message.queries.first().map(|query| query.query_type());
    message.answers.iter().any(|record| wanted == Some(WireType::ANY) || wanted == Some(record.record_type()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::{A, CNAME, SOA};
    use hickory_proto::rr::{Name, Record};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn answer(records: Vec<Record>, authorities: Vec<Record>, code: ResponseCode) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name("a.example."), WireType::A));
        message.metadata.response_code = code;
        message.answers = records;
        message.authorities = authorities;
        message
    }

    fn a(ttl: u32) -> Record {
        Record::from_rdata(name("a.example."), ttl, RData::A(A(Ipv4Addr::LOCALHOST)))
    }

    fn soa(ttl: u32, minimum: u32) -> Record {
        let soa = SOA::new(name("ns.example."), name("me.example."), 1, 2, 3, 4, minimum);
        Record::from_rdata(name("example."), ttl, RData::SOA(soa))
    }

    fn key(text: &str) -> Key {
        (text.into(), 1)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn lifetimes() {
        use ResponseCode::{NXDomain, NoError, ServFail};
        let alias = Record::from_rdata(name("a.example."), 9, RData::CNAME(CNAME(name("b.example."))));
        for (records, authorities, code, expected) in [
            (vec![a(30), a(20)], vec![], NoError, Some(20)),
            (vec![a(999_999)], vec![], NoError, Some(3600)),
            (vec![a(0)], vec![], NoError, None),
            (vec![], vec![soa(30, 20)], NXDomain, Some(20)),
            (vec![], vec![soa(20, 9000)], NoError, Some(20)),
            (vec![], vec![soa(9000, 9000)], NXDomain, Some(60)),
            (vec![], vec![], NXDomain, None),
            (vec![alias.clone()], vec![soa(30, 30)], NoError, Some(9)),
            (vec![alias], vec![], NoError, None),
            (vec![a(30)], vec![], ServFail, None),
        ] {
            assert_eq!(lifetime(&answer(records.clone(), authorities, code)), expected, "{records:?} {code}");
        }
    }

    #[test]
    fn an_answer_ages_and_ends() {
        let mut cache = Cache::default();
        cache.put(key("a.example"), &answer(vec![a(30)], vec![], ResponseCode::NoError), seconds(100));
        assert_eq!(cache.get(&key("a.example"), seconds(110)).unwrap().1, 10);
        assert!(cache.get(&key("a.example"), seconds(130)).is_none());
        assert!(cache.get(&("a.example".into(), 28), seconds(110)).is_none(), "another type");
    }

    #[test]
    fn room_is_bounded_and_what_ends_soonest_goes_first() {
        let mut cache = Cache::default();
        cache.put(key("short"), &answer(vec![a(5)], vec![], ResponseCode::NoError), seconds(0));
        for n in 0..MOST_ENTRIES {
            let long = answer(vec![a(1000)], vec![], ResponseCode::NoError);
            cache.put(key(&n.to_string()), &long, seconds(0));
        }
        assert!(cache.get(&key("short"), seconds(1)).is_none());
        assert_eq!((cache.entries.len(), cache.by_end.len()), (MOST_ENTRIES, MOST_ENTRIES));
        let large = answer((0..600).map(|_| a(2000)).collect(), vec![], ResponseCode::NoError);
        for n in 0..200 {
            cache.put(key(&format!("large{n}")), &large, seconds(0));
            let sum: usize = cache.entries.values().map(|entry| entry.message.len()).sum();
            assert!(cache.bytes == sum && sum <= MOST_BYTES, "{sum} bytes");
        }
        cache.clear();
        assert_eq!((cache.bytes, cache.entries.len()), (0, 0));
    }
}
