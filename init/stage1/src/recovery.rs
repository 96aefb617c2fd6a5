//! When nothing can be booted: say why, and either try again after a while or wait for a person. Never a loop.

use crate::say::{Level, say, shout};
use rustix::system::{RebootCommand, reboot};
use std::time::Duration;

/// Shows the reasons and reboots after the seconds given, or waits for ever. Does not return.
pub fn enter(reasons: &[String], reboot_after: Option<u32>) -> ! {
    for reason in reasons {
        say(Level::Error, reason);
    }
    shout(&screen(reasons, reboot_after));
    if let Some(seconds) = reboot_after {
        std::thread::sleep(Duration::from_secs(seconds.into()));
        // Success does not return; a failure leaves us waiting, which is the other way to end here.
        let _ = reboot(RebootCommand::Restart);
    }
    loop {
        std::thread::park();
    }
}

fn screen(reasons: &[String], reboot_after: Option<u32>) -> String {
    let mut text = String::from("\n*** Kedge recovery: no system can be started ***\n\n");
    for reason in reasons {
        text.push_str(&format!("  - {reason}\n"));
    }
    text.push_str(&match reboot_after {
        Some(seconds) => format!("\nTrying again in {seconds} seconds.\n"),
        None => {
            "\nTried too often; waiting. Write a working image to the disk, or boot with kedge.slot=a or kedge.slot=b\n\
                 on the kernel command line to try one system regardless.\n"
                .to_owned()
        }
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_names_each_reason_and_what_comes_next() {
        let reasons = ["slot a: /dev/vda2 holds no squashfs".to_owned(), "slot b: empty".to_owned()];
        let again = screen(&reasons, Some(30));
        assert!(again.contains("- slot a: /dev/vda2 holds no squashfs\n"), "{again}");
        assert!(again.contains("- slot b: empty\n") && again.contains("in 30 seconds"), "{again}");
        assert!(screen(&reasons, None).contains("kedge.slot=a"));
    }
}
