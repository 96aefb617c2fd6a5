//! A host's addresses, for the machine itself: its C library's resolver reads a file that this machine has no use for.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::upstream;

/// What the first of `servers` that answers knows of `name`: addresses of IPv4 first, in the order told.
pub async fn addresses(name: &str, servers: &[SocketAddr]) -> io::Result<Vec<IpAddr>> {
    // A name from a configuration is whole, with or without its last dot.
    let mut whole = Name::from_ascii(name).map_err(io::Error::other)?;
    whole.set_fqdn(true);
    let ask = |kind| {
        let query = Query::query(whole.clone(), kind);
        async move { upstream::resolve(&query, servers).await }
    };
    let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
    let failed = |what: &str| io::Error::other(format!("{what} (asked: {servers:?})"));
    let answers: Vec<_> = [v4, v6].into_iter().flatten().collect();
    if answers.is_empty() {
        return Err(failed("no DNS server answers"));
    }
    let found: Vec<IpAddr> = answers
        .iter()
        .flat_map(|answer| &answer.answers)
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        })
        .collect();
    match answers.iter().map(|answer| answer.metadata.response_code).find(|code| *code != ResponseCode::NoError) {
        _ if !found.is_empty() => Ok(found),
        Some(code) => Err(failed(&format!("the DNS server says: {code}"))),
        None => Err(failed("it has no address")),
    }
}
