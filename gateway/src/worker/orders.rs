//! What a worker tells of its proxies, and does with them, when a person asks for it.

use std::rc::Rc;

use tokio::sync::oneshot;

use super::{Serving, Worker};
use crate::clock::Instant;
use crate::console::{Proxies, Victims};
use crate::proxy::Proxy;
use crate::view::{MOST_LISTED, ProxyView, shares};

// === impl Worker ===

impl Worker {
    /// What is to be told of the proxies at this moment.
    pub(super) fn view(&self) -> Vec<ProxyView> {
        let now = Instant::now();
        let (sessions, clients): (Vec<_>, Vec<_>) = self.proxies.iter().map(|(_, serving)| serving.present()).unzip();
        let shares = shares(&sessions, MOST_LISTED).into_iter().zip(shares(&clients, MOST_LISTED));
        self.proxies.iter().zip(shares).map(|((_, serving), most)| serving.view(most, now)).collect()
    }

    /// The proxies that are meant and have a pool.
    fn each_of<'a>(&'a self, which: &'a Proxies) -> impl Iterator<Item = &'a Rc<Proxy>> {
        self.proxies.iter().filter(|(name, _)| which.are(name)).filter_map(|(_, serving)| match serving {
            Serving::Streams(proxy) => Some(proxy),
            Serving::Datagrams(_) => None,
        })
    }

    pub(super) fn pause(&self, which: &Proxies, mut answer: oneshot::Sender<()>) {
        let paused: Vec<_> = self.each_of(which).cloned().collect();
        for proxy in &paused {
            proxy.pause();
        }
        tokio::task::spawn_local(async move {
            let all = async {
                for proxy in &paused {
                    proxy.paused().await;
                }
            };
            tokio::select! {
                biased;
                () = all => drop(answer.send(())),
                () = answer.closed() => {
                    for proxy in &paused {
                        proxy.resume();
                    }
                }
            }
        });
    }

    pub(super) fn resume(&self, which: &Proxies) {
        for proxy in self.each_of(which) {
            proxy.resume();
        }
    }

    pub(super) fn reconnect(&self, which: &Proxies) {
        for proxy in self.each_of(which) {
            proxy.reconnect();
        }
    }

    pub(super) fn kill(&self, victims: &Victims) -> usize {
        let killed = self.proxies.iter().map(|(name, serving)| match victims {
            Victims::Session(number) => serving.kill(Some(*number)),
            Victims::Of(wanted) if **name == **wanted => serving.kill(None),
            Victims::Of(_) => 0,
        });
        killed.sum()
    }
}
