//! Hears of changes in folders from the kernel. Where the kernel cannot tell (no inotify instance is left for this user on
//! the machine, or the file system is another machine's), whoever asks has to look now and then.

use std::future::pending;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};
use tokio::net::unix::pipe::Receiver;
use tracing::debug;

/// What the kernel tells of some folders. It is told of the folder and not of a file in it: a watch on a file is lost when
/// the file is replaced, and a mounted `ConfigMap` is never written but replaced as a whole.
#[derive(Debug)]
pub(super) struct Notice {
    /// An inotify instance, which is read like a pipe; none where the system gives us none.
    inotify: Option<Receiver>,
    /// The kernel's number for each folder; none where it cannot be watched, for one because it does not exist.
    watches: Vec<Option<i32>>,
}

/// A file was written to its end, put in its place, made or removed.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::ONLYDIR);
/// Some dozen events; more are read in more rounds.
const EVENTS: usize = 4096;
/// Reads of events before anything else is done: a folder in which others write all the time must not hold us up.
const MOST_READS: usize = 16;

// === impl Notice ===

impl Notice {
    /// Hears of nothing yet.
    pub(super) fn new() -> Notice {
        let opened = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(std::io::Error::from);
        let inotify = opened.and_then(Receiver::from_owned_fd_unchecked);
        if let Err(error) = &inotify {
            debug!(%error, "The kernel does not tell of changed files; they are looked at often");
        }
        Notice { inotify: inotify.ok(), watches: Vec::new() }
    }

    /// Hears of `folders`, always given in the same order, even if another one has taken the place of one of them.
    pub(super) fn watch<'a>(&mut self, folders: impl Iterator<Item = &'a Path>) {
        let Some(inotify) = &self.inotify else { return };
        for (index, folder) in folders.enumerate() {
            // The same folder has the same number.
            let watch = add_watch(inotify, folder, CHANGES).ok();
            if index == self.watches.len() {
                self.watches.push(watch);
            } else if self.watches[index] != watch {
                let before = std::mem::replace(&mut self.watches[index], watch);
                if let Some(before) = before.filter(|before| !self.watches.contains(&Some(*before))) {
                    // The kernel has dropped it already if the folder is gone.
                    let _ = remove_watch(inotify, before);
                }
            }
        }
    }

    /// Whether all of them are heard of.
    pub(super) fn is_complete(&self) -> bool {
        self.inotify.is_some() && self.watches.iter().all(Option::is_some)
    }

    /// Ready after something happened in one of the folders.
    pub(super) async fn stirred(&self) {
        let Some(inotify) = &self.inotify else { return pending().await };
        if inotify.readable().await.is_err() {
            return pending().await;
        }
        let mut events = [0; EVENTS];
        for _ in 0..MOST_READS {
            let Ok(1..) = inotify.try_read(&mut events) else { return };
        }
    }
}
