//! What the server asks its owner: names in, plain records out. No wire format here.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Who answers for the names that the server owns. Called for every query on the server's task: answer from memory.
pub trait Zone: Send + Sync + 'static {
    /// `name` is lower-case, without the trailing dot; the root is the empty string.
    fn answer(&self, name: &str, record_type: RecordType) -> ZoneAnswer;

    /// The zone that a name belongs to, so that resolvers may keep negative answers for a while.
    fn authority(&self, name: &str) -> Option<Authority> {
        let _ = name;
        None
    }
}

impl<Z: Zone + ?Sized> Zone for std::sync::Arc<Z> {
    fn answer(&self, name: &str, record_type: RecordType) -> ZoneAnswer {
        (**self).answer(name, record_type)
    }

    fn authority(&self, name: &str) -> Option<Authority> {
        (**self).authority(name)
    }
}

/// A zone's own name, and how many seconds others may believe that a name is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    pub apex: String,
    pub negative_ttl: u32,
}

/// Answers differ in what a resolver may conclude from them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneAnswer {
    /// The name has these; never empty. A `Cname` is not followed by the server.
    Records(Vec<Record>),
    /// The name exists, but has nothing of this type.
    NoData,
    /// The name does not exist below this zone.
    NxDomain,
    /// Someone else's name: the server asks upstream.
    NotMine,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Absolute, without the trailing dot.
    pub name: String,
    /// Seconds that others may keep it.
    pub ttl: u32,
    pub data: Data,
}

/// What a record says. Names are absolute, without the trailing dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Ptr(String),
    Srv { priority: u16, weight: u16, port: u16, target: String },
    Txt(Vec<String>),
}

/// The type that a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordType {
    A,
    Aaaa,
    Any,
    Cname,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
    /// Any other, by its number.
    Other(u16),
}
