//! The machine's name: the config's, or one made up once and kept.

use super::Boot;
use anyhow::Context;
use kedge_config::names::STATE_DIR;
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs;
use std::path::Path;

/// Below STATE: the name that was made up.
const NAME_FILE: &str = "hostname";

pub fn set(boot: &Boot) -> anyhow::Result<()> {
    let asked = boot.machine.get().and_then(|machine| machine.hostname.clone());
    let name = match asked {
        Some(name) => name,
        None if boot.state.get().is_some() => kept(&Path::new(STATE_DIR).join(NAME_FILE))?,
        None => make_up(Path::new("/sys/class/net")),
    };
    rustix::system::sethostname(name.as_bytes()).context("set the host name")?;
    boot.hostname.get_or_init(|| name);
    Ok(())
}

/// The name in the file, which is made if it is not there: a node that changed its name would be another node.
fn kept(file: &Path) -> anyhow::Result<String> {
    if let Some(name) = fs::read_to_string(file).ok().map(|text| text.trim().to_owned()).filter(|name| !name.is_empty())
    {
        return Ok(name);
    }
    let name = make_up(Path::new("/sys/class/net"));
    fs::write(file, format!("{name}\n")).with_context(|| format!("write {}", file.display()))?;
    Ok(name)
}

/// From the hardware address of the first card, so that it is the one printed on many a board; random where there is none, or where its
/// driver is not loaded yet (only those of stage 1 are).
fn make_up(class: &Path) -> String {
    let mut cards: Vec<_> = fs::read_dir(class).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    cards.sort();
    // Only hardware has a `device`; the loopback and bridges have none.
    let address = cards.iter().filter(|card| card.join("device").exists()).find_map(|card| {
        let text = fs::read_to_string(card.join("address")).ok()?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        digits.get(digits.len().checked_sub(6)?..).filter(|tail| *tail != "000000").map(str::to_owned)
    });
    format!("kedge-{}", address.unwrap_or_else(random))
}

fn random() -> String {
    let mut bytes = [0; 3];
    match getrandom(&mut bytes, GetRandomFlags::NONBLOCK) {
        Ok(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => "node".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_first_card_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let card = |name: &str, address: &str, hardware: bool| {
            fs::create_dir_all(root.path().join(name)).unwrap();
            fs::write(root.path().join(name).join("address"), address).unwrap();
            if hardware {
                fs::create_dir(root.path().join(name).join("device")).unwrap();
            }
        };
        card("aaa-bridge", "02:00:00:11:22:33\n", false);
        card("eth1", "52:54:00:12:34:57\n", true);
        card("eth0", "52:54:00:12:34:56\n", true);
        assert_eq!(make_up(root.path()), "kedge-123456");
        let random = make_up(Path::new("/does/not/exist"));
        assert!(random.starts_with("kedge-") && random.len() >= 10, "{random}");
        let file = root.path().join("hostname");
        let name = kept(&file).unwrap();
        assert_eq!(kept(&file).unwrap(), name);
        fs::write(&file, "mine\n").unwrap();
        assert_eq!(kept(&file).unwrap(), "mine");
    }
}
