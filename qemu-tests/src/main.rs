//! `kedge-qemu`: bakes the image, boots it and runs a scenario. The Makefile's `demo`, `boot-test` and `powercut-test` call it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use kedge_qemu_tests::guest::Setup;
use kedge_qemu_tests::{bake, scenario};

#[derive(Parser)]
#[command(version, about = "Boot Kedge images under QEMU and drive them with real clients")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bake the board's image with a busybox container image in it
    Bake(Where),
    /// Boot it, run a workload, show what was measured
    Demo {
        #[command(flatten)]
        at: Where,
        /// Seconds to watch the resting machine for what it writes to STATE
        #[arg(long, default_value_t = 300)]
        at_rest: u64,
    },
    /// Run every boot test, or those whose name contains FILTER
    Test {
        #[command(flatten)]
        at: Where,
        filter: Option<String>,
    },
    /// Kill QEMU during writes and check that every acknowledged write is there
    Powercut {
        #[command(flatten)]
        at: Where,
        #[arg(long, default_value_t = 20)]
        times: u32,
    },
    /// Kill QEMU at random moments of an upgrade: each time a system must come up with all that was acknowledged
    UpgradeCuts {
        #[command(flatten)]
        at: Where,
        #[arg(long, default_value_t = 50)]
        times: u32,
    },
}

#[derive(Args)]
struct Where {
    #[arg(long, default_value = "qemu-x86_64")]
    board: String,
    /// Folder of kedge-image
    #[arg(long)]
    bin: PathBuf,
    /// Folder of kedge and kedge-stage1 for the board's architecture [default: that of --bin]
    #[arg(long)]
    programs: Option<PathBuf>,
    /// A static busybox for the board's architecture
    #[arg(long, default_value = bake::HOST_BUSYBOX)]
    busybox: PathBuf,
    /// Folder that the image is in
    #[arg(long)]
    out: PathBuf,
    /// The guest's memory
    #[arg(long, default_value = "256M")]
    memory: String,
}

impl From<Where> for Setup {
    fn from(at: Where) -> Self {
        let programs = at.programs.unwrap_or_else(|| at.bin.clone());
        Self { bin: at.bin, programs, busybox: at.busybox, board: at.board, out: at.out, memory: at.memory }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge-qemu: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Bake(at) => bake::bake(&at.into()),
        Command::Demo { at, at_rest } => scenario::demo::run(&at.into(), std::time::Duration::from_secs(at_rest)),
        Command::Test { at, filter } => scenario::run(&at.into(), filter.as_deref().unwrap_or_default()),
        Command::UpgradeCuts { at, times } => scenario::upgrade::cuts(&at.into(), times),
        Command::Powercut { at, times } => scenario::powercut::run(&at.into(), times),
    }
}
