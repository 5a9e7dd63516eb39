//! The fuzzer's part of the step `fuzz`: each target of `tests/fuzz` for a while, by libFuzzer, which looks for inputs that
//! reach what no input before has reached.
//!
//! It begins with what is kept in `tests/fuzz/corpus` and what earlier runs have found, which lies in cargo's target folder.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use cast::{install, workspace};

/// How long each target runs, in seconds.
const SECONDS: &str = "POSTERN_FUZZ_SECONDS";
/// A minute finds what the last change has broken; hours find more, now and then.
const A_MINUTE: &str = "60";

/// What makes a program tell libFuzzer where it has been, and what it has compared; no nightly compiler is needed for it.
const INSTRUMENTED: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// An input that takes longer has found something, and so has one that takes more memory.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=1024"];

/// So many of the last lines of a target that fails are shown.
const LINES_SHOWN: usize = 12;

/// One target, built.
struct Target {
    name: String,
    program: PathBuf,
    /// Where what it finds is kept.
    folder: PathBuf,
}

/// What a target has told while it ran.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    executions: u64,
    /// Places in the program that were reached, by what was there to begin with and in the end.
    coverage: Option<(u64, u64)>,
    /// The input that broke it.
    broken_by: Option<PathBuf>,
}

/// Runs every target.
pub(crate) fn run(tell: impl Fn(&str)) -> Result<()> {
    install::ensure_installed(install::FOR_THE_FUZZER)?;
    let seconds = std::env::var_os(SECONDS).unwrap_or_else(|| A_MINUTE.into());
    let mut failed = Vec::new();
    for target in targets()? {
        // One that fails keeps no other from being looked at.
        if let Err(error) = target.run(&seconds, &tell) {
            tell(&format!("{error:#}"));
            failed.push(target.name);
        }
    }
    ensure!(failed.is_empty(), "{} broke", failed.join(", "));
    Ok(())
}

/// Builds them all.
fn targets() -> Result<Vec<Target>> {
    let (home, built, host) = (workspace::root().join("tests/fuzz"), workspace::target().join("fuzzing"), host()?);
    let mut command = workspace::cargo();
    command.args(["build", "--quiet", "--release", "--locked", "--manifest-path"]).arg(home.join("Cargo.toml"));
    // A target that is named keeps the flags from what runs while it is built.
    command.args(["--target", &host, "--target-dir"]).arg(&built).env("RUSTFLAGS", INSTRUMENTED.join(" "));
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "the fuzzer's targets do not build");
    let mut names = Vec::new();
    for file in fs::read_dir(home.join("targets")).context("cannot list the targets")? {
        names.extend(file?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort_unstable();
    let target = |name: String| Target {
        program: built.join(&host).join("release").join(&name),
        folder: built.join("found").join(&name),
        name,
    };
    Ok(names.into_iter().map(target).collect())
}

/// What this machine is called.
fn host() -> Result<String> {
    let said = Command::new("rustc").arg("-vV").current_dir(workspace::root()).output().context("cannot run rustc")?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say which machine this is")?.to_owned())
}

// === impl Target ===

impl Target {
    /// Runs it for so many seconds, and says in a line what came of it.
    fn run(&self, seconds: &OsStr, tell: impl Fn(&str)) -> Result<()> {
        let kept = workspace::root().join("tests/fuzz/corpus").join(&self.name);
        let (corpus, broken) = (self.folder.join("corpus"), self.folder.join("broken"));
        for folder in [&corpus, &broken] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut command = Command::new(&self.program);
        // What is found is put into the first folder.
        command.args([&corpus, &kept]).args(LIMITS).arg("-print_final_stats=1");
        command.arg(option("-max_total_time=", seconds)).arg(option("-artifact_prefix=", broken.join("")));
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.with_context(|| format!("cannot run {}", self.program.display()))?;
        let (mut told, mut lines) = (Told::default(), Vec::new());
        for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
            let line = line.context("cannot read what the fuzzer says")?;
            told.hear(&line);
            lines.push(line);
        }
        let status = child.wait().context("cannot wait for the fuzzer")?;
        tell(&format!("{:<14} {told}", self.name));
        let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        ensure!(status.success(), "{}\n{shown}", self.how_to_see_it(&told));
        Ok(())
    }

    fn how_to_see_it(&self, told: &Told) -> String {
        match &told.broken_by {
            Some(input) => format!(
                "{} breaks {}; to see it again: {} {}",
                input.display(),
                self.name,
                self.program.display(),
                input.display()
            ),
            None => format!("{} failed", self.name),
        }
    }
}

fn option(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut option = OsString::from(name);
    option.push(value);
    option
}

// === impl Told ===

impl Told {
    /// Takes note of a line such as `#17 NEW cov: 52 ft: 60 ...`, of a figure at the end, or of an input that was written.
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["stat::number_of_executed_units:", number] => self.executions = number.parse().unwrap_or(0),
            [number, _, "cov:", coverage, ..] if number.starts_with('#') => {
                let coverage = coverage.parse().unwrap_or(0);
                let (first, _) = self.coverage.unwrap_or((coverage, coverage));
                self.coverage = Some((first, coverage));
            }
            _ => {}
        }
        if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.broken_by = Some(Path::new(path).to_owned());
        }
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last) = self.coverage.unwrap_or_default();
        let news = last.saturating_sub(first);
        write!(out, "{:>11} executions, {last:>6} places reached, {news:>4} of them new", self.executions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_becomes_a_line() {
        let mut told = Told::default();
        for line in [
            "INFO: Seed: 1",
            "#18\tINITED cov: 700 ft: 812 corp: 12/300b exec/s: 0 rss: 40Mb",
            "#4096\tNEW    cov: 731 ft: 900 corp: 13/310b lim: 4 exec/s: 0 rss: 41Mb L: 9/9 MS: 1 -",
            "#9000\tDONE   cov: 740 ft: 950 corp: 20/510b lim: 8 exec/s: 150 rss: 44Mb",
            "stat::number_of_executed_units: 9000",
        ] {
            told.hear(line);
        }
        assert_eq!(told.to_string(), "       9000 executions,    740 places reached,   40 of them new");
        told.hear("artifact_prefix='x/'; Test unit written to x/crash-7");
        assert_eq!(told.broken_by, Some("x/crash-7".into()));
    }
}
