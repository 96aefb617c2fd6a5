//! `/healthz`, `/livez`, `/readyz`: the checks of whoever has something to be healthy, asked when the client asks.

use std::sync::{Arc, PoisonError, RwLock};

use http::Response;

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

/// The checks, in the order they were added; `ping` is always the first.
#[derive(Clone)]
pub struct Health(Arc<RwLock<Vec<Check>>>);

impl Default for Health {
    fn default() -> Self {
        let ping = Check { name: "ping", live: true, probe: Arc::new(|| Ok(())) };
        Self(Arc::new(RwLock::new(vec![ping])))
    }
}

impl Health {
    /// Adds a check; one of the same name is replaced. `live` checks count for `/livez` and `/healthz` too.
    pub fn add(&self, name: &'static str, live: bool, probe: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let check = Check { name, live, probe: Arc::new(probe) };
        let mut checks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match checks.iter_mut().find(|c| c.name == name) {
            Some(old) => *old = check,
            None => checks.push(check),
        }
    }

    /// Answers `/livez`, `/readyz/NAME`, …; `None` if the path is not one of health.
    pub fn answer(&self, path: &str, query: &Query) -> Option<Response<Body>> {
        let (endpoint, one) = match path.strip_prefix('/')?.split_once('/') {
            None => (path.strip_prefix('/')?, ""),
            Some((endpoint, one)) => (endpoint, one.trim_end_matches('/')),
        };
        let ready = match endpoint {
            "healthz" | "livez" => false,
            "readyz" => true,
            _ => return None,
        };
        let checks = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut checks: Vec<_> = checks.into_iter().filter(|check| ready || check.live).collect();
        if !one.is_empty() {
            checks.retain(|check| check.name == one);
            let Some(check) = checks.first() else { return Some(page_not_found()) };
            return Some(match (check.probe)() {
                Ok(()) => text(200, "ok"),
                Err(why) => text(500, format!("internal server error: {why}\n")),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let (mut report, mut failed) = (String::new(), false);
        for Check { name, probe, .. } in &checks {
            if excluded.contains(name) {
                report.push_str(&format!("[+]{name} excluded: ok\n"));
                continue;
            }
            match probe() {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    tracing::warn!(check = name, why, "a health check failed");
                    failed = true;
                    // As upstream: the reason is in the log, for those who may read it.
                    report.push_str(&format!("[-]{name} failed: reason withheld\n"));
                }
            }
        }
        if failed {
            return Some(text(500, format!("{report}{endpoint} check failed\n")));
        }
        Some(match query.first("verbose") {
            Some(_) => text(200, format!("{report}{endpoint} check passed\n")),
            None => text(200, "ok"),
        })
    }
}

#[cfg(test)]
mod tests {
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
        let want = "[+]ping ok\n[+]etcd ok\n[-]informer-sync failed: reason withheld\nreadyz check failed\n";
        assert_eq!(ask(&health, "/readyz").await, Some((500, want.to_owned())));
        let want = "[+]ping ok\n[+]etcd ok\n[+]informer-sync excluded: ok\nreadyz check passed\n";
        assert_eq!(ask(&health, "/readyz?verbose&exclude=informer-sync").await, Some((200, want.to_owned())));
        assert_eq!(ask(&health, "/livez/nope").await, Some((404, "404 page not found\n".to_owned())));
        assert_eq!(ask(&health, "/api").await, None);
        health.add("informer-sync", false, || Ok(()));
        assert_eq!(ask(&health, "/readyz").await, ok);
    }
}
