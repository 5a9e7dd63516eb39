//! Which configurations deserve a turn of the controller: each at most once, however often it was named.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use tokio::sync::Notify;

use super::ConfigKey;

/// Collects configurations until somebody asks for them; nothing is kept while nobody leads.
#[derive(Clone, Default)]
pub struct Triggers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    is_open: AtomicBool,
    waiting: Mutex<BTreeSet<ConfigKey>>,
    more: Notify,
}

// === impl Triggers ===

impl Triggers {
    /// Begins to collect; what was named before is not known.
    pub fn open(&self) {
        self.0.is_open.store(true, Ordering::Release);
    }

    /// Names a configuration.
    pub fn touch(&self, key: ConfigKey) {
        self.touch_all([key]);
    }

    /// Names many.
    pub fn touch_all(&self, keys: impl IntoIterator<Item = ConfigKey>) {
        if !self.0.is_open.load(Ordering::Acquire) {
            return;
        }
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.0.more.notify_one();
    }

    /// What was named, as it is named; for one reader.
    pub fn stream(&self) -> impl Stream<Item = ConfigKey> + Send + use<> {
        futures::stream::unfold(self.clone(), |triggers| async move {
            let key = triggers.next().await;
            Some((key, triggers))
        })
    }

    async fn next(&self) -> ConfigKey {
        loop {
            let first = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_first();
            match first {
                Some(key) => return key,
                None => self.0.more.notified().await,
            }
        }
    }
}
