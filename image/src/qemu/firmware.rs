//! UEFI firmware of the host: its code, and a copy of its variables that the guest may write to.

use std::path::{Path, PathBuf};

/// Where distributions put it.
const FOLDERS: &[&str] = &[
    "/usr/share/OVMF",
    "/usr/share/AAVMF",
    "/usr/share/qemu",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/edk2/x64",
    "/usr/share/edk2/aarch64",
    "/usr/share/edk2/ovmf",
];

#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    #[error(
        "no UEFI firmware: looked for {names} in {folders}; install Debian's package ovmf (x86) or qemu-efi-aarch64 (ARM)"
    )]
    Missing { names: String, folders: String },
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
}

/// The first of `names` that is there.
pub fn find(names: &[String]) -> Result<PathBuf, FirmwareError> {
    let candidates = names.iter().flat_map(|name| FOLDERS.iter().map(move |folder| Path::new(folder).join(name)));
    let missing = || FirmwareError::Missing { names: names.join(", "), folders: FOLDERS.join(", ") };
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(missing)
}

/// The variables that belong to `code`, copied to `to` unless they are there already. Firmware without any has none.
pub fn variables(code: &Path, to: &Path) -> Result<Option<PathBuf>, FirmwareError> {
    let template = code.file_name().and_then(|name| name.to_str()).filter(|name| name.contains("CODE"));
    let Some(template) =
        template.map(|name| code.with_file_name(name.replace("CODE", "VARS"))).filter(|path| path.is_file())
    else {
        return Ok(None);
    };
    if !to.exists() {
        std::fs::copy(&template, to).map_err(|source| FirmwareError::Io { path: to.display().to_string(), source })?;
    }
    Ok(Some(to.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_lie_beside_the_code_and_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (code, to) = (folder.path().join("X_CODE_4M.fd"), folder.path().join("mine.fd"));
        assert_eq!(variables(&code, &to).unwrap(), None);
        std::fs::write(folder.path().join("X_VARS_4M.fd"), "fresh").unwrap();
        assert_eq!(variables(&code, &to).unwrap(), Some(to.clone()));
        std::fs::write(&to, "changed").unwrap();
        variables(&code, &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "changed");
        let error = find(&["absent.fd".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("absent.fd") && error.contains("install"), "{error}");
    }
}
