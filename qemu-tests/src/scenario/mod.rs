//! What is tried on a booted image. Each test boots a disk of its own; `demo` and `powercut` are commands of their own.

mod boot;
mod config;
pub mod demo;
mod firmware;
mod full;
mod machine;
pub mod powercut;
mod refuse;
mod streams;
mod survive;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::guest::Setup;

/// Generous, since emulation on a busy machine is slow: these bounds end a hang, they do not measure.
pub const BOOT: Duration = Duration::from_secs(180);
pub const SOON: Duration = Duration::from_secs(90);

struct Test {
    name: &'static str,
    run: fn(&Setup, &Path) -> Result<()>,
}

const TESTS: &[Test] = &[
    Test { name: "refuses-bad-input", run: refuse::run },
    Test { name: "starts-by-firmware", run: firmware::run },
    Test { name: "runs-a-workload", run: boot::run },
    Test { name: "follows-changes", run: boot::run_changes },
    Test { name: "survives-reexec-and-crash", run: survive::run },
    Test { name: "power-button-and-second-boot", run: machine::run },
    Test { name: "full-state", run: full::run },
    Test { name: "machine-config", run: config::run },
];

/// Runs the tests whose name contains `filter`; fails if one failed or none ran.
pub fn run(setup: &Setup, filter: &str) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    for test in TESTS.iter().filter(|t| t.name.contains(filter)) {
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
