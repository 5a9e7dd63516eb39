//! The application: four workers that connect, write, read and leave, as a simple web application does for each
//! request, and one that keeps its connection. All of them are PostgreSQL's own client, psql.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cast::Stopwatch;
use cast::postgres::psql;
use cast::time::pause;
use cast::wire::Address;

const WORKERS: usize = 4;

/// How long a worker rests between two requests.
const REST: Duration = Duration::from_millis(40);

/// How often a request may be asked again when PostgreSQL itself said that it is going down or coming up.
const TRIES: usize = 20;

/// A running application.
pub(crate) struct App {
    figures: Arc<Figures>,
    ended: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

/// What has happened to it so far.
#[derive(Default)]
pub(crate) struct Figures {
    /// Requests that were answered.
    pub(crate) answered: AtomicU64,
    /// Requests that failed.
    pub(crate) failed: AtomicU64,
    /// Requests that PostgreSQL met while it went down or came up, and that were asked once more.
    pub(crate) repeated: AtomicU64,
    /// Queries over the connection that is kept.
    pub(crate) kept: AtomicU64,
    /// How often PostgreSQL ended the connection that is kept.
    pub(crate) kept_ended: AtomicU64,
    longest: Mutex<Duration>,
    last_failure: Mutex<Option<String>>,
}

// === impl App ===

impl App {
    /// Starts to query the database behind `address`.
    pub(crate) fn start(address: &Address) -> Self {
        let figures = Arc::new(Figures::default());
        let ended = Arc::new(AtomicBool::new(false));
        let worker = |number: usize| {
            let (address, figures, ended) = (address.clone(), Arc::clone(&figures), Arc::clone(&ended));
            std::thread::spawn(move || serve_requests(number, &address, &figures, &ended))
        };
        let mut workers: Vec<_> = (0..WORKERS).map(worker).collect();
        let (address, kept, over) = (address.clone(), Arc::clone(&figures), Arc::clone(&ended));
        workers.push(std::thread::spawn(move || keep_a_connection(&address, &kept, &over)));
        Self { figures, ended, workers }
    }

    pub(crate) fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Ends it as an application that was told to end: what it has begun, it finishes.
    pub(crate) fn end(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            // A worker that panicked has nothing left to say.
            let _ = worker.join();
        }
    }

    /// Tells it to end and does not wait, because the database is about to go away.
    pub(crate) fn abandon(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.workers.clear();
    }
}

// === impl Figures ===

impl Figures {
    /// The longest that a request took, with everything that it waited for.
    pub(crate) fn longest(&self) -> Duration {
        *self.longest.lock().expect("no worker panics while it holds this")
    }

    /// Why the last request failed.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().expect("no worker panics while it holds this").clone()
    }

    fn answered(&self, taken: Duration) {
        self.answered.fetch_add(1, Ordering::SeqCst);
        let mut longest = self.longest.lock().expect("no worker panics while it holds this");
        *longest = longest.max(taken);
    }

    fn failed(&self, reason: String) {
        self.failed.fetch_add(1, Ordering::SeqCst);
        *self.last_failure.lock().expect("no worker panics while it holds this") = Some(reason);
    }
}

fn client(address: &Address) -> Command {
    let mut command = Command::new("setpriv");
    let psql = psql(address);
    command.args(["--pdeathsig", "KILL", "--"]).arg(psql.get_program()).args(psql.get_args());
    command.args(["-U", "postgres", "-d", "postgres"]).env("PGCONNECT_TIMEOUT", "60");
    // A Ctrl-C of the terminal is for the demonstration, not for its application.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

fn serve_requests(worker: usize, address: &Address, figures: &Figures, ended: &AtomicBool) {
    let mut number = 0;
    while !ended.load(Ordering::SeqCst) {
        number += 1;
        let watch = Stopwatch::start();
        match serve_request(&format!("{worker}-{number}"), address, figures) {
            Ok(()) => figures.answered(watch.elapsed()),
            Err(reason) => figures.failed(reason),
        }
        pause(REST);
    }
}

/// One request: a row that must be there afterwards, exactly once, and a question.
fn serve_request(id: &str, address: &Address, figures: &Figures) -> Result<(), String> {
    let sql = format!("insert into visits values ('{id}') on conflict do nothing; select count(*) > 0 from visits");
    for _ in 0..TRIES {
        let output =
            client(address).args(["-c", &sql]).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        if !is_passing(&output) {
            return Err(reason(&output));
        }
        figures.repeated.fetch_add(1, Ordering::SeqCst);
        pause(Duration::from_millis(50));
    }
    Err("PostgreSQL was starting up or shutting down for too long".to_owned())
}

/// Whether PostgreSQL itself was there and said that it was about to go or to come.
fn is_passing(output: &Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    ["starting up", "shutting down", "administrator command", "not yet accepting", "server closed the connection"]
        .iter()
        .any(|words| said.contains(words))
}

fn reason(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("psql failed without a word").to_owned()
}

/// A connection that is kept, with a query every now and then.
struct Kept {
    psql: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

fn keep_a_connection(address: &Address, figures: &Figures, ended: &AtomicBool) {
    while !ended.load(Ordering::SeqCst) {
        let Some(mut kept) = Kept::open(address) else { return };
        while !ended.load(Ordering::SeqCst) && kept.ask() {
            figures.kept.fetch_add(1, Ordering::SeqCst);
            pause(Duration::from_millis(200));
        }
        if ended.load(Ordering::SeqCst) {
            return;
        }
        if kept.was_ended_by_postgres() {
            figures.kept_ended.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// === impl Kept ===

impl Kept {
    fn open(address: &Address) -> Option<Self> {
        let mut command = client(address);
        let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
        let (questions, answers) = (psql.stdin.take()?, BufReader::new(psql.stdout.take()?));
        Some(Self { psql, questions, answers })
    }

    fn ask(&mut self) -> bool {
        let mut answer = String::new();
        writeln!(self.questions, "select 'here';").is_ok()
            && self.answers.read_line(&mut answer).is_ok()
            && answer.trim() == "here"
    }

    /// Not if it came too early and was never connected.
    fn was_ended_by_postgres(&mut self) -> bool {
        let mut said = String::new();
        let stderr = self.psql.stderr.take();
        stderr.is_some_and(|mut stderr| stderr.read_to_string(&mut said).is_ok()) && !said.contains("starting up")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
