//! Who was issued what. The journal `ledger.jsonl` is the truth: one line an act, appended and synced, never changed. The ledger for people and
//! programs (`ledger.json`, `ledger.csv`) is written anew from it.

use super::authority::{Identity, KeyKind};
use super::order::Device;
use super::token::Token;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

pub const JOURNAL: &str = "ledger.jsonl";
pub const JSON: &str = "ledger.json";
pub const CSV: &str = "ledger.csv";

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path}:{line} is no line of a ledger: {source}")]
    Line { path: String, line: usize, source: serde_json::Error },
    #[error("{path}: {source}")]
    Write { path: String, source: serde_json::Error },
    #[error("{path}: {source}")]
    Csv { path: String, source: csv::Error },
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "act")]
enum Act {
    Issued(Box<Issued>),
    Revoked(Revocation),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    pub name: String,
    /// Seconds since 1970.
    pub at: i64,
    pub labels: BTreeMap<String, String>,
    /// The machine config's, without a token.
    pub config_sha256: String,
    /// Below the folder.
    pub file: String,
    /// Of [`Issued::digest_of`].
    pub sha256: String,
    /// Whether FILE.bmap is there as well.
    pub block_map: bool,
    /// Of the certificate.
    pub serial: Option<String>,
    pub key: Option<KeyKind>,
    pub certificate_sha256: Option<String>,
    pub public_key_sha256: Option<String>,
    pub not_after: Option<String>,
    pub token: Option<IssuedToken>,
}

/// A token is kept until the cluster was told of it; the ledger for others shows its id only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    pub id: String,
    pub secret: String,
    pub not_after: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub name: String,
    pub at: i64,
    pub reason: String,
}

impl Issued {
    pub fn new(device: &Device) -> Self {
        Self {
            name: device.name.clone(),
            at: OffsetDateTime::now_utc().unix_timestamp(),
            labels: device.labels.clone(),
            config_sha256: device.digest(),
            file: String::new(),
            sha256: String::new(),
            block_map: false,
            serial: None,
            key: None,
            certificate_sha256: None,
            public_key_sha256: None,
            not_after: None,
            token: None,
        }
    }

    pub fn take_identity(&mut self, identity: &Identity, kind: KeyKind) {
        self.serial = Some(identity.serial.clone());
        self.key = Some(kind);
        self.certificate_sha256 = Some(identity.certificate_sha256.clone());
        self.public_key_sha256 = Some(identity.public_key_sha256.clone());
        self.not_after = Some(date(identity.not_after));
    }

    pub fn take_token(&mut self, token: &Token) {
        let not_after = date(token.not_after);
        self.not_after = Some(not_after.clone());
        self.token = Some(IssuedToken { id: token.id.clone(), secret: token.secret.clone(), not_after });
    }

    /// What lies in the folder for it.
    pub fn files(&self) -> Vec<String> {
        let map = self.block_map.then(|| self.digest_of());
        [self.file.clone()].into_iter().chain(map).collect()
    }

    /// The file whose SHA-256 the ledger has. A block map stands for its image: it has the digest of each block that counts, and is read in no
    /// time where the image is gigabytes.
    pub fn digest_of(&self) -> String {
        if self.block_map { format!("{}.bmap", self.file) } else { self.file.clone() }
    }
}

/// RFC 3339.
fn date(time: OffsetDateTime) -> String {
    let (date, hour, minute, second) = (time.date(), time.hour(), time.minute(), time.second());
    format!("{date}T{hour:02}:{minute:02}:{second:02}Z")
}

pub struct Ledger {
    folder: PathBuf,
    journal: File,
    lines: u64,
    issued: BTreeMap<String, Issued>,
    revoked: BTreeMap<String, Revocation>,
}

/// A row of the ledger that others see.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'l> {
    name: &'l str,
    status: &'static str,
    issued_at: String,
    file: &'l str,
    digest_of: String,
    sha256: &'l str,
    serial: &'l str,
    key: Option<KeyKind>,
    certificate_sha256: &'l str,
    public_key_sha256: &'l str,
    token_id: &'l str,
    not_after: &'l str,
    revoked_at: String,
    reason: &'l str,
}

impl<'l> Row<'l> {
    fn new(issued: &'l Issued, revocation: Option<&'l Revocation>) -> Self {
        let time = |at: i64| OffsetDateTime::from_unix_timestamp(at).map(date).unwrap_or_default();
        Self {
            name: &issued.name,
            status: if revocation.is_some() { "revoked" } else { "issued" },
            issued_at: time(issued.at),
            file: &issued.file,
            digest_of: issued.digest_of(),
            sha256: &issued.sha256,
            serial: issued.serial.as_deref().unwrap_or_default(),
            key: issued.key,
            certificate_sha256: issued.certificate_sha256.as_deref().unwrap_or_default(),
            public_key_sha256: issued.public_key_sha256.as_deref().unwrap_or_default(),
            token_id: issued.token.as_ref().map_or("", |token| &token.id),
            not_after: issued.not_after.as_deref().unwrap_or_default(),
            revoked_at: revocation.map_or_else(String::new, |one| time(one.at)),
            reason: revocation.map_or("", |one| &one.reason),
        }
    }
}

