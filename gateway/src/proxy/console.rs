//! Whoever asks for the console instead of a database: who may have it, and what it is told first. It costs no client, and
//! is let in where all places of the proxy are taken.

use std::rc::Rc;

use tokio::io::AsyncWriteExt;

use super::Proxy;
use super::ended::Ended;
use super::entry::is_beside_us;
use super::hooked::Chain;
use super::managed::{greet, negotiate};
use super::turned_away::{self, Refused, unwelcome};
use crate::config::ProxyConfig;
use crate::console::command::SETTINGS;
use crate::net::Stream;
use crate::postgres::cancel::Registration;
use crate::postgres::startup::StartupMessage;
use crate::postgres::wire::{ErrorResponse, Parameters, Version};

mod talk;

use talk::Talk;

// === impl Proxy ===

impl Proxy {
    /// Whether `startup` asks for the console of a proxy with this configuration.
    pub(super) fn is_for_console(startup: &StartupMessage, config: &ProxyConfig) -> bool {
        config.server.console.as_deref() == Some(startup.database())
    }

    /// From the startup packet to the end; `early` is what the peer has said behind it.
    pub(super) async fn console(
        &self,
        chain: &Rc<Chain>,
        peer: &mut Stream,
        (startup, early): (&StartupMessage, Vec<u8>),
    ) -> Ended {
        chain.presence.is_for_console();
        let surroundings = &self.sessions.surroundings;
        let console = async {
            let Some(_place) = surroundings.console.place() else {
                let response = ErrorResponse::fatal("53300", "too many consoles are open");
                return self.turned_down(peer, unwelcome("consoles", response)).await;
            };
            match self.open_console(peer, startup, early).await {
                Ok((registration, early)) => Talk::new(peer, &surroundings.console, (&registration, early)).run().await,
                Err(refused) => self.turned_down(peer, refused).await,
            }
        };
        let ended = tokio::select! {
            biased;
            ended = console => return ended,
            () = chain.presence.killed() => Ended::Killed,
            // It keeps nobody from ending.
            () = surroundings.drain.begun() => Ended::Drain,
        };
        turned_away::tell_how(peer, &ended).await;
        ended
    }

    /// Lets in whoever may look at the gateway, and tells it the settings of its session.
    async fn open_console(
        &self,
        peer: &mut Stream,
        startup: &StartupMessage,
        mut early: Vec<u8>,
    ) -> Result<(Registration, Vec<u8>), Refused> {
        if !is_beside_us(peer) {
            let response = ErrorResponse::fatal("28000", "the console is for peers in the same pod")
                .hint("Connect on loopback or a Unix socket: with kubectl exec, say.");
            return Err(unwelcome("not_local", response));
        }
        let config = self.config.borrow().clone();
        let mut greeting = Vec::new();
        negotiate(startup, &mut greeting);
        self.enter((&mut *peer, &mut early), startup, &config, &mut greeting).await?;
        let mut parameters = Parameters::default();
        for (name, value) in SETTINGS {
            parameters.set(name, value);
        }
        let registration = self.sessions.surroundings.cancels.register(startup.version >= Version::V3_2);
        greet(&parameters, registration.key(), &mut greeting);
        peer.write_all(&greeting).await.map_err(|error| (Ended::PeerFailed(error), None))?;
        peer.flush().await.map_err(|error| (Ended::PeerFailed(error), None))?;
        Ok((registration, early))
    }

    async fn turned_down(&self, peer: &mut Stream, (ended, response): Refused) -> Ended {
        if let Ended::Unwelcome(reason, _) = &ended {
            self.sessions.metrics.session.refused(reason);
        }
        if let Some(response) = response {
            turned_away::tell(peer, &response).await;
        }
        ended
    }
}
