//! The command line of `kedge-image`. Says what went wrong on standard error and ends with 1; what was asked for goes to standard output.

mod cli;

use anyhow::{Context, Result, bail};
use clap::Parser;
use cli::{
    Build, Bundle, Cli, Command, Flash, FromDir, Inspect, Keys, Output, Provision, ProvisionCommand, Run, Validate,
};
use kedge_config::{BoardConfig, MachineConfig};
use kedge_image::fetch::{self, inputs};
use kedge_image::flash::{self, target::Target};
use kedge_image::inspect::Disk;
use kedge_image::oci::from_dir::{self, Recipe};
use kedge_image::plan::{self, Plan};
use kedge_image::progress::Progress;
use kedge_image::provision;
use kedge_image::qemu::run;
use kedge_image::{show, signing};
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build(args) => build(args),
        Command::Keys(args) => keys(&args),
        Command::Bundle(args) => bundle(&args),
        Command::Run(args) => run_guest(args),
        Command::Inspect(args) => inspect(&args),
        Command::Flash(args) => write_disk(&args),
        Command::Provision(args) => provision_devices(args),
        Command::ImageFromDir(args) => image_from_dir(args),
        Command::Validate(args) => validate(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge-image: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes. Ours tell their cause themselves; what is already said is not said again.
fn explain(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |said, cause| if said.contains(&cause) { said } else { format!("{said}: {cause}") })
}

/// To standard output; a reader that has gone away (`| head`) is no failure.
fn say(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    say(&(serde_json::to_string_pretty(value)? + "\n"))
}

fn build(args: Build) -> Result<()> {
    let (dry_run, output) = (args.dry_run, args.output);
    let plan = Plan::new(&args.into_options(std::env::var("SOURCE_DATE_EPOCH").ok()))?;
    if dry_run {
        return match output {
            Output::Json => json(&plan),
            Output::Table => say(&plan.show()),
        };
    }
    let progress = Progress::for_stderr();
    progress.note(&format!("baking {} into {}", plan.name, plan.out.display()));
    let inputs = inputs::get(&plan, &fetch::cache_folder(), progress)?;
    let built = kedge_image::build::build(&plan, inputs, progress)?;
    match output {
        Output::Json => json(&built),
        Output::Table => say(&built.show()),
    }
}

fn keys(args: &Keys) -> Result<()> {
    let key = signing::SigningKey::create(&args.file)?;
    let made =
        Made { id: key.public().id().to_string(), private: &args.file, public: signing::public_path(&args.file) };
    match args.output {
        Output::Json => json(&made),
        Output::Table => say(&format!(
            "key {}\nprivate {}: keep it secret and keep a copy, for devices take no system without it\npublic {}\n",
            made.id,
            made.private.display(),
            made.public.display()
        )),
    }
}

fn bundle(args: &Bundle) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.image.with_extension("kedge"));
    let written = kedge_image::bundle::write(&args.image, &args.earlier, &out, Progress::for_stderr())?;
    if let Some(folder) = &args.oci {
        kedge_image::bundle::artifact::write(&written, folder)?;
    }
    match args.output {
        Output::Json => json(&written),
        Output::Table => say(&written.show()),
    }
}

#[derive(serde::Serialize)]
struct Made<'a> {
    id: String,
    private: &'a Path,
    public: PathBuf,
}

