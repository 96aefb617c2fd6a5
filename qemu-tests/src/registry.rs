//! A real registry on the host (Debian: docker-registry), and what copies to it (skopeo).

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const PATIENCE: Duration = Duration::from_secs(20);

/// Dropping it ends it.
pub struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    pub fn start(dir: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (config, store) = (dir.join("registry.yaml"), dir.join("registry"));
        let text = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n",
            store.display()
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(dir.join("registry.log"))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = command.spawn().context("docker-registry is not there: install it (make setup)")?;
        let registry = Self { process, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > PATIENCE {
                bail!("docker-registry does not listen; see {}", dir.join("registry.log").display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(registry)
    }

    /// Copies what an OCI layout holds by this tag; gives the address that a guest knows it by.
    pub fn push(&self, layout: &Path, tag: &str, repository: &str) -> Result<String> {
        let name = format!("{repository}:{tag}");
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--dest-tls-verify=false", "--preserve-digests"]);
        command.arg(format!("oci:{}:{tag}", layout.display())).arg(format!("docker://127.0.0.1:{}/{name}", self.port));
        let output = command.output().context("skopeo is not there: install it (make setup)")?;
        ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(format!("oci+http://10.0.2.2:{}/{name}", self.port))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already gone is fine.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
