//! A machine config that came through the API is on trial until the machine has shown that it lives with it.
//!
//! ```text
//! offer ─▶ trial.json ─▶ begin (the next start) ─▶ keep ─▶ kept.json
//!                              └─ begin once more, or too late ─▶ refuse ─▶ refused.json; kept.json as before
//! ```
//! Each step is one rename on STATE, synced; power may fail between any two. What is kept stands for all sources of the machine config.

use crate::kept::Folder;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Below STATE.
const FOLDER: &str = "config";
const TRIAL: &str = "trial.json";
const KEPT: &str = "kept.json";
const REFUSED: &str = "refused.json";

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

pub struct Trials(Folder);

impl Trials {
    pub fn at(state: &Path) -> Self {
        Self(Folder::new(state.join(FOLDER)))
    }

    /// To be begun by the next start.
    pub fn offer(&self, trial: &Trial) -> anyhow::Result<()> {
        self.0.write(TRIAL, trial)
    }

    /// Once in each start. A trial that was begun before did not end well: the machine was cut off, crashed or was started again.
    pub fn begin(&self) -> anyhow::Result<Start> {
        let kept: Option<Kept> = self.0.read(KEPT)?;
        let settled = |kept: Option<Kept>| kept.map_or(Start::Sources, |kept| Start::Kept(kept.config));
        let trial = self.0.read::<Trial>(TRIAL).or_else(|error| {
            tracing::error!("a trial that cannot be read is given up: {error:#}");
            self.0.remove(TRIAL).map(|()| None)
        });
        match trial? {
            None => Ok(settled(kept)),
            // Cut off between the two steps of `keep`.
            Some(trial) if kept.as_ref().is_some_and(|kept| kept.config == trial.config) => {
                self.0.remove(TRIAL)?;
                Ok(settled(kept))
            }
            Some(trial) if trial.begun => {
                self.refuse(&trial, "the machine was started again before it was found well")?;
                Ok(settled(kept))
            }
            Some(trial) => {
                let trial = Trial { begun: true, ..trial };
                self.0.write(TRIAL, &trial)?;
                Ok(Start::Trying(trial))
            }
        }
    }

    pub fn keep(&self, trial: &Trial) -> anyhow::Result<()> {
        self.0.write(KEPT, &Kept { config: trial.config.clone() })?;
        self.0.remove(TRIAL)
    }

    pub fn refuse(&self, trial: &Trial, why: &str) -> anyhow::Result<()> {
        self.0.write(REFUSED, &Refused { edit: trial.edit.clone(), why: why.to_owned() })?;
        self.0.remove(TRIAL)
    }

    /// The last edit that was refused.
    pub fn refused(&self) -> anyhow::Result<Option<Refused>> {
        self.0.read(REFUSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        trials.0.write(KEPT, &Kept { config: first.config.clone() }).unwrap();
        assert_eq!(trials.begin().unwrap(), Start::Kept(first.config.clone()));
        assert!(!own.join(TRIAL).exists() && trials.refused().unwrap().is_none());
        // Between the steps of refuse.
        trials.offer(&Trial { begun: true, ..trial(2) }).unwrap();
        trials.0.write(REFUSED, &Refused { edit: trial(2).edit, why: "w".into() }).unwrap();
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
