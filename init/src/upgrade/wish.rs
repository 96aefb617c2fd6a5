//! What an object asks for: `spec.upgrade` of a [`Machine`](crate::services).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kedge_api::selector::Selector;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

const DAY: u64 = 24 * 60 * 60;
/// Stands in a source for the board's name, so that one wish fits machines of many kinds.
const BOARD: &str = "{board}";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wish {
    /// Where the bundle lies, see [`kedge_fetch`].
    pub source: String,
    /// Authorities (PEM) that the server's certificate may be of, beside those that everybody trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authorities: Option<String>,
    /// Of the slot manifest that is meant, SHA-256 in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Another number asks once more for what failed.
    #[serde(default)]
    pub attempt: u32,
    /// Without it the new system lies ready and is not started.
    #[serde(default = "yes")]
    pub activate: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    #[serde(default)]
    pub gate: Gate,
}

fn yes() -> bool {
    true
}

/// What makes a wish this one: what became of another says nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub source: String,
    pub digest: Option<String>,
    pub attempt: u32,
}

impl Named {
    /// Of a wish that cannot be read.
    pub fn as_said(object: &serde_json::Value) -> Self {
        let source = object.pointer("/spec/upgrade/source").and_then(serde_json::Value::as_str).unwrap_or_default();
        Self { source: source.to_owned(), digest: None, attempt: 0 }
    }
}

/// When things may be fetched and systems started, by the clock in UTC. One that ends before it starts goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    pub start: Clock,
    pub end: Clock,
}

/// `HH:MM`, as minutes of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(u16);

/// What a new system has to show before it is kept, beyond that its services run and its node is Ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gate {
    pub pods: Vec<Pods>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// How long nothing may be missing.
    pub soak_seconds: u32,
    /// After which it has failed, since the kernel's start.
    pub limit_seconds: u32,
    /// It has to come through a second start as well.
    pub cold_boot: bool,
}

/// Law of a set's equality: by its words, which have one form once they are parsed.
impl Eq for Gate {}

impl Default for Gate {
    fn default() -> Self {
        Self { pods: Vec::new(), probe: None, soak_seconds: 30, limit_seconds: 600, cold_boot: false }
    }
}

/// Pods of which there is one at least, and all Ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pods {
    pub namespace: String,
    #[serde(default)]
    pub selector: LabelSelector,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Probe {
    #[serde(rename_all = "camelCase")]
    HttpGet {
        #[serde(default = "localhost")]
        host: String,
        port: u16,
        #[serde(default = "root")]
        path: String,
    },
    #[serde(rename_all = "camelCase")]
    TcpSocket {
        #[serde(default = "localhost")]
        host: String,
        port: u16,
    },
}

fn localhost() -> String {
    "127.0.0.1".into()
}

fn root() -> String {
    "/".into()
}

impl Wish {
    /// That of a machine's object; the error names the field below `spec`.
    pub fn of(object: &serde_json::Value) -> Result<Option<Self>, String> {
        let Some(spec) = object.pointer("/spec/upgrade").filter(|spec| !spec.is_null()) else { return Ok(None) };
        let wish: Self = Deserialize::deserialize(spec).map_err(|error: serde_json::Error| error.to_string())?;
        wish.check()?;
        Ok(Some(wish))
    }

    fn check(&self) -> Result<(), String> {
        let source = self.source_for("board");
        match kedge_fetch::oci::Reference::parse(&source) {
            Ok(None) => kedge_fetch::Url::parse(&source).map(drop),
            other => other.map(drop),
        }
        .map_err(|error| format!("source: {error}"))?;
        let hexadecimal =
            |digest: &String| digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if let Some(digest) = self.digest.as_ref().filter(|digest| !hexadecimal(digest)) {
            return Err(format!("digest: {digest:?}, expected 64 lower-case hexadecimal digits"));
        }
        if self.bytes_per_second == Some(0) {
            return Err("bytesPerSecond: 0, with which it would never be done".into());
        }
        if self.window.is_some_and(|window| window.start == window.end) {
            return Err("window: it starts when it ends".into());
        }
        let gate = &self.gate;
        if !(30..=24 * 3600).contains(&gate.limit_seconds) || gate.soak_seconds >= gate.limit_seconds {
            return Err(format!(
                "gate: limitSeconds is {} and soakSeconds {}, expected 30 to 86400 and less than that",
                gate.limit_seconds, gate.soak_seconds
            ));
        }
        let wrong = gate.pods.iter().find_map(|pods| Selector::from_label_selector(Some(&pods.selector)).err());
        wrong.map_or(Ok(()), |error| Err(format!("gate.pods.selector: {error}")))
    }

    pub fn named(&self) -> Named {
        Named { source: self.source.clone(), digest: self.digest.clone(), attempt: self.attempt }
    }

    pub fn source_for(&self, board: &str) -> String {
        self.source.replace(BOARD, board)
    }

