//! What every test needs: a root file system, a runtime on directories of the test's own, and short ways to ask.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kedge_runtime::engine::{Config, Containers};
use kedge_runtime::reaper::Reaper;
use kedge_runtime::{
    ContainerEvent, ContainerSpec, ContainerState, Exit, LogLimit, Resources, Rootfs, Runtime, Status,
};
use tokio::sync::broadcast;

static REAPER: OnceLock<Reaper> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// On a tmpfs: an overlay cannot be written to another overlay, which a build machine's own root may be.
pub fn base() -> PathBuf {
    PathBuf::from(format!("/dev/shm/kedge-runtime-test-{}", std::process::id()))
}

pub fn reaper() -> Reaper {
    REAPER.get_or_init(|| Reaper::new().expect("reaper")).clone()
}

pub struct Machine {
    pub directory: PathBuf,
    pub runtime: Containers,
    events: broadcast::Receiver<ContainerEvent>,
}

/// A layer of busybox under its most used names, beside `directory`.
pub fn busybox_layer(directory: &Path) -> PathBuf {
    let layer = directory.join("busybox");
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "mnt"] {
        fs::create_dir_all(layer.join(name)).expect("layer");
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.expect("busybox-static is not installed"), layer.join("bin/busybox")).expect("copy busybox");
    for applet in "sh true false echo cat sleep id pwd env hostname stty head wc ls dd kill ps seq mkdir touch tty awk grep tail yes".split(' ')
    {
        let _ = symlink("busybox", layer.join("bin").join(applet));
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n").expect("passwd");
    fs::write(layer.join("bin/plain"), "not a program\n").expect("plain");
    fs::write(layer.join("bin/data"), [0, 1, 2, 3]).expect("data");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(layer.join("bin/data"), mode).expect("mode");
    layer
}

pub fn config(directory: &Path) -> Config {
    Config {
        root: directory.join("run"),
        writable: directory.join("state"),
        helper: "/proc/self/exe".into(),
        successor: false,
    }
}

impl Machine {
    pub fn prepare(runtime: &tokio::runtime::Runtime) {
        let _in = runtime.enter();
        fs::create_dir_all(base()).expect("base directory");
        busybox_layer(&base());
        reaper();
    }

    pub fn clean() {
        let _ = kedge_runtime::cgroup::Cgroups::detect().remove(&cgroup(""));
        fs::remove_dir_all(base()).expect("everything is let go");
    }

    pub async fn new() -> Self {
        let directory = base().join(NUMBER.fetch_add(1, Ordering::Relaxed).to_string());
        Self::open(directory).await
    }

    pub async fn open(directory: PathBuf) -> Self {
        let runtime = Containers::open(config(&directory), reaper()).await.expect("open");
        let events = runtime.subscribe();
        Self { directory, runtime, events }
    }

    pub fn log(&self, id: &str) -> PathBuf {
        self.directory.join("log").join(id).join("0.log")
    }

    pub fn spec(&self, id: &str, args: &[&str]) -> ContainerSpec {
        spec(&self.directory, &base().join("busybox"), id, args)
    }

    pub async fn run(&mut self, spec: ContainerSpec) -> Exit {
        let id = spec.id.clone();
        self.start(spec).await;
        self.exit(&id).await
    }

    pub async fn start(&self, spec: ContainerSpec) {
        let id = spec.id.clone();
        self.runtime.create(spec).await.expect("create");
        self.runtime.start(&id).await.expect("start");
    }

    /// Waits for the end of one container.
    pub async fn exit(&mut self, id: &str) -> Exit {
        loop {
            if let Some(ContainerState { status: Status::Exited(exit), .. }) = self.state(id) {
                return exit;
            }
            match tokio::time::timeout(Duration::from_secs(30), self.events.recv()).await.expect("no event came") {
                Ok(ContainerEvent::Exited { id: of, exit }) if of == id => return exit,
                _ => {}
            }
        }
    }

    pub fn state(&self, id: &str) -> Option<ContainerState> {
        self.runtime.list().into_iter().find(|state| state.id == id)
    }

    /// The text of a log without its stamps; pieces joined.
    pub fn output(&self, id: &str) -> String {
        text(&fs::read_to_string(self.log(id)).unwrap_or_default())
    }

    /// Runs a shell script to its end.
    pub async fn shell(&mut self, id: &str, script: &str) -> (Exit, String) {
        let exit = self.run(self.spec(id, &["sh", "-c", script])).await;
        (exit, self.output(id))
    }
}

pub fn spec(directory: &Path, layer: &Path, id: &str, args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        id: id.to_owned(),
        rootfs: Rootfs { layers: vec![layer.to_owned()] },
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cgroup: {
            // Below that of the program that runs all tests, which removes it.
            let mut parts = directory.iter().rev().map(|part| part.to_string_lossy());
            let (own, all) = (parts.next().expect("name"), parts.next().expect("base"));
            format!("/{all}/{own}-{id}")
        },
        resources: Resources { pids: Some(200), ..Resources::default() },
        log: Some(directory.join("log").join(id).join("0.log")),
        // A fast machine counts past the default limit within a second; only the test of rotation wants rotation.
        log_limit: LogLimit { bytes: 1 << 30, files: 2 },
        ..ContainerSpec::default()
    }
}

pub fn cgroup(name: &str) -> String {
    format!("/{}/{name}", base().file_name().expect("name").to_string_lossy()).trim_end_matches('/').to_owned()
}

pub fn text(log: &str) -> String {
    let mut text = String::new();
    // Not `lines()`: a carriage return before the end belongs to the line.
    for entry in log.split('\n').filter(|entry| !entry.is_empty()) {
        let (_, _, tag, line) = parts(entry);
        text += line;
        text += if tag == "F" { "\n" } else { "" };
    }
    text
}

/// Time, stream, tag, line of one CRI entry.
pub fn parts(entry: &str) -> (&str, &str, &str, &str) {
    let mut parts = entry.splitn(4, ' ');
    let mut next = || parts.next().unwrap_or_else(|| panic!("no CRI entry: {entry:?}"));
    (next(), next(), next(), next())
}
