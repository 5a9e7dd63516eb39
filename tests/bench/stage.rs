//! The database, and the programs that can stand before it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cast::wire::Address;
use cast::{Folder, Postgres, gateway, install, pgbouncer};

use crate::kind::Kind;
use crate::options::Options;
use crate::program::refusal;
use crate::rounds::say;

/// The Secret that the gateway logs in with.
pub(crate) const SECRET: &str = "app";

/// The password of `postgres`.
pub(crate) const PASSWORD: &str = "correct horse";

/// What targets are started with.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The database.
    pub(crate) postgres: Postgres,
    /// The server that follows it, where it has one.
    pub(crate) standby: Option<Postgres>,
    /// What stands in for it, where thousands of connections to it shall cost little.
    pub(crate) substitute: Option<Address>,
    /// What stands before it.
    pub(crate) programs: Programs,
    /// The folder of the Secret.
    pub(crate) secrets: Folder,
    /// What the database knows of the password.
    pub(crate) verifier: String,
}

/// The programs that are not a part of this one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    /// The gateway.
    pub(crate) gateway: Option<PathBuf>,
    /// Another build of it.
    pub(crate) before: Option<PathBuf>,
    /// A PgBouncer that knows prepared statements.
    pub(crate) pgbouncer: Option<PathBuf>,
}

/// Who does not take part, and why.
#[derive(Clone, Debug)]
pub(crate) struct Absence {
    /// Which one.
    pub(crate) kind: Kind,
    /// The reason, in a sentence.
    pub(crate) why: String,
}

// === impl Stage ===

impl Stage {
    /// A large database that trusts everybody, with these programs beside it.
    pub(crate) fn set(programs: Programs) -> Result<Self> {
        say("starting PostgreSQL and filling it");
        let settings = [
            ("shared_buffers", "1GB"),
            ("max_connections", "1400"),
            ("max_wal_size", "4GB"),
            ("autovacuum", "off"),
            ("log_min_messages", "fatal"),
        ];
        Self::around(Postgres::with(&settings), programs)
    }

    /// The same with a database of one's choice.
    pub(crate) fn around(postgres: Postgres, programs: Programs) -> Result<Self> {
        postgres.query(&format!("alter role postgres password '{PASSWORD}'"));
        let verifier = postgres.query("select rolpassword from pg_authid where rolname = 'postgres'");
        let secrets = Folder::new("secrets");
        let secret = secrets.join(SECRET);
        fs::create_dir(&secret)
            .and_then(|()| fs::write(secret.join("username"), "postgres"))
            .and_then(|()| fs::write(secret.join("password"), PASSWORD))
            .context("cannot write the Secret")?;
        Ok(Self { postgres, standby: None, substitute: None, programs, secrets, verifier })
    }

    /// Where the database is, and then its standby.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        if let Some(substitute) = &self.substitute {
            return vec![substitute.clone()];
        }
        [Some(&self.postgres), self.standby.as_ref()].into_iter().flatten().map(Postgres::address).collect()
    }
}

// === impl Programs ===

impl Programs {
    /// Finds, installs or builds what these targets need; who cannot take part is named.
    pub(crate) fn find(options: &Options, kinds: &[Kind]) -> Result<(Self, Vec<Absence>)> {
        let mut programs = Self { gateway: options.gateway.clone(), before: options.before.clone(), pgbouncer: None };
        for named in [&programs.gateway, &programs.before].into_iter().flatten() {
            ensure!(named.is_file(), "there is no {}", named.display());
        }
        if programs.gateway.is_none() && kinds.iter().any(|kind| kind.is_gateway()) {
            programs.gateway = Some(gateway::find_or_build()?.to_owned());
        }
        let mut built = None;
        let mut absences = Vec::new();
        for &kind in kinds {
            let why = match kind {
                kind if kind.is_haproxy() => install::ensure_installed(install::FOR_THE_COMPARISON).err().map(sentence),
                Kind::Scram => programs.gateway.as_deref().and_then(|program| refusal(kind, program)),
                kind if kind.is_pgbouncer() => {
                    let found = built.get_or_insert_with(|| pgbouncer::find_or_build(&say).map_err(sentence));
                    programs.pgbouncer = found.clone().ok();
                    found.clone().err()
                }
                _ => None,
            };
            if let Some(why) = why {
                say(&format!("{} is left out: {why}", kind.name()));
                absences.push(Absence { kind, why });
            }
        }
        Ok((programs, absences))
    }
}

/// An error on one line.
#[expect(clippy::needless_pass_by_value, reason = "it is what becomes of an error")]
fn sentence(error: anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
