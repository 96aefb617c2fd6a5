//! A server or an agent on somebody's Linux: the same services, without the machine.

use crate::boot;
use crate::life;
use crate::logs;
use crate::machine::{Machine, Network};
use crate::reexec::Origin;
use crate::request::{Allowed, Request, Requests};
use crate::sys;
use anyhow::Context;
use kedge_config::machine::Role;
use kedge_config::names::STATE_DIR;
use kedge_config::{MachineConfig, Source};
use kedge_runtime::reaper::Reaper;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Read if it is there and `--config` does not say otherwise.
const CONFIG: &str = "/etc/kedge/kedge.yaml";

#[derive(Debug, PartialEq, Eq)]
struct Options {
    config: Option<PathBuf>,
    state: PathBuf,
}

pub fn run(role: &str, options: &[&str]) -> ExitCode {
    sys::small_heap();
    let role = if role == "agent" { Role::Agent } else { Role::Server };
    match parse(options).and_then(|options| live(role, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(options: &[&str]) -> anyhow::Result<Options> {
    let mut parsed = Options { config: None, state: STATE_DIR.into() };
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        let (name, inline) = option.split_once('=').map_or((*option, None), |(name, value)| (name, Some(value)));
        let value = inline.or_else(|| rest.next().copied());
        let value = PathBuf::from(value.with_context(|| format!("option {name} needs a value"))?);
        match name {
            "--config" => parsed.config = Some(value),
            "--state" => parsed.state = value,
            _ => anyhow::bail!("unknown option {name}, expected --config or --state"),
        }
    }
    Ok(parsed)
}

fn live(role: Role, options: Options) -> anyhow::Result<()> {
    let logs = logs::hosted().context("start the log")?;
    let config = Arc::new(config(role, options.config.as_deref())?);
    logs.set_level(config.logs.level);
    std::fs::create_dir_all(&options.state).with_context(|| format!("create {}", options.state.display()))?;
    Reaper::become_subreaper().context("become the parent of orphans")?;
    let (requests, asked) = Requests::new(Allowed { machine: false, faults: false });
    let machine = Arc::new(Machine {
        hosted: true,
        hostname: config
            .hostname
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().to_lowercase()),
        config,
        board: None,
        disk: None,
        state: options.state,
        started: kedge_stage1::report::now(),
        boot: boot::Report::default(),
        origin: Origin::Fresh,
        reaper: Reaper::new().context("start the reaper")?,
        requests,
        network: watch::Sender::new(Network::default()),
        logs,
        ending: OnceLock::new(),
    });
    let runtime = life::runtime().context("start the async runtime")?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        // The service manager restarts us; workloads run on meanwhile, as they do over a replacement of PID 1.
        life::run(machine, asked, signals, Request::Reexec).await
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(())
}

/// The role is the command's: a file may leave it out, but not say the opposite.
fn config(role: Role, path: Option<&Path>) -> anyhow::Result<MachineConfig> {
    let (path, must_exist) = path.map_or((Path::new(CONFIG), false), |path| (path, true));
    let name = match role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    let mut sources = vec![Source::new("command line", format!("role: {name}\n"))];
    match std::fs::read_to_string(path) {
        Ok(text) => sources.push(Source::new(path.display().to_string(), text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    }
    let config = MachineConfig::merge(&sources)?;
    anyhow::ensure!(config.role == role, "{} says another role than `kedge {name}`", path.display());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_nonsense_is_told() {
        let expected = Options { config: Some("/a".into()), state: "/b".into() };
        assert_eq!(parse(&["--config", "/a", "--state=/b"]).unwrap(), expected);
        assert_eq!(parse(&[]).unwrap(), Options { config: None, state: STATE_DIR.into() });
        assert_eq!(parse(&["--config"]).unwrap_err().to_string(), "option --config needs a value");
        assert!(parse(&["--port", "1"]).unwrap_err().to_string().starts_with("unknown option --port"));
    }

    #[test]
    fn a_file_may_not_say_another_role() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kedge.yaml");
        std::fs::write(&path, "hostname: a\n").unwrap();
        assert_eq!(config(Role::Server, Some(&path)).unwrap().hostname.as_deref(), Some("a"));
        std::fs::write(&path, "role: server\nserver: https://x:6443\ntoken: t\n").unwrap();
        assert!(config(Role::Agent, Some(&path)).unwrap_err().to_string().contains("another role"));
        assert!(config(Role::Server, Some(&folder.path().join("missing"))).is_err());
    }
}
