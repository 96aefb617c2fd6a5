//! Network settings of the calling thread's namespace, below `/proc/sys/net`.

use std::path::{Path, PathBuf};

use super::{Error, check_name};

/// Forwards IPv4 packets between interfaces.
pub fn enable_ipv4_forwarding() -> Result<(), Error> {
    write(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")
}

/// Forwards IPv6 packets between interfaces. A kernel without IPv6 is success.
pub fn enable_ipv6_forwarding() -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv6/conf/all/forwarding");
    if path.exists() { write(path, "1") } else { Ok(()) }
}

/// Keeps bridged frames out of the IP filters. With `br_netfilter` loaded the kernel would translate a service's address
/// while it bridges, and send the packet from port to port instead of through the node's routing. A kernel without that
/// module is success.
pub fn disable_bridge_filters() -> Result<(), Error> {
    for setting in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let path = Path::new("/proc/sys/net/bridge").join(setting);
        if path.exists() {
            write(&path, "0")?;
        }
    }
    Ok(())
}

/// One IPv4 setting of one interface, `rp_filter` of `eth0` for example.
pub fn interface_ipv4(name: &str, setting: &str, value: &str) -> Result<(), Error> {
    write(&interface_path("ipv4", name, setting)?, value)
}

/// One IPv6 setting of one interface. A kernel without IPv6 is success.
pub fn interface_ipv6(name: &str, setting: &str, value: &str) -> Result<(), Error> {
    let path = interface_path("ipv6", name, setting)?;
    if path.exists() { write(&path, value) } else { Ok(()) }
}

fn interface_path(family: &str, name: &str, setting: &str) -> Result<PathBuf, Error> {
    check_name(name)?;
    Ok(["/proc/sys/net", family, "conf", name, setting].iter().collect())
}

/// Writes a setting unless it has the value: reading is cheaper, and works where `/proc/sys` is read-only.
fn write(path: &Path, value: &str) -> Result<(), Error> {
    let failed = |source| Error::Sysctl { path: path.display().to_string(), value: value.to_owned(), source };
    if std::fs::read_to_string(path).map_err(failed)?.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value).map_err(failed)
}
