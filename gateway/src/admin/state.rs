//! What `/state` answers: what the workers know, with what only the main thread does.

use std::sync::Arc;

use super::Admin;
use crate::clock::Instant;
use crate::view::{EventView, ProxyView, View, merged, seconds};

// === impl Admin ===

impl Admin {
    /// The gateway as it is at this moment; within a heartbeat, whatever the workers do.
    pub async fn view(&self) -> View {
        let pulse = self.pulse.borrow().clone();
        let answers = pulse.view().await;
        let silent_workers = answers.iter().filter(|answer| answer.is_none()).count();
        let mut proxies = merged(answers.into_iter().flatten());
        let (now, config) = (Instant::now(), self.status.borrow().clone());
        for proxy in &mut proxies {
            if let Some(listening) = config.proxies.iter().find(|listening| listening.name == proxy.name) {
                proxy.address.clone_from(&listening.address);
            }
            self.count(proxy);
        }
        View {
            version: config.version,
            name: config.name.clone(),
            uptime_seconds: seconds(self.began, now),
            draining: self.drain.has_begun(),
            workers: pulse.workers(),
            silent_workers,
            config,
            proxies,
            events: self.events.last().into_iter().map(|event| EventView::of(event, now)).collect(),
        }
    }

    /// Adds what the workers share.
    fn count(&self, proxy: &mut ProxyView) {
        proxy.totals = self.metrics.proxy(&Arc::from(proxy.name.as_str())).totals();
    }
}