impl Ledger {
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(JOURNAL);
        let io = |source| LedgerError::Io { path: path.display().to_string(), source };
        // Tokens are in it.
        let journal = File::options().read(true).append(true).create(true).mode(0o600).open(&path).map_err(io)?;
        let text = std::fs::read_to_string(&path).map_err(io)?;
        // A line without its end was cut off while it was written: what it tells of has no name yet.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            journal.set_len(whole as u64).map_err(io)?;
        }
        let mut ledger =
            Self { folder: folder.to_owned(), journal, lines: 0, issued: BTreeMap::new(), revoked: BTreeMap::new() };
        for (number, line) in text.get(..whole).unwrap_or_default().lines().enumerate() {
            let wrong = |source| LedgerError::Line { path: path.display().to_string(), line: number + 1, source };
            ledger.take(serde_json::from_str(line).map_err(wrong)?);
        }
        Ok(ledger)
    }

    fn take(&mut self, act: Act) {
        self.lines += 1;
        match act {
            Act::Issued(issued) => drop(self.issued.insert(issued.name.clone(), *issued)),
            Act::Revoked(revocation) => drop(self.revoked.insert(revocation.name.clone(), revocation)),
        }
    }

    /// Acts so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    pub fn find(&self, name: &str) -> Option<&Issued> {
        self.issued.get(name)
    }

    pub fn by_serial(&self, serial: &str) -> Option<&Issued> {
        self.issued.values().find(|issued| issued.serial.as_deref() == Some(serial))
    }

    /// By name.
    pub fn devices(&self) -> impl Iterator<Item = &Issued> {
        self.issued.values()
    }

    pub fn is_revoked(&self, name: &str) -> bool {
        self.revoked.contains_key(name)
    }

    pub fn revoked(&self) -> impl Iterator<Item = (&Issued, &Revocation)> {
        self.revoked.values().filter_map(|one| Some((self.issued.get(&one.name)?, one)))
    }

    /// Tells of devices, and returns when that lies on the disk.
    pub fn issue(&mut self, issued: &[Issued]) -> Result<(), LedgerError> {
        self.append(issued.iter().cloned().map(Box::new).map(Act::Issued).collect())
    }

    /// Revoking twice is revoking once.
    pub fn revoke(&mut self, name: &str, reason: &str) -> Result<(), LedgerError> {
        if self.is_revoked(name) {
            return Ok(());
        }
        let at = OffsetDateTime::now_utc().unix_timestamp();
        self.append(vec![Act::Revoked(Revocation { name: name.to_owned(), at, reason: reason.to_owned() })])
    }

    fn append(&mut self, acts: Vec<Act>) -> Result<(), LedgerError> {
        let path = || self.folder.join(JOURNAL).display().to_string();
        let mut text = String::new();
        for act in &acts {
            text += &serde_json::to_string(act).map_err(|source| LedgerError::Write { path: path(), source })?;
            text.push('\n');
        }
        let io = |source| LedgerError::Io { path: path(), source };
        self.journal.write_all(text.as_bytes()).map_err(io)?;
        self.journal.sync_all().map_err(io)?;
        acts.into_iter().for_each(|act| self.take(act));
        Ok(())
    }

    fn rows(&self) -> Vec<Row<'_>> {
        self.issued.values().map(|issued| Row::new(issued, self.revoked.get(&issued.name))).collect()
    }

    /// Writes the ledger for others, in both forms. No secret is in it.
    pub fn write(&self) -> Result<(), LedgerError> {
        let rows = self.rows();
        let (json, csv) = (self.folder.join(JSON), self.folder.join(CSV));
        let shown = |path: &Path| path.display().to_string();
        let text =
            serde_json::to_string_pretty(&rows).map_err(|source| LedgerError::Write { path: shown(&json), source })?;
        replace(&json, (text + "\n").as_bytes())?;
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in &rows {
            writer.serialize(row).map_err(|source| LedgerError::Csv { path: shown(&csv), source })?;
        }
        let bytes = writer
            .into_inner()
            .map_err(|error| LedgerError::Io { path: shown(&csv), source: io::Error::other(error.to_string()) })?;
        replace(&csv, &bytes)
    }
}

/// A reader sees the old file or the new one.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    let temporary = path.with_added_extension("part");
    let io = |source| LedgerError::Io { path: path.display().to_string(), source };
    std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, path)).map_err(io)
}
