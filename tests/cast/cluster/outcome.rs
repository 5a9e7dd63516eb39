//! What a tool said, and how it ended.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::time::comes_true;

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether it succeeded.
    pub ok: bool,
    /// Its exit status; nothing if it was killed.
    pub code: Option<i32>,
    /// What it wrote to its standard output, without the line end.
    pub out: String,
    /// What it wrote to its standard error: warnings, or why it failed.
    pub err: String,
}

// === impl Outcome ===

impl Outcome {
    /// What it said; fails the test with the command's own words if it failed.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert!(self.ok, "{}{}", self.err, self.out);
        self.out
    }

    /// Why it failed; fails the test if it did not.
    #[track_caller]
    pub fn refused(self) -> String {
        assert!(!self.ok, "this was to be refused, and was not: {}{}", self.out, self.err);
        self.err
    }
}

/// Runs `command` with `input` on its standard input to its end, or kills it when `patience` is over.
#[track_caller]
pub(super) fn bounded(command: &mut Command, input: &str, patience: Duration) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, err) = (child.stdout.take().map(collect), child.stderr.take().map(collect));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // A command that does not read its input closes it, and that is its right.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    }
    let in_time = comes_true(patience, || matches!(child.try_wait(), Ok(Some(_))));
    if !in_time {
        // It may have ended in between.
        let _ = child.kill();
    }
    let status = child.wait().expect("our own child can be waited for");
    let text = |reader: Option<JoinHandle<String>>| reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    let (out, mut err) = (text(out), text(err));
    if !in_time {
        err = format!("{command:?} was killed after {patience:?}\n{err}");
    }
    Outcome { ok: status.success(), code: status.code(), out: out.trim_end().to_owned(), err }
}

fn collect(mut source: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is worth showing too.
        let _ = source.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
