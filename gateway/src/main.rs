//! The gateway's program: parse, prepare, run.

use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::{Parser, Subcommand, ValueEnum};
use gateway::config::pins::{Pin, Pins};
use gateway::config::{check, reload};
use gateway::run::{Options, Run};
use gateway::wait::{self, Asked};
use gateway::worker;
use tokio::runtime::Builder;
use tracing::error;

/// The database gateway that runs beside an application.
#[derive(Parser)]
#[command(name = "gateway", version, about, long_about = None)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve what a GatewayConfig says, until SIGTERM.
    Run {
        /// The GatewayConfig manifest; its changes are taken over live.
        #[arg(short, long, value_name = "FILE", env = "POSTERN_CONFIG")]
        file: PathBuf,
        /// The folder that holds one folder for each Secret that the configuration names.
        #[arg(long, value_name = "DIR", default_value = "/var/run/postern-secrets")]
        secrets: PathBuf,
        /// Where a proxy listens for the life of the process, whatever the manifest says: an IP:port, or a socket's path.
        /// What the manifest said when this was decided may follow, so that only a change of it needs a restart. IP:port/udp
        /// is for datagrams. May be repeated.
        #[arg(long, value_name = "NAME=ADDRESS[,WRITTEN]")]
        listen: Vec<Pin>,
        /// Where the admin endpoints listen for the life of the process, whatever the manifest says.
        #[arg(long, value_name = "IP:PORT")]
        admin: Option<SocketAddr>,
        /// Run as a sidecar: never end before SIGTERM, and close sessions then, because the application is gone. The
        /// folder is a downward API volume; its file log-level overrides log.level, live.
        #[arg(long, value_name = "DIR")]
        pod: Option<PathBuf>,
    },
    /// Wait until the gateway of a GatewayConfig serves. Exit status 0 in any case, as for a hook of a container's start.
    Wait {
        /// The GatewayConfig manifest; it says where to ask.
        #[arg(short, long, value_name = "FILE", env = "POSTERN_CONFIG", required_unless_present = "admin")]
        file: Option<PathBuf>,
        /// Where to ask, whatever the manifest says: what `gateway run` was told.
        #[arg(long, value_name = "IP:PORT")]
        admin: Option<SocketAddr>,
        /// How long to wait at most.
        #[arg(long, value_name = "DURATION", default_value = "30s")]
        timeout: crds::Duration,
    },
    /// Explain a GatewayConfig: what is wrong with it, or what it comes to. Exit status 0 or 1.
    Check {
        /// The GatewayConfig manifest.
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// The form of the explanation.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { file, secrets, listen, admin, pod } => match Pins::new(listen, admin) {
            Ok(pins) => run(Options { file, secrets, pins, pod }),
            Err(sentence) => say(&sentence, ExitCode::FAILURE),
        },
        Command::Wait { file, admin, timeout } => wait(&Asked { file, admin }, timeout.get()),
        Command::Check { file, output } => explain(&file, output),
    }
}

/// Serves until a signal ends it. What is wrong is said in the log, one sentence a line.
fn run(options: Options) -> ExitCode {
    let run = match Run::prepare(options) {
        Ok(run) => run,
        Err(code) => return code,
    };
    let served = worker::run_here(|| run.serve()).map_err(|error| anyhow!("cannot start a runtime: {error}"));
    served.flatten().unwrap_or_else(|error| {
        error!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Waits for the gateway that is `asked`. A container whose start fails is killed, so this never does.
fn wait(asked: &Asked, limit: Duration) -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build();
    let waited = runtime
        .map_err(|error| format!("cannot start a runtime: {error}"))
        .and_then(|runtime| runtime.block_on(wait::until_it_serves(asked, limit)));
    let sentence = match waited {
        Ok(time) => format!("it serves, after {} ms", time.as_millis()),
        Err(last) => {
            format!("it does not serve within {}; going on without it: {last}", crds::Duration::from(limit))
        }
    };
    say(&sentence, ExitCode::SUCCESS)
}

/// Prints what `file` comes to; exit status 0 when it is valid.
fn explain(file: &Path, output: Output) -> ExitCode {
    let printed = reload::read_document(file).and_then(|bytes| {
        let explanation = check::check(&bytes);
        let mut out = stdout().lock();
        match output {
            Output::Text => write!(out, "{explanation}")?,
            Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?,
        }
        Ok(explanation.valid)
    });
    match printed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => say(&format!("cannot read {}: {error}", file.display()), ExitCode::FAILURE),
    }
}

/// Ends with a sentence for who looks at the terminal.
fn say(sentence: &str, code: ExitCode) -> ExitCode {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(stderr(), "gateway: {sentence}");
    code
}
