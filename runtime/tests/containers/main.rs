//! Real containers on this machine's kernel. Needs root and a static busybox (Debian: `busybox-static`).
//!
//! The program is three things: the test runner, the runtime's helper (first argument `runtime-helper`), and a process that replaces
//! itself while its containers run (first argument `successor`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test program with its own main is not known to clippy as tests"
)]

mod adoption;
mod basics;
mod exec;
mod failures;
mod logs;
mod machine;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use machine::Machine;

type Test = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),*]
    };
}

const TESTS: &[Test] = tests![
    basics::runs_and_tells_the_exit_code,
    basics::a_signal_ends_it,
    basics::limits_and_identity_reach_the_process,
    basics::namespaces_of_a_sandbox_are_shared,
    basics::twenty_at_once,
    basics::a_missing_working_directory_is_made,
    basics::a_readonly_layer_is_used_in_place,
    basics::processes_in_a_shared_pid_namespace_end_with_the_first,
    basics::out_of_memory_is_told,
    logs::lines_of_both_streams,
    logs::a_megabyte_arrives_whole,
    logs::a_log_is_rotated,
    exec::output_and_exit_code,
    exec::standard_input_reaches_it_and_ends,
    exec::a_terminal_has_a_size_that_changes,
    exec::ten_at_once,
    exec::attach_to_the_first_process,
    exec::the_first_process_on_a_terminal,
    failures::what_cannot_run_says_why,
    failures::what_does_not_exist_says_so,
    failures::nothing_is_left_behind,
    adoption::opened_anew_nothing_is_lost,
    adoption::a_process_replaces_itself,
    adoption::the_containers_of_a_dead_process_are_watched,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(kedge_runtime::helper::ARGUMENT) => return ExitCode::from(kedge_runtime::helper::main()),
        Some("successor") => return adoption::successor(args.get(1).expect("a directory")),
        Some("predecessor") => return adoption::predecessor(args.get(1).expect("a directory")),
        Some("--list") => {
            TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: all {} tests of real containers need root; run them as root", TESTS.len());
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio");
    Machine::prepare(&runtime);
    for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(&filter)) {
        let result = std::panic::catch_unwind(|| {
            runtime.block_on(async {
                tokio::time::timeout(std::time::Duration::from_secs(120), test())
                    .await
                    .expect("the test took too long");
            });
        });
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_ok() { passed += 1 } else { failed += 1 }
    }
    Machine::clean();
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let filtered = TESTS.len() - passed - failed;
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
