//! Talking before there is a logger: the kernel log for all, the console itself for what a person must see.

use std::fs::OpenOptions;
use std::io::Write;

/// Levels of the kernel log (`KERN_ERR`, `KERN_WARNING`, `KERN_INFO`).
#[derive(Debug, Clone, Copy)]
pub enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

/// One line to the kernel log. Without one (no `/dev/kmsg`) it is lost: there is nowhere to complain to.
pub fn say(level: Level, message: &str) {
    let line = format!("<{}>kedge-stage1: {message}\n", level as u8);
    let written = OpenOptions::new().write(true).open("/dev/kmsg").and_then(|mut log| log.write_all(line.as_bytes()));
    if written.is_err() {
        shout(&line);
    }
}

/// To the console, past the kernel's log level.
pub fn shout(text: &str) {
    if let Ok(mut console) = OpenOptions::new().write(true).open("/dev/console") {
        // Nowhere to complain to either.
        let _ = console.write_all(text.as_bytes()).and_then(|()| console.flush());
    }
}
