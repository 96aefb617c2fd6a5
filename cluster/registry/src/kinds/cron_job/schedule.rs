//! The syntax of schedules, and upstream's words for what is wrong with one. The syntax is that of crontab(5), with `@every`.

use jiff::tz::TimeZone;

/// Smallest and largest number of each of the five fields, and the names that stand for numbers.
const FIELDS: [(i64, i64, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

const DESCRIPTORS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut rest = schedule;
    if ["TZ=", "CRON_TZ="].iter().any(|prefix| schedule.starts_with(prefix)) {
        let Some((zone, after)) = schedule.split_once(' ') else {
            // Upstream looks for the blank, and takes what it has not found for a place.
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
        };
        let zone = zone.split_once('=').map_or("", |(_, zone)| zone);
        if !["", "Local"].contains(&zone) && !is_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return descriptor(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    let parts = fields
        .iter()
        .zip(FIELDS)
        .flat_map(|(field, bounds)| field.split(',').filter(|part| !part.is_empty()).map(move |part| (part, bounds)));
    parts.into_iter().try_for_each(|(part, (min, max, names))| range(part, min, max, names))
}

/// By its exact name: the database is searched regardless of case, upstream's is not.
pub(super) fn is_zone(name: &str) -> bool {
    TimeZone::get(name).is_ok_and(|found| found.iana_name() == Some(name))
}

fn descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(every) => duration(every).map_err(|why| format!("failed to parse duration {text}: {why}")),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Go's durations: `1h30m`, `2.5s`.
fn duration(text: &str) -> Result<(), String> {
    const UNITS: [&str; 8] = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() || text.len() - rest.len() > 1 {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = rest.get(..rest.len() - after.len()).unwrap_or_default();
        if number.parse::<f64>().is_err() {
            return Err(invalid());
        }
        rest = after.trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.');
        let unit = after.get(..after.len() - rest.len()).unwrap_or_default();
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        if !UNITS.contains(&unit) {
            return Err(format!("time: unknown unit {unit:?} in duration {text:?}"));
        }
    }
    Ok(())
}

/// `*`, `a`, `a-b`, each with `/step`.
fn range(text: &str, min: i64, max: i64, names: &[&str]) -> Result<(), String> {
    let value = |part: &str| match names.iter().position(|name| name.eq_ignore_ascii_case(part)) {
        Some(at) => Ok(min + i64::try_from(at).unwrap_or_default()),
        None => number(part, text),
    };
    let parts: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = parts.first().copied().unwrap_or_default().split('-').collect();
    let (start, mut end) = match ends.as_slice() {
        ["*" | "?", ..] => (min, max),
        [one] => value(one).map(|n| (n, n))?,
        [from, to] => (value(from)?, value(to)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match parts.as_slice() {
        [_] => 1,
        [_, step] => {
            if ends.len() == 1 {
                end = max;
            }
            number(step, text)?
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number(text: &str, whole: &str) -> Result<i64, String> {
    let failed = |why: &str| format!("failed to parse int from {whole}: strconv.Atoi: parsing {text:?}: {why}");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(failed("invalid syntax"));
    }
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {whole}")),
        Ok(number) => Ok(number),
        Err(_) => Err(failed("value out of range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_taken_or_refused_with_a_reason() {
        for right in [
            "* * * * *",
            "*/5 0-3,7 1 JAN-mar sun",
            "0 0 ? * 1/2",
            "@daily",
            "@every 1h30m",
            "TZ=UTC 1 2 3 4 5",
            "@every 0.5s",
        ] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, why) in [
            ("", "expected exactly 5 fields, found 0: []"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x: time: invalid duration \"x\""),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
        ] {
            assert_eq!(check(wrong).unwrap_err(), why, "{wrong}");
        }
    }
}
