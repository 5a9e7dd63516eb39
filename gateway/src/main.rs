//! The gateway's program: parse, load, build, run, drain.

use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Error, anyhow};
use clap::{Parser, Subcommand, ValueEnum};
use gateway::admin::{self, Admin};
use gateway::config::reload::{self, Watch};
use gateway::config::{self, Config, LogConfig, check};
use gateway::gateway::Gateway;
use gateway::limits;
use gateway::log::Log;
use gateway::metrics::Metrics;
use gateway::shutdown::{Asked, Signals};
use gateway::worker::MOST_BLOCKING_THREADS;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tracing::{error, info, warn};

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
        Command::Run { file, secrets: _ } => run(&file),
        Command::Check { file, output } => explain(&file, output),
    }
}

/// Serves `file` until a signal ends it. What is wrong with it is said in the log, one sentence a line.
fn run(file: &Path) -> ExitCode {
    let (bytes, config) = match first_config(file) {
        Ok(loaded) => loaded,
        Err(sentences) => {
            Log::start(&LogConfig::default());
            for sentence in sentences {
                error!("{sentence}");
            }
            return ExitCode::FAILURE;
        }
    };
    let log = Log::start(&config.log);
    info!(version = env!("CARGO_PKG_VERSION"), name = config.name, file = %file.display(), "Starting");
    limits::raise(&config);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_BLOCKING_THREADS)
        .build_local(LocalOptions::default());
    let served = match runtime {
        Ok(runtime) => {
            let served = runtime.block_on(serve(file, bytes, config, &log));
            // A look-up that hangs must not keep the process.
            runtime.shutdown_background();
            served
        }
        Err(error) => Err(anyhow!("cannot start a runtime: {error}")),
    };
    served.unwrap_or_else(|error| {
        error!("{error:#}");
        ExitCode::FAILURE
    })
}

fn first_config(file: &Path) -> Result<(Vec<u8>, Config), Vec<String>> {
    let bytes = reload::read(file).map_err(|error| vec![format!("cannot read {}: {error}", file.display())])?;
    match config::load(&bytes) {
        Ok(config) => Ok((bytes, config)),
        Err(problems) => Err(problems.iter().map(|problem| format!("{}: {problem}", file.display())).collect()),
    }
}

/// Binds, serves, follows the file, drains.
async fn serve(file: &Path, bytes: Vec<u8>, config: Config, log: &Log) -> anyhow::Result<ExitCode> {
    let metrics = Metrics::new()?;
    let mut signals = Signals::new()?;
    let listener = admin::bind(config.admin).await.map_err(Error::msg)?;
    let mut gateway = Gateway::start(config, metrics.clone()).await?;
    let admin = Admin::new(&gateway, metrics, reload::hash(&bytes));
    let answering = spawn_local(admin::serve(listener, admin.clone()));
    let mut watch = Watch::new(file, bytes);
    loop {
        let changed = tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => watch.read_again(),
            },
            bytes = watch.changed() => Ok(bytes),
        };
        match changed {
            Ok(bytes) => take_over(&mut gateway, &admin, log, &bytes).await,
            Err(error) => warn!(file = %file.display(), %error, "Cannot read the configuration; the last one stays"),
        }
    }
    let ended = tokio::select! {
        biased;
        () = gateway.finish() => ExitCode::SUCCESS,
        () = second_stop(&mut signals) => {
            warn!("A second signal: ending at once");
            ExitCode::FAILURE
        }
    };
    answering.abort();
    Ok(ended)
}

/// Applies a changed file as a whole, or refuses it as a whole and says why.
async fn take_over(gateway: &mut Gateway, admin: &Admin, log: &Log, bytes: &[u8]) {
    let hash = reload::hash(bytes);
    let applied = match config::load(bytes) {
        Ok(config) => gateway.apply(config).await.map_err(|error| error.to_string()),
        Err(problems) => Err(problems.to_string()),
    };
    match applied {
        Ok(()) => {
            info!(hash, "Configuration applied");
            admin.applied(gateway, hash);
        }
        Err(reason) => {
            error!(hash, reason, "Configuration refused; the last one stays");
            admin.refused(hash, reason);
        }
    }
    log.set_level(gateway.config().log.level);
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Asked::Stop {}
}

/// Prints what `file` comes to; exit status 0 when it is valid.
fn explain(file: &Path, output: Output) -> ExitCode {
    let printed = reload::read(file).and_then(|bytes| {
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
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            let _ = writeln!(stderr(), "gateway: cannot read {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
