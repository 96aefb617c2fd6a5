//! When nothing can be booted: say why, on the console and over the network, and either try again after a while or wait for a person. Never a loop.

mod dhcp;
mod link;
mod page;

use crate::report;
use crate::say::{Level, say, shout};
use crate::watchdog::Watchdog;
use page::Page;
use rustix::system::{RebootCommand, reboot};
use std::path::Path;
use std::time::{Duration, Instant};

/// Shorter than any watchdog's time.
const TURN: Duration = Duration::from_secs(1);
/// Between two attempts to get an address.
const AGAIN: Duration = Duration::from_secs(10);

/// Shows the reasons and reboots after the seconds given, or waits for ever. Does not return.
pub fn enter(reasons: &[String], reboot_after: Option<u32>, watchdog: Option<Watchdog>) -> ! {
    for reason in reasons {
        say(Level::Info, reason);
    }
    let text = screen(reasons, reboot_after);
    shout(&text);
    network(Page::new(text, reasons, reboot_after));
    let started = Instant::now();
    let mut watchdog = watchdog;
    loop {
        if reboot_after.is_some_and(|seconds| started.elapsed() >= Duration::from_secs(seconds.into())) {
            // Success does not return; a failure leaves us waiting, which is the other way to end here.
            let _ = reboot(RebootCommand::Restart);
        }
        // A watchdog that takes no sign of life resets the machine, which is what would be done anyway.
        let _ = watchdog.as_mut().map(Watchdog::feed);
        std::thread::sleep(TURN);
    }
}

/// Each link asks for an address, and one server answers on all of them. What fails is told and keeps nothing else from going on.
fn network(page: Page) {
    let links = link::all(Path::new("/sys/class/net"));
    if links.is_empty() {
        shout("No network link: the reasons stand here only.\n");
    }
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            say(Level::Error, &format!("recovery: {name}: {error}"));
        }
    };
    for link in links {
        let name = link.name.clone();
        spawn(&name, Box::new(move || attend(&link)));
    }
    spawn(
        "http",
        Box::new(move || say(Level::Error, &format!("recovery: port {}: {}", page::PORT, page::serve(&page)))),
    );
}

/// Gets an address and keeps it.
fn attend(link: &link::Link) {
    let mut told = String::new();
    loop {
        let transaction = report::now().as_nanos() as u32 ^ link.index;
        let leased = link::up(link)
            .and_then(|()| dhcp::ask(&link.name, link.mac, transaction))
            .and_then(|lease| link::configure(link, &lease).map(|()| lease));
        let (news, pause) = match leased {
            Ok(lease) => (
                format!("{}: http://{}/ tells this over the network as well.\n", link.name, lease.address),
                (lease.time / 2).max(AGAIN),
            ),
            Err(error) => (format!("{}: no address yet: {error}\n", link.name), AGAIN),
        };
        if news != told {
            shout(&news);
            told = news;
        }
        std::thread::sleep(pause);
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
            "\nTried too often; waiting. Write a working image to the disk, or boot with\n\
                 kedge.force-slot=a or kedge.force-slot=b on the kernel command line, as entries of the boot menu do, to try one system\n\
                 regardless of what is noted of it.\n"
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
        assert!(screen(&reasons, None).contains("kedge.force-slot=a"));
    }
}
