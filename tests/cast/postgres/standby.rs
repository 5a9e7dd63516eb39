//! A pair of PostgreSQL servers of which one follows the other, and what becomes of them in a failover.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::{Postgres, USER};
use crate::install::program;
use crate::loopback::free_address;
use crate::process::{children_of, has_ended, owned_as, run};
use crate::time::eventually;

/// The name by which a primary knows its standby.
const NAME: &str = "standby";

impl Postgres {
    /// A primary that acknowledges a commit only when its standby has it, and the standby.
    #[track_caller]
    pub fn synchronous_pair() -> (Self, Self) {
        // The system has pg_basebackup for its own version only.
        let primary = Self::of_the_system(&[]);
        let standby = primary.standby();
        primary.query(&format!("alter system set synchronous_standby_names = '{NAME}'"));
        primary.query("select pg_reload_conf()");
        eventually("the standby is synchronous", || {
            primary.query("select count(*) from pg_stat_replication where sync_state = 'sync'") == "1"
        });
        (primary, standby)
    }

    /// A hot standby of this server, which has caught up.
    #[must_use]
    #[track_caller]
    pub fn standby(&self) -> Self {
        let mut standby = Self::prepared(self.edition, free_address());
        let data = standby.folder.join("data");
        let mut copy = owned_as(USER, program("pg_basebackup"));
        copy.args(["--no-sync", "--checkpoint=fast", "-X", "stream", "-U", "postgres", "-d"]);
        run(copy.arg(self.conninfo()).arg("-D").arg(&data).current_dir(&*standby.folder));
        standby.follow(self);
        standby
    }

    /// Starts it, which does not run, as a standby of `primary`.
    #[track_caller]
    pub fn follow(&mut self, primary: &Self) {
        fs::write(self.folder.join("data/standby.signal"), "").expect("our folder is writable");
        self.settings = format!("primary_conninfo = '{} application_name={NAME}'\n", primary.conninfo());
        self.start_again();
        eventually("the standby streams", || {
            primary.query("select count(*) from pg_stat_replication where state = 'streaming'") != "0"
        });
    }

    /// Makes a primary of a standby.
    #[track_caller]
    pub fn promote(&self) {
        assert_eq!(self.query("select pg_promote()"), "t", "the standby is promoted");
    }

    /// Kills all of its processes at once, as a machine that loses its power does.
    #[track_caller]
    pub fn kill_all(&mut self) {
        let children = children_of(self.pid());
        if let Some(process) = &self.process {
            process.signal(Signal::KILL);
        }
        for child in children.iter().filter_map(|pid| i32::try_from(*pid).ok().and_then(Pid::from_raw)) {
            // Some have ended by themselves meanwhile.
            let _ = kill_process(child, Signal::KILL);
        }
        self.kill();
        eventually("none of its processes is left", || children.iter().all(|pid| has_ended(*pid)));
    }

    fn conninfo(&self) -> String {
        format!("host={} port={} user=postgres", self.folder.display(), self.port())
    }
}
