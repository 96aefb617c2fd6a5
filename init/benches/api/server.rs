//! The server under test: `kedge server` as a process of its own, on a disk.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::client::{Clients, identity};

const LIMIT: Duration = Duration::from_secs(60);
/// Of a second: what `/proc/PID/stat` counts in.
const TICK: u64 = 100;

pub struct Server {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    identity: Arc<ClientConfig>,
}

impl Server {
    /// Below `folder`, which should not be memory: commits are to be as durable as they are on a device.
    pub fn start(program: &Path, folder: &Path) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let folder = tempfile::tempdir_in(folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .args(["server", "--disable-agent", "--disable-controllers", "--https-port", &port.to_string()])
            .arg("--data-dir")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let start = Instant::now();
        while !kubeconfig.exists() {
            assert!(start.elapsed() < LIMIT, "the server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The file is there a moment before it is whole.
        std::thread::sleep(Duration::from_millis(100));
        let identity = identity(&kubeconfig);
        Self { process, folder, port, identity }
    }

    pub fn clients(&self, count: usize) -> Clients {
        Clients::open(count, self.port, &self.identity)
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.process.id()))
    }

    fn kilobytes(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.proc(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// Memory that is this process' own, in kB.
    pub fn pss(&self) -> u64 {
        self.kilobytes("smaps_rollup", "Pss:")
    }

    /// The most memory since [`Server::forget_peak`], in kB.
    pub fn peak(&self) -> u64 {
        self.kilobytes("status", "VmHWM:")
    }

    pub fn forget_peak(&self) {
        std::fs::write(self.proc("clear_refs"), "5").unwrap();
    }

    pub fn database(&self) -> u64 {
        std::fs::metadata(self.folder.path().join("cluster.db")).unwrap().len()
    }

    /// Time that the server's threads worked.
    pub fn worked(&self) -> Duration {
        worked(&self.proc("stat"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Time that a process' threads worked (proc_pid_stat(5): utime, stime).
pub fn worked(stat: &Path) -> Duration {
    let text = std::fs::read_to_string(stat).unwrap();
    let (_, rest) = text.rsplit_once(')').unwrap();
    let ticks = rest.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICK)
}
