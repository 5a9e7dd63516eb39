//! What the kubelets of fake pods would do: a pure model, which knows no clock and no network.
//!
//! A touched pod is synced: at once if its kubelet has looked at its containers since the last sync, which it does once a
//! second, else when it does next. Some time later the pod's files are those of the `ConfigMap` as it is then. That time
//! was measured on a real kubelet with 1 and with 30 pods: 0.1 to 0.5 s (with one pod, half of the times below 0.1 s).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cast::Random;
use tokio::time::Instant;

/// From one look of a kubelet at its containers to the next.
const RELIST: Duration = Duration::from_secs(1);
/// How long a sync takes, at least and at most, until the gateway has applied what came of it.
const SYNC: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];

/// Names a fake pod.
pub(crate) type Index = usize;

/// All fake pods, and what was delivered to them.
#[derive(Debug)]
pub(crate) struct Kubelets {
    start: Instant,
    random: Random,
    pods: Vec<Pod>,
    names: HashMap<String, Index>,
    /// The hash of each configuration's `ConfigMap`.
    delivered: HashMap<String, Arc<str>>,
    /// When which pod's sync is over.
    due: BTreeSet<(Instant, Index)>,
}

#[derive(Debug)]
struct Pod {
    config: String,
    /// What was last seen in the annotation that pokes change.
    touched: Option<String>,
    sync: Sync,
    serves: Option<Arc<str>>,
    since: Instant,
}

/// Where a pod's kubelet is with it.
#[derive(Debug, PartialEq, Eq)]
enum Sync {
    Rests {
        since: Option<Instant>,
    },
    IsUnderWay,
    /// And it was touched again meanwhile.
    IsWantedAgain,
}

// === impl Kubelets ===

impl Kubelets {
    /// No pods yet; the same seed gives the same delays.
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        let (pods, names, delivered, due) = (Vec::new(), HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { start: now, random: Random::seeded(seed), pods, names, delivered, due }
    }

    /// One more pod, which starts with what is delivered; `touched` is what its annotation says.
    pub(crate) fn start(&mut self, name: &str, config: &str, now: Instant) -> Index {
        let index = self.pods.len();
        let serves = self.delivered.get(config).cloned();
        let (config, sync) = (config.to_owned(), Sync::Rests { since: None });
        self.pods.push(Pod { config, touched: None, sync, serves, since: now });
        self.names.insert(name.to_owned(), index);
        index
    }

    /// All pods are gone.
    pub(crate) fn clear(&mut self) {
        self.pods.clear();
        self.names.clear();
        self.due.clear();
    }

    /// The `ConfigMap` of `config` has this hash now.
    pub(crate) fn deliver(&mut self, config: &str, hash: &str) {
        self.delivered.insert(config.to_owned(), hash.into());
    }

    /// A pod's annotation says this.
    pub(crate) fn see(&mut self, name: &str, annotation: Option<&str>, now: Instant) {
        let Some(index) = self.names.get(name).copied() else { return };
        let pod = &mut self.pods[index];
        if pod.touched.as_deref() == annotation {
            return;
        }
        pod.touched = annotation.map(str::to_owned);
        match pod.sync {
            Sync::Rests { since } => self.plan(index, since, now),
            Sync::IsUnderWay => pod.sync = Sync::IsWantedAgain,
            Sync::IsWantedAgain => {}
        }
    }

