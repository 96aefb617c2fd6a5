//! Snapshots of the cluster's database: taken by themselves and on request, listed, returned to.
//!
//! ```text
//! DIR/cluster.db ─▶ DIR/snapshots/TIME.auto.db   every half day, the last three are kept
//!               └─▶ DIR/snapshots/TIME.db        POST /kedge/snapshot; kept until someone removes it
//!               └─▶ the client                   GET /kedge/snapshot
//! ```

use std::cmp::Reverse;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kedge_api::Status;
use kedge_serve::server::{Own, OwnAnswer};
use kedge_store::{Error, Store, Summary};
use serde_json::{Value, json};

/// Below the state directory.
pub(crate) const DATABASE: &str = "cluster.db";
const FOLDER: &str = "snapshots";
const AUTOMATIC: &str = ".auto.db";
const KEPT: usize = 3;
/// As often as k3s does. A board's flash is written whole tens of thousands of times before it wears out.
const EVERY: Duration = Duration::from_secs(12 * 3600);
/// After a start others have more to do.
const FIRST: Duration = Duration::from_secs(15 * 60);

/// What lies in a state directory, newest first.
pub fn list(state: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(state.join(FOLDER)).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "db")).collect();
    // Names begin with the time.
    found.sort_by_key(|path| Reverse(path.file_name().map(ToOwned::to_owned)));
    found
}

/// What a snapshot holds, if it is sound.
pub fn inspect(snapshot: &Path) -> Result<Summary, Error> {
    kedge_store::sqlite::inspect(snapshot)
}

/// Makes `snapshot` the database of a state directory whose server does not run; gives where the one before it is now.
pub fn restore(snapshot: &Path, state: &Path) -> Result<Option<PathBuf>, Error> {
    kedge_store::sqlite::restore(snapshot, &state.join(DATABASE))
}

/// Writes a snapshot of the database of a state directory whose server does not run.
pub async fn save(state: &Path, to: &Path) -> Result<Summary, Error> {
    let database = state.join(DATABASE);
    if !database.exists() {
        return Err(Error::Open { path: database, what: "there is no such database".to_owned() });
    }
    kedge_store::Sqlite::open(database, kedge_store::sqlite::Options::default())?.snapshot(to).await
}

/// Of a running control plane.
pub(crate) struct Snapshots {
    store: Arc<dyn Store>,
    state: PathBuf,
}

impl Snapshots {
    pub(crate) fn new(store: Arc<dyn Store>, state: &Path) -> Self {
        Self { store, state: state.to_owned() }
    }

    async fn take(&self, end: &str) -> Result<(PathBuf, Summary), Error> {
        let folder = self.state.join(FOLDER);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| at(&folder, &error))?;
        let to = folder.join(format!("{}{end}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ")));
        let summary = self.store.snapshot(&to).await?;
        Ok((to, summary))
    }

    /// One that makes room for its successors.
    pub(crate) async fn take_automatic(&self) -> Result<Summary, Error> {
        let (_, summary) = self.take(AUTOMATIC).await?;
        self.forget();
        Ok(summary)
    }

    /// Takes one now and then, if anything was written since the last. Never ends.
    pub(crate) async fn run(&self) {
        let mut last = list(&self.state).first().and_then(|newest| inspect(newest).ok());
        tokio::time::sleep(FIRST).await;
        loop {
            match self.store.check().await {
                Ok(now) if last.as_ref().is_some_and(|last| last.revision == now.revision) => {}
                Ok(_) => match self.take_automatic().await {
                    Ok(summary) => last = Some(summary),
                    Err(error) => tracing::warn!(%error, "taking a snapshot"),
                },
                // The next start sets it aside and returns to a snapshot; the ones there are must not make room for it.
                Err(error) => tracing::error!(%error, "the cluster's database is not sound"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Removes automatic ones beyond those that are kept.
    fn forget(&self) {
        let automatic = |path: &PathBuf| path.to_string_lossy().ends_with(AUTOMATIC);
        for old in list(&self.state).into_iter().filter(automatic).skip(KEPT) {
            if let Err(error) = fs::remove_file(&old) {
                tracing::warn!(path = %old.display(), %error, "removing an old snapshot");
            }
        }
    }

    /// A snapshot that is gone when its last reader is.
    async fn passing(&self) -> Result<fs::File, Error> {
        let (path, _) = self.take(".passing").await?;
        let file = fs::File::open(&path).map_err(|error| at(&path, &error));
        let _gone = fs::remove_file(&path);
        file
    }
}

fn at(path: &Path, error: &io::Error) -> Error {
    Error::Database { path: path.to_owned(), what: error.to_string() }
}

fn told(summary: &Summary) -> Value {
    json!({
        "revision": summary.revision.to_string(), "objects": summary.objects, "encrypted": summary.encrypted,
        "bytes": summary.bytes, "layout": summary.layout,
    })
}

#[async_trait]
impl Own for Snapshots {
    async fn answer(&self, verb: &str, path: &[&str]) -> Option<Result<OwnAnswer, Status>> {
        let answer = match (verb, path) {
            ("get", ["snapshot"]) => {
                let name = format!("kedge-{}.db", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
                self.passing().await.map(|file| OwnAnswer::File { name, file })
            }
            ("post", ["snapshot"]) => self.take(".db").await.map(|(path, summary)| {
                let mut answer = told(&summary);
                if let Some(answer) = answer.as_object_mut() {
                    answer.insert("path".to_owned(), path.to_string_lossy().into());
                }
                OwnAnswer::Value(answer)
            }),
            ("get", ["snapshots"]) => {
                let snapshots = list(&self.state).into_iter().map(|path| {
                    let size = fs::metadata(&path).map_or(0, |found| found.len());
                    json!({"path": path.to_string_lossy(), "size": size})
                });
                Ok(OwnAnswer::Value(json!({"snapshots": snapshots.collect::<Vec<_>>()})))
            }
            ("get", ["check"]) => self.store.check().await.map(|summary| OwnAnswer::Value(told(&summary))),
            _ => return None,
        };
        Some(answer.map_err(|error| Status::internal(error.to_string())))
    }
}
