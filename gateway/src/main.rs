//! The gateway's program: parse, prepare, run.

use std::ffi::OsString;
use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;
use argh::FromArgs;
use gateway::config::pins::{Pin, Pins};
use gateway::config::{check, reload};
use gateway::run::{Options, Run};
use gateway::wait::{self, Asked};
use gateway::worker;
use tokio::runtime::Builder;
use tracing::error;

/// The database gateway that runs beside an application.
#[derive(FromArgs)]
struct Arguments {
    /// print the version and exit
    #[argh(switch)]
    version: bool,
    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Run(Serve),
    Wait(Await),
    Check(Explain),
}

/// Serve what a GatewayConfig says, until SIGTERM.
#[derive(FromArgs)]
#[argh(subcommand, name = "run")]
struct Serve {
    /// the GatewayConfig manifest; its changes are taken over live. By default what `POSTERN_CONFIG` names
    #[argh(option, short = 'f', arg_name = "path")]
    file: Option<PathBuf>,
    /// the folder that holds one folder for each Secret that the configuration names, by default /var/run/postern-secrets
    #[argh(option, arg_name = "dir", default = "PathBuf::from(SECRETS)")]
    secrets: PathBuf,
    /// where a proxy listens for the life of the process, whatever the manifest says: an IP:port, or a socket's path. What
    /// the manifest said when this was decided may follow, so that only a change of it needs a restart. IP:port/udp is for
    /// datagrams. May be repeated
    #[argh(option, arg_name = "name=address[,written]")]
    listen: Vec<Pin>,
    /// where the admin endpoints listen for the life of the process, whatever the manifest says
    #[argh(option, arg_name = "ip:port")]
    admin: Option<SocketAddr>,
    /// run as a sidecar: never end before SIGTERM, and close sessions then, because the application is gone. The folder is
    /// a downward API volume; its file log-level overrides log.level, live
    #[argh(option, arg_name = "dir")]
    pod: Option<PathBuf>,
}

/// Wait until the gateway of a GatewayConfig serves. Exit status 0 in any case, as for a hook of a container's start.
#[derive(FromArgs)]
#[argh(subcommand, name = "wait")]
struct Await {
    /// the GatewayConfig manifest; it says where to ask. By default what `POSTERN_CONFIG` names
    #[argh(option, short = 'f', arg_name = "path")]
    file: Option<PathBuf>,
    /// where to ask, whatever the manifest says: what `gateway run` was told
    #[argh(option, arg_name = "ip:port")]
    admin: Option<SocketAddr>,
    /// how long to wait at most, by default 30s
    #[argh(option, arg_name = "duration", default = "crds::Duration::from(WAIT)")]
    timeout: crds::Duration,
}

/// Explain a GatewayConfig: what is wrong with it, or what it comes to. Exit status 0 or 1.
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
struct Explain {
    /// the GatewayConfig manifest
    #[argh(option, short = 'f', arg_name = "path")]
    file: PathBuf,
    /// the form of the explanation: text, which is for people, or json; text by default
    #[argh(option, short = 'o', arg_name = "form", default = "Output::Text")]
    output: Output,
}

#[derive(Clone, Copy)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where a pod has the Secrets of its configuration.
const SECRETS: &str = "/var/run/postern-secrets";
/// How long is waited for a gateway by default.
const WAIT: Duration = Duration::from_secs(30);
/// The environment variable that names the configuration where no option does.
const CONFIG: &str = "POSTERN_CONFIG";
/// The exit status where the command line makes no sense.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let configured = |file: Option<PathBuf>| file.or_else(|| std::env::var_os(CONFIG).map(PathBuf::from));
    match arguments.command {
        _ if arguments.version => answer(concat!("gateway ", env!("CARGO_PKG_VERSION"), "\n")),
        None => say("nothing to do; gateway --help says what it can", ExitCode::from(WRONG_USE)),
        Some(Command::Run(Serve { file, secrets, listen, admin, pod })) => {
            match (configured(file), Pins::new(listen, admin)) {
                (None, _) => {
                    say("no configuration; name it with --file, or in POSTERN_CONFIG", ExitCode::from(WRONG_USE))
                }
                (Some(file), Ok(pins)) => run(Options { file, secrets, pins, pod }),
                (_, Err(sentence)) => say(&sentence, ExitCode::FAILURE),
            }
        }
        Some(Command::Wait(Await { file, admin, timeout })) => match (configured(file), admin) {
            (None, None) => say(
                "nobody to ask; name a configuration with --file, or an address with --admin",
                ExitCode::from(WRONG_USE),
            ),
            (file, admin) => wait(&Asked { file, admin }, timeout.get()),
        },
        Some(Command::Check(Explain { file, output })) => explain(&file, output),
    }
}

/// What the command line says; if it asks for help or cannot be understood, that has been answered.
fn arguments() -> Result<Arguments, ExitCode> {
    let words: Result<Vec<_>, _> = std::env::args_os().skip(1).map(OsString::into_string).collect();
    let words = words.map_err(|word| say(&format!("{} is no text", word.display()), ExitCode::from(WRONG_USE)))?;
    // `--option=value` is the same as `--option value`.
    let halves = |word: &str| match word.split_once('=').filter(|(option, _)| option.starts_with("--")) {
        Some((option, value)) => vec![option.to_owned(), value.to_owned()],
        None => vec![word.to_owned()],
    };
    let words: Vec<_> = words.iter().flat_map(|word| halves(word)).collect();
    Arguments::from_args(&["gateway"], &words.iter().map(String::as_str).collect::<Vec<_>>()).map_err(|early| {
        match early.status {
            Ok(()) => answer(&early.output),
            Err(()) => say(&format!("{}\nSee gateway --help.", early.output.trim_end()), ExitCode::from(WRONG_USE)),
        }
    })
}

// === impl Output ===

impl FromStr for Output {
    type Err = String;

    fn from_str(form: &str) -> Result<Output, String> {
        match form {
            "text" => Ok(Output::Text),
            "json" => Ok(Output::Json),
            _ => Err(format!("{form:?} is neither text nor json")),
        }
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
        // Each error names its cause itself.
        error!("The gateway ends: {error}");
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

/// Ends with what was asked for.
fn answer(text: &str) -> ExitCode {
    // Nobody is left to be told when standard output is gone.
    let _ = stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Ends with a sentence for who looks at the terminal.
fn say(sentence: &str, code: ExitCode) -> ExitCode {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(stderr(), "gateway: {sentence}");
    code
}
