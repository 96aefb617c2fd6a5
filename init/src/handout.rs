//! Handing a text to whoever runs this machine as a guest: a virtio serial port of a fixed name. Only the host can read it.

use anyhow::Context;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const PORTS: &str = "/sys/class/virtio-ports";
/// The reader knows by it that the text is whole.
const END: &str = "# end\n";

/// Writes `text` to the port called `name`. `false` if this machine has none. Blocks for as long as the host does not read.
pub fn write(name: &str, text: &str) -> anyhow::Result<bool> {
    let Some(device) = find(Path::new(PORTS), name) else { return Ok(false) };
    let mut port =
        fs::OpenOptions::new().write(true).open(&device).with_context(|| format!("open {}", device.display()))?;
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    port.write_all(format!("{text}{newline}{END}").as_bytes()).with_context(|| format!("write to port {name}"))?;
    Ok(true)
}

fn find(ports: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(ports).into_iter().flatten().flatten();
    let mut named =
        entries.filter(|entry| fs::read_to_string(entry.path().join("name")).is_ok_and(|found| found.trim() == name));
    named.next().map(|entry| Path::new("/dev").join(entry.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::names::KUBECONFIG_PORT;

    #[test]
    fn a_port_is_found_by_its_name() {
        let ports = tempfile::tempdir().unwrap();
        for (port, name) in [("vport1p1", "org.qemu.guest_agent.0\n"), ("vport1p2", "kedge.kubeconfig\n")] {
            fs::create_dir(ports.path().join(port)).unwrap();
            fs::write(ports.path().join(port).join("name"), name).unwrap();
        }
        assert_eq!(find(ports.path(), KUBECONFIG_PORT), Some("/dev/vport1p2".into()));
        assert_eq!(find(ports.path(), "other"), None);
    }
}
