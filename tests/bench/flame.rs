//! `cargo bench-db flame`: on what a target spends its processor time, as a flame graph in SVG and PNG.

mod stacks;
mod picture;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cast::process::{attempt, owned};
use cast::{Folder, install, workspace};

use crate::kind::Kind;
use crate::options::{Flame, Options};
use crate::plot::Converter;
use crate::rounds::say;
use crate::stage::{Programs, Stage};
use crate::target::{Room, Target};
use crate::workload::{self, Workload};

use stacks::Stacks;

/// Samples a second; not a round number, so that nothing that happens a thousand times a second is hit each time or never.
const FREQUENCY: &str = "499";
/// How stacks are found without frame pointers: so many bytes of each are kept, and unwound afterwards.
const UNWINDING: &str = "dwarf,16384";

/// Runs the workload on the target, looks at its stacks meanwhile, and draws them.
pub(crate) fn run(flame: &Flame, options: &Options) -> Result<()> {
    install::ensure_installed(install::FOR_THE_DEMO)?;
    install::ensure_installed(install::FOR_PROFILES)?;
    let (kind, workload) = (flame.target, flame.workload);
    let (programs, absences) = Programs::find(options, &[kind])?;
    if let Some(absence) = absences.first() {
        anyhow::bail!("{} cannot be had: {}", kind.name(), absence.why);
    }
    let folder = flame.into.clone().unwrap_or_else(|| workspace::root().join("tests/bench/plots"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stacks = look(kind, workload, flame.seconds, programs)?;
    let title = format!("{} while pgbench runs {workload}, select only", kind.name());
    let file = folder.join(format!("flame-{}-{}.svg", kind.name(), workload.to_string().replace(':', "-")));
    fs::write(&file, picture::draw(&title, &stacks)).with_context(|| format!("cannot write {}", file.display()))?;
    Converter::find().convert(&file)?;
    say(&format!("drew {}, of {} samples", file.display(), stacks.samples()));
    for (name, share) in stacks.heaviest(12) {
        say(&format!("{:5.1} % {name}", share * 100.0));
    }
    Ok(())
}

/// The stacks of the target's process while it is busy.
fn look(kind: Kind, workload: Workload, seconds: u32, programs: Programs) -> Result<Stacks> {
    let stage = Stage::set(programs)?;
    workload::fill(&stage)?;
    let target = Target::start(kind, &stage, Room::Default)?;
    let pid = target.pid().with_context(|| format!("{} is no process of its own", kind.name()))?;
    let folder = Folder::new("flame");
    let samples = folder.join("samples");
    say(&format!("looking at {} for {seconds} s", kind.name()));
    let mut perf = owned("perf");
    perf.args(["record", "--quiet", "-F", FREQUENCY, "--call-graph", UNWINDING, "-p", &pid.to_string(), "-o"]);
    perf.arg(&*samples).args(["--", "sleep", &seconds.to_string()]);
    let recorded = std::thread::scope(|scope| {
        let recording = scope.spawn(move || attempt(&mut perf));
        let ran = workload.run(&target, &stage, seconds);
        let recorded = recording.join().ok();
        ran.map(|_| recorded)
    })?;
    let (is_recorded, said) = recorded.context("perf cannot be waited for")?;
    ensure!(is_recorded, "perf cannot look at it: {}", said.trim());
    read(&samples)
}

fn read(samples: &Path) -> Result<Stacks> {
    let mut perf = Command::new("perf");
    let output = perf.args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"]).arg(samples).output();
    let output = output.context("cannot run perf")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "perf cannot read what it has recorded: {}", said.trim());
    let stacks = Stacks::read(&String::from_utf8_lossy(&output.stdout));
    ensure!(stacks.samples() > 0, "perf has seen nothing: {}", said.trim());
    Ok(stacks)
}
