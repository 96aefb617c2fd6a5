//! `kedge snapshot`: the cluster's database, kept and returned to.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use kedge_cluster::{AdminError, Summary, snapshots};

use crate::ask;

const USAGE: &str = "\
usage: kedge snapshot save FILE      write the database as it is now to FILE, whether or not the server runs
       kedge snapshot list           name the snapshots that the server keeps
       kedge snapshot info FILE      check a snapshot and tell what is in it
       kedge snapshot restore FILE   make FILE the database; the server must not run

  --data-dir DIR   of the server (default: /var/lib/kedge)
";

pub fn run(words: &[&str]) -> ExitCode {
    ask::run(USAGE, words, parse, act)
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Save(PathBuf),
    List,
    Info(PathBuf),
    Restore(PathBuf),
}

fn parse(words: &[&str]) -> Option<Asked> {
    Some(match words {
        ["save", file] => Asked::Save(file.into()),
        ["list"] => Asked::List,
        ["info", file] => Asked::Info(file.into()),
        ["restore", file] => Asked::Restore(file.into()),
        _ => return None,
    })
}

async fn act(asked: Asked, data: PathBuf) -> anyhow::Result<String> {
    let data = data.as_path();
    match asked {
        Asked::Save(file) => {
            let summary = save(data, &file).await?;
            Ok(format!("{} is saved: {}\n", file.display(), in_words(&summary)))
        }
        Asked::List => Ok(snapshots::list(data).iter().map(|path| format!("{}\n", path.display())).collect()),
        Asked::Info(file) => Ok(format!("{}\n", in_words(&snapshots::inspect(&file)?))),
        Asked::Restore(file) => {
            let aside = snapshots::restore(&file, data)?;
            let before = aside.map_or(String::new(), |aside| format!("; what was there before is {}", aside.display()));
            Ok(format!("{} is back at {}{before}\n", data.display(), file.display()))
        }
    }
}

/// Of the server that runs, else of the files that it left.
async fn save(data: &Path, file: &Path) -> anyhow::Result<Summary> {
    anyhow::ensure!(!file.exists(), "{} exists", file.display());
    if let Some(admin) = ask::admin(data)? {
        let partial = file.with_added_extension("partial");
        let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let mut written = options.with_context(|| format!("create {}", partial.display()))?;
        let done = match admin.download("/kedge/snapshot", &mut written).await {
            Ok(()) => {
                written.sync_all().with_context(|| format!("write {}", partial.display()))?;
                let summary = snapshots::inspect(&partial)?;
                fs::rename(&partial, file).with_context(|| format!("name {}", file.display()))?;
                return Ok(summary);
            }
            Err(error) => error,
        };
        let _gone = fs::remove_file(&partial);
        if !matches!(done, AdminError::Connect { .. }) {
            return Err(done).context("ask the server");
        }
    }
    Ok(snapshots::save(data, file).await?)
}

fn in_words(summary: &Summary) -> String {
    let Summary { revision, objects, encrypted, bytes, layout, .. } = summary;
    format!("revision {revision}, {objects} objects ({encrypted} encrypted) of {bytes} bytes, layout {layout}, sound")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read() {
        assert_eq!(parse(&["save", "a"]), Some(Asked::Save("a".into())));
        assert_eq!(parse(&["restore", "a"]), Some(Asked::Restore("a".into())));
        assert_eq!(parse(&["list"]), Some(Asked::List));
        for nonsense in [&[][..], &["save"], &["save", "a", "b"], &["drop"], &["info"]] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}
