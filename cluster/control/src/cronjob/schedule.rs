//! When a schedule's turns come: crontab(5) with names, steps and descriptors, and `@every`. What is written is checked by the API server;
//! what it would not take has no turns here.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan as _};

/// Smallest and largest number of each field, and names that stand for numbers from the smallest on.
const FIELDS: [(u32, u32, &str); 5] = [
    (0, 59, ""),
    (0, 23, ""),
    (1, 31, ""),
    (1, 12, "jan feb mar apr may jun jul aug sep oct nov dec"),
    (0, 6, "sun mon tue wed thu fri sat"),
];
const DESCRIPTORS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// A schedule that has no turn until then has none: the 30th of February.
const YEARS: i16 = 5;

#[derive(Debug)]
pub struct Schedule {
    zone: TimeZone,
    turns: Turns,
}

#[derive(Debug)]
enum Turns {
    Every(SignedDuration),
    At([Field; 5]),
}

#[derive(Clone, Copy, Debug)]
struct Field {
    /// One bit for each number.
    bits: u64,
    /// It is written `*`: it does not choose.
    star: bool,
}

impl Field {
    fn has(self, number: impl TryInto<u32>) -> bool {
        number.try_into().is_ok_and(|number| self.bits & (1 << number) != 0)
    }

    fn parse(text: &str, (min, max, names): (u32, u32, &str)) -> Option<Self> {
        let number = |part: &str| {
            let named =
                names.split(' ').zip(min..).find(|(name, _)| !name.is_empty() && name.eq_ignore_ascii_case(part));
            named.map(|(_, number)| number).or_else(|| part.parse().ok())
        };
        let mut field = Self { bits: 0, star: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
            let step = step.map_or(Some(1), |step| step.parse::<usize>().ok().filter(|step| *step > 0))?;
            let (from, to) = match range.split_once('-') {
                None if matches!(range, "*" | "?") => {
                    field.star |= step == 1;
                    (min, max)
                }
                None => (number(range)?, if part.contains('/') { max } else { number(range)? }),
                Some((from, to)) => (number(from)?, number(to)?),
            };
            let fits = min <= from && from <= to && to <= max;
            fits.then(|| (from..=to).step_by(step).for_each(|number| field.bits |= 1 << number))?;
        }
        Some(field)
    }
}

impl Schedule {
    /// `zone` is the one that the CronJob names; a schedule may begin with its own. None: it is no schedule.
    pub fn parse(text: &str, zone: Option<&str>) -> Option<Self> {
        let own = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| text.strip_prefix(prefix));
        let (named, text) = match own.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
            Some((named, rest)) => (Some(named), rest.trim()),
            None => (zone, text),
        };
        let zone = named.map_or(Some(TimeZone::UTC), |name| TimeZone::get(name).ok())?;
        if let Some(every) = text.strip_prefix("@every ") {
            let every: SignedDuration = every.trim().parse().ok()?;
            return Some(Self { zone, turns: Turns::Every(every.max(SignedDuration::from_secs(1))) });
        }
        let text = DESCRIPTORS.iter().find(|(name, _)| *name == text).map_or(text, |(_, stands_for)| stands_for);
        let parts: Vec<&str> = text.split_whitespace().collect();
        let parts: [&str; 5] = parts.try_into().ok()?;
        let mut fields = parts.iter().zip(FIELDS).map(|(part, bounds)| Field::parse(part, bounds));
        let mut next = || fields.next().flatten();
        Some(Self { zone, turns: Turns::At([next()?, next()?, next()?, next()?, next()?]) })
    }

    /// The first turn after a moment.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.turns {
            Turns::Every(every) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*every).ok(),
            Turns::At(fields) => {
                let now = self.zone.to_datetime(after);
                let mut at = now.with().second(0).subsec_nanosecond(0).build().ok()?;
                loop {
                    at = following(fields, at.checked_add(1.minute()).ok()?, now.year() + YEARS)?;
                    // A clock that is set back shows the same time twice; the turn is where it leads on.
                    let turn = self.zone.to_timestamp(at).ok()?;
                    if turn > after {
                        return Some(turn);
                    }
                }
            }
        }
    }

    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

