//! The hardware that resets the machine when nobody has fed it for a while. It is armed here, before the system has begun, so that a system
//! that hangs at its start is a try that was counted; PID 1 goes on feeding it.

use crate::sys;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An armed watchdog. Dropped, it goes on counting: it is never told to stop (`Documentation/watchdog/watchdog-api.rst`, "magic close").
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    /// It resets after so many seconds of silence.
    pub seconds: u32,
}

impl Watchdog {
    /// Starts to count; the hardware may make something else of `seconds`.
    pub fn arm(path: &Path, seconds: u32) -> io::Result<Self> {
        let device = OpenOptions::new().write(true).open(path)?;
        let seconds = sys::watchdog_timeout(&device, seconds)?;
        Ok(Self { device, seconds })
    }

    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b"\0")
    }
}

/// What the initramfs says of the board's watchdog: its device and the seconds it shall wait. `None` where the text is not that.
pub fn parse(text: &str) -> Option<(PathBuf, u32)> {
    let (path, seconds) = text.trim_end().rsplit_once(' ')?;
    Some((path.into(), seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_a_device_and_seconds() {
        assert_eq!(parse("/dev/watchdog 60\n"), Some(("/dev/watchdog".into(), 60)));
        assert_eq!(parse("/dev/watchdog\n"), None);
        assert_eq!(parse("/dev/watchdog soon\n"), None);
    }

    #[test]
    fn what_is_no_watchdog_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Watchdog::arm(file.path(), 10).unwrap_err().raw_os_error(), Some(25), "ENOTTY");
    }
}
