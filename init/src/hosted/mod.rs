//! A server or an agent on somebody's Linux: the same services, without the machine.

mod options;

pub use options::usage;

use crate::boot;
use crate::life;
use crate::logs;
use crate::machine::{Machine, Network};
use crate::reexec::Origin;
use crate::request::{Allowed, Request, Requests};
use crate::sys;
use anyhow::Context;
use kedge_config::machine::Role;
use kedge_config::names::{RUN_DIR, STATE_DIR};
use kedge_config::{MachineConfig, Source};
use kedge_runtime::reaper::Reaper;
use options::{CONFIG, Options};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub fn run(role: &str, options: &[&str]) -> ExitCode {
    if options.iter().any(|word| matches!(*word, "--help" | "-h")) {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    sys::small_heap();
    let role = if role == "agent" { Role::Agent } else { Role::Server };
    match Options::parse(options).and_then(|options| live(role, options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn live(role: Role, options: Options) -> anyhow::Result<()> {
    let logs = logs::hosted().context("start the log")?;
    let config = Arc::new(config(role, &options)?);
    logs.set_level(config.logs.level);
    let data_dir = &options.data_dir;
    // Keys and Secrets lie below it.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .with_context(|| format!("create {}", data_dir.display()))?;
    let data_dir = data_dir.canonicalize().with_context(|| format!("find {}", data_dir.display()))?;
    anyhow::ensure!(
        options.disable_agent || rustix::process::geteuid().is_root(),
        "containers need root: run as root, or with --disable-agent for the control plane alone"
    );
    Reaper::become_subreaper().context("become the parent of orphans")?;
    let (requests, asked) = Requests::new(Allowed { machine: false, faults: false });
    let machine = Arc::new(Machine {
        hosted: true,
        hostname: config
            .hostname
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().to_lowercase()),
        config,
        trial: watch::Sender::new(None),
        node_ready: watch::Sender::new(false),
        upgrade: watch::Sender::new(0),
        informer: OnceLock::new(),
        board: None,
        disk: None,
        agent: !options.disable_agent,
        controllers: !options.disable_controllers,
        run: if data_dir == Path::new(STATE_DIR) { RUN_DIR.into() } else { data_dir.join("run") },
        state: data_dir,
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

/// The role and the port are the command's: a file may leave them out; it may not say another role.
fn config(role: Role, options: &Options) -> anyhow::Result<MachineConfig> {
    let (path, must_exist) = options.config.as_deref().map_or((Path::new(CONFIG), false), |path| (path, true));
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
    let port = options.https_port.map(|port| format!("cluster: {{apiPort: {port}}}\n"));
    sources.extend(port.map(|text| Source::new("command line", text)));
    if options.secrets_encryption {
        sources.push(Source::new("command line", "cluster: {secretsEncryption: true}\n".to_owned()));
    }
    for (field, path) in &options.documents {
        let path = std::path::absolute(path).with_context(|| format!("find {}", path.display()))?;
        // Quoted as YAML wants it.
        let path = path.display().to_string().replace('\'', "''");
        sources.push(Source::new("command line", format!("cluster: {{{field}: {{path: '{path}', content: null}}}}\n")));
    }
    if let Some(audit) = &options.audit {
        sources.push(Source::new("command line", serde_json::json!({"cluster": {"audit": audit}}).to_string()));
    }
    let config = MachineConfig::merge(&sources)?;
    anyhow::ensure!(config.role == role, "{} says another role than `kedge {name}`", path.display());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_stands_above_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kedge.yaml");
        std::fs::write(&path, "hostname: a\ncluster: {apiPort: 7000}\n").unwrap();
        let mut options = Options { config: Some(path.clone()), ..Options::default() };
        let read = config(Role::Server, &options).unwrap();
        assert_eq!((read.hostname.as_deref(), read.cluster.api_port), (Some("a"), 7000));
        options.https_port = Some(7443);
        assert_eq!(config(Role::Server, &options).unwrap().cluster.api_port, 7443);
        options.documents = vec![("authentication", "auth file.yaml".into())];
        let told = config(Role::Server, &options).unwrap().cluster.authentication.unwrap();
        assert_eq!(told.path, Some(std::env::current_dir().unwrap().join("auth file.yaml")));
        std::fs::write(&path, "role: server\nserver: https://x:6443\ntoken: t\n").unwrap();
        assert!(config(Role::Agent, &options).unwrap_err().to_string().contains("another role"));
        options.config = Some(folder.path().join("missing"));
        assert!(config(Role::Server, &options).is_err());
        std::fs::write(&path, "cluster: {audit: {policy: x, log: {maxAge: 7}}}\n").unwrap();
        let words = ["--audit-log-maxsize=3", "--audit-log-path", "/a/b"];
        let options = Options { config: Some(path), ..Options::parse(&words).unwrap() };
        let audit = config(Role::Server, &options).unwrap().cluster.audit.unwrap();
        let log = audit.log.unwrap();
        assert_eq!((audit.policy.as_deref(), log.max_size, log.path), (Some("x"), 3, Some("/a/b".into())));
        let unsaid = Options { config: None, ..Options::parse(&["--audit-log-path=/a"]).unwrap() };
        assert!(config(Role::Server, &unsaid).unwrap_err().to_string().contains("policyFile"));
    }
}
