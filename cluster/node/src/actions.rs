//! Doing what was planned. Each action is one future that ends in the events which the plan is told.

pub mod http;
pub mod prepare;
pub mod probe;
pub mod release;
pub mod start;
pub mod stop;

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::pod::{Action, Event};
use crate::site::Site;

/// What an action is done with.
pub struct Job {
    pub site: Arc<Site>,
    pub pod: Arc<Pod>,
    pub addresses: Vec<IpAddr>,
}

impl Job {
    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The address that probes and hooks of the pod go to.
    fn address(&self) -> Option<IpAddr> {
        match self.pod.spec.as_ref().is_some_and(crate::translate::is_host_network) {
            true => self.site.host_addresses().first().copied(),
            false => self.addresses.first().copied(),
        }
    }

    pub async fn run(self, action: Action) -> Vec<Event> {
        match action {
            Action::Prepare => vec![prepare::prepare(&self).await],
            Action::Refresh { tokens } => vec![prepare::refresh(&self, tokens).await],
            Action::Start { slot, attempt } => start::start(&self, slot, attempt).await,
            Action::Stop { slot, attempt, grace, why } => {
                stop::stop(&self, slot, attempt, grace, why).await;
                Vec::new()
            }
            Action::Kill { slot, attempt } => {
                stop::signal(&self, slot, attempt, stop::KILL).await;
                Vec::new()
            }
            Action::Probe { slot, attempt, kind } => {
                let good = probe::probe(&self, slot, attempt, kind).await;
                vec![Event::Probed { slot, attempt, kind, good }]
            }
            Action::Fail(verdict) => {
                let severity = kedge_api::event::Severity::Normal;
                self.site.note(&self.pod, None, severity, &verdict.reason, verdict.message).await;
                Vec::new()
            }
            Action::Release => vec![release::release(&self).await],
            // The worker's own: they end it.
            Action::Delete | Action::Finish => Vec::new(),
        }
    }
}
