//! `cargo cluster`: a Kubernetes to play with, until Ctrl-C.
//!
//! `cargo cluster -- COMMAND...` runs a command with `KUBECONFIG` set instead, and ends with it.
#![allow(clippy::print_stdout, reason = "telling what it does is this program's work")]

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use cast::time::Stopwatch;
use cast::{Cluster, images};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).skip_while(|word| word == "--").collect();
    match hold(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn hold(words: &[String]) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    // From here on Ctrl-C is asked for, and does not end the program before the cluster is taken down.
    let ctrl_c = runtime.block_on(async { tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()) });
    let mut ctrl_c = ctrl_c.context("cannot listen for Ctrl-C")?;
    let watch = Stopwatch::start();
    let cluster = Cluster::bring_up(&|line| println!("{line}"))?;
    println!("ready after {:.1} s", watch.elapsed().as_secs_f64());
    cluster.load(images::toolbox());
    if let Some((program, arguments)) = words.split_first() {
        let mut command = Command::new(program);
        command.args(arguments).env("KUBECONFIG", cluster.kubeconfig());
        let status = command.status().with_context(|| format!("cannot run {program}"))?;
        return Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from));
    }
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("Ctrl-C ends it.");
    runtime.block_on(ctrl_c.recv());
    println!("Taking it down.");
    Ok(ExitCode::SUCCESS)
}
