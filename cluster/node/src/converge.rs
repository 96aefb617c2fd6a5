//! Keeps the network's service rules equal to the API's services.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::services;
use crate::site::Site;

/// Changes within this time become one transaction.
const TOGETHER: Duration = Duration::from_millis(50);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Runs for as long as the node does; `changed` tells that services or endpoints may be different.
pub async fn run(site: Arc<Site>, changed: Arc<Notify>) {
    let mut current = None;
    let mut pause = FIRST_PAUSE;
    loop {
        changed.notified().await;
        tokio::time::sleep(TOGETHER).await;
        let table = services::table(&site.informer.snapshot(), &site.node);
        if current.as_ref() == Some(&table) {
            continue;
        }
        match site.network.converge(&table).await {
            Ok(()) => {
                current = Some(table);
                pause = FIRST_PAUSE;
            }
            Err(error) => {
                tracing::warn!(%error, "rules of services are not set; trying again");
                current = None;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
                changed.notify_one();
            }
        }
    }
}
