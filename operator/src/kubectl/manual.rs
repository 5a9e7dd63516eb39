//! Completion for shells, and manual pages: written by the same description of the command line that reads it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::{Ending, Error, print};

/// The command line of `completion`.
#[derive(Args, Clone, Debug)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The command line of `man`.
#[derive(Args, Clone, Debug)]
pub struct Manual {
    /// Write a page for each command into this folder, instead of printing the first.
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}

/// Prints what a shell has to read; it is for `kubectl-postern` itself, as kubectl completes plugins by a program of another
/// name.
pub fn complete(mut command: Command, settings: &Completion) -> Result<Ending, Error> {
    let mut script = Vec::new();
    command.set_bin_name("kubectl-postern");
    generate(settings.shell, &mut command, "kubectl-postern", &mut script);
    print::say(&String::from_utf8_lossy(&script))?;
    Ok(Ending::Fine)
}

/// Prints the manual, or writes all of its pages.
pub fn man(mut command: Command, settings: &Manual) -> Result<Ending, Error> {
    command.build();
    let Some(folder) = &settings.dir else {
        print::say(&page(command)?)?;
        return Ok(Ending::Fine);
    };
    fs::create_dir_all(folder)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned() {
        let name = format!("kubectl-postern-{}", sub.get_name());
        write(folder, &name, sub.display_name(name.clone()))?;
    }
    write(folder, "kubectl-postern", command)?;
    Ok(Ending::Fine)
}

fn write(folder: &Path, name: &str, command: Command) -> Result<(), Error> {
    let path = folder.join(format!("{name}.1"));
    fs::write(&path, page(command)?).map_err(|error| Error::Failed(format!("cannot write {}: {error}", path.display())))
}

fn page(command: Command) -> io::Result<String> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
