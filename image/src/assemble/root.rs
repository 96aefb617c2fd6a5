//! The system's root: one program, its configuration, its modules, its container images, and places to mount things.

use crate::disk::boot::Files;
use crate::kernel::Kernel;
use crate::kernel::modules::ModuleError;
use crate::kernel::resolve::{self, ResolveError};
use crate::tree::{Content, Tree, TreeError};
use kedge_config::names;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum RootError {
    #[error("modules.system of the board: {0}")]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error("system root: {0}")]
    Tree(#[from] TreeError),
}

/// What differs from image to image.
pub struct Parts<'p> {
    pub kedge: Content,
    pub kernel: &'p Kernel,
    /// Modules that init loads, as the board names them.
    pub modules: &'p [String],
    /// Modules that stage 1 has loaded.
    pub loaded: &'p [String],
    /// What drivers load by name, with where it comes from.
    pub firmware: &'p [(Arc<str>, Files)],
    /// The board file's text.
    pub board: &'p str,
    pub board_name: &'p str,
    /// The machine config's text.
    pub machine: &'p str,
    /// The folder of baked container images.
    pub images: Tree,
    /// Seconds since 1970.
    pub epoch: u32,
}

/// Mount points and folders that programs expect, with their modes.
const FOLDERS: &[(&str, u16)] = &[
    ("boot", 0o755),
    ("dev", 0o755),
    ("etc/kedge", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr/lib/modules", 0o755),
    ("var/lib/kedge", 0o755),
];

/// What is written at run time lives in a tmpfs or on STATE; these point there.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("sbin/init", "../usr/bin/kedge"),
    ("etc/resolv.conf", "/run/kedge/resolv.conf"),
    ("etc/hostname", "/run/kedge/hostname"),
    ("etc/hosts", "/run/kedge/hosts"),
    ("etc/machine-id", "/run/kedge/machine-id"),
    ("etc/mtab", "/proc/self/mounts"),
    ("etc/os-release", "../usr/lib/os-release"),
    ("var/run", "../run"),
    ("var/tmp", "../tmp"),
    ("var/log", "lib/kedge/log"),
];

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

pub fn tree(parts: Parts<'_>) -> Result<Tree, RootError> {
    let generated: Arc<str> = "generated".into();
    let mut tree = Tree::new();
    for (folder, mode) in FOLDERS {
        tree.directory(folder, *mode, &generated)?;
    }
    for (link, target) in LINKS {
        tree.symlink(link, target, &generated)?;
    }
    tree.file("usr/bin/kedge", 0o755, parts.kedge, &"kedge".into())?;
    let texts = [
        (names::BOARD_FILE, parts.board.to_owned()),
        (names::MACHINE_FILE, parts.machine.to_owned()),
        (names::BUILD_EPOCH_FILE, format!("{}\n", parts.epoch)),
        ("etc/passwd", PASSWD.to_owned()),
        ("etc/group", GROUP.to_owned()),
        ("usr/lib/os-release", os_release(parts.board_name)),
    ];
    for (path, text) in texts {
        tree.file(path, 0o644, Content::bytes(text), &generated)?;
    }
    modules(&mut tree, parts.kernel, parts.modules, parts.loaded, &generated)?;
    for (origin, files) in parts.firmware {
        for (name, content) in files {
            tree.file(format!("usr/lib/firmware/{name}"), 0o644, content.clone(), origin)?;
        }
    }
    tree.graft(names::IMAGES_DIR.as_ref(), parts.images)?;
    Ok(tree)
}

fn modules(
    tree: &mut Tree,
    kernel: &Kernel,
    wanted: &[String],
    loaded: &[String],
    generated: &Arc<str>,
) -> Result<(), RootError> {
    let folder = format!("{}/{}", names::MODULES_DIR, kernel.release);
    let mut list = String::new();
    for name in resolve::resolve(&kernel.modules, wanted, loaded)? {
        let Some((path, bytes)) = kernel.modules.unpacked(&name)? else { continue };
        list.push_str(&format!("{path}\n"));
        tree.file(format!("{folder}/{path}"), 0o644, Content::bytes(bytes), &kernel.origin)?;
    }
    Ok(tree.file(format!("{folder}/{}", names::SYSTEM_MODULES), 0o644, Content::bytes(list), generated)?)
}

/// os-release(5).
fn os_release(board: &str) -> String {
    let version = kedge_config::VERSION;
    format!("NAME=Kedge\nID=kedge\nPRETTY_NAME=\"Kedge {version}\"\nVERSION_ID={version}\nVARIANT_ID={board}\n")
}
