//! The plugin's program: `kubectl postern ...` runs whatever is named like this on the PATH.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use operator::kubectl::{Arguments, Ending, run};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = Builder::new_current_thread().enable_all().build().map_err(Into::into);
    let ended = ended.and_then(|runtime| runtime.block_on(run(arguments)));
    ended.map_or_else(
        |error| {
            // Nobody is left to be told if that fails.
            let _ = writeln!(io::stderr(), "kubectl postern: {error}");
            error.code()
        },
        Ending::code,
    )
}
