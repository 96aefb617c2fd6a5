//! What a person at the monitor, or at the other end of the serial line, sees.
//!
//! The screen is redrawn when what it says has changed. On the virtual terminal it replaces the old one; a serial line has no
//! screen to speak of, so there it follows the old one.

use crate::machine::{Machine, Network};
use crate::supervisor::{Handle, Phase, Status};
use kedge_config::machine::Role;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Changes come in bursts: the screen waits for their end.
const CALM: Duration = Duration::from_millis(400);
/// A line holds all screens one after the other: fewer of them are better to read.
const LINE_CALM: Duration = Duration::from_secs(3);
const TERMINAL: &str = "/dev/tty1";
const CONSOLE: &str = "/dev/console";

/// Draws until it is told to stop.
pub async fn run(machine: Arc<Machine>, handle: Handle) -> anyhow::Result<()> {
    let (mut statuses, mut network) = (handle.statuses(), machine.network.subscribe());
    let (mut shown, mut printed) = (String::new(), String::new());
    let mut next_print = Instant::now() + LINE_CALM;
    handle.ready();
    loop {
        let text = screen(&machine_facts(&machine), &network.borrow_and_update(), &statuses.borrow_and_update());
        if text != shown {
            let drawn = text.clone();
            tokio::task::spawn_blocking(move || draw(&drawn)).await?;
            shown = text;
        }
        if shown != printed && Instant::now() >= next_print {
            let text = shown.clone();
            // A serial line may be slow, or stopped by Ctrl-S.
            tokio::task::spawn_blocking(move || say(&text)).await?;
            printed.clone_from(&shown);
            next_print = Instant::now() + LINE_CALM;
        }
        tokio::select! {
            () = handle.stopped() => return Ok(()),
            changed = statuses.changed() => changed?,
            changed = network.changed() => changed?,
            () = tokio::time::sleep_until(next_print), if shown != printed => {}
        }
        tokio::time::sleep(CALM).await;
    }
}

fn draw(text: &str) {
    // A missing terminal is none to draw on.
    if let Ok(mut terminal) = OpenOptions::new().write(true).open(TERMINAL) {
        let _ = terminal.write_all(format!("\x1b[H\x1b[2J\x1b[?25l{text}").as_bytes());
    }
}

/// To the console, past all logs.
pub fn say(text: &str) {
    if let Ok(mut console) = OpenOptions::new().write(true).open(CONSOLE) {
        let _ = console.write_all(text.as_bytes());
    }
}

/// What does not change while the process lives.
struct Facts<'a> {
    hostname: &'a str,
    role: Role,
    rescue: Option<&'a str>,
    problems: Vec<String>,
    port: u16,
}

fn machine_facts(machine: &Machine) -> Facts<'_> {
    let failed = machine
        .boot
        .outcomes
        .iter()
        .filter_map(|outcome| Some(format!("{}: {}", outcome.phase, outcome.failure.as_ref()?)));
    Facts {
        hostname: &machine.hostname,
        role: machine.config.role,
        rescue: machine.boot.rescue.as_deref(),
        problems: failed.collect(),
        port: machine.config.cluster.api_port,
    }
}

fn screen(facts: &Facts<'_>, network: &Network, statuses: &[Status]) -> String {
    let mut text = String::new();
    let role = match facts.role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    // Writing to a String cannot fail.
    let _ = write!(text, "\n  Kedge {}   {} ({role})\n", kedge_config::VERSION, facts.hostname);
    let addresses: Vec<String> =
        network.addresses.iter().map(|(name, net)| format!("{} ({name})", net.address())).collect();
    let addresses = if addresses.is_empty() { "none yet".into() } else { addresses.join(", ") };
    let _ = writeln!(text, "  addresses  {addresses}");
    if let Some((_, net)) = network.addresses.first().filter(|_| facts.role == Role::Server && facts.rescue.is_none()) {
        let _ = writeln!(text, "  API        https://{}", std::net::SocketAddr::new(net.address(), facts.port));
    }
    if let Some(why) = facts.rescue {
        let _ = writeln!(text, "\n  RESCUE: the cluster was not started\n    {why}");
    }
    for problem in facts.problems.iter().filter(|problem| Some(problem.as_str()) != facts.rescue) {
        let _ = writeln!(text, "  problem    {problem}");
    }
    text.push('\n');
    let width = statuses.iter().map(|status| status.name.len()).max().unwrap_or(0);
    for status in statuses {
        let _ = writeln!(text, "  {:width$}  {}", status.name, told(status));
    }
    text
}

fn told(status: &Status) -> String {
    let word = match &status.phase {
        Phase::Waiting => "waiting".to_owned(),
        Phase::Starting => "starting".to_owned(),
        Phase::Ready => "ready".to_owned(),
        Phase::Stopped => "stopped".to_owned(),
        Phase::Failed { why, restarts_in } => format!("FAILED   {why}; again in {:.1} s", restarts_in.as_secs_f32()),
    };
    let note = if status.note.is_empty() {
        String::new()
    } else {
        format!("{:pad$}{}", "", status.note, pad = 9usize.saturating_sub(word.len()))
    };
    let failures = if status.failures > 0 { format!("   ({} failures)", status.failures) } else { String::new() };
    format!("{word}{note}{failures}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &'static str, phase: Phase, note: &str, failures: u32) -> Status {
        Status { name, phase, note: note.into(), failures }
    }

    #[test]
    fn the_screen_tells_name_addresses_services_and_what_failed() {
        let facts = Facts {
            hostname: "edge-7",
            role: Role::Server,
            rescue: None,
            problems: vec!["modules: 1 of 60 modules: module nft_x.ko: refused".into()],
            port: 6443,
        };
        let network =
            Network { addresses: vec![("eth0".into(), "10.0.2.15/24".parse().unwrap())], ..Network::default() };
        let statuses = [
            status("network", Phase::Ready, "10.0.2.15 by DHCP", 0),
            status(
                "api",
                Phase::Failed { why: "STATE is full".into(), restarts_in: Duration::from_millis(250) },
                "",
                2,
            ),
            status("node", Phase::Waiting, "", 0),
        ];
        let expected = format!(
            "\n  Kedge {}   edge-7 (server)\n  addresses  10.0.2.15 (eth0)\n  API        https://10.0.2.15:6443\n  \
             problem    modules: 1 of 60 modules: module nft_x.ko: refused\n\n  network  ready    10.0.2.15 by DHCP\n  \
             api      FAILED   STATE is full; again in 0.2 s   (2 failures)\n  node     waiting\n",
            kedge_config::VERSION
        );
        assert_eq!(screen(&facts, &network, &statuses), expected);
    }

    #[test]
    fn rescue_is_told_once_with_its_reason() {
        let why = "state: STATE (/dev/vda5) cannot be mounted";
        let facts =
            Facts { hostname: "x", role: Role::Server, rescue: Some(why), problems: vec![why.into()], port: 6443 };
        let text = screen(&facts, &Network::default(), &[]);
        assert_eq!(text.matches(why).count(), 1, "{text}");
        assert!(text.contains("RESCUE") && text.contains("none yet") && !text.contains("https://"), "{text}");
    }
}