    /// Carries out what is due; says when there is more.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Instant> {
        while let Some((at, index)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            let pod = &mut self.pods[index];
            let hash = self.delivered.get(&pod.config).cloned();
            if pod.serves != hash {
                (pod.serves, pod.since) = (hash, at);
            }
            let is_wanted_again = pod.sync == Sync::IsWantedAgain;
            pod.sync = Sync::Rests { since: Some(at) };
            if is_wanted_again {
                self.plan(index, Some(at), at);
            }
        }
        self.due.first().map(|(at, _)| *at)
    }

    /// Which configuration a pod has, and what it serves of it.
    pub(crate) fn serves(&self, index: Index) -> Option<(&str, &str)> {
        let pod = self.pods.get(index)?;
        Some((&pod.config, pod.serves.as_deref().unwrap_or_default()))
    }

    /// How many pods of `config` serve what has this hash, and since when the last of them does.
    pub(crate) fn up_to_date(&self, config: &str, hash: &str) -> (usize, Option<Instant>) {
        let is_one = |pod: &&Pod| pod.config == config && pod.serves.as_deref() == Some(hash);
        let all = self.pods.iter().filter(is_one);
        all.fold((0, None), |(count, last), pod| (count + 1, last.max(Some(pod.since))))
    }

    fn plan(&mut self, index: Index, last: Option<Instant>, now: Instant) {
        let begin = last.map_or(now, |last| now.max(self.next_relist(last)));
        let [shortest, longest] = SYNC;
        let spread = u64::try_from(longest.saturating_sub(shortest).as_micros()).unwrap_or_default();
        let takes = shortest + Duration::from_micros(self.random.below(spread));
        self.pods[index].sync = Sync::IsUnderWay;
        self.due.insert((begin + takes, index));
    }

    /// When the kubelet looks next after `last`.
    fn next_relist(&self, last: Instant) -> Instant {
        let age = last.duration_since(self.start).as_secs();
        self.start + Duration::from_secs(age) + RELIST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// One pod that serves `old`, and a kubelet that begins to look now.
    fn one() -> (Kubelets, Instant) {
        let now = Instant::now();
        let mut kubelets = Kubelets::new(1, now);
        kubelets.deliver("orders", "old");
        kubelets.start("a", "orders", now);
        (kubelets, now)
    }

    fn serves(kubelets: &Kubelets) -> &str {
        kubelets.serves(0).expect("it is there").1
    }

    #[test]
    fn nothing_reaches_a_pod_that_nobody_touches() {
        let (mut kubelets, now) = one();
        kubelets.deliver("orders", "new");
        assert_eq!(kubelets.turn(now + RELIST * 60), None);
        assert_eq!(serves(&kubelets), "old");
    }

    #[test]
    fn a_touched_pod_has_what_is_delivered_when_its_sync_is_over() {
        let (mut kubelets, now) = one();
        kubelets.see("a", Some("1"), now);
        let over = kubelets.turn(now).expect("it is synced");
        assert!((SYNC[0]..SYNC[1]).contains(&over.duration_since(now)));
        kubelets.deliver("orders", "new");
        kubelets.turn(over - milliseconds(1));
        assert_eq!(serves(&kubelets), "old");
        kubelets.turn(over);
        assert_eq!(serves(&kubelets), "new");
        assert_eq!(kubelets.up_to_date("orders", "new"), (1, Some(over)));
    }

    #[test]
    fn the_same_annotation_seen_again_wakes_nobody() {
        let (mut kubelets, now) = one();
        kubelets.see("a", Some("1"), now);
        let over = kubelets.turn(now).expect("it is synced");
        kubelets.turn(over);
        kubelets.see("a", Some("1"), over + RELIST * 2);
        assert_eq!(kubelets.turn(over + RELIST * 2), None);
    }

    #[test]
    fn a_pod_that_was_synced_since_its_kubelet_looked_waits_for_the_next_look() {
        let (mut kubelets, now) = one();
        kubelets.see("a", Some("1"), now);
        let over = kubelets.turn(now).expect("it is synced");
        kubelets.turn(over);
        kubelets.deliver("orders", "new");
        kubelets.see("a", Some("2"), over);
        let again = kubelets.turn(over).expect("it is synced again").duration_since(now);
        assert!(again >= RELIST + SYNC[0] && again < RELIST + SYNC[1], "{again:?}");
    }

    #[test]
    fn a_pod_that_is_touched_during_a_sync_is_synced_once_more() {
        let (mut kubelets, now) = one();
        kubelets.see("a", Some("1"), now);
        kubelets.see("a", Some("2"), now);
        kubelets.see("a", Some("3"), now);
        let over = kubelets.turn(now).expect("it is synced");
        let again = kubelets.turn(over).expect("it is synced again");
        assert!(again >= now + RELIST + SYNC[0]);
        assert_eq!(kubelets.turn(again), None);
    }
}
