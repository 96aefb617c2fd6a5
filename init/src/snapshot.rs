//! `kedge snapshot`: the cluster's database, kept and returned to.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use kedge_cluster::{Admin, AdminError, Summary, snapshots};
use kedge_config::names::STATE_DIR;

use crate::services::ADMIN_KUBECONFIG;

const USAGE: &str = "\
usage: kedge snapshot save FILE      write the database as it is now to FILE, whether or not the server runs
       kedge snapshot list           name the snapshots that the server keeps
       kedge snapshot info FILE      check a snapshot and tell what is in it
       kedge snapshot restore FILE   make FILE the database; the server must not run

  --data-dir DIR   of the server (default: /var/lib/kedge)
";

pub fn run(words: &[&str]) -> ExitCode {
    match parse(words) {
        None => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
        Some((asked, data)) => {
            match tokio::runtime::Runtime::new().context("start").and_then(|it| it.block_on(act(asked, &data))) {
                Ok(text) => {
                    print!("{text}");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("kedge: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Save(PathBuf),
    List,
    Info(PathBuf),
    Restore(PathBuf),
}

/// What is asked for, and the state directory.
fn parse(words: &[&str]) -> Option<(Asked, PathBuf)> {
    let (mut rest, mut data) = (Vec::new(), PathBuf::from(STATE_DIR));
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("--data-dir", value)) => data = value.into(),
            None if *word == "--data-dir" => data = words.next()?.into(),
            _ => rest.push(*word),
        }
    }
    let asked = match rest.as_slice() {
        ["save", file] => Asked::Save(file.into()),
        ["list"] => Asked::List,
        ["info", file] => Asked::Info(file.into()),
        ["restore", file] => Asked::Restore(file.into()),
        _ => return None,
    };
    Some((asked, data))
}

async fn act(asked: Asked, data: &Path) -> anyhow::Result<String> {
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
    let admin = fs::read_to_string(data.join(ADMIN_KUBECONFIG)).ok();
    if let Some(admin) = admin.map(|text| Admin::of_kubeconfig(&text)).transpose()? {
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
        let data = |text: &str| PathBuf::from(text);
        assert_eq!(parse(&["save", "a"]), Some((Asked::Save("a".into()), data(STATE_DIR))));
        assert_eq!(parse(&["--data-dir", "d", "restore", "a"]), Some((Asked::Restore("a".into()), data("d"))));
        assert_eq!(parse(&["list", "--data-dir=d"]), Some((Asked::List, data("d"))));
        for nonsense in [&[][..], &["save"], &["save", "a", "b"], &["drop"], &["info", "--data-dir"]] {
            assert_eq!(parse(nonsense), None, "{nonsense:?}");
        }
    }
}
