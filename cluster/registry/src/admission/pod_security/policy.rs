//! What a namespace's labels ask of its pods.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    const NAMES: [(&'static str, Self); 3] =
        [("privileged", Self::Privileged), ("baseline", Self::Baseline), ("restricted", Self::Restricted)];
}

/// A level as it was in a version of Kubernetes; without a minor version as it is in the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    pub(super) level: Level,
    minor: Option<u32>,
}

impl Bound {
    const OPEN: Self = Self { level: Level::Privileged, minor: None };

    #[cfg(test)]
    pub(super) const fn new(level: Level, minor: Option<u32>) -> Self {
        Self { level, minor }
    }

    /// Whether the bound is as of Kubernetes 1.`minor` or later.
    pub(super) fn since(self, minor: u32) -> bool {
        self.minor.is_none_or(|own| own >= minor)
    }

    /// Whether pods that kept to `old` may not keep to this.
    pub(super) fn tightens(self, old: Self) -> bool {
        self != old && self.level != Level::Privileged && (self.minor != old.minor || self.level > old.level)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::NAMES.iter().find(|(_, level)| *level == self.level).map_or("", |(name, _)| name);
        match self.minor {
            Some(minor) => write!(f, "{name}:v1.{minor}"),
            None => write!(f, "{name}:latest"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// What keeps to less is refused.
    pub(super) enforce: Bound,
    /// What keeps to less is noted in the audit log.
    pub(super) audit: Bound,
    /// The author of what keeps to less is warned.
    pub(super) warn: Bound,
}

/// A label that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) label: String,
    pub(super) value: String,
    pub(super) why: &'static str,
}

impl Policy {
    /// From labels; those that make no sense read as the safest, except that no one is warned on their account.
    pub(super) fn of<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Self, Vec<Fault>) {
        let mut faults = Vec::new();
        let mut read = |mode: &str, from: Option<Bound>, fallback: Level| {
            let level_key = format!("pod-security.kubernetes.io/{mode}");
            let version_key = format!("{level_key}-version");
            let mut bound = from.unwrap_or(Bound::OPEN);
            if let Some(value) = label(&level_key) {
                bound.level =
                    Level::NAMES.iter().find(|(name, _)| *name == value).map_or(fallback, |(_, level)| *level);
                bound.minor = None;
                if !Level::NAMES.iter().any(|(name, _)| *name == value) {
                    let why = "must be one of privileged, baseline, restricted";
                    faults.push(Fault { label: level_key, value: value.to_owned(), why });
                }
            }
            if let Some(value) = label(&version_key) {
                match version(value) {
                    Some(minor) => bound.minor = minor,
                    None => {
                        bound.minor = None;
                        let why = "must be \"latest\" or \"v1.x\"";
                        faults.push(Fault { label: version_key, value: value.to_owned(), why });
                    }
                }
            }
            bound
        };
        let enforce = read("enforce", None, Level::Restricted);
        let audit = read("audit", None, Level::Restricted);
        // Who enforces warns of the same, unless the labels say otherwise.
        let enforced = label("pod-security.kubernetes.io/enforce").is_some();
        let warn = read("warn", enforced.then_some(enforce), Level::Privileged);
        (Self { enforce, audit, warn }, faults)
    }

    /// Whether every pod keeps to it.
    pub(super) fn asks_nothing(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|bound| bound.level == Level::Privileged)
    }
}

/// `latest`, or the minor version of `v1.x`.
fn version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[(&str, &str)]) -> (String, String, Vec<String>) {
        let find =
            |key: &str| labels.iter().find(|(k, _)| format!("pod-security.kubernetes.io/{k}") == key).map(|(_, v)| *v);
        let (policy, faults) = Policy::of(find);
        (policy.enforce.to_string(), policy.warn.to_string(), faults.into_iter().map(|f| f.value).collect())
    }

    #[test]
    fn labels_are_read() {
        for (labels, enforce, warn, faults) in [
            (&[][..], "privileged:latest", "privileged:latest", &[][..]),
            (&[("enforce", "baseline")], "baseline:latest", "baseline:latest", &[]),
            (&[("enforce", "baseline"), ("enforce-version", "v1.20")], "baseline:v1.20", "baseline:v1.20", &[]),
            (&[("enforce", "baseline"), ("warn", "restricted")], "baseline:latest", "restricted:latest", &[]),
            (&[("enforce", "x")], "restricted:latest", "restricted:latest", &["x"]),
            (&[("warn", "x"), ("warn-version", "v1")], "privileged:latest", "privileged:latest", &["x", "v1"]),
            (
                &[("enforce-version", "v1.01"), ("audit", "y")],
                "privileged:latest",
                "privileged:latest",
                &["v1.01", "y"],
            ),
        ] {
            let (got_enforce, got_warn, got_faults) = of(labels);
            assert_eq!((&*got_enforce, &*got_warn), (enforce, warn), "{labels:?}");
            assert_eq!(got_faults, faults, "{labels:?}");
        }
    }

    #[test]
    fn what_tightens() {
        let at = |level, minor| Bound::new(level, minor);
        for (new, old, tightens) in [
            (at(Level::Baseline, None), at(Level::Privileged, None), true),
            (at(Level::Baseline, None), at(Level::Restricted, None), false),
            (at(Level::Baseline, None), at(Level::Restricted, Some(20)), true),
            (at(Level::Privileged, None), at(Level::Restricted, Some(20)), false),
            (at(Level::Baseline, None), at(Level::Baseline, None), false),
        ] {
            assert_eq!(new.tightens(old), tightens, "{new} after {old}");
        }
    }
}
