//! `cargo verify`: every check of the project, one named step after the other; what CI runs.
//!
//! `cargo verify -- STEP...` runs only the named steps, and `cargo verify -- full` all of them and the longer ones.
#![allow(clippy::print_stdout, reason = "telling what it does is this program's work")]

use std::process::ExitCode;

use anyhow::Result;
use cast::time::Stopwatch;

mod steps;
mod fuzz;
mod release;
mod cargo;
mod count;

use count::Count;

/// One check.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&mut Count) -> Result<()>,
}

/// In the order in which the cheapest check that can fail fails first.
const STEPS: &[Step] = &[
    Step { name: "tools", what: "the databases and tools that the journeys need", run: steps::tools },
    Step { name: "format", what: "every file is formatted", run: steps::format },
    Step { name: "lints", what: "clippy finds nothing", run: steps::lints },
    Step { name: "docs", what: "the documentation builds without a warning", run: steps::docs },
    Step { name: "unit", what: "the tests beside the code", run: steps::unit },
    Step {
        name: "simulation",
        what: "the whole gateway in simulated time: any seed keeps every promise",
        run: steps::simulation,
    },
    Step { name: "build", what: "gateway and operator, as they are released", run: steps::build },
    Step { name: "kubernetes", what: "Kubernetes and Helm, built from their sources", run: steps::kubernetes },
    Step { name: "journeys", what: "the gateway between real peers and real databases", run: steps::journeys },
    Step { name: "cluster", what: "all of it on a real Kubernetes", run: steps::cluster },
];

/// What takes too long for every change; `full` runs all of them after the others.
const LONGER: &[Step] = &[
    Step { name: "lowest", what: "all of it on the lowest Kubernetes that the chart takes", run: steps::lowest },
    Step {
        name: "supply-chain",
        what: "licences, duplicates and origins of what all is built from, and known advisories",
        run: steps::supply_chain,
    },
    Step {
        name: "release",
        what: "all that a release has, made twice and looked at as who downloads it would",
        run: steps::release,
    },
    Step { name: "soak", what: "an hour of the simulation, from other seeds on", run: steps::soak },
    Step { name: "fuzz", what: "what anybody could say from outside, in millions of forms", run: steps::fuzz },
    Step {
        name: "crosstalk",
        what: "a million exchanges amid faults: each answer reaches who asked",
        run: steps::crosstalk,
    },
    Step {
        name: "faults",
        what: "what breaks a gateway's world, on real things: what peers see of it",
        run: steps::faults,
    },
    Step {
        name: "explain",
        what: "twenty mistakes on a real Kubernetes, each named by kubectl postern with what mends it",
        run: steps::explain,
    },
    Step {
        name: "alerts",
        what: "real faults fire their alerts on a real Prometheus, beside a gateway and on a real Kubernetes",
        run: steps::alerts,
    },
    Step {
        name: "browser",
        what: "the gateway's page in a real browser: what a person sees, and what is kept from running",
        run: steps::browser,
    },
    Step {
        name: "operator-faults",
        what: "what breaks the operator's world, on a real Kubernetes: when it is over all is as the resources say",
        run: steps::operator_faults,
    },
    Step {
        name: "clients",
        what: "twelve drivers of five languages, directly and through every mode",
        run: steps::clients,
    },
    Step {
        name: "suites",
        what: "the test suites that eight of them bring along, directly and through every mode",
        run: steps::suites,
    },
    Step {
        name: "recipes",
        what: "the recipes of the documentation, in applications of five languages",
        run: steps::recipes,
    },
    Step {
        name: "postgres",
        what: "what concerns PostgreSQL, on each version from the oldest to the newest",
        run: steps::postgres,
    },
];

/// The name of all steps and all longer ones.
const FULL: &str = "full";

fn main() -> ExitCode {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| word != "--").collect();
    if chosen.iter().any(|word| word == "--help" || word == "-h") {
        println!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let steps = match choose(&chosen) {
        Ok(steps) => steps,
        Err(unknown) => {
            eprintln!("There is no step `{unknown}`.\n\n{}", usage());
            return ExitCode::from(2);
        }
    };
    let watch = Stopwatch::start();
    let mut count = Count::default();
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.what);
        let step_watch = Stopwatch::start();
        let outcome = (step.run)(&mut count);
        println!("      {} after {}", if outcome.is_ok() { "ok" } else { "FAILED" }, seconds(step_watch));
        if let Err(error) = outcome {
            failure = Some((step.name, error));
            break;
        }
    }
    println!("\nAll of it took {}", seconds(watch));
    if let Some((name, error)) = &failure {
        println!("{name} failed: {error:#}\nTo see it again: cargo verify -- {name}");
        count.failed = count.failed.max(1);
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The steps that are asked for, in their order, or the name that is none.
fn choose(chosen: &[String]) -> Result<Vec<&'static Step>, &str> {
    let all = || STEPS.iter().chain(LONGER);
    if let Some(unknown) = chosen.iter().find(|name| *name != FULL && !all().any(|step| step.name == **name)) {
        return Err(unknown);
    }
    let is_full = chosen.iter().any(|name| name == FULL);
    let is_chosen = |step: &&Step| is_full || chosen.iter().any(|name| name == step.name);
    Ok(if chosen.is_empty() { STEPS.iter().collect() } else { all().filter(is_chosen).collect() })
}

fn usage() -> String {
    let lines = |steps: &[Step]| {
        let lines: Vec<_> = steps.iter().map(|step| format!("  {:<12} {}", step.name, step.what)).collect();
        lines.join("\n")
    };
    format!(
        "Usage: cargo verify [-- STEP...]\n\nWithout a step it runs all, in this order:\n\n{}\n\n\
         With the step {FULL} it runs all of them, and then what takes longer, which may be named alone as well:\n\n{}",
        lines(STEPS),
        lines(LONGER)
    )
}

fn seconds(watch: Stopwatch) -> String {
    let elapsed = watch.elapsed();
    let minutes = elapsed.as_secs() / 60;
    if minutes == 0 {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{minutes} min {} s", elapsed.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_and_its_own_name_run_what_takes_longer() {
        let names = |chosen: &[&str]| {
            let chosen: Vec<_> = chosen.iter().map(|&name| name.to_owned()).collect();
            let steps = choose(&chosen).map(|steps| steps.iter().map(|step| step.name).collect::<Vec<_>>());
            steps.map_err(str::to_owned)
        };
        let plain: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        let longer: Vec<_> = LONGER.iter().map(|step| step.name).collect();
        assert_eq!(names(&[]), Ok(plain.clone()));
        assert_eq!(names(&["full"]), Ok([plain, longer].concat()));
        assert_eq!(names(&["lowest", "format"]), Ok(vec!["format", "lowest"]));
        assert_eq!(names(&["clients"]), Ok(vec!["clients"]));
        assert_eq!(names(&["fast"]), Err("fast".to_owned()));
    }
}
