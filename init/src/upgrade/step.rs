//! What is to be done about a wish: purely decided.

use super::book::{Book, Ended, Installed, Outcome};
use super::wish::Wish;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Fetching,
    Installed,
    Trying,
    Committed,
    Failed,
}

/// What the object's status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub phase: Phase,
    pub message: String,
    pub digest: Option<String>,
    pub version: Option<String>,
    pub fetched: u64,
    pub total: u64,
    pub started: Option<String>,
    pub finished: Option<String>,
}

impl Told {
    pub fn new(phase: Phase, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { phase, message, digest: None, version: None, fetched: 0, total: 0, started: None, finished: None }
    }

    fn of_ended(ended: &Ended) -> Self {
        let phase = match ended.outcome {
            Outcome::Committed => Phase::Committed,
            Outcome::Failed => Phase::Failed,
        };
        Self {
            digest: ended.digest.clone(),
            version: ended.version.clone(),
            fetched: ended.bytes,
            total: ended.bytes,
            started: Some(ended.started.clone()),
            finished: Some(ended.finished.clone()),
            ..Self::new(phase, ended.why.clone())
        }
    }

    pub fn of_installed(phase: Phase, message: &str, system: &Installed) -> Self {
        Self {
            digest: Some(system.digest.clone()),
            version: Some(system.version.clone()),
            fetched: system.bytes,
            total: system.bytes,
            started: Some(system.started.clone()),
            ..Self::new(phase, message)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody wishes anything.
    Nothing,
    Tell(Told),
    /// Nothing before this has passed.
    Wait(Told, Duration),
    Fetch,
    Activate(Installed),
}

/// `proven` is whether this system has shown that it works; `now` the clock, in seconds since 1970.
pub fn step(wish: Result<&Option<Wish>, &String>, book: &Book, proven: bool, now: u64) -> Step {
    let wish = match wish {
        Err(why) => return Step::Tell(Told::new(Phase::Failed, why)),
        Ok(wish) => wish.as_ref(),
    };
    if let Some(trial) = &book.trial {
        let limit = trial.gate.limit_seconds;
        let message = format!("well within {limit} s of its start, or back to the old system");
        return Step::Tell(Told::of_installed(Phase::Trying, &message, &trial.system));
    }
    let Some(wish) = wish else { return Step::Nothing };
    let named = wish.named();
    if let Some(ended) = book.of(&named) {
        return Step::Tell(Told::of_ended(ended));
    }
    let ready = book.installed.as_ref().filter(|system| system.wish == named);
    let held = |why: &str, left: Duration| {
        let told = match ready {
            Some(system) => Told::of_installed(Phase::Installed, why, system),
            None => Told::new(Phase::Waiting, why),
        };
        Step::Wait(told, left)
    };
    if let Some(system) = ready.filter(|_| !wish.activate) {
        return Step::Tell(Told::of_installed(Phase::Installed, "it is started when activate is true", system));
    }
    // The other slot is what this system goes back to, until it needs that no more.
    if !proven {
        return Step::Tell(Told::new(Phase::Waiting, "the system that runs has not proved itself yet"));
    }
    if let (Err(left), Some(window)) = (wish.open_at(now), wish.window) {
        return held(&format!("its window opens at {} UTC", window.start), left);
    }
    match ready {
        Some(system) => Step::Activate(system.clone()),
        None => Step::Fetch,
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::{Slot, Trial};
    use super::super::wish::Gate;
    use super::*;
    use serde_json::json;

    fn wish(more: serde_json::Value) -> Option<Wish> {
        let mut spec = json!({"source": "https://a/b"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Wish::of(&json!({"spec": {"upgrade": spec}})).unwrap()
    }

    fn installed(wish: &Option<Wish>) -> Installed {
        let wish = wish.as_ref().unwrap().named();
        Installed { wish, digest: "d".into(), version: "2".into(), slot: Slot::B, started: "s".into(), bytes: 9 }
    }

    #[test]
    fn a_wish_goes_its_way() {
        let plain = wish(json!({}));
        let mut book = Book::default();
        assert_eq!(step(Ok(&None), &book, true, 0), Step::Nothing);
        assert_eq!(step(Ok(&plain), &book, true, 0), Step::Fetch);
        book.installed = Some(installed(&plain));
        assert_eq!(step(Ok(&plain), &book, true, 0), Step::Activate(installed(&plain)));
        book.trial = Some(Trial { system: installed(&plain), gate: Gate::default(), boot_id: "".into(), passed: 0 });
        // Whatever is wished meanwhile, and whether it can be read or not.
        for now in [&plain, &None, &wish(json!({"attempt": 1}))] {
            let Step::Tell(told) = step(Ok(now), &book, false, 0) else { panic!() };
            assert_eq!((told.phase, told.version.as_deref(), told.total), (Phase::Trying, Some("2"), 9));
        }
        book.end(Outcome::Failed, "why", "now");
        let Step::Tell(told) = step(Ok(&plain), &book, true, 0) else { panic!() };
        assert_eq!((told.phase, told.message.as_str(), told.finished.as_deref()), (Phase::Failed, "why", Some("now")));
        assert_eq!(step(Ok(&wish(json!({"attempt": 1}))), &book, true, 0), Step::Fetch);
        let Step::Tell(told) = step(Err(&"source: missing".into()), &book, true, 0) else { panic!() };
        assert_eq!(told.phase, Phase::Failed);
    }

    #[test]
    fn it_waits_for_its_window_for_the_word_and_for_this_system() {
        let held = wish(json!({"activate": false}));
        let mut book = Book::default();
        assert_eq!(step(Ok(&held), &book, true, 0), Step::Fetch);
        book.installed = Some(installed(&held));
        let Step::Tell(told) = step(Ok(&held), &book, true, 0) else { panic!() };
        assert_eq!(told.phase, Phase::Installed);
        // The same wish, activated.
        let night = wish(json!({"window": {"start": "02:00", "end": "03:00"}}));
        let Step::Wait(told, left) = step(Ok(&night), &book, true, 3600) else { panic!() };
        assert_eq!((told.phase, left.as_secs()), (Phase::Installed, 3600));
        assert!(matches!(step(Ok(&night), &book, true, 7200), Step::Activate(_)));
        book.installed = None;
        let Step::Wait(told, _) = step(Ok(&night), &book, true, 3600) else { panic!() };
        assert_eq!((told.phase, told.message.as_str()), (Phase::Waiting, "its window opens at 02:00 UTC"));
        let Step::Tell(told) = step(Ok(&wish(json!({}))), &book, false, 0) else { panic!() };
        assert_eq!(told.phase, Phase::Waiting);
    }
}
