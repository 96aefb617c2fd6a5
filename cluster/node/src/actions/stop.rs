//! The end of a container: hooks, signals, its last words.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use kedge_api::event::Severity::{Normal, Warning};
use kedge_runtime::Exit;

use super::{Job, http, probe};
use crate::pod::{SlotId, StopReason, Termination};
use crate::translate::container::id;

pub const KILL: i32 = 9;
const TERM: i32 = 15;
/// Upstream reads so much of a termination message file, and of a log in its place.
const WORDS: u64 = 4096;
const LOG_WORDS: u64 = 2048;

/// By their numbers on every architecture that Linux has since 2.6 and Kubernetes runs on.
const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGABRT", 6),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGWINCH", 28),
    ("SIGPWR", 30),
];

fn number(name: &str) -> Option<i32> {
    let bare = name.trim_start_matches("SIG");
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| known.trim_start_matches("SIG") == bare) {
        return Some(*number);
    }
    if let Some(offset) = bare.strip_prefix("RTMIN+") {
        return offset.parse::<i32>().ok().map(|o| 34 + o).filter(|n| (34..=64).contains(n));
    }
    name.parse().ok().filter(|n| (1..=64).contains(n))
}

fn stop_signal(job: &Job, container: &Container) -> i32 {
    let own = container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone());
    let image = || job.site.ground.image(container.image.as_deref()?).ok()?.stop_signal;
    own.or_else(image).as_deref().and_then(number).unwrap_or(TERM)
}

pub async fn stop(job: &Job, slot: SlotId, attempt: u32, grace: i64, why: StopReason) {
    let Some(container) = job.pod.spec.as_ref().and_then(|s| slot.container(s)) else { return };
    let name = &container.name;
    let message = match why {
        StopReason::PodEnds => format!("Stopping container {name}"),
        StopReason::Liveness => format!("Container {name} failed liveness probe, will be restarted"),
        StopReason::Startup => format!("Container {name} failed startup probe, will be restarted"),
        StopReason::PostStartHook => format!("FailedPostStartHook: container {name} will be restarted"),
    };
    job.site.note(&job.pod, Some(slot), Normal, "Killing", message).await;
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) {
        let within = Duration::from_secs(u64::try_from(grace).unwrap_or(1));
        let container_id = id(job.uid(), slot, attempt);
        let failed = match tokio::time::timeout(within, self::hook(job, container, &container_id, hook)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(format!("the hook did not end within {grace} s")),
        };
        if let Some(error) = failed {
            job.site
                .note(&job.pod, Some(slot), Warning, "FailedPreStopHook", format!("PreStopHook failed: {error}"))
                .await;
        }
    }
    signal(job, slot, attempt, stop_signal(job, container)).await;
}

pub async fn signal(job: &Job, slot: SlotId, attempt: u32, signal: i32) {
    let id = id(job.uid(), slot, attempt);
    if let Err(error) = job.site.runtime.kill(&id, signal).await {
        tracing::warn!(container = %id, signal, %error, "signal was not sent");
    }
}

/// Runs one lifecycle hook.
pub async fn hook(job: &Job, container: &Container, id: &str, hook: &LifecycleHandler) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        return match probe::exec(&*job.site.runtime, id, command).await {
            Ok((0, _)) => Ok(()),
            Ok((code, output)) => Err(format!("command exited with {code}: {output}")),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(get) = &hook.http_get {
        let address = job.address().ok_or("the pod has no address")?;
        return http::get(get, container, address).await.map(drop).map_err(|e| e.to_string());
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}

/// How a container ended, with what it said last.
pub fn termination(
    job: &Job,
    slot: SlotId,
    attempt: u32,
    exit: &Exit,
    started: Option<jiff::Timestamp>,
) -> Termination {
    let container = job.pod.spec.as_ref().and_then(|s| slot.container(s));
    let words = tail(&job.site.places(&job.pod, slot, attempt).termination, WORDS);
    let fall_back = container.and_then(|c| c.termination_message_policy.as_deref()) == Some("FallbackToLogsOnError");
    let message = match container {
        Some(c) if words.is_empty() && fall_back && exit.code != 0 => {
            let log = tail(&job.site.log(&job.pod, &c.name, attempt), 2 * LOG_WORDS);
            plain(&log)
        }
        Some(_) | None => words,
    };
    let reason = match exit {
        Exit { oom_killed: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        Exit { .. } => "Error",
    };
    Termination {
        code: exit.code,
        signal: exit.signal,
        reason: reason.to_owned(),
        message,
        started,
        finished: exit.at,
        id: id(job.uid(), slot, attempt),
    }
}

/// The lines of a CRI log without time, stream and tag.
fn plain(log: &str) -> String {
    let lines = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    let text = lines.collect::<Vec<_>>().join("\n");
    let from = text.len().saturating_sub(usize::try_from(LOG_WORDS).unwrap_or(0));
    (from..text.len()).find_map(|at| text.get(at..)).unwrap_or_default().to_owned()
}

/// The last bytes of a file; empty if it cannot be read.
fn tail(path: &Path, most: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
        let mut data = Vec::new();
        file.take(most).read_to_end(&mut data)?;
        Ok(data)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("INT", Some(2)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMIN+31", None),
            ("0", None),
            ("SIGNONE", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    #[test]
    fn logs_become_words() {
        assert_eq!(plain("2026-01-01T00:00:00Z stdout F a b\n2026-01-01T00:00:00Z stderr F c\nbroken\n"), "a b\nc");
        let long = format!("t stdout F {}é{}\n", "x".repeat(3000), "y".repeat(2047));
        assert_eq!(plain(&long), "y".repeat(2047), "a character is not cut");
    }
}
