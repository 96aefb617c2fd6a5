//! A message as one line of text.

use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// What does not fit into a record of the kernel log (LOG_LINE_MAX is about 1 KiB) is cut.
const MOST: usize = 960;

/// `target: message field=value …`, in one line and with no control characters: fields may hold what a stranger sent.
pub fn of(event: &Event<'_>) -> String {
    let mut fields = Fields { message: String::new(), rest: String::new() };
    event.record(&mut fields);
    let target = event.metadata().target();
    let target = target.strip_prefix("kedge").map_or(target, |rest| rest.trim_start_matches(['_', ':']));
    let prefix = if target.is_empty() { String::new() } else { format!("{target}: ") };
    sane(format!("{prefix}{}{}", fields.message, fields.rest))
}

fn sane(mut line: String) -> String {
    line.truncate(line.floor_char_boundary(MOST));
    if line.contains(char::is_control) { line.replace(char::is_control, " ") } else { line }
}

/// Severities of syslog.
pub fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

struct Fields {
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value}"),
            name => write!(self.rest, " {name}={value}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.rest, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_of_bounded_length() {
        assert_eq!(sane("a\nb\x1b[2Jc".into()), "a b [2Jc");
        assert_eq!(sane("é".repeat(1000)).len(), MOST);
    }
}
