//! A machine config that came through the API is on trial until the machine has shown that it lives with it.
//!
//! ```text
//! offer ─▶ trial.json ─▶ begin (the next start) ─▶ keep ─▶ kept.json
//!                              └─ begin once more, or too late ─▶ refuse ─▶ refused.json; kept.json as before
//! ```
//! Each step is one rename on STATE, synced; power may fail between any two. What is kept stands for all sources of the machine config.

use anyhow::Context;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Below STATE.
const FOLDER: &str = "config";
const TRIAL: &str = "trial.json";
const KEPT: &str = "kept.json";
const REFUSED: &str = "refused.json";
/// Longer than a config with its frame in JSON, where each byte may be escaped.
const MOST: u64 = 8 * kedge_config::document::MAX_BYTES as u64;

/// Which edit a config is: the object's `metadata.uid` and `metadata.generation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    pub uid: String,
    pub generation: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub edit: Edit,
    /// The whole machine config, as YAML or JSON.
    pub config: String,
    /// Seconds that the machine has to show that it is well.
    pub limit: u32,
    /// The machine had an address before: without one it is not well.
    pub addressed: bool,
    /// Somebody has started with it.
    #[serde(default)]
    pub begun: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    config: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub edit: Edit,
    pub why: String,
}

/// What this start is to run with.
#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// What the sources say: nothing ever came through the API.
    Sources,
    Kept(String),
    Trying(Trial),
}

/// The folder on STATE.
pub struct Trials(PathBuf);

impl Trials {
    pub fn at(state: &Path) -> Self {
        Self(state.join(FOLDER))
    }

    /// To be begun by the next start.
    pub fn offer(&self, trial: &Trial) -> anyhow::Result<()> {
        self.write(TRIAL, trial)
    }

    /// Once in each start. A trial that was begun before did not end well: the machine was cut off, crashed or was started again.
    pub fn begin(&self) -> anyhow::Result<Start> {
        let kept: Option<Kept> = self.read(KEPT)?;
        let settled = |kept: Option<Kept>| kept.map_or(Start::Sources, |kept| Start::Kept(kept.config));
        let trial = self.read::<Trial>(TRIAL).or_else(|error| {
            tracing::error!("a trial that cannot be read is given up: {error:#}");
            self.remove(TRIAL).map(|()| None)
        });
        match trial? {
            None => Ok(settled(kept)),
            // Cut off between the two steps of `keep`.
            Some(trial) if kept.as_ref().is_some_and(|kept| kept.config == trial.config) => {
                self.remove(TRIAL)?;
                Ok(settled(kept))
            }
            Some(trial) if trial.begun => {
                self.refuse(&trial, "the machine was started again before it was found well")?;
                Ok(settled(kept))
            }
            Some(trial) => {
                let trial = Trial { begun: true, ..trial };
                self.write(TRIAL, &trial)?;
                Ok(Start::Trying(trial))
            }
        }
    }

    pub fn keep(&self, trial: &Trial) -> anyhow::Result<()> {
        self.write(KEPT, &Kept { config: trial.config.clone() })?;
        self.remove(TRIAL)
    }

    pub fn refuse(&self, trial: &Trial, why: &str) -> anyhow::Result<()> {
        self.write(REFUSED, &Refused { edit: trial.edit.clone(), why: why.to_owned() })?;
        self.remove(TRIAL)
    }

    /// The last edit that was refused.
    pub fn refused(&self) -> anyhow::Result<Option<Refused>> {
        self.read(REFUSED)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.0.join(name);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MOST).read_to_string(&mut text)) {
            Ok(_) => serde_json::from_str(&text).map(Some).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    fn write(&self, name: &str, what: &impl Serialize) -> anyhow::Result<()> {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        let write = || {
            fs::create_dir_all(&self.0)?;
            // It may hold secrets.
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(what)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            self.sync()
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.0.join(name);
        fs::remove_file(&path).and_then(|()| self.sync()).with_context(|| format!("remove {}", path.display()))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(generation: i64) -> Trial {
        let edit = Edit { uid: "u".into(), generation };
        Trial { edit, config: format!("sysctls: {{a.b: \"{generation}\"}}"), limit: 60, addressed: true, begun: false }
    }

    fn world() -> (tempfile::TempDir, Trials) {
        let folder = tempfile::tempdir().unwrap();
        let trials = Trials::at(folder.path());
        (folder, trials)
    }

    #[test]
    fn what_is_found_well_is_kept() {
        let (_folder, trials) = world();
        assert_eq!(trials.begin().unwrap(), Start::Sources);
        trials.offer(&trial(1)).unwrap();
        let begun = Trial { begun: true, ..trial(1) };
        assert_eq!(trials.begin().unwrap(), Start::Trying(begun.clone()));
        trials.keep(&begun).unwrap();
        assert_eq!(trials.begin().unwrap(), Start::Kept(begun.config));
        assert_eq!(trials.refused().unwrap(), None);
    }

    #[test]
    fn what_is_begun_twice_is_refused() {
        let (_folder, trials) = world();
        trials.offer(&trial(1)).unwrap();
        assert!(matches!(trials.begin().unwrap(), Start::Trying(_)));
        assert_eq!(trials.begin().unwrap(), Start::Sources);
        assert_eq!(trials.refused().unwrap().unwrap().edit.generation, 1);
        trials.offer(&trial(2)).unwrap();
        let Start::Trying(second) = trials.begin().unwrap() else { panic!("not tried") };
        trials.keep(&second).unwrap();
        trials.offer(&trial(3)).unwrap();
        assert!(matches!(trials.begin().unwrap(), Start::Trying(_)));
        assert_eq!(trials.begin().unwrap(), Start::Kept(second.config));
    }

    /// Power fails after each of the steps: a config is tried at most once, and one of the two is in force.
    #[test]
    fn a_power_cut_leaves_the_old_or_the_new() {
        let (folder, trials) = world();
        let own = folder.path().join(FOLDER);
        trials.offer(&trial(1)).unwrap();
        let Start::Trying(first) = trials.begin().unwrap() else { panic!("not tried") };
        // Between the steps of keep.
        trials.write(KEPT, &Kept { config: first.config.clone() }).unwrap();
        assert_eq!(trials.begin().unwrap(), Start::Kept(first.config.clone()));
        assert!(!own.join(TRIAL).exists() && trials.refused().unwrap().is_none());
        // Between the steps of refuse.
        trials.offer(&Trial { begun: true, ..trial(2) }).unwrap();
        trials.write(REFUSED, &Refused { edit: trial(2).edit, why: "w".into() }).unwrap();
        assert_eq!(trials.begin().unwrap(), Start::Kept(first.config.clone()));
        // While a file was written.
        fs::write(own.join("trial.json.new"), "{\"edit\"").unwrap();
        assert_eq!(trials.begin().unwrap(), Start::Kept(first.config.clone()));
        // The card lost it.
        fs::write(own.join(TRIAL), "{\"edit\"").unwrap();
        assert_eq!(trials.begin().unwrap(), Start::Kept(first.config));
        assert!(!own.join(TRIAL).exists());
    }
}
