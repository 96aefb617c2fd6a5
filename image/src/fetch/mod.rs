//! Gets the bytes that a plan names: Debian packages through the host's own apt, pinned by a lock file; or files that a person gave.

pub mod apt;
pub mod deb;
pub mod inputs;
pub mod lock;
pub mod mirror;
pub mod packages;

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/kedge`, or `~/.cache/kedge`.
pub fn cache_folder() -> PathBuf {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("kedge")
}
