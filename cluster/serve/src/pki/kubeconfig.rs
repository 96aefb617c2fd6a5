//! The administrator's kubeconfig.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Pki, PkiError, Profile, Signer, disk};

impl Pki {
    /// A kubeconfig for `server` (`https://10.0.0.5:6443`) that holds the authority's certificate and the client's own.
    pub fn kubeconfig(&self, profile: &Profile, server: &str) -> Result<String, PkiError> {
        let identity = self.identity(profile)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "kedge", "cluster": {
                "certificate-authority-data": STANDARD.encode(self.authority_pem(Signer::Server)),
                "server": server,
            }}],
            "users": [{"name": "kedge", "user": {
                "client-certificate-data": STANDARD.encode(identity.certificate_pem()),
                "client-key-data": STANDARD.encode(identity.key_pem()),
            }}],
            "contexts": [{"name": "kedge", "context": {"cluster": "kedge", "user": "kedge"}}],
            "current-context": "kedge",
        });
        serde_yaml::to_string(&config)
            .map_err(|e| PkiError::Write { path: "kubeconfig".into(), source: std::io::Error::other(e.to_string()) })
    }

    /// Writes the administrator's kubeconfig to `path`, if it is not there just so already: flash wears.
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str) -> Result<(), PkiError> {
        let text = self.kubeconfig(&Profile::Admin, server)?;
        match disk::read(path) {
            Ok(Some(old)) if old == text => Ok(()),
            _ => disk::write(path, &text),
        }
    }
}

/// DER as PEM with lines of 64 characters (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at_checked(64).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
