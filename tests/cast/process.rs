//! A child process that ends with its owner, and what can be seen of it from outside.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::time::{Stopwatch, comes_true};

/// How many lines of a process are kept; more than any journey looks at.
const LINES_KEPT: usize = 400_000;

/// A child that is killed by its id when dropped, and by the kernel when its owner dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A command that the kernel kills when the thread that started it dies.
pub fn owned(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The same, run as `user` when we are root: databases refuse to run as root.
pub fn owned_as(user: &str, program: impl AsRef<OsStr>) -> Command {
    if !is_root() {
        return owned(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Whether we may install packages, make namespaces and change users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command to its end and returns what it printed; fails the test with all of its output if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let (ok, output) = attempt(command);
    assert!(ok, "{command:?} failed: {output}");
    output
}

/// Runs a command to its end: whether it succeeded, and what it printed (errors only if it failed).
#[track_caller]
pub fn attempt(command: &mut Command) -> (bool, String) {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    (output.status.success(), text)
}

/// Whether a process holds nothing open any more, though nobody may have taken note of its end.
pub fn has_ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])))
}

/// The processes that `pid` has started and that still run.
pub fn children_of(pid: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parent == Some(pid)
    };
    pids.filter(is_child).collect()
}

// === impl Process ===

impl Process {
    /// Starts `command` in a process group of its own (a Ctrl-C of the terminal is its owner's business) and
    /// collects the lines that it writes to either of its outputs.
    #[track_caller]
    pub fn start(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, &lines);
        }
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, &lines);
        }
        Self { name: name.to_owned(), child, lines }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines it has written until now.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no thread panics while it holds the lines").clone()
    }

    /// The lines it has written since `seen`, which moves on.
    pub fn lines_since(&self, seen: &mut usize) -> Vec<String> {
        let lines = self.lines.lock().expect("no thread panics while it holds the lines");
        let new = lines.get(*seen..).unwrap_or_default().to_vec();
        *seen = lines.len();
        new
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id is a positive i32");
        // A process that has just ended cannot be signalled any more, and that is no error.
        let _ = kill_process(pid, signal);
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be waited for")
    }

    /// Waits until it has ended; fails the test when it has not within `patience`.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let watch = Stopwatch::start();
        comes_true(patience, || self.ended().is_some());
        let tail = self.tail();
        self.ended().unwrap_or_else(|| panic!("{} still runs after {:?}\n{tail}", self.name, watch.elapsed()))
    }

    /// Its last lines, for messages of failing tests.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// The memory that it holds resident, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// As much of it as is in no file, in bytes: what it has allocated, without the pages of its program.
    pub fn anonymous_memory(&self) -> u64 {
        self.memory("RssAnon:")
    }

    fn memory(&self, kind: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kilobytes = status
            .lines()
            .find_map(|line| line.strip_prefix(kind))
            .map(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().expect("the kernel writes kB"));
        kilobytes.unwrap_or_else(|| panic!("{} does not run", self.name)) * 1024
    }

    /// How many file descriptors it has open.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// The processor time that it has used so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        // The kernel reports in units of 1/100 s on every machine that Debian runs on.
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the last lines of {}\n{}\n---", self.name, self.tail());
        }
    }
}

fn collect(source: impl std::io::Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut source = BufReader::new(source);
        let mut bytes = Vec::new();
        while source.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            let mut lines = lines.lock().expect("no thread panics while it holds the lines");
            if lines.len() < LINES_KEPT {
                lines.push(line);
            }
        }
    });
}