    /// Whether the clock, in seconds since 1970, lets it go on; else how long it does not.
    pub fn open_at(&self, now: u64) -> Result<(), Duration> {
        self.window.map_or(Ok(()), |window| window.open_at(now))
    }
}

impl Window {
    fn open_at(self, now: u64) -> Result<(), Duration> {
        let (now, start, end) = (now % DAY, self.start.seconds(), self.end.seconds());
        let open = if start < end { (start..end).contains(&now) } else { now >= start || now < end };
        if open { Ok(()) } else { Err(Duration::from_secs((start + DAY - now) % DAY)) }
    }
}

impl Clock {
    fn seconds(self) -> u64 {
        u64::from(self.0) * 60
    }
}

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time of a day, expected such as 02:30");
        let (hour, minute) = text.split_once(':').filter(|_| text.len() == 5).ok_or_else(wrong)?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        match (digits(hour), digits(minute)) {
            (Some(hour @ 0..=23_u16), Some(minute @ 0..=59)) => Ok(Self(hour * 60 + minute)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl From<Clock> for String {
    fn from(clock: Clock) -> Self {
        clock.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(upgrade: serde_json::Value) -> Result<Option<Wish>, String> {
        Wish::of(&json!({"spec": {"config": {}, "upgrade": upgrade}}))
    }

    #[test]
    fn a_wish_is_read_with_what_it_does_not_say() {
        assert_eq!(of(json!(null)).unwrap(), None);
        let wish = of(json!({"source": "https://a/{board}.kedge"})).unwrap().unwrap();
        assert!(wish.activate && wish.gate == Gate::default() && wish.attempt == 0);
        assert_eq!(wish.source_for("rpi4"), "https://a/rpi4.kedge");
        let gate = json!({"pods": [{"namespace": "a", "selector": {"matchLabels": {"b": "c"}}}], "soakSeconds": 5,
            "limitSeconds": 60, "probe": {"httpGet": {"port": 80}}, "coldBoot": true});
        let all = json!({"source": "oci://r/k:v2", "digest": "a".repeat(64), "activate": false, "bytesPerSecond": 5, "attempt": 2,
            "window": {"start": "23:00", "end": "04:30"}, "gate": gate});
        let wish = of(all).unwrap().unwrap();
        assert_eq!(wish.gate.probe, Some(Probe::HttpGet { host: localhost(), port: 80, path: root() }));
        // What is kept through a reboot is read as it was.
        assert_eq!(serde_json::from_value::<Wish>(serde_json::to_value(&wish).unwrap()).unwrap(), wish);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let source = "https://a/b";
        for (upgrade, told) in [
            (json!({}), "missing field `source`"),
            (json!({"source": "b.kedge"}), "source: \"b.kedge\" is no address"),
            (json!({"source": source, "sorce": 1}), "unknown field `sorce`"),
            (json!({"source": source, "digest": "AB"}), "digest: \"AB\""),
            (json!({"source": source, "bytesPerSecond": 0}), "bytesPerSecond"),
            (json!({"source": source, "window": {"start": "2:00", "end": "03:00"}}), "\"2:00\" is no time"),
            (json!({"source": source, "window": {"start": "24:00", "end": "03:00"}}), "\"24:00\" is no time"),
            (json!({"source": source, "window": {"start": "+1:00", "end": "03:00"}}), "\"+1:00\" is no time"),
            (json!({"source": source, "window": {"start": "03:00", "end": "03:00"}}), "it starts when it ends"),
            (json!({"source": source, "gate": {"limitSeconds": 10}}), "limitSeconds is 10"),
            (json!({"source": source, "gate": {"limitSeconds": 60, "soakSeconds": 60}}), "soakSeconds 60"),
            (json!({"source": source, "gate": {"probe": {"exec": {}}}}), "unknown variant `exec`"),
            (
                json!({"source": source, "gate": {"pods": [{"namespace": "a", "selector": {"matchExpressions": [{"key": "a", "operator": "Is"}]}}]}}),
                "gate.pods.selector",
            ),
        ] {
            let why = of(upgrade.clone()).unwrap_err();
            assert!(why.contains(told), "{upgrade}: {why}");
        }
    }

    #[test]
    fn a_window_is_open_as_the_clock_says() {
        let window = |start: &str, end: &str| Window {
            start: start.to_owned().try_into().unwrap(),
            end: end.to_owned().try_into().unwrap(),
        };
        let hour = 3600;
        let (day, night) = (window("02:00", "05:00"), window("22:00", "01:00"));
        for (window, now, open) in [
            (day, 2 * hour, Ok(())),
            (day, 5 * hour - 1, Ok(())),
            (day, 5 * hour, Err(21 * hour)),
            (day, 10 * DAY + hour, Err(hour)),
            (night, 23 * hour, Ok(())),
            (night, 0, Ok(())),
            (night, hour, Err(21 * hour)),
        ] {
            assert_eq!(window.open_at(now), open.map_err(Duration::from_secs), "{window:?} {now}");
        }
    }
}
