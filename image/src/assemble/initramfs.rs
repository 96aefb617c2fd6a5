//! The initramfs: stage 1 as `/init`, the modules it loads, their order, and the keys it trusts. It is not compressed: it is small, and the boot
//! loader reads a megabyte faster than an emulated processor unpacks it.

use crate::kernel::Kernel;
use crate::kernel::modules::ModuleError;
use crate::kernel::resolve::{self, ResolveError};
use crate::tree::{Content, Tree, TreeError};
use kedge_config::BoardConfig;
use kedge_config::names;
use kedge_config::signing::Key;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    #[error("modules.stage1 of the board: {0}")]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Module(#[from] ModuleError),
    #[error("initramfs: {0}")]
    Tree(#[from] TreeError),
}

/// A watchdog that counts fewer is left to the system: finding the disk, and what the system's start takes until it feeds it, may take longer.
const LEAST_SECONDS: u32 = 30;
/// What stage 1 needs on every board.
const ALWAYS: [&str; 1] = ["dm_verity"];

/// The tree, and the names of the modules in it.
pub fn tree(
    kernel: &Kernel,
    board: &BoardConfig,
    keys: &[Key],
    stage1: Content,
) -> Result<(Tree, Vec<String>), InitramfsError> {
    let generated: Arc<str> = "generated".into();
    let mut tree = Tree::new();
    tree.file("init", 0o755, stage1, &"kedge-stage1".into())?;
    // Stage 1 mounts on these before anything else exists.
    for folder in ["dev", "proc", "sys", "run", "root"] {
        tree.directory(folder, 0o755, &generated)?;
    }
    let wanted: Vec<String> = board.modules.stage1.iter().cloned().chain(ALWAYS.map(str::to_owned)).collect();
    let order = resolve::resolve(&kernel.modules, &wanted, &[])?;
    let mut list = String::new();
    for name in &order {
        let Some((_, bytes)) = kernel.modules.unpacked(name)? else { continue };
        let path = format!("modules/{name}.ko");
        list.push_str(&format!("/{path}\n"));
        tree.file(&path, 0o644, Content::bytes(bytes), &kernel.origin)?;
    }
    tree.file(names::STAGE1_MODULES, 0o644, Content::bytes(list), &generated)?;
    tree.file(names::STAGE1_KEYS, 0o644, Content::bytes(Key::to_list(keys)), &generated)?;
    if let Some(watchdog) = board.watchdog.as_ref().filter(|watchdog| watchdog.timeout_seconds >= LEAST_SECONDS) {
        let line = format!("{} {}\n", watchdog.device, watchdog.timeout_seconds);
        tree.file(names::STAGE1_WATCHDOG, 0o644, Content::bytes(line), &generated)?;
    }
    Ok((tree, order))
}
