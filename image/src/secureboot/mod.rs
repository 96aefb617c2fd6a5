//! UEFI Secure Boot with the owner's own keys: kernel, initramfs and command line become one EFI program (a unified kernel image, with
//! systemd's stub), and that and the boot loader are signed, so that firmware which trusts the owner's certificate starts nothing else.
//!
//! Firmware vouches for the program, and with it for the keys in its initramfs; stage 1 vouches for the system by them.

pub mod authenticode;
pub mod pe;

use crate::tree::Content;
use authenticode::Signer;
use kedge_config::BoardConfig;
use kedge_config::board::Architecture;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SecureBootError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "{path} is no RSA private key: expected PKCS #8 in PEM (\"openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048\")"
    )]
    Key { path: String },
    #[error("{path} is no certificate in PEM")]
    Certificate { path: String },
    #[error("{certificate} does not belong to {key}")]
    Apart { certificate: String, key: String },
    #[error("{what}: {source}")]
    Pe { what: &'static str, source: pe::PeError },
    #[error("the system gives no random numbers")]
    Random,
}

/// Where the owner's key and certificate are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    pub key: PathBuf,
    pub certificate: PathBuf,
}

/// What systemd's stub is called among files.
pub const STUB: &str = "stub";
/// The unified kernel image within a slot's folder on the ESP.
pub const UNIFIED: &str = "kedge.efi";

/// The stub in Debian's package of the boot loader.
pub fn stub_path(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        Architecture::Aarch64 => "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
        Architecture::Armv7 => "usr/lib/systemd/boot/efi/linuxarm.efi.stub",
    }
}

/// What goes into one program (UAPI.5 Unified Kernel Image).
pub struct Parts<'a> {
    pub stub: &'a [u8],
    pub kernel: &'a [u8],
    pub kernel_release: &'a str,
    pub initramfs: &'a [u8],
    pub board: &'a BoardConfig,
}

/// Signs with the owner's key.
pub struct Sealer(Signer);

impl Sealer {
    pub fn read(owner: &Owner) -> Result<Self, SecureBootError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| SecureBootError::Io { path: path.display().to_string(), source })
        };
        let (key, certificate) = (read(&owner.key)?, read(&owner.certificate)?);
        Signer::new(&key, &certificate, owner).map(Self)
    }

    /// The boot loader, signed.
    pub fn loader(&self, loader: &[u8]) -> Result<Content, SecureBootError> {
        let signed = self.0.sign(loader)?;
        signed.map(Content::bytes).map_err(|source| SecureBootError::Pe { what: "the boot loader", source })
    }

    /// The unified kernel image, signed. One program serves both slots.
    pub fn unified(&self, parts: &Parts<'_>) -> Result<Content, SecureBootError> {
        let line = crate::disk::boot::command_line(parts.board);
        let os_release =
            format!("ID=kedge\nNAME=Kedge\nPRETTY_NAME=\"Kedge {0}\"\nVERSION_ID={0}\n", kedge_config::VERSION);
        let sections: [(&str, &[u8]); 5] = [
            (".osrel", os_release.as_bytes()),
            (".cmdline", line.as_bytes()),
            (".uname", parts.kernel_release.as_bytes()),
            (".initrd", parts.initramfs),
            (".linux", parts.kernel),
        ];
        let wrong = |what| move |source| SecureBootError::Pe { what, source };
        let whole = pe::with_sections(parts.stub, &sections).map_err(wrong("systemd's stub"))?;
        self.0.sign(&whole)?.map(Content::bytes).map_err(wrong("the unified kernel image"))
    }
}

#[cfg(test)]
mod tests;
