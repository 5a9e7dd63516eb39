//! The whole journey on a real one-node Kubernetes: three moves (install a chart, annotate pods, edit the resource), and
//! what a person sees of them.

use anyhow::Result;
use cast::{images, install};

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
    screen.event("build", "the images of gateway and operator (minutes the first time, then nothing)");
    for image in [images::gateway(), images::operator(), images::toolbox()] {
        screen.event("build", image.name());
    }
    let stage = Stage::set(screen)?;
    if keep { story::keep(&stage) } else { story::tell(&stage) }
}
