//! The gateway alone: a real PostgreSQL, the gateway in front of it, and an application that queries all the time, while
//! the database restarts, the configuration is edited and the gateway ends.

use anyhow::Result;
use cast::{gateway, install};

use crate::screen::Screen;

mod app;
mod stage;
mod story;

use stage::Stage;

/// Plays it, or leaves it running to play with.
pub(crate) fn play(screen: &Screen, keep: bool) -> Result<()> {
    screen.title("Postern: a database gateway");
    screen.note("A real PostgreSQL, the gateway in front of it, and an application that queries all the time.\n");
    screen.event("tools", "looking for PostgreSQL, and installing it where that is possible");
    install::ensure_installed(install::FOR_THE_DEMO)?;
    screen.event("build", "the gateway, as it is released (minutes the first time, then nothing)");
    gateway::find_or_build()?;
    let mut stage = Stage::set(screen)?;
    if keep { story::keep(&mut stage) } else { story::tell(&mut stage) }
}
