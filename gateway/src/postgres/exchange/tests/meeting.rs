//! Peers that share clients: whatever they say, in whichever pieces it comes, and whichever client each is lent, all hear
//! exactly what a connection of their own would have told them.

use super::model::Database;
use super::talk::{SYNC, Talk, memory, shown, stream};
use crate::config::PoolMode;
use crate::postgres::exchange::{Error, Memory, Wishes};
use crate::postgres::statements::Statements;
use crate::postgres::wire::{HEADER, message};

/// What a peer says before it waits for answers: messages, the last of which is answered with ReadyForQuery.
#[derive(Clone, Debug)]
pub(super) enum Group {
    Query(Sql),
    Extended(Vec<Part>),
    /// Nothing is said between a COPY and its data.
    CopyIn(CopyData),
}

/// A statement: `Own` differs from peer to peer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sql {
    Text(&'static str),
    Own(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Parse(&'static str, Sql),
    Bind(&'static str, &'static str),
    Describe(char, &'static str),
    Execute(&'static str),
    Close(char, &'static str),
    Flush,
}

/// How the data of a COPY ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum CopyData {
    Done,
    Failed,
    /// A Sync is sent along before it.
    AfterSync,
}

pub(super) const COPY_IN: &str = "copy t from stdin";
/// By names of its own, so that nobody begins a COPY without its data.
const COPYING: [Part; 5] = [
    Part::Close('S', "copy"),
    Part::Close('P', "copy"),
    Part::Parse("copy", Sql::Text(COPY_IN)),
    Part::Bind("copy", "copy"),
    Part::Execute("copy"),
];
pub(super) const NAMES: [&str; 4] = ["a", "b", "", "postern_1_0"];

/// Where every third peer lives; the clients begin where the first does.
const ZONES: [&str; 3] = ["UTC", "Asia/Tokyo", "UTC"];

/// What only a Query says: there is no telling in time what a statement forgets that is executed later.
pub(super) const FORGETTING: [&str; 3] = ["deallocate a", "deallocate all", "discard all"];

// === impl Group ===

impl Group {
    fn write(&self, peer: usize, out: &mut Vec<u8>) {
        match self {
            Group::Query(sql) => {
                message(out, b'Q', |out| out.extend_from_slice(format!("{}\0", sql.of(peer)).as_bytes()));
                if sql.of(peer) == COPY_IN {
                    out.extend(stream(&[(b'd', b"1\n"), (b'c', b"")]));
                }
            }
            Group::Extended(parts) => {
                for part in parts {
                    part.write(peer, out);
                }
                out.extend(stream(&[SYNC]));
            }
            Group::CopyIn(copy) => {
                for part in COPYING {
                    part.write(peer, out);
                }
                out.extend(match copy {
                    CopyData::Done => stream(&[(b'd', b"1\n"), (b'd', b"2\n"), (b'c', b""), SYNC]),
                    CopyData::Failed => stream(&[(b'd', b"1\n"), (b'f', b"no\0"), SYNC]),
                    CopyData::AfterSync => stream(&[SYNC, (b'd', b"1\n"), (b'c', b""), SYNC]),
                });
            }
        }
    }
}

// === impl Sql ===

impl Sql {
    fn of(self, peer: usize) -> String {
        match self {
            Sql::Text(text) => text.to_owned(),
            Sql::Own(text) => format!("{text}peer{peer}"),
        }
    }
}

// === impl Part ===

impl Part {
    fn write(self, peer: usize, out: &mut Vec<u8>) {
        let (tag, body) = match self {
            Part::Parse(name, sql) => (b'P', format!("{name}\0{}\0\0\0", sql.of(peer))),
            Part::Bind(portal, name) => (b'B', format!("{portal}\0{name}\0\0\0\0\0\0\0")),
            Part::Describe(kind, name) => (b'D', format!("{kind}{name}\0")),
            Part::Execute(portal) => (b'E', format!("{portal}\0\0\0\0\0")),
            Part::Close(kind, name) => (b'C', format!("{kind}{name}\0")),
            Part::Flush => (b'H', String::new()),
        };
        message(out, tag, |out| out.extend_from_slice(body.as_bytes()));
    }
}

/// What happens next, by chance.
struct Chance(u64);

// === impl Chance ===

impl Chance {
    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    /// How many of `most` bytes come at once.
    fn piece(&mut self, most: usize) -> usize {
        if self.below(3) == 0 { most } else { 1 + self.below(most.min(40)) }
    }
}

struct Client {
    database: Database,
    memory: Memory,
    is_lent: bool,
}

pub(super) struct Peer {
    pub(super) talk: Talk,
    pub(super) groups: Vec<Said>,
    said: usize,
    unsent: Vec<u8>,
    lent: Option<usize>,
    /// What it would hear alone.
    expected: Vec<u8>,
    /// Why its session has ended early.
    pub(super) ended: Option<Error>,
}

/// A group as it is sent.
pub(super) struct Said {
    pub(super) bytes: Vec<u8>,
    /// How many answers there are up to its end.
    answers: usize,
    /// Whether what comes next waits for its answers: an error is among them, or settings are given back behind them.
    is_awaited: bool,
}

/// All of them, and the clients that they share.
pub(super) struct Meeting {
    pub(super) peers: Vec<Peer>,
    clients: Vec<Client>,
    chance: Chance,
}

// === impl Client ===

impl Client {
    fn new() -> Client {
        let mut memory = memory();
        memory.initial.clone_from(&memory.parameters);
        Client { database: Database::in_zone(ZONES[0]), memory, is_lent: false }
    }
}

// === impl Peer ===

impl Peer {
    fn new(index: usize, script: &[Group], statements: &Statements) -> Peer {
        let zone = ZONES[index % ZONES.len()];
        let mut alone = Database::in_zone(zone);
        let mut groups = Vec::new();
        for group in script {
            let (mut bytes, before) = (Vec::new(), alone.said.len());
            group.write(index, &mut bytes);
            alone.hears(&bytes);
            if alone.is_copying() {
                let end = stream(&[(b'c', b""), SYNC]);
                alone.hears(&end);
                bytes.extend(end);
            }
            let fails = shown(&alone.said[before..]).iter().any(|answer| answer.starts_with('E'));
            let is_awaited = fails || matches!(group, Group::Query(Sql::Text("discard all")));
            groups.push(Said { bytes, answers: alone.readies, is_awaited });
        }
        let mut memory = memory();
        memory.parameters.set("TimeZone", zone);
        let mut talk = Talk::with(PoolMode::Transaction, statements, &memory);
        talk.exchange = talk.exchange.wishing(Wishes::new(["TimeZone"], &memory.parameters));
        let expected = alone.said;
        Peer { talk, groups, said: 0, unsent: Vec::new(), lent: None, expected, ended: None }
    }

    /// Whether it has said everything, and has heard all that it will.
    fn is_done(&self) -> bool {
        let has_said = self.said == self.groups.len() && self.unsent.is_empty();
        self.ended.is_some() || has_said && !self.talk.exchange.is_owed()
    }

    /// What it has heard and what it would have heard alone, but for the setting that it knew, and for its zone: `DISCARD
    /// ALL` gives that back in two steps.
    pub(super) fn heard_and_expected(&self) -> [Vec<String>; 2] {
        [&self.talk.to_peer, &self.expected].map(|stream| {
            let mut known = String::from("Sapplication_name||");
            let mut messages = shown(stream);
            messages.retain(|message| {
                let is_name = message.starts_with("Sapplication_name|");
                let is_news = *message != known;
                if is_name {
                    known.clone_from(message);
                }
                !message.starts_with("STimeZone|") && (is_news || !is_name)
            });
            messages
        })
    }

    /// How many questions have been answered.
    fn answers(&self) -> usize {
        let (mut rest, mut count) = (&self.talk.to_peer[..], 0);
        while let Some(length) = rest.get(1..HEADER).map(|length| u32::from_be_bytes(length.try_into().unwrap())) {
            let Some(after) = rest.get(1 + length as usize..) else { break };
            count += usize::from(rest[0] == b'Z');
            rest = after;
        }
        count
    }
}

// === impl Meeting ===

impl Meeting {
    pub(super) fn new(scripts: &[Vec<Group>], chance: u64) -> Meeting {
        let statements = Statements::default();
        let peers = scripts.iter().enumerate().map(|(index, script)| Peer::new(index, script, &statements)).collect();
        let clients = scripts.iter().map(|_| Client::new()).collect();
        Meeting { peers, clients, chance: Chance(chance | 1) }
    }

    /// Lets them all talk until those from `first` on are done.
    pub(super) fn run(&mut self, first: usize) {
        for _ in 0..100_000 {
            if self.peers[first..].iter().all(Peer::is_done) {
                return;
            }
            let index = self.chance.below(self.peers.len());
            self.step(index);
        }
        let stuck = self.peers.iter().find(|peer| !peer.is_done()).map(|peer| shown(&peer.talk.to_peer));
        panic!("somebody hears no more than {stuck:?}");
    }

    /// One piece of bytes goes from or to a peer.
    fn step(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        if peer.ended.is_some() {
            return;
        }
        if peer.is_done() {
            // It hangs up.
            if let Some(lent) = peer.lent.take() {
                self.clients[lent] = Client::new();
            }
            return;
        }
        if peer.unsent.is_empty() && peer.said < peer.groups.len() {
            // What builds upon something that fails is said when that is known.
            let last = peer.said.checked_sub(1).map(|last| &peer.groups[last]);
            let (awaited, is_awaited) = last.map_or((0, false), |last| (last.answers, last.is_awaited));
            if peer.answers() >= awaited || !is_awaited && self.chance.below(4) == 0 {
                peer.unsent.clone_from(&peer.groups[peer.said].bytes);
                peer.said += 1;
            }
        }
        let has_answers = peer.lent.is_some_and(|lent| !self.clients[lent].database.said.is_empty());
        let outcome = if has_answers && (peer.unsent.is_empty() || self.chance.below(2) == 0) {
            self.hears(index)
        } else if peer.unsent.is_empty() {
            Ok(())
        } else {
            self.says(index)
        };
        if let Err(error) = outcome {
            let peer = &mut self.peers[index];
            peer.ended = Some(error);
            if let Some(lent) = peer.lent.take() {
                self.clients[lent] = Client::new();
            }
        }
        self.release(index);
    }

    fn hears(&mut self, index: usize) -> Result<(), Error> {
        let peer = &mut self.peers[index];
        let Some(lent) = peer.lent else { return Ok(()) };
        let Client { database, memory, .. } = &mut self.clients[lent];
        let length = self.chance.piece(database.said.len());
        let piece: Vec<u8> = database.said.drain(..length).collect();
        peer.talk.hears(memory, &piece)
    }

    fn says(&mut self, index: usize) -> Result<(), Error> {
        let peer = &mut self.peers[index];
        let length = self.chance.piece(peer.unsent.len());
        if peer.lent.is_none() {
            if peer.talk.exchange.keep(&peer.unsent[..length])? {
                peer.unsent.drain(..length);
                return Ok(());
            }
            let free: Vec<_> = (0..self.clients.len()).filter(|index| !self.clients[*index].is_lent).collect();
            // Mostly the same one, so that they do meet there.
            let lent = if self.chance.below(3) == 0 { free[self.chance.below(free.len())] } else { free[0] };
            let client = &mut self.clients[lent];
            (client.is_lent, peer.lent) = (true, Some(lent));
            let mut first = Vec::new();
            peer.talk.exchange.begin(&mut client.memory, &mut first);
            client.database.hears(&first);
        }
        let Some(lent) = peer.lent else { return Ok(()) };
        let client = &mut self.clients[lent];
        let piece: Vec<u8> = peer.unsent.drain(..length).collect();
        let outcome = peer.talk.says(&mut client.memory, &piece);
        client.database.hears(&std::mem::take(&mut peer.talk.to_database));
        outcome
    }

    /// Whoever needs its client no more gives it back, and nothing of it is left in there.
    fn release(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let Some(lent) = peer.lent.filter(|_| peer.talk.exchange.is_free()) else { return };
        let client = &mut self.clients[lent];
        assert!(client.database.is_clean(), "given back too early: {:?}", client.database);
        (client.is_lent, peer.lent) = (false, None);
    }
}
