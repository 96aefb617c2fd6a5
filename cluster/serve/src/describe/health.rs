//! `/healthz`, `/livez`, `/readyz`: the checks of whoever has something to be healthy, asked when the client asks, under upstream's names.

use std::io::stderr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::Response;
use kedge_api::metrics::{Family, Form, Source, Text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::http::respond::{Body, page_not_found, text};
use crate::wire::query::Query;

type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Check {
    name: &'static str,
    /// Also a sign of life, not only of readiness.
    live: bool,
    probe: Probe,
}

/// The checks, in the order they were added; `ping` and `log` are always the first, `shutdown` the last.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    /// Added while the control plane is put together.
    checks: RwLock<Vec<Check>>,
    state: Family,
    total: Family,
}

/// Whether only readiness counts, or life too.
const ENDPOINTS: [(&str, bool); 3] = [("healthz", false), ("livez", false), ("readyz", true)];
const PING: &str = "ping";
const LOG: &str = "log";
/// As upstream's: a reader of the log may be slow, but not for longer.
const LOG_BLOCKED: Duration = Duration::from_secs(120);
const SHUTDOWN: &str = "shutdown";

impl Default for Health {
    fn default() -> Self {
        let ping = Check { name: PING, live: true, probe: Arc::new(|| Ok(())) };
        let stuck = Stuck::default();
        let written = move || stuck.check(!takes(stderr().as_fd()), Instant::now());
        let log = Check { name: LOG, live: true, probe: Arc::new(written) };
        Self(Arc::new(Inner {
            checks: RwLock::new(vec![ping, log]),
            state: Family::gauge(
                "kubernetes_healthcheck",
                "Whether a check passed when it was last asked.",
                &["name", "type"],
            ),
            total: Family::counter(
                "kubernetes_healthchecks_total",
                "How often a check passed or failed.",
                &["name", "status", "type"],
            ),
        }))
    }
}

/// Whether what is written to a file would be taken now. One that nobody reads any more takes all, and tells it by an error.
fn takes(file: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&file, PollFlags::OUT)];
    poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Since when the log has been blocked whenever somebody asked. The lock orders nothing but those who ask.
#[derive(Default)]
struct Stuck(Mutex<Option<Instant>>);

impl Stuck {
    fn check(&self, blocked: bool, now: Instant) -> Result<(), String> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since = blocked.then(|| since.unwrap_or(now));
        match *since {
            Some(since) if now.duration_since(since) >= LOG_BLOCKED => Err("logging blocked".to_owned()),
            Some(_) | None => Ok(()),
        }
    }
}

impl Health {
    /// Adds a check; one of the same name is replaced. `live` checks count for `/livez` and `/healthz` too.
    pub fn add(&self, name: &'static str, live: bool, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let check = Check { name, live, probe: Arc::new(probe) };
        let mut checks = self.0.checks.write().unwrap_or_else(PoisonError::into_inner);
        match checks.iter_mut().find(|c| c.name == name) {
            Some(old) => *old = check,
            None => {
                let last = checks.iter().position(|c| c.name == SHUTDOWN).unwrap_or(checks.len());
                checks.insert(last, check);
            }
        }
    }

    /// A step of the start: its check fails until it is [`Self::done`].
    pub fn awaits(&self, name: &'static str) {
        self.add(name, true, || Err("not finished".to_owned()));
    }

    pub fn done(&self, name: &'static str) {
        self.add(name, true, || Ok(()));
    }

    /// Adds the check that says no when the server is about to stop, so that nobody is sent here any more.
    pub fn shutdown(&self, stops: impl Fn() -> bool + Send + Sync + 'static) {
        self.add(SHUTDOWN, false, move || if stops() { Err("process is shutting down".to_owned()) } else { Ok(()) });
    }

