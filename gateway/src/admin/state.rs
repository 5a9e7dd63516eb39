//! What `/state` answers: what the workers know, with what only the main thread does.

use std::rc::Rc;
use std::sync::Arc;

use super::Admin;
use crate::clock::Instant;
use crate::config::Config;
use crate::gateway::Pulse;
use crate::metrics::ProxyMetrics;
use crate::view::{EventView, ProxyView, View, merged, seconds};

// === impl Admin ===

impl Admin {
    /// The gateway as it is at this moment; within a heartbeat, whatever the workers do.
    pub async fn view(&self) -> View {
        let pulse = self.pulse();
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
        proxy.totals = self.metrics_of(&proxy.name).totals();
    }

    /// What is counted of a proxy.
    pub(crate) fn metrics_of(&self, proxy: &str) -> ProxyMetrics {
        self.metrics.proxy(&proxy.into())
    }

    /// A way to every worker.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.borrow().clone()
    }

    /// What is served; nothing before the first configuration.
    pub(crate) fn config(&self) -> Option<Arc<Config>> {
        self.served.borrow().as_ref().map(|served| served.config.clone())
    }

    /// The document that says so.
    pub(crate) fn document(&self) -> Rc<[u8]> {
        self.served.borrow().as_ref().map(|served| served.document.clone()).unwrap_or_default()
    }

    /// Why the file's last change is not served, if it is not.
    pub(crate) fn reason_for_refusal(&self) -> Option<String> {
        self.status.borrow().refused.as_ref().map(|refused| refused.reason.clone())
    }
}