/// The first time from `at` on that the fields choose.
fn following(
    [minutes, hours, days, months, weekdays]: &[Field; 5],
    mut at: DateTime,
    last_year: i16,
) -> Option<DateTime> {
    let chosen = |date: Date| {
        let (day, weekday) = (days.has(date.day()), weekdays.has(date.weekday().to_sunday_zero_offset()));
        if days.star || weekdays.star { day && weekday } else { day || weekday }
    };
    while at.year() <= last_year {
        let skip: Span = if !months.has(at.month()) {
            at = at.date().first_of_month().at(0, 0, 0, 0);
            1.month()
        } else if !chosen(at.date()) {
            at = at.date().at(0, 0, 0, 0);
            1.day()
        } else if !hours.has(at.hour()) {
            at = at.with().minute(0).build().ok()?;
            1.hour()
        } else if !minutes.has(at.minute()) {
            1.minute()
        } else {
            return Some(at);
        };
        at = at.checked_add(skip).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, zone: Option<&str>, after: &str) -> Option<String> {
        Some(Schedule::parse(schedule, zone)?.next(after.parse().unwrap())?.to_string())
    }

    #[test]
    fn turns_come_when_the_fields_say() {
        for (schedule, after, turn) in [
            ("* * * * *", "2026-01-01T00:00:00Z", Some("2026-01-01T00:01:00Z")),
            ("*/1 * * * ?", "2026-01-01T00:00:59Z", Some("2026-01-01T00:01:00Z")),
            ("*/15 3-5 * * *", "2026-01-01T05:45:00Z", Some("2026-01-02T03:00:00Z")),
            ("5/20 * * * *", "2026-01-01T00:30:00Z", Some("2026-01-01T00:45:00Z")),
            ("0 0 29 2 *", "2026-01-01T00:00:00Z", Some("2028-02-29T00:00:00Z")),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", None),
            // The 1st or a Monday; a Friday that is the 13th.
            ("0 0 1 * mon", "2026-01-01T00:00:00Z", Some("2026-01-05T00:00:00Z")),
            ("0 0 13 * *", "2026-01-14T00:00:00Z", Some("2026-02-13T00:00:00Z")),
            ("30 12 * dec SUN-TUE", "2026-01-01T00:00:00Z", Some("2026-12-01T12:30:00Z")),
            ("@hourly", "2026-01-01T00:10:00Z", Some("2026-01-01T01:00:00Z")),
            ("@every 1h30m", "2026-01-01T00:10:00.5Z", Some("2026-01-01T01:40:00Z")),
            ("nope", "2026-01-01T00:00:00Z", None),
            ("60 * * * *", "2026-01-01T00:00:00Z", None),
        ] {
            assert_eq!(next(schedule, None, after).as_deref(), turn, "{schedule}");
        }
    }

    #[test]
    fn clocks_are_those_of_the_zone() {
        let berlin = Some("Europe/Berlin");
        assert_eq!(next("0 3 * * *", berlin, "2026-01-01T00:00:00Z").unwrap(), "2026-01-01T02:00:00Z");
        assert_eq!(next("TZ=Asia/Tokyo 0 9 * * *", None, "2026-01-01T00:30:00Z").unwrap(), "2026-01-02T00:00:00Z");
        // 02:30 is not on the clock of that day, and twice on the other.
        assert_eq!(next("30 2 * * *", berlin, "2026-03-28T12:00:00Z").unwrap(), "2026-03-29T01:30:00Z");
        assert_eq!(next("30 2 * * *", berlin, "2026-10-25T00:30:00Z").unwrap(), "2026-10-26T01:30:00Z");
        assert!(Schedule::parse("* * * * *", Some("Mars/Base")).is_none());
    }
}
