//! For how long a request may last: most end within a minute, a few go on as long as both sides like.

use std::time::Duration;

use kedge_api::{Status, Verb};

use super::path::{About, Asked};
use super::query::Query;

/// Upstream's `--request-timeout`.
pub const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    Short,
    Watch,
    /// A connection that is passed on, or a log.
    Open,
}

impl Lasting {
    pub fn of(asked: &Asked) -> Self {
        match &asked.about {
            About::Resource(resource) if resource.verb == Verb::Watch => Self::Watch,
            About::Resource(resource) => match resource.target.subresource.as_str() {
                "attach" | "exec" | "proxy" | "log" | "portforward" => Self::Open,
                _ => Self::Short,
            },
            About::Path { .. } => Self::Short,
        }
    }
}

/// What the client allows for its request, if that is less than the server does.
pub fn timeout(query: &Query) -> Result<Duration, Status> {
    let asked = match query.first("timeout") {
        None | Some("") => return Ok(LONGEST),
        Some(text) => duration(text),
    };
    let time = asked
        .map_err(|why| Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}")))?;
    Ok(time.filter(|time| !time.is_zero() && *time < LONGEST).unwrap_or(LONGEST))
}

const UNITS: &[(&str, f64)] =
    &[("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// As Go reads one: `1m30s`, `1.5s`; less than nothing is no time at all. The error is in Go's words.
fn duration(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("invalid duration {}", super::query::quoted(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            return Err(format!("missing unit in duration {}", super::query::quoted(text)));
        }
        let unknown =
            || format!("unknown unit {} in duration {}", super::query::quoted(unit), super::query::quoted(text));
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(unknown)?;
        seconds += number * size;
        rest = after;
    }
    match negative {
        true => Ok(None),
        false => Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| invalid()),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::path::parse;
    use super::*;

    #[test]
    fn watches_logs_and_connections_go_on() {
        for (method, uri, want) in [
            (Method::GET, "/api/v1/pods", Lasting::Short),
            (Method::GET, "/api/v1/pods?watch=1", Lasting::Watch),
            (Method::GET, "/api/v1/namespaces/a/pods/p/log", Lasting::Open),
            (Method::POST, "/api/v1/namespaces/a/pods/p/exec", Lasting::Open),
            (Method::POST, "/api/v1/namespaces/a/pods/p/eviction", Lasting::Short),
            (Method::GET, "/api/v1/nodes/n/proxy/metrics", Lasting::Open),
            (Method::GET, "/metrics", Lasting::Short),
        ] {
            let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
            let asked = parse(&method, path, &Query::parse(query)).unwrap();
            assert_eq!(Lasting::of(&asked), want, "{uri}");
        }
    }

    #[test]
    fn a_client_may_wait_for_less_than_the_server_would() {
        for (text, want) in [
            ("", Ok(60_000)),
            ("timeout=", Ok(60_000)),
            ("timeout=10s", Ok(10_000)),
            ("timeout=1.5s", Ok(1500)),
            ("timeout=%2B1s500ms", Ok(1500)),
            ("timeout=34s&timeout=1s", Ok(34_000)),
            ("timeout=5m", Ok(60_000)),
            ("timeout=0", Ok(60_000)),
            ("timeout=0s", Ok(60_000)),
            ("timeout=-3s", Ok(60_000)),
            ("timeout=5", Err("missing unit in duration \"5\"")),
            ("timeout=5x", Err("unknown unit \"x\" in duration \"5x\"")),
            ("timeout=soon", Err("invalid duration \"soon\"")),
        ] {
            let got = timeout(&Query::parse(text)).map(|time| time.as_millis()).map_err(|status| status.message);
            let want = want.map_err(|why| format!("invalid timeout specified in the request URL - time: {why}"));
            assert_eq!(got, want, "{text}");
        }
    }
}
