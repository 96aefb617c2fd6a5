//! A server or an agent on somebody's Linux: the same services, without the machine.

use crate::boot;
use crate::life;
use crate::logs;
use crate::machine::{Machine, Network};
use crate::reexec::Origin;
use crate::request::{Allowed, Request, Requests};
use crate::sys;
use anyhow::Context;
use kedge_config::machine::{Audit, AuditLog, Role};
use kedge_config::names::{RUN_DIR, STATE_DIR};
use kedge_config::{MachineConfig, Source};
use kedge_runtime::reaper::Reaper;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Read if it is there and `--config` does not say otherwise.
const CONFIG: &str = "/etc/kedge/kedge.yaml";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Options {
    config: Option<PathBuf>,
    data_dir: PathBuf,
    https_port: Option<u16>,
    disable_agent: bool,
    disable_controllers: bool,
    /// Files of documents about the cluster, by their fields in the machine config.
    documents: Vec<(&'static str, PathBuf)>,
    audit: Option<Audit>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: None,
            data_dir: STATE_DIR.into(),
            https_port: None,
            disable_agent: false,
            disable_controllers: false,
            documents: Vec::new(),
            audit: None,
        }
    }
}

impl Options {
    fn audit(&mut self) -> &mut Audit {
        self.audit.get_or_insert_default()
    }

    fn audit_log(&mut self) -> &mut AuditLog {
        self.audit().log.get_or_insert_default()
    }
}

/// An option of the command line.
struct Flag {
    name: &'static str,
    takes: Takes,
}

enum Takes {
    Nothing(fn(&mut Options)),
    Path(fn(&mut Options, PathBuf)),
    /// The file of what the machine config says in this field of the cluster.
    Document(&'static str),
    Port(fn(&mut Options, u16)),
    Number(fn(&mut Options, u64)),
}

const FLAGS: &[Flag] = &[
    Flag { name: "--config", takes: Takes::Path(|options, path| options.config = Some(path)) },
    Flag { name: "--data-dir", takes: Takes::Path(|options, path| options.data_dir = path) },
    Flag { name: "--https-port", takes: Takes::Port(|options, port| options.https_port = Some(port)) },
    // Named as upstream names them.
    Flag { name: "--authentication-config", takes: Takes::Document("authentication") },
    Flag { name: "--authentication-token-webhook-config-file", takes: Takes::Document("tokenWebhook") },
    Flag { name: "--authorization-config", takes: Takes::Document("authorization") },
    Flag { name: "--disable-agent", takes: Takes::Nothing(|options| options.disable_agent = true) },
    Flag { name: "--disable-controllers", takes: Takes::Nothing(|options| options.disable_controllers = true) },
    Flag { name: "--audit-policy-file", takes: Takes::Path(|options, path| options.audit().policy_file = Some(path)) },
    Flag { name: "--audit-log-path", takes: Takes::Path(|options, path| options.audit_log().path = Some(path)) },
    Flag { name: "--audit-log-maxsize", takes: Takes::Number(|options, number| options.audit_log().max_size = number) },
    Flag {
        name: "--audit-log-maxbackup",
        takes: Takes::Number(|options, number| options.audit_log().max_backups = number),
    },
    Flag { name: "--audit-log-maxage", takes: Takes::Number(|options, number| options.audit_log().max_age = number) },
    Flag {
        name: "--audit-webhook-config-file",
        takes: Takes::Path(|options, path| options.audit().webhook_config_file = Some(path)),
    },
];

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

fn parse(words: &[&str]) -> anyhow::Result<Options> {
    let mut parsed = Options::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let (name, inline) = word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            let names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
            anyhow::bail!("unknown option {name}, expected one of {}", names.join(", "))
        };
        let mut value =
            || inline.or_else(|| rest.next().copied()).with_context(|| format!("option {name} needs a value"));
        match flag.takes {
            Takes::Nothing(set) => {
                anyhow::ensure!(inline.is_none(), "option {name} takes no value");
                set(&mut parsed);
            }
            Takes::Path(set) => set(&mut parsed, value()?.into()),
            Takes::Document(field) => parsed.documents.push((field, value()?.into())),
            Takes::Number(set) => {
                let word = value()?;
                set(&mut parsed, word.parse().with_context(|| format!("{name} {word}: expected a number"))?);
            }
            Takes::Port(set) => {
                let word = value()?;
                let port = word.parse().ok().filter(|port| *port != 0);
                set(&mut parsed, port.with_context(|| format!("{name} {word}: expected a port, 1 to 65535"))?);
            }
        }
    }
    Ok(parsed)
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
    fn options_are_read_and_nonsense_is_told() {
        let expected = Options {
            config: Some("/a".into()),
            data_dir: "/b".into(),
            https_port: Some(7443),
            disable_agent: true,
            disable_controllers: true,
            documents: vec![("authentication", "/c".into())],
            audit: None,
        };
        let words = [
            "--config",
            "/a",
            "--data-dir=/b",
            "--https-port",
            "7443",
            "--disable-agent",
            "--disable-controllers",
            "--authentication-config=/c",
        ];
        assert_eq!(parse(&words).unwrap(), expected);
        assert_eq!(parse(&[]).unwrap(), Options::default());
        for (words, says) in [
            (&["--config"][..], "option --config needs a value"),
            (&["--port", "1"], "unknown option --port"),
            (&["--https-port=none"], "--https-port none: expected a port"),
            (&["--https-port=0"], "--https-port 0: expected a port"),
            (&["--disable-agent=yes"], "option --disable-agent takes no value"),
        ] {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.starts_with(says), "{words:?}: {error}");
        }
    }

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
        let options = Options { config: Some(path), ..parse(&words).unwrap() };
        let audit = config(Role::Server, &options).unwrap().cluster.audit.unwrap();
        let log = audit.log.unwrap();
        assert_eq!((audit.policy.as_deref(), log.max_size, log.path), (Some("x"), 3, Some("/a/b".into())));
        let unsaid = Options { config: None, ..parse(&["--audit-log-path=/a"]).unwrap() };
        assert!(config(Role::Server, &unsaid).unwrap_err().to_string().contains("policyFile"));
    }
}
