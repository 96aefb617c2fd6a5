//! What is tried on a booted image. Each test boots a disk of its own; `demo` and `powercut` are commands of their own.

mod boot;
mod card;
mod config;
pub mod demo;
mod firmware;
mod full;
mod kernels;
mod machine;
pub mod powercut;
mod refuse;
mod secure_boot;
mod streams;
mod survive;
pub mod upgrade;
mod verified;
mod watchdog;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::guest::Setup;

/// Generous, since emulation on a busy machine is slow: these bounds end a hang, they do not measure.
pub const BOOT: Duration = Duration::from_secs(180);
pub const SOON: Duration = Duration::from_secs(90);

struct Test {
    name: &'static str,
    machine: Machine,
    /// Whether it runs only where it is asked for by its name: CI has no time for it.
    slow: bool,
    run: fn(&Setup, &Path) -> Result<()>,
}

/// What the test needs of the machine that QEMU gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Machine {
    /// A port on which the guest hands out its kubeconfig, a power button, a keyboard.
    Virtual,
    /// None of these: a machine as it was built.
    AsBuilt,
    /// QEMU has no machine for the board: there is the card alone.
    None,
}

const TESTS: &[Test] = &[
    Test { name: "refuses-bad-input", machine: Machine::Virtual, slow: false, run: refuse::run },
    Test { name: "starts-by-firmware", machine: Machine::Virtual, slow: false, run: firmware::run },
    Test { name: "runs-a-workload", machine: Machine::Virtual, slow: false, run: boot::run },
    Test { name: "follows-changes", machine: Machine::Virtual, slow: false, run: boot::run_changes },
    Test { name: "survives-reexec-and-crash", machine: Machine::Virtual, slow: false, run: survive::run },
    Test { name: "power-button-and-second-boot", machine: Machine::Virtual, slow: false, run: machine::run },
    Test { name: "verified-flipped-byte", machine: Machine::Virtual, slow: false, run: verified::flipped_byte },
    Test { name: "verified-signature", machine: Machine::Virtual, slow: false, run: verified::signature },
    Test { name: "verified-rollback", machine: Machine::Virtual, slow: false, run: verified::rollback },
    Test { name: "verified-nothing-left", machine: Machine::Virtual, slow: false, run: verified::nothing_left },
    Test { name: "kernels-own", machine: Machine::Virtual, slow: false, run: kernels::own },
    Test { name: "kernels-dead", machine: Machine::Virtual, slow: false, run: kernels::dead },
    Test { name: "kernels-unloadable", machine: Machine::Virtual, slow: false, run: kernels::unloadable },
    Test { name: "watchdog", machine: Machine::Virtual, slow: false, run: watchdog::run },
    Test { name: "secure-boot", machine: Machine::Virtual, slow: false, run: secure_boot::run },
    Test { name: "full-state", machine: Machine::Virtual, slow: false, run: full::run },
    Test { name: "machine-config", machine: Machine::Virtual, slow: false, run: config::run },
    Test { name: "upgrade-succeeds", machine: Machine::Virtual, slow: false, run: upgrade::succeeds },
    Test { name: "upgrade-refused", machine: Machine::Virtual, slow: false, run: upgrade::refused },
    Test { name: "upgrade-by-firmware", machine: Machine::Virtual, slow: false, run: upgrade::by_firmware },
    Test { name: "upgrade-without-room-or-clock", machine: Machine::Virtual, slow: true, run: upgrade::odd },
    Test { name: "upgrade-fails", machine: Machine::Virtual, slow: true, run: upgrade::fails },
    Test { name: "upgrade-kernel", machine: Machine::Virtual, slow: true, run: upgrade::kernel },
    Test { name: "upgrade-signed-kernel", machine: Machine::Virtual, slow: true, run: upgrade::signed_kernel },
    Test { name: "kernels-on-a-card", machine: Machine::AsBuilt, slow: false, run: kernels::on_a_card },
    Test { name: "has-a-card-for-the-firmware", machine: Machine::None, slow: false, run: card::inspect },
    Test { name: "starts-from-its-card", machine: Machine::AsBuilt, slow: false, run: card::run },
];

/// Runs the tests whose name contains `filter`, without one those that are not slow; fails if one failed or none ran.
pub fn run(setup: &Setup, filter: &str) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    let board = kedge_image::plan::find_board(&setup.board)?;
    let machine = match &board.config.qemu {
        Some(qemu) if qemu.fixed => Machine::AsBuilt,
        Some(_) => Machine::Virtual,
        None => Machine::None,
    };
    let wanted = |test: &&Test| if filter.is_empty() { !test.slow } else { test.name.contains(filter) };
    for test in TESTS.iter().filter(|test| test.machine == machine).filter(wanted) {
        let start = Instant::now();
        eprintln!("test {}", test.name);
        match (test.run)(setup, &setup.out.join("tests").join(test.name)) {
            Ok(()) => {
                passed += 1;
                eprintln!("test {} passed in {:.0} s", test.name, start.elapsed().as_secs_f64());
            }
            Err(error) => {
                failed += 1;
                eprintln!("test {} FAILED: {error:#}", test.name);
            }
        }
    }
    for left in TESTS.iter().filter(|test| filter.is_empty() && test.machine == machine && test.slow) {
        eprintln!("test {} left out: it runs where it is named", left.name);
    }
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0 && passed > 0, "{failed} boot tests failed, {passed} passed");
    Ok(())
}
