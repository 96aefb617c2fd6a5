//! Parts of times and durations.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::eval::{Evaluated, failed};
use crate::value::Value;

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// As Go reads one: `1h30m`, `-1.5s`.
pub fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(end)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at_checked(unit_end)?;
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(*scale)?)?;
        let mut place = *scale;
        for digit in fraction.chars().take(18) {
            place /= 10;
            nanos = nanos.checked_add(i128::from(digit.to_digit(10)?) * place)?;
        }
        rest = after;
    }
    if text.trim_start_matches(['-', '+']).is_empty() {
        return None;
    }
    let nanos = i64::try_from(if negative { -nanos } else { nanos }).ok()?;
    Some(SignedDuration::from_nanos(nanos))
}

/// `90s`, `1.5s`
pub(crate) fn seconds(by: SignedDuration) -> String {
    let nanos = by.as_nanos();
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let fraction = format!("{:09}", nanos % 1_000_000_000);
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{}s", nanos / 1_000_000_000),
        fraction => format!("{sign}{}.{fraction}s", nanos / 1_000_000_000),
    }
}

pub(crate) fn call(function: &str, args: &[Value]) -> Option<Evaluated> {
    Some(match args {
        [Value::Duration(by)] => Ok(Value::Int(match function {
            "getHours" => by.as_hours(),
            "getMinutes" => by.as_mins(),
            "getSeconds" => by.as_secs(),
            "getMilliseconds" => i64::try_from(by.as_millis()).unwrap_or(i64::MAX),
            _ => return None,
        })),
        [Value::Timestamp(at)] => return part(function, *at, TimeZone::UTC),
        [Value::Timestamp(at), Value::String(zone)] => match self::zone(zone) {
            Some(zone) => return part(function, *at, zone),
            None => Err(failed(format!("unknown time zone {zone}"))),
        },
        _ => return None,
    })
}

/// By its distance from UTC, `+02:00`, or by its name where the machine knows it.
fn zone(text: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = text.split_once(':') {
        let hours: i32 = hours.parse().ok()?;
        let minutes: i32 = minutes.parse().ok()?;
        let sign = if text.starts_with('-') { -1 } else { 1 };
        let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60 * sign)?)?;
        let offset = jiff::tz::Offset::from_seconds(seconds).ok()?;
        return Some(TimeZone::fixed(offset));
    }
    if matches!(text, "UTC" | "" | "Z") { Some(TimeZone::UTC) } else { TimeZone::get(text).ok() }
}

fn part(function: &str, at: Timestamp, zone: TimeZone) -> Option<Evaluated> {
    let time = at.to_zoned(zone);
    let part = match function {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfWeek" => match time.weekday() {
            Weekday::Sunday => 0,
            day => i64::from(day.to_monday_one_offset()),
        },
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return None,
    };
    Some(Ok(Value::Int(part)))
}
