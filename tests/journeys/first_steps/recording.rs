//! What is seen on a terminal, in the format of asciinema (asciicast v2): a line of JSON for the terminal, and one for each
//! output, with its time in seconds.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use cast::time::Stopwatch;
use serde_json::{Value, json};

/// A terminal's size, in characters.
const SIZE: (u32, u32) = (120, 40);
/// A person types so fast, in seconds for each letter, so that a replay can be read along.
const TYPING: f64 = 0.02;
/// What stands before a command.
const PROMPT: &str = "$ ";

/// A session on a terminal.
#[derive(Default)]
pub(crate) struct Recording {
    seen: Vec<(f64, String)>,
    /// How long what came before took, in seconds.
    now: f64,
}

// === impl Recording ===

impl Recording {
    /// Runs a command as if it had been typed, to its end, which must be a good one.
    #[track_caller]
    pub(crate) fn type_in(&mut self, line: &str, command: &mut Command) {
        self.see(PROMPT);
        for letter in line.chars() {
            self.now += TYPING;
            self.see(&letter.to_string());
        }
        self.see("\n");
        let (before, begun) = (self.now, Stopwatch::start());
        // What is said to either output comes in the order in which it was said.
        let (output, written) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stderr(written.try_clone().unwrap()).stdout(written);
        let mut running = command.spawn().unwrap();
        // The command holds ends of the pipe, which would never end.
        *command = Command::new("true");
        for said in BufReader::new(output).lines() {
            self.now = before + begun.elapsed().as_secs_f64();
            self.see(&format!("{}\n", said.unwrap()));
        }
        let status = running.wait().unwrap();
        assert!(status.success(), "{line}: {status}\n{}", self.shape().join("\n"));
        self.now = before + begun.elapsed().as_secs_f64();
    }

    fn see(&mut self, text: &str) {
        self.seen.push((self.now, text.replace('\n', "\r\n")));
    }

    /// As it is stored.
    pub(crate) fn written(&self) -> String {
        let mut text = format!("{}\n", json!({"version": 2, "width": SIZE.0, "height": SIZE.1}));
        for (at, seen) in &self.seen {
            let at = (at * 1000.0).round() / 1000.0;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", json!([at, "o", seen]));
        }
        text
    }

    /// One that was stored.
    pub(crate) fn read(text: &str) -> Self {
        let events = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let seen = events.map(|event| (event[0].as_f64().unwrap(), event[2].as_str().unwrap().to_owned()));
        Self { seen: seen.collect(), now: 0.0 }
    }

    /// What is the same each time: its lines, without names that Kubernetes makes up, and without what has digits in it.
    pub(crate) fn shape(&self) -> Vec<String> {
        let all: String = self.seen.iter().map(|(_, text)| &**text).collect();
        let of_line = |line: &str| match line.split_once("LAST DEPLOYED:") {
            Some(_) => "LAST DEPLOYED:".to_owned(),
            None => line.split_whitespace().map(shape).collect::<Vec<_>>().join(" "),
        };
        all.lines().map(of_line).collect()
    }
}

/// A word, unless it is another one each time.
fn shape(word: &str) -> &str {
    let is_made_up = word.starts_with("pod/orders-") || word.chars().any(|letter| letter.is_ascii_digit());
    if is_made_up { "#" } else { word }
}
