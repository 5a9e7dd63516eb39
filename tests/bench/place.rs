//! Where and when it was measured: what tables and plots have to say of that.

use std::fs;
use std::process::Command;

use cast::process::attempt;
use serde_json::{Value, json};

/// A machine and a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// As in `2026-11-27`.
    date: String,
    /// The name of its processor.
    processor: String,
    /// How many of its cores we may use.
    cores: u64,
    /// The version of Linux.
    kernel: String,
}

// === impl Place ===

impl Place {
    /// This machine, today.
    pub(crate) fn here() -> Self {
        let (_, date) = attempt(Command::new("date").args(["--utc", "+%Y-%m-%d"]));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64);
        Self {
            date: date.trim().to_owned(),
            processor: model(&processors).unwrap_or("an unknown processor").to_owned(),
            cores,
            kernel: kernel.trim().to_owned(),
        }
    }

    /// The place that results were written at.
    pub(crate) fn of(results: &Value) -> Self {
        let place = &results["place"];
        let text = |key: &str| place[key].as_str().unwrap_or("unknown").to_owned();
        Self {
            date: text("date"),
            processor: text("processor"),
            cores: place["cores"].as_u64().unwrap_or_default(),
            kernel: text("kernel"),
        }
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let Self { date, processor, cores, kernel } = self;
        json!({"date": date, "processor": processor, "cores": cores, "kernel": kernel})
    }

    /// In a sentence without an end.
    pub(crate) fn caption(&self) -> String {
        let Self { date, processor, cores, kernel } = self;
        format!("Measured on {date} on {cores} cores of {processor}, Linux {kernel}")
    }
}

/// What the kernel calls the first processor.
fn model(processors: &str) -> Option<&str> {
    let line = processors.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let here = Place::here();
        assert_eq!(Place::of(&json!({"place": here.json()})), here);
        assert!(here.cores > 0 && here.date.starts_with("20"), "{here:?}");
    }

    #[test]
    fn a_processor_has_its_makers_name() {
        assert_eq!(model("processor\t: 0\nmodel name\t: A CPU @ 2 GHz\n"), Some("A CPU @ 2 GHz"));
        assert_eq!(model("processor\t: 0\n"), None);
    }
}
