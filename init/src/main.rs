//! `kedge`: PID 1 of a device, or a server or an agent on somebody's Linux.
//!
//! Owns: the process. Its start, its services, its end.
//! Never knows: what a Pod is, how a container is made, what a service does.
//! Start reading at [`pid1`] for the life of a device, at `boot` and `services` for its two tables.
//!
//! ```text
//! main ─┬─ runtime-helper ─▶ kedge_runtime::helper          (single-threaded: before anything else)
//!       ├─ PID 1 ─▶ pid1::run ─▶ boot::PHASES ─▶ services::table ─▶ Supervisor ─▶ Request ─┬─▶ shutdown::finish
//!       │                                                                                  └─▶ reexec::now
//!       └─ server, agent ─▶ hosted::run ─▶ services::table ─▶ Supervisor ─▶ SIGTERM
//! ```

mod ask;
mod boot;
mod console;
mod gpt;
mod handout;
mod hosted;
mod kept;
mod life;
mod logs;
mod machine;
mod mbr;
mod pid1;
mod power;
mod reexec;
mod request;
mod secrets;
mod services;
mod shutdown;
mod slot;
mod snapshot;
mod supervisor;
mod sys;
mod trial;
mod upgrade;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["runtime-helper", ..] => ExitCode::from(kedge_runtime::helper::main()),
        // The kernel may hand words of its command line on to us: they are not ours.
        _ if std::process::id() == 1 => pid1::run(),
        ["--version" | "-V"] => {
            println!("kedge {}", kedge_config::VERSION);
            ExitCode::SUCCESS
        }
        [role @ ("server" | "agent"), options @ ..] => hosted::run(role, options),
        ["snapshot", rest @ ..] => snapshot::run(rest),
        ["secrets-encrypt", rest @ ..] => secrets::run(rest),
        ["--help" | "-h" | "help"] => {
            print!("{}", hosted::usage());
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{}", hosted::usage());
            ExitCode::from(2)
        }
    }
}
