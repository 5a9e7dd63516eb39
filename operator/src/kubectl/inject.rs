//! `kubectl postern inject -f FILE`: what the webhook would make of manifests, with the configurations of the cluster.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use kube::ResourceExt;

use super::look::Look;
use super::{Ending, Error, print};
use crate::choose::{Asker, Candidate};
use crate::offline::{self, Injector, Outcome};

/// The command line of `inject`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The manifests: pods, or what makes pods; `-` is the standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Choose from the configurations of this file instead of the cluster's; may be repeated.
    #[arg(short, long = "config", value_name = "FILE")]
    pub configs: Vec<PathBuf>,
    /// What is printed: the manifests with the sidecar, or only what is changed in them.
    #[arg(short, long, value_enum, default_value_t = offline::Output::Yaml)]
    pub output: offline::Output,
    /// Treat every pod as if its namespace had asked.
    #[arg(long)]
    pub namespace_asks: bool,
}

/// Prints what becomes of manifests; what is to be said of it goes beside it.
pub async fn run(look: &Look, settings: &Settings) -> Result<Ending, Error> {
    let failed = |error: offline::Error| Error::Failed(error.to_string());
    let configs = if settings.configs.is_empty() {
        let candidate = |held: crate::caches::Held| {
            let (namespace, name) = (held.namespace().unwrap_or_default(), held.name_any());
            (namespace, Candidate { name, known: held.known })
        };
        look.configs(None).await?.into_iter().map(candidate).collect()
    } else {
        offline::read_all(&settings.configs).map_err(failed)?
    };
    let called = if settings.namespace_asks { Asker::Namespace } else { Asker::Pod };
    let injector = Injector { configs, called, defaults: look.installation().await.defaults() };
    let manifests = offline::read(&settings.file).map_err(failed)?;
    let outcome = Outcome::by(&injector, manifests, settings.output).map_err(failed)?;
    for sentence in &outcome.said {
        writeln!(io::stderr(), "{sentence}")?;
    }
    print::say(&outcome.printed)?;
    Ok(if outcome.is_denied { Ending::Wrong } else { Ending::Fine })
}
