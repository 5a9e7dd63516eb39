//! The program that keeps a cluster, and the tie by which it notices that its owner has gone.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Tell;
use crate::time::comes_true;

/// Taking a cluster down takes a second or two; a machine that is very busy gets this long.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running keeper. It holds the cluster until its standard input ends: when this is dropped, or when our process
/// ends in whatever way, because the kernel closes it then.
#[derive(Debug)]
pub(super) struct Keeper {
    process: Child,
    folder: PathBuf,
}

// === impl Keeper ===

impl Keeper {
    /// Brings a cluster up, with these images in it, and waits until pods can run there.
    pub(super) fn start(programs: &Path, images: &[&Path], tell: Tell<'_>) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("postern-cluster-{}-{number}", std::process::id()));
        let mut command = Command::new(programs.join("cluster"));
        command.arg("keep").arg(&folder).args(images);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C of the terminal ends us; that is how the keeper hears of it.
        command.process_group(0);
        let process = command.spawn().with_context(|| format!("cannot run {}", programs.join("cluster").display()))?;
        let mut keeper = Self { process, folder };
        keeper.await_ready(tell)?;
        Ok(keeper)
    }

    /// Where everything of the cluster is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn await_ready(&mut self, tell: Tell<'_>) -> Result<()> {
        let (Some(stdout), Some(stderr)) = (self.process.stdout.take(), self.process.stderr.take()) else {
            bail!("a process with pipes has them");
        };
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while stdout.read_line(&mut line).context("cannot read what the keeper says")? > 0 {
            if line.trim_end() == "ready" {
                // What they may still say must not fill a pipe.
                std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
                std::thread::spawn(move || std::io::copy(&mut { stderr }, &mut std::io::sink()));
                return Ok(());
            }
            if line.starts_with("failed: ") {
                break;
            }
            tell(line.trim_end());
            line.clear();
        }
        let mut rest = line.trim_start_matches("failed: ").to_owned();
        for source in [&mut stdout as &mut dyn Read, &mut { stderr }] {
            // What was read before an error is worth showing too.
            let _ = source.read_to_string(&mut rest);
        }
        bail!("the cluster does not come up: {}", rest.trim_end());
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        if !comes_true(PATIENCE, || matches!(self.process.try_wait(), Ok(Some(_)))) {
            // The kernel ends the node with it; the next cluster sweeps up the rest.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
