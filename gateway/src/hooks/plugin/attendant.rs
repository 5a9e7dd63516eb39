//! What a plugin is shown of one session, and what becomes of its verdicts: bytes as they come, or, where the gateway
//! understands them, whole messages first.

use std::borrow::Cow;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::Resource;

use super::Plugin;
use super::instance::{Function, Instance, Stopped};
use super::ledger::{Illegal, Ledger};
use super::messages::{Messages, Taken};
use super::offer::State;
use super::wit::exports::postern::plugin::hooks::Guest;
use super::wit::postern::plugin::types::{self, Interests};
use crate::clock::Instant;
use crate::config::Protocol;
use crate::hooks::{Failure, Hook, Session, Verdict};
use crate::metrics::CallMetrics;
use crate::proxy::relay::Direction;

/// A plugin in one session.
pub(super) struct Attendant {
    instance: Instance,
    /// Where the bytes are understood, and the plugin wants to see them.
    postgres: Option<Box<Postgres>>,
}

/// What is known of a session that speaks PostgreSQL.
struct Postgres {
    messages: Messages,
    /// Kept where the plugin sees bytes and could tear them.
    ledger: Option<Ledger>,
}

/// All that shows what is said.
const TRAFFIC: [Interests; 9] = [
    Interests::FROM_CLIENT,
    Interests::TO_SERVER,
    Interests::FROM_SERVER,
    Interests::TO_CLIENT,
    Interests::STARTUP,
    Interests::QUERY,
    Interests::PARSE,
    Interests::ERROR,
    Interests::ROWS,
];

// === impl Attendant ===

impl Attendant {
    pub(super) fn new(plugin: Arc<Plugin>, session: &Session) -> Attendant {
        let is_shown = session.protocol == Protocol::Postgres && TRAFFIC.iter().any(|shown| plugin.wants(*shown));
        let postgres = is_shown.then(|| {
            let judges = plugin.wants(Interests::FROM_CLIENT) || plugin.wants(Interests::FROM_SERVER);
            Box::new(Postgres { messages: Messages::new(plugin.interests), ledger: judges.then(Ledger::default) })
        });
        Attendant { instance: Instance::new(plugin, session.id), postgres }
    }

    /// Tells the plugin, if it wants to know.
    fn tell(
        &mut self,
        function: Function,
        bytes: &[u8],
        tell: impl FnOnce(&mut Store<State>, &Guest) -> wasmtime::Result<()>,
    ) -> Result<(), Failure> {
        if !self.instance.plugin().wants(function.interest()) {
            return Ok(());
        }
        self.instance.call_about(function, (bytes, &[]), tell)?;
        self.instance.plugin().count(function, |calls| &calls.pass);
        Ok(())
    }

    /// Tells the plugin what has been sent; never of a login.
    fn tell_sent(
        &mut self,
        function: Function,
        bytes: &[u8],
        tell: impl FnOnce(&mut Store<State>, &Guest) -> wasmtime::Result<()>,
    ) -> Result<(), Failure> {
        let direction = function.direction();
        if self.postgres.as_mut().is_some_and(|postgres| postgres.messages.was_login(direction)) {
            return Ok(());
        }
        self.tell(function, bytes, tell)
    }

    /// What the plugin makes of what it is shown as bytes.
    fn judge(&mut self, function: Function, bytes: &[u8]) -> Result<types::Verdict, Failure> {
        if !self.instance.plugin().wants(function.interest()) || bytes.is_empty() {
            return Ok(types::Verdict::Pass);
        }
        let verdict = self.instance.call_about(function, (bytes, &[]), |store, guest| {
            let chunk = Resource::new_borrow(0);
            match function.direction() {
                Direction::ToDatabase => guest.call_from_client(store, chunk),
                Direction::ToPeer => guest.call_from_server(store, chunk),
            }
        })?;
        self.instance.plugin().count(function, |calls| match verdict {
            types::Verdict::Pass => &calls.pass,
            types::Verdict::Replace(_) => &calls.replace,
            types::Verdict::Reply(_) => &calls.reply,
            types::Verdict::Close => &calls.close,
        });
        Ok(verdict)
    }

    /// The same where the bytes are understood: first whole messages, then what comes of them; and no verdict may tear
    /// the stream.
    fn judge_messages(&mut self, function: Function, bytes: &[u8]) -> Result<Verdict, Failure> {
        let direction = function.direction();
        let Some(postgres) = &mut self.postgres else { return Ok(Verdict::Pass) };
        let (taken, mut failure) = postgres.messages.take(direction, bytes, &mut self.instance);
        let mut onward = match taken {
            Taken::On(onward) => onward,
            Taken::Reply(reply) => return Ok(Verdict::Reply(reply)),
            Taken::Close => return Ok(Verdict::Close),
        };
        let is_login = postgres.messages.is_login(direction);
        let introduced = postgres.messages.introduced();
        let verdict = if is_login { Ok(types::Verdict::Pass) } else { self.judge(function, &onward) };
        let verdict = verdict.unwrap_or_else(|failed| {
            failure.get_or_insert(failed);
            types::Verdict::Pass
        });
        match self.settle(direction, &onward[introduced..], verdict) {
            Ok(Verdict::Replace(other)) => onward = Cow::Owned(other),
            Ok(verdict @ (Verdict::Reply(_) | Verdict::Close)) => return Ok(verdict),
            Ok(Verdict::Pass | Verdict::Delay(_)) => {}
            Err(illegal) => {
                let sentence = format!("its verdict would tear the protocol: {illegal}");
                failure.get_or_insert(self.instance.stop(function, Stopped { reason: "answer", sentence }));
            }
        }
        let is_same = matches!(onward, Cow::Borrowed(onward) if onward.len() == bytes.len());
        match failure {
            Some(failure) => Err(Failure { instead: (!is_same).then(|| onward.into_owned()), ..failure }),
            None if is_same => Ok(Verdict::Pass),
            None => Ok(Verdict::Replace(onward.into_owned())),
        }
    }

