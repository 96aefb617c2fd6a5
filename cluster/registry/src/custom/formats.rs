//! The formats of strings that a schema may name. What is not in this table asks for nothing, as upstream has it.

use base64::Engine as _;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

type Format = (&'static str, fn(&str) -> bool);

const FORMATS: &[Format] = &[
    ("date", |t| matches(&DATE, t) && t.parse::<jiff::civil::Date>().is_ok()),
    ("date-time", date_time),
    ("datetime", date_time),
    ("duration", |t| matches(&DURATION, t)),
    ("byte", |t| base64::engine::general_purpose::STANDARD.decode(t).is_ok()),
    ("ipv4", |t| t.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |t| t.contains(':') && t.parse::<Ipv6Addr>().is_ok()),
    ("cidr", cidr),
    ("mac", |t| matches(&MAC, t)),
    ("uuid", |t| matches(&UUID, t)),
    ("uuid3", |t| matches(&UUID, t) && version(t) == Some('3')),
    ("uuid4", |t| matches(&UUID, t) && version(t) == Some('4') && variant(t)),
    ("uuid5", |t| matches(&UUID, t) && version(t) == Some('5') && variant(t)),
    ("email", |t| matches(&EMAIL, t)),
    ("hostname", |t| t.len() < 254 && matches(&HOSTNAME, t)),
    ("uri", |t| matches(&URI, t)),
    ("bsonobjectid", |t| matches(&OBJECT_ID, t)),
    ("isbn", |t| isbn10(t) || isbn13(t)),
    ("isbn10", isbn10),
    ("isbn13", isbn13),
    ("creditcard", |t| luhn(t)),
    ("ssn", |t| matches(&SSN, t)),
    ("hexcolor", |t| matches(&HEX_COLOR, t)),
    ("rgbcolor", |t| matches(&RGB_COLOR, t)),
];

pub(crate) fn is(format: &str, text: &str) -> bool {
    FORMATS.iter().find(|(name, _)| *name == format).is_none_or(|(_, check)| check(text))
}

type Lazy = LazyLock<Option<Regex>>;

static DATE: Lazy = LazyLock::new(|| Regex::new(r"^\d{4}-\d\d-\d\d$").ok());
static DURATION: Lazy = LazyLock::new(|| {
    Regex::new(r"^-?(\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d|w|seconds?|minutes?|hours?|days?|weeks?)\s*)+$|^0$").ok()
});
static MAC: Lazy =
    LazyLock::new(|| Regex::new(r"^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}$").ok());
static UUID: Lazy =
    LazyLock::new(|| Regex::new(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok());
static EMAIL: Lazy = LazyLock::new(|| Regex::new(r"^([^<>]*<)?[^\s<>@,]+@[^\s<>@,]+>?$").ok());
static HOSTNAME: Lazy = LazyLock::new(|| {
    Regex::new(r"(?i)^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$").ok()
});
static URI: Lazy = LazyLock::new(|| Regex::new(r"^([a-zA-Z][-+.a-zA-Z0-9]*:\S+|/\S*)$").ok());
static OBJECT_ID: Lazy = LazyLock::new(|| Regex::new(r"^[0-9a-fA-F]{24}$").ok());
static SSN: Lazy = LazyLock::new(|| Regex::new(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$").ok());
static HEX_COLOR: Lazy = LazyLock::new(|| Regex::new(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());
static RGB_COLOR: Lazy = LazyLock::new(|| {
    Regex::new(r"^rgb\(\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])(\s*,\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])){2}\s*\)$")
        .ok()
});

fn matches(regex: &Lazy, text: &str) -> bool {
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn date_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn nibble(text: &str, at: usize) -> Option<char> {
    text.chars().filter(|c| *c != '-').nth(at)
}

fn version(text: &str) -> Option<char> {
    nibble(text, 12)
}

fn variant(text: &str) -> bool {
    nibble(text, 16).is_some_and(|c| "89abAB".contains(c))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_digit(10).unwrap_or(99)).collect()
}

fn isbn10(text: &str) -> bool {
    let bare: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
    let value = |(at, c): (usize, &char)| match c {
        'X' | 'x' if at == 9 => Some(10),
        c => c.to_digit(10).map(|d| d * (10 - at as u32)),
    };
    bare.len() == 10 && bare.iter().enumerate().map(value).sum::<Option<u32>>().is_some_and(|sum| sum % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits.iter().enumerate().map(|(at, d)| if at % 2 == 0 { *d } else { 3 * d }).sum();
    digits.len() == 13 && digits.iter().all(|d| *d < 10) && sum.is_multiple_of(10)
}

fn luhn(text: &str) -> bool {
    let digits = digits(text);
    let twice = |d: u32| if d > 4 { 2 * d - 9 } else { 2 * d };
    let sum: u32 = digits.iter().rev().enumerate().map(|(at, d)| if at % 2 == 0 { *d } else { twice(*d) }).sum();
    (13..=19).contains(&digits.len()) && digits.iter().all(|d| *d < 10) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_and_refuses() {
        for (format, right, wrong) in [
            ("date", "2026-01-31", "2026-02-31"),
            ("date-time", "2026-01-31T01:02:03Z", "yesterday"),
            ("duration", "1h30m", "soon"),
            ("byte", "YQ==", "?"),
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "::1", "1.2.3.4"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:02:03:04:05:0a", "01:02"),
            ("uuid4", "6ba7b810-9dad-41d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
            ("email", "a@e.com", "a"),
            ("hostname", "a.e.com", "-a"),
            ("uri", "http://e.com/a", "e com"),
            ("isbn10", "0-306-40615-2", "0-306-40615-3"),
            ("isbn13", "978-0-306-40615-7", "978-0-306-40615-8"),
            ("creditcard", "4012 8888 8888 1881", "4012 8888 8888 1882"),
            ("hexcolor", "#fff", "#ff"),
            ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
            ("ssn", "111-11-1111", "1"),
        ] {
            assert!(is(format, right), "{format} {right}");
            assert!(!is(format, wrong), "{format} {wrong}");
        }
        assert!(is("of-my-own", "anything"));
    }
}
