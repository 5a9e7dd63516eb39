//! The settings with which a peer began its session, which `RESET` and `DISCARD ALL` give back to it. Pure.
//!
//! The client began with others, and that is what the database resets it to. So what was reset is noticed, and set as the
//! peer had wished it as soon as no transaction is open.

use super::Memory;
use crate::postgres::wire::Parameters;

/// What a peer's startup packet said of the settings that follow it.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    wishes: Vec<Wish>,
    /// Whether anything was reset since the last ReadyForQuery.
    has_reset: bool,
}

#[derive(Clone, Debug)]
struct Wish {
    name: Box<str>,
    /// As the database writes it.
    value: Box<str>,
    /// Whether the database has reported it since the last ReadyForQuery.
    is_reported: bool,
    /// Whether it was reset, and the peer has not got it back.
    is_reset: bool,
}

// === impl Wishes ===

impl Wishes {
    /// The settings called `names`, with their values at the beginning of the session.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>, parameters: &Parameters) -> Wishes {
        let wishes = names.into_iter().filter_map(|name| {
            let value = parameters.get(name)?.into();
            Some(Wish { name: name.into(), value, is_reported: false, is_reset: false })
        });
        Wishes { wishes: wishes.collect(), has_reset: false }
    }

    /// The database has reported a setting to the peer.
    pub(super) fn reported(&mut self, name: &str) {
        for wish in self.wishes.iter_mut().filter(|wish| *wish.name == *name) {
            wish.is_reported = true;
        }
    }

    /// The peer has reset settings.
    pub(super) fn reset(&mut self) {
        self.has_reset = true;
    }

    /// The database is ready for the next query. What was reset, and still is when no transaction is open, becomes the
    /// peer's wish again in `parameters`; whether there was anything.
    pub(super) fn ready(&mut self, is_idle: bool, memory: &Memory, parameters: &mut Parameters) -> bool {
        let has_reset = std::mem::take(&mut self.has_reset);
        let mut is_news = false;
        for wish in &mut self.wishes {
            wish.is_reset |= has_reset && wish.is_reported;
            wish.is_reported = false;
            if is_idle && std::mem::take(&mut wish.is_reset) {
                let is_initial = memory.parameters.get(&wish.name) == memory.initial.get(&wish.name);
                is_news |= is_initial && parameters.set(&wish.name, &wish.value);
            }
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(application_name: &str) -> Parameters {
        let mut parameters = Parameters::default();
        parameters.set("application_name", application_name);
        parameters
    }

    fn memory(application_name: &str) -> Memory {
        Memory { parameters: parameters(application_name), initial: parameters(""), ..Memory::default() }
    }

    #[test]
    fn what_was_reset_is_what_the_peer_began_with() {
        let mut known = parameters("shop");
        let mut wishes = Wishes::new(["application_name"], &known);
        wishes.reported("application_name");
        known.set("application_name", "");
        wishes.reset();
        assert!(wishes.ready(true, &memory(""), &mut known));
        assert_eq!(known.get("application_name"), Some("shop"));
        assert!(!wishes.ready(true, &memory("shop"), &mut known), "once");
    }

    #[test]
    fn what_was_set_or_never_wished_for_stays() {
        let mut known = parameters("");
        let mut wishes = Wishes::new(["application_name"], &parameters("shop"));
        wishes.reported("application_name");
        assert!(!wishes.ready(true, &memory(""), &mut known), "it was set, and not reset");
        wishes.reset();
        assert!(!wishes.ready(true, &memory(""), &mut known), "something else was reset");
        let mut wishes = Wishes::new([], &parameters("shop"));
        wishes.reported("application_name");
        wishes.reset();
        assert!(!wishes.ready(true, &memory(""), &mut known), "the peer never wished for it");
    }

    #[test]
    fn a_reset_counts_when_its_transaction_has_ended_and_was_not_rolled_back() {
        for (after, is_news) in [("", true), ("other", false)] {
            let mut known = parameters("");
            let mut wishes = Wishes::new(["application_name"], &parameters("shop"));
            wishes.reported("application_name");
            wishes.reset();
            assert!(!wishes.ready(false, &memory(""), &mut known), "the transaction is open");
            assert_eq!(wishes.ready(true, &memory(after), &mut known), is_news, "{after}");
        }
    }
}