    /// Notes in the ledger what becomes of messages by this verdict, if it may; what may not become of them passes.
    fn settle(&mut self, direction: Direction, onward: &[u8], verdict: types::Verdict) -> Result<Verdict, Illegal> {
        let Some(ledger) = self.postgres.as_mut().and_then(|postgres| postgres.ledger.as_mut()) else {
            return Ok(Verdict::Pass);
        };
        let settled = match verdict {
            types::Verdict::Pass => {
                ledger.passes(direction, onward);
                return Ok(Verdict::Pass);
            }
            types::Verdict::Replace(other) => {
                ledger.replaces(direction, onward, &other).map(|()| Verdict::Replace(other))
            }
            types::Verdict::Reply(reply) => ledger.replies(direction, onward, &reply).map(|()| Verdict::Reply(reply)),
            types::Verdict::Close => return Ok(Verdict::Close),
        };
        settled.inspect_err(|_| ledger.passes(direction, onward))
    }

    fn on_traffic(&mut self, function: Function, bytes: &[u8]) -> Result<Verdict, Failure> {
        if self.postgres.is_some() {
            return self.judge_messages(function, bytes);
        }
        Ok(match self.judge(function, bytes)? {
            types::Verdict::Pass => Verdict::Pass,
            types::Verdict::Replace(other) => Verdict::Replace(other),
            types::Verdict::Reply(reply) => Verdict::Reply(reply),
            types::Verdict::Close => Verdict::Close,
        })
    }
}

impl Hook for Attendant {
    fn on_opening(&mut self, session: &Session) -> Result<Option<Instant>, Failure> {
        self.tell(Function::OnOpening, &[], |store, guest| {
            let protocol = match session.protocol {
                Protocol::Opaque => types::Protocol::Opaque,
                Protocol::Postgres => types::Protocol::Postgres,
            };
            let (id, proxy, peer) = (session.id, session.proxy.to_string(), session.peer.to_string());
            guest.call_on_opening(store, &types::Session { id, proxy, protocol, peer })
        })?;
        Ok(None)
    }

    fn on_opened(&mut self, _session: &Session) -> Result<(), Failure> {
        self.tell(Function::OnOpened, &[], |store, guest| guest.call_on_opened(store))
    }

    fn on_traffic(&mut self, _session: &Session) -> Result<(), Failure> {
        self.tell(Function::OnTraffic, &[], |store, guest| guest.call_on_traffic(store))
    }

    fn on_traffic_from_client(&mut self, _session: &Session, bytes: &[u8]) -> Result<Verdict, Failure> {
        self.on_traffic(Function::FromClient, bytes)
    }

    fn on_traffic_to_server(&mut self, _session: &Session, bytes: &[u8]) -> Result<(), Failure> {
        let tell = |store: &mut Store<State>, guest: &Guest| guest.call_to_server(store, Resource::new_borrow(0));
        self.tell_sent(Function::ToServer, bytes, tell)
    }

    fn on_traffic_from_server(&mut self, _session: &Session, bytes: &[u8]) -> Result<Verdict, Failure> {
        self.on_traffic(Function::FromServer, bytes)
    }

    fn on_traffic_to_client(&mut self, _session: &Session, bytes: &[u8]) -> Result<(), Failure> {
        let tell = |store: &mut Store<State>, guest: &Guest| guest.call_to_client(store, Resource::new_borrow(0));
        self.tell_sent(Function::ToClient, bytes, tell)
    }

    fn on_reply(&mut self, reply: &[u8]) {
        if let Some(postgres) = &mut self.postgres {
            postgres.messages.hears_reply(reply);
            if let Some(ledger) = &mut postgres.ledger {
                ledger.passes(Direction::ToPeer, reply);
            }
        }
    }

    fn on_closing(&mut self, _session: &Session) -> Result<(), Failure> {
        self.tell(Function::OnClosing, &[], |store, guest| guest.call_on_closing(store))
    }

    fn on_closed(&mut self, _session: &Session) -> Result<(), Failure> {
        self.tell(Function::OnClosed, &[], |store, guest| guest.call_on_closed(store))
    }
}

impl Plugin {
    /// Counts what a call came to.
    pub(super) fn count<'a>(
        &'a self,
        function: Function,
        which: impl FnOnce(&'a CallMetrics) -> &'a prometheus::IntCounter,
    ) {
        if let Some(calls) = self.calls(function) {
            which(calls).inc();
        }
    }
}

impl Function {
    /// Which way the bytes go that this sees.
    fn direction(self) -> Direction {
        match self {
            Function::FromServer | Function::ToClient => Direction::ToPeer,
            _ => Direction::ToDatabase,
        }
    }
}
