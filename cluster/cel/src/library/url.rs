//! URLs, taken apart as Go's parser for request URIs does: absolute, or a path from the root.

use std::collections::BTreeMap;

use crate::eval::{Evaluated, failed};
use crate::value::{Key, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub(crate) text: String,
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
            return None;
        }
        let (bare, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = match bare.split_once(':') {
            Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
            _ if bare.starts_with('/') => (String::new(), bare),
            _ => return None,
        };
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => match rest.find('/') {
                Some(at) => (rest.get(..at)?, rest.get(at..)?),
                None => (rest, ""),
            },
            None if rest.starts_with('/') => ("", rest),
            // Opaque ones are no request's.
            None => return None,
        };
        // Who asks is not part of where.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let port_of = host.rsplit_once(']').map_or(host, |(_, after)| after);
        if port_of.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|b| b.is_ascii_digit())) || !escapes(path)
        {
            return None;
        }
        Some(Self {
            text: text.to_owned(),
            scheme,
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// Host and port apart; an IPv6 address without its brackets.
    fn parts(&self) -> (&str, &str) {
        if let Some((address, after)) = self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            return (address, after.strip_prefix(':').unwrap_or_default());
        }
        self.host.split_once(':').unwrap_or((&self.host, ""))
    }

    fn query(&self) -> Value {
        let mut out: BTreeMap<Key, Vec<Value>> = BTreeMap::new();
        for part in self.query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if let (Some(name), Some(value)) = (unescape(name), unescape(value)) {
                out.entry(Key::String(name.into())).or_default().push(value.into());
            }
        }
        out.into_iter().map(|(key, values)| (key, values.into())).collect::<BTreeMap<_, Value>>().into()
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Whether every `%` begins an escape.
fn escapes(text: &str) -> bool {
    let hex = |rest: &str| rest.get(..2).is_some_and(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
    text.match_indices('%').all(|(at, _)| text.get(at + 1..).is_some_and(hex))
}

fn unescape(text: &str) -> Option<String> {
    if !escapes(text) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                bytes.push(digit(rest.next())? * 16 + digit(rest.next())?);
            }
            b'+' => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    Some(match (function, args) {
        ("url", [Value::String(text)]) => match Url::parse(text) {
            Some(url) => Ok(Value::Url(url.into())),
            None => Err(failed(format!(
                "URL parse error during conversion from string: parse {text:?}: invalid URI for request"
            ))),
        },
        ("isURL", [Value::String(text)]) => Ok(Url::parse(text).is_some().into()),
        ("getScheme", [Value::Url(url)]) => Ok(url.scheme.as_str().into()),
        ("getHost", [Value::Url(url)]) => Ok(url.host.as_str().into()),
        ("getHostname", [Value::Url(url)]) => Ok(url.parts().0.into()),
        ("getPort", [Value::Url(url)]) => Ok(url.parts().1.into()),
        ("getEscapedPath", [Value::Url(url)]) => Ok(url.path.as_str().into()),
        ("getQuery", [Value::Url(url)]) => Ok(url.query()),
        _ => return None,
    })
}
