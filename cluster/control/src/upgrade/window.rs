//! A daily span of time in UTC.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::kind::Window;

/// When a window opens that is closed now.
pub fn opens(window: &Window, now: Timestamp) -> Option<Timestamp> {
    let time = |text: &str| Time::strptime("%H:%M", text).ok();
    // The API takes no others.
    let (start, end) = (time(&window.start)?, time(&window.end)?);
    let moment = now.to_zoned(TimeZone::UTC).datetime();
    let at = moment.time();
    let open = if start <= end { start <= at && at < end } else { start <= at || at < end };
    if open {
        return None;
    }
    let day = if at < start { moment.date() } else { moment.date().checked_add(1.day()).ok()? };
    day.to_datetime(start).to_zoned(TimeZone::UTC).ok().map(|opens| opens.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_open_once_a_day_also_over_midnight() {
        for (start, end, now, opens_at) in [
            ("02:00", "05:00", "2026-01-01T01:59:59Z", Some("2026-01-01T02:00:00Z")),
            ("02:00", "05:00", "2026-01-01T02:00:00Z", None),
            ("02:00", "05:00", "2026-01-01T04:59:59Z", None),
            ("02:00", "05:00", "2026-01-01T05:00:00Z", Some("2026-01-02T02:00:00Z")),
            ("22:00", "04:00", "2025-12-31T23:00:00Z", None),
            ("22:00", "04:00", "2026-01-01T03:59:00Z", None),
            ("22:00", "04:00", "2026-01-01T04:00:00Z", Some("2026-01-01T22:00:00Z")),
        ] {
            let window = Window { start: start.into(), end: end.into() };
            assert_eq!(opens(&window, now.parse().unwrap()), opens_at.map(|at| at.parse().unwrap()), "{now}");
        }
    }
}
