//! What the database skips: behind an error of the extended protocol it ignores everything up to the next Sync. What was
//! noted of that has never happened, and is undone.

use super::{Exchange, Memory, Owed, Whom};
use crate::postgres::statements::{Edition, Names, Prepared};

/// A Parse that the peer did not send.
#[derive(Debug)]
pub(super) struct Preparing {
    edition: Edition,
    /// Whether a Sync was sent behind it: what follows is executed even where this was skipped.
    is_behind: bool,
}

// === impl Exchange ===

impl Exchange {
    /// What comes next is executed even where something before it fails.
    pub(super) fn begin_anew(&mut self) {
        self.is_open = false;
        self.preparing.iter_mut().for_each(|preparing| preparing.is_behind = true);
    }

    /// The client was told to prepare what the peer did not ask for.
    pub(super) fn prepares(&mut self, edition: Edition) {
        self.preparing.push(Preparing { edition, is_behind: false });
    }

    /// Whether the client may turn out not to have a statement that it was told to prepare, when it reads what is sent now.
    pub(super) fn is_unsure(&self, edition: Edition) -> bool {
        let last = self.preparing.iter().rfind(|preparing| preparing.edition == edition);
        last.is_some_and(|preparing| preparing.is_behind)
    }

    /// The database has answered a Parse that the peer did not send, or skipped it.
    pub(super) fn has_prepared(&mut self, edition: Edition) {
        if let Some(first) = self.preparing.iter().position(|preparing| preparing.edition == edition) {
            self.preparing.remove(first);
        }
    }

    /// What was noted first has failed, and the rest up to the next Sync was skipped: it has never happened.
    pub(super) fn undo_up_to_sync(&mut self, memory: &mut Memory) {
        let end = self.owed.iter().position(|owed| matches!(owed, Owed::Sync)).unwrap_or(self.owed.len());
        let mut undone: Vec<_> = self.owed.drain(..end).collect();
        // The last first, because each is undone on what the ones before it have made.
        while let Some(owed) = undone.pop() {
            self.undo(owed, undone.is_empty(), memory);
        }
    }

    /// Undoes one of them. What has failed has ended the statement without a name all the same, where it was to be another.
    fn undo(&mut self, owed: Owed, has_failed: bool, memory: &mut Memory) {
        let (name, statement) = match owed {
            Owed::Parse { whom, edition: Some(edition), name, is_new: true, replaced } => {
                if whom == Whom::Us {
                    self.has_prepared(edition);
                }
                // It may have been sent once more behind the Sync, where its Close has nothing to close then.
                if self.preparing.iter().all(|preparing| preparing.edition != edition) {
                    memory.prepared.remove(edition);
                }
                for owed in &mut self.owed {
                    if matches!(owed, Owed::Close { edition: Some(closed), .. } if *closed == edition) {
                        *owed = Owed::close(Whom::Us);
                    }
                }
                let Some(name) = name else { return };
                self.forget(&name, edition);
                (name, replaced.filter(|_| !has_failed))
            }
            Owed::Parsed(name) => return drop(self.names.remove(&name)),
            Owed::Forgotten(Some(forgotten)) => return self.remember(*forgotten, memory),
            // The client has it still.
            Owed::Close { edition: Some(edition), .. } => {
                memory.prepared.add(edition);
                return;
            }
            Owed::Closed(name, statement) => (name, statement),
            _ => return,
        };
        if let Some(statement) = statement.filter(|_| self.names.get(&name).is_none()) {
            // There was room for it a moment ago.
            let _ = self.names.insert(&name, statement);
        }
    }

    fn forget(&mut self, name: &[u8], edition: Edition) {
        if self.names.get(name).is_some_and(|statement| statement.edition() == edition) {
            self.names.remove(name);
        }
    }

    pub(super) fn remember(&mut self, (names, prepared): (Names, Prepared), memory: &mut Memory) {
        self.names.add_missing(names);
        memory.prepared.add_missing(prepared);
    }
}
