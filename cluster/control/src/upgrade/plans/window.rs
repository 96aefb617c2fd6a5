//! The days and times at which a Plan goes on, in a time zone.
//!
//! Source: the package `timewindow` of kured, which upstream reads them with.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Zoned};
use serde_json::Value;

/// Sunday first; each name is enough of it to tell.
const DAYS: &[&[&str]] = &[
    &["0", "su", "sun", "sunday"],
    &["1", "mo", "mon", "monday"],
    &["2", "tu", "tue", "tuesday"],
    &["3", "we", "wed", "wednesday"],
    &["4", "th", "thu", "thursday"],
    &["5", "fr", "fri", "friday"],
    &["6", "sa", "sat", "saturday"],
];
const TIMES: &[&str] = &["%H:%M", "%H:%M:%S", "%I:%M%p", "%H", "%I%p"];
/// Days that hold every change of a week.
const AHEAD: i32 = 8;

struct Window {
    days: Vec<usize>,
    start: Time,
    end: Time,
}

/// Whether a Plan may go on, and when that changes; always, where it has no window.
pub fn state(window: Option<&Value>, now: Timestamp) -> Result<(bool, Option<Timestamp>), String> {
    let Some(window) = window.filter(|window| window.is_object()) else { return Ok((true, None)) };
    let text = |field: &str| window.get(field).and_then(Value::as_str).unwrap_or_default();
    let zone = match text("timeZone") {
        "" => TimeZone::UTC,
        name => TimeZone::get(name).map_err(|_| format!("spec.window.timeZone: {name:?} is not known"))?,
    };
    let time = |field: &str| {
        let said = text(field).to_ascii_lowercase();
        let parsed = TIMES.iter().find_map(|format| Time::strptime(format, &said).ok());
        parsed.ok_or_else(|| format!("spec.window.{field}: {said:?} is no time of day, such as 22:30 or 3pm"))
    };
    let days = window.get("days").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let days = days.map(|day| {
        let known = DAYS.iter().position(|names| names.contains(&day.to_ascii_lowercase().as_str()));
        known.ok_or_else(|| format!("spec.window.days: {day:?} is no day of the week"))
    });
    let parsed = Window { days: days.collect::<Result<_, _>>()?, start: time("startTime")?, end: time("endTime")? };
    if parsed.days.is_empty() {
        return Err("spec.window.days: without days it never opens".to_owned());
    }
    let now = now.to_zoned(zone);
    let open = parsed.is_open(&now);
    Ok((open, parsed.next(&now, open)))
}

impl Window {
    fn is_open(&self, at: &Zoned) -> bool {
        let day = usize::from(at.weekday().to_sunday_zero_offset().unsigned_abs());
        let time = at.time();
        let within = match self.start <= self.end {
            true => self.start <= time && time <= self.end,
            false => self.start <= time || time <= self.end,
        };
        self.days.contains(&day) && within
    }

    /// When it opens or closes next.
    fn next(&self, now: &Zoned, open: bool) -> Option<Timestamp> {
        let after_end = self.end.checked_add(1.second()).unwrap_or(Time::MAX);
        let mut times = Vec::new();
        for days in 0..AHEAD {
            let date = now.date().checked_add(days.days()).ok()?;
            let at =
                [Time::MIN, self.start, after_end].map(|time| date.to_datetime(time).to_zoned(now.time_zone().clone()));
            times.extend(at.into_iter().flatten());
        }
        times.retain(|at| at > now && self.is_open(at) != open);
        times.into_iter().min().map(|at| at.timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_open_on_their_days_in_their_zone() {
        let night = json!({"days": ["mon", "2"], "startTime": "22:00", "endTime": "4am", "timeZone": "Europe/Zurich"});
        let day = json!({"days": ["sunday"], "startTime": "9", "endTime": "17:30"});
        // 2026-01-05 is a Monday; Zurich is an hour ahead.
        for (window, now, open, change) in [
            (&night, "2026-01-05T20:59:59Z", false, "2026-01-05T21:00:00Z"),
            (&night, "2026-01-05T21:00:00Z", true, "2026-01-06T03:00:01Z"),
            (&night, "2026-01-06T02:00:00Z", true, "2026-01-06T03:00:01Z"),
            (&night, "2026-01-06T12:00:00Z", false, "2026-01-06T21:00:00Z"),
            (&night, "2026-01-06T23:30:00Z", false, "2026-01-11T23:00:00Z"),
            (&day, "2026-01-04T08:59:00Z", false, "2026-01-04T09:00:00Z"),
            (&day, "2026-01-04T17:30:00Z", true, "2026-01-04T17:30:01Z"),
            (&day, "2026-01-04T17:31:00Z", false, "2026-01-11T09:00:00Z"),
        ] {
            let found = state(Some(window), now.parse().unwrap()).unwrap();
            assert_eq!(found, (open, Some(change.parse().unwrap())), "{now}");
        }
        assert_eq!(state(None, Timestamp::UNIX_EPOCH), Ok((true, None)));
        for (field, value, wrong) in [
            ("days", json!(["someday"]), "spec.window.days: \"someday\""),
            ("days", json!([]), "spec.window.days: without days"),
            ("startTime", json!("25:00"), "spec.window.startTime: \"25:00\""),
            ("timeZone", json!("Mars/Base"), "spec.window.timeZone: \"Mars/Base\""),
        ] {
            let mut window = day.clone();
            window[field] = value;
            let why = state(Some(&window), Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(why.starts_with(wrong), "{why}");
        }
    }
}
