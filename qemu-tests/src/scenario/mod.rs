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
    Test { name: "refuses-bad-input", machine: Machine::Virtual, run: refuse::run },
    Test { name: "starts-by-firmware", machine: Machine::Virtual, run: firmware::run },
    Test { name: "runs-a-workload", machine: Machine::Virtual, run: boot::run },
    Test { name: "follows-changes", machine: Machine::Virtual, run: boot::run_changes },
    Test { name: "survives-reexec-and-crash", machine: Machine::Virtual, run: survive::run },
    Test { name: "power-button-and-second-boot", machine: Machine::Virtual, run: machine::run },
    Test { name: "verified-flipped-byte", machine: Machine::Virtual, run: verified::flipped_byte },
    Test { name: "verified-signature", machine: Machine::Virtual, run: verified::signature },
    Test { name: "verified-rollback", machine: Machine::Virtual, run: verified::rollback },
    Test { name: "verified-nothing-left", machine: Machine::Virtual, run: verified::nothing_left },
    Test { name: "kernels-own", machine: Machine::Virtual, run: kernels::own },
    Test { name: "kernels-dead", machine: Machine::Virtual, run: kernels::dead },
    Test { name: "kernels-unloadable", machine: Machine::Virtual, run: kernels::unloadable },
    Test { name: "watchdog", machine: Machine::Virtual, run: watchdog::run },
    Test { name: "secure-boot", machine: Machine::Virtual, run: secure_boot::run },
    Test { name: "full-state", machine: Machine::Virtual, run: full::run },
    Test { name: "machine-config", machine: Machine::Virtual, run: config::run },
    Test { name: "upgrade-succeeds", machine: Machine::Virtual, run: upgrade::succeeds },
    Test { name: "upgrade-refused", machine: Machine::Virtual, run: upgrade::refused },
    Test { name: "upgrade-by-firmware", machine: Machine::Virtual, run: upgrade::by_firmware },
    Test { name: "upgrade-without-room-or-clock", machine: Machine::Virtual, run: upgrade::odd },
    Test { name: "upgrade-fails", machine: Machine::Virtual, run: upgrade::fails },
    Test { name: "upgrade-kernel", machine: Machine::Virtual, run: upgrade::kernel },
    Test { name: "upgrade-signed-kernel", machine: Machine::Virtual, run: upgrade::signed_kernel },
    Test { name: "has-a-card-for-the-firmware", machine: Machine::None, run: card::inspect },
    Test { name: "kernels-on-a-card", machine: Machine::AsBuilt, run: kernels::on_a_card },
    Test { name: "starts-from-its-card", machine: Machine::AsBuilt, run: card::run },
];

/// Runs the tests whose name contains `filter`; fails if one failed or none ran.
pub fn run(setup: &Setup, filter: &str) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    let board = kedge_image::plan::find_board(&setup.board)?;
    let machine = match &board.config.qemu {
        Some(qemu) if qemu.fixed => Machine::AsBuilt,
        Some(_) => Machine::Virtual,
        None => Machine::None,
    };
    for test in TESTS.iter().filter(|t| t.machine == machine && t.name.contains(filter)) {
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
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0 && passed > 0, "{failed} boot tests failed, {passed} passed");
    Ok(())
}