    /// Answers `/livez`, `/readyz/NAME`, …; `None` if the path is not one of health.
    pub fn answer(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let (endpoint, one) = match path.strip_prefix('/')?.split_once('/') {
            None => (path.strip_prefix('/')?, ""),
            Some((endpoint, one)) => (endpoint, one.trim_end_matches('/')),
        };
        let (_, ready) = ENDPOINTS.iter().find(|(known, _)| *known == endpoint)?;
        let checks = self.0.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut checks: Vec<_> = checks.into_iter().filter(|check| *ready || check.live).collect();
        if !one.is_empty() {
            checks.retain(|check| check.name == one);
            let Some(check) = checks.first() else { return Some(page_not_found()) };
            return Some(match (check.probe)() {
                Ok(()) => text(200, "ok"),
                Err(why) => text(500, format!("internal server error: {why}\n")),
            });
        }
        let mut unknown: Vec<&str> = query.all("exclude").collect();
        let excluded = unknown.clone();
        let (mut report, mut failed) = (String::new(), false);
        for Check { name, probe, .. } in &checks {
            if excluded.contains(name) {
                unknown.retain(|unknown| unknown != name);
                report.push_str(&format!("[+]{name} excluded: ok\n"));
                continue;
            }
            let asked = probe();
            self.count(name, endpoint, asked.is_ok());
            match asked {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    tracing::warn!(check = name, why, "a health check failed");
                    failed = true;
                    // As upstream: the reason is in the log, for those who may read it.
                    report.push_str(&format!("[-]{name} failed: reason withheld\n"));
                }
            }
        }
        if !unknown.is_empty() {
            unknown.sort_unstable();
            unknown.dedup();
            let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
            let names = names.join(",");
            report.push_str(&format!("warn: some health checks cannot be excluded: no matches for {names}\n"));
        }
        if failed {
            return Some(text(500, format!("{report}{endpoint} check failed\n")));
        }
        Some(match query.first("verbose") {
            Some(_) => text(200, format!("{report}{endpoint} check passed\n")),
            None => text(200, "ok"),
        })
    }

    /// All that can be asked.
    pub fn paths(&self) -> Vec<String> {
        let checks = self.0.checks.read().unwrap_or_else(PoisonError::into_inner);
        let of = |(endpoint, ready): &(&str, bool)| {
            let own =
                checks.iter().filter(|check| *ready || check.live).map(|check| format!("/{endpoint}/{}", check.name));
            [format!("/{endpoint}")].into_iter().chain(own).collect::<Vec<_>>()
        };
        ENDPOINTS.iter().flat_map(of).collect()
    }

    fn count(&self, name: &str, endpoint: &str, passed: bool) {
        self.0.state.set(&[name, endpoint], f64::from(u8::from(passed)));
        self.0.total.inc(&[name, if passed { "success" } else { "error" }, endpoint]);
    }

    /// `/metrics/slis`
    pub fn report(&self, form: Form) -> String {
        let mut text = Text::new(form);
        self.0.state.tell(&mut text);
        self.0.total.tell(&mut text);
        text.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    async fn ask(health: &Health, uri: &str) -> Option<(u16, String)> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let (parts, body) = health.answer(path, &Query::parse(query))?.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Some((parts.status.as_u16(), String::from_utf8(body.to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn readiness_is_more_than_life() {
        let health = Health::default();
        health.add("etcd", true, || Ok(()));
        health.add("informer-sync", false, || Err("1 of 9".to_owned()));
        let ok = Some((200, "ok".to_owned()));
        assert_eq!(ask(&health, "/livez").await, ok);
        assert_eq!(ask(&health, "/healthz/etcd").await, ok);
        let want = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n";
        assert_eq!(ask(&health, "/readyz").await, Some((500, want.to_owned())));
        let want = "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]informer-sync excluded: ok\nreadyz check passed\n";
        assert_eq!(ask(&health, "/readyz?verbose&exclude=informer-sync").await, Some((200, want.to_owned())));
        assert_eq!(ask(&health, "/livez/nope").await, Some((404, "404 page not found\n".to_owned())));
        assert_eq!(ask(&health, "/api").await, None);
        health.add("informer-sync", false, || Ok(()));
        assert_eq!(ask(&health, "/readyz").await, ok);
    }

    #[tokio::test]
    async fn steps_of_the_start_are_to_be_done() {
        let health = Health::default();
        let stops = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stops);
        health.shutdown(move || asked.load(Ordering::Acquire));
        health.awaits("poststarthook/crd-informer-synced");
        let name = "/livez/poststarthook/crd-informer-synced";
        assert_eq!(ask(&health, name).await, Some((500, "internal server error: not finished\n".to_owned())));
        health.done("poststarthook/crd-informer-synced");
        assert_eq!(ask(&health, name).await, Some((200, "ok".to_owned())));
        let want = "[+]ping ok\n[+]log ok\n[+]poststarthook/crd-informer-synced ok\n[+]shutdown ok\n\
                    warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n";
        let uri = "/readyz?verbose&exclude=b&exclude=a&exclude=b";
        assert_eq!(ask(&health, uri).await, Some((200, want.to_owned())));
        stops.store(true, Ordering::Release);
        assert_eq!(ask(&health, "/readyz").await.unwrap().0, 500);
        assert_eq!(ask(&health, "/livez/shutdown").await.unwrap().0, 404);
        let report = health.report(Form::Prometheus);
        for line in [
            "kubernetes_healthcheck{name=\"ping\",type=\"readyz\"} 1\n",
            "kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 0\n",
            "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"readyz\"} 2\n",
            "kubernetes_healthchecks_total{name=\"shutdown\",status=\"error\",type=\"readyz\"} 1\n",
        ] {
            assert!(report.contains(line), "{line} in {report}");
        }
    }
}
