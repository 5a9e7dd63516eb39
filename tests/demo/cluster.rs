//! The whole journey on a real one-node Kubernetes: three moves (install a chart, annotate pods, edit the resource), and
//! what a person sees of them.

use std::sync::mpsc;
use std::thread;

use anyhow::Result;
use cast::{cluster, images, install};

use crate::screen::Screen;

mod stage;
mod story;

use stage::Stage;

/// Plays it, or leaves it running to play with.
pub(crate) fn play(screen: &Screen, keep: bool) -> Result<()> {
    screen.title("Postern: a database gateway beside every application of a Kubernetes cluster");
    screen
        .note("A real one-node cluster, Postern's chart, a PostgreSQL, and an application that knows nothing of it.\n");
    screen.event("tools", "looking for PostgreSQL, containerd and Go, and installing what is missing");
    install::ensure_installed(install::FOR_THE_CLUSTER)?;
    screen.event("build", "the images of gateway and operator, and Kubernetes (minutes the first time, then nothing)");
    build(screen)?;
    let stage = Stage::set(screen)?;
    if keep { story::keep(&stage) } else { story::tell(&stage) }
}

/// Builds what is missing. The compilers leave much of a machine idle, so Kubernetes is built beside the images.
fn build(screen: &Screen) -> Result<()> {
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let kubernetes = scope.spawn(move || {
            // Nobody listens any more once an image has failed.
            cluster::prepare(&|line: &str| drop(tell.send(line.to_owned())))
        });
        for image in [images::gateway(), images::operator(), images::toolbox()] {
            screen.event("build", image.name());
        }
        for line in told {
            screen.event("cluster", &line);
        }
        kubernetes.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    })
}