fn run_guest(args: Run) -> Result<()> {
    let (print, attached) = (args.print, args.console.is_none());
    let board = plan::find_board(&args.board)?;
    if let Some(machine) = &args.machine {
        plan::machine(machine)?;
    }
    let options = args.into_options(&board.config.name);
    let command = run::prepare(&board, &options, &fetch::cache_folder(), &|text| eprintln!("{text}"))?;
    if print {
        return json(&command);
    }
    for forward in &options.forwards {
        eprintln!("127.0.0.1:{} is the guest's port {}", forward.host, forward.guest);
    }
    if let Some(path) = &options.kubeconfig {
        eprintln!("when the API answers: kubectl --kubeconfig {} get nodes", path.display());
    }
    eprintln!("to stop: {}", if attached { "Ctrl-A, then X" } else { "Ctrl-C" });
    let (program, arguments) = command.split_first().context("nothing to start")?;
    // We become QEMU, so that whoever ends this process ends the guest.
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{program} cannot be run: install QEMU (Debian's qemu-system)"))
}

fn inspect(args: &Inspect) -> Result<()> {
    let keys = args.keys.iter().map(|file| signing::public(file)).collect::<Result<Vec<_>, _>>()?.concat();
    let report = Disk::open(&args.image)?.report_by(if args.keys.is_empty() { None } else { Some(&keys) })?;
    match args.output {
        Output::Json => json(&report)?,
        Output::Table => say(&report.show())?,
    }
    if !report.problems.is_empty() {
        bail!("{}", report.problems.join("\n"));
    }
    Ok(())
}

fn write_disk(args: &Flash) -> Result<()> {
    let done = flash::flash(&args.options(), &mut |disk| args.yes || confirm(disk), Progress::for_stderr())?;
    match args.output {
        Output::Json => json(&done),
        Output::Table => say(&format!(
            "{} now holds {}: {} of {} written and read back\n",
            done.device.display(),
            done.image.display(),
            show::size(done.written),
            show::size(done.size)
        )),
    }
}

/// Shows the disk and takes its name, typed by a person, for a yes: "y" is typed too easily.
fn confirm(disk: &Target) -> bool {
    let Target { path, name, size, .. } = disk;
    let unknown = || "unknown".to_owned();
    eprintln!("disk    {path}{}", if disk.removable { ", removable" } else { "" });
    eprintln!("model   {}", disk.model.clone().unwrap_or_else(unknown));
    eprintln!("size    {}", show::size(*size));
    eprintln!("serial  {}", disk.serial.clone().unwrap_or_else(unknown));
    if !std::io::stdin().is_terminal() {
        return false;
    }
    eprint!("all on it will be lost; to go on, type {name}: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok_and(|_| answer.trim() == name)
}

fn provision_devices(args: Provision) -> Result<()> {
    let (output, done) = match args.command {
        Some(ProvisionCommand::Revoke(revoke)) => {
            (revoke.output, provision::revoke(&revoke.out, &revoke.devices, &revoke.reason)?)
        }
        None => (args.output, provision::provision(&args.into_options(), Progress::for_stderr())?),
    };
    match output {
        Output::Json => json(&done),
        Output::Table => say(&format!(
            "{} devices: {} issued now, {} before, {} revoked\nledger {}\nlabels {}\n",
            done.devices,
            done.issued,
            done.known,
            done.revoked,
            done.ledger.display(),
            done.labels.display()
        )),
    }
}

fn image_from_dir(args: FromDir) -> Result<()> {
    let recipe: Recipe = args.recipe()?;
    let digest = from_dir::make(&args.folder, &recipe, &args.out)?;
    say(&format!("{} {digest} {}\n", args.name, args.out.display()))
}

/// A file that names a kernel is a board file, any other a machine config.
fn validate(args: &Validate) -> Result<()> {
    let name = args.file.display().to_string();
    let text = std::fs::read_to_string(&args.file).with_context(|| name.clone())?;
    let is_board = text.lines().any(|line| line.starts_with("kernel:") || line.starts_with("architecture:"));
    if is_board {
        let board = BoardConfig::parse(&name, &text)?;
        return say(&format!("{name}: board {} ({})\n", board.name, board.architecture.as_str()));
    }
    let machine = MachineConfig::parse(&name, &text)?;
    say(&format!(
        "{name}: machine config, {:?}, hostname {}\n",
        machine.role,
        machine.hostname.as_deref().unwrap_or("from the hardware")
    ))
}
