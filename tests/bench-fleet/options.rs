//! The command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures how edits reach many sidecars, and what that costs, on a one-node Kubernetes of its own.
#[derive(Debug, Parser)]
#[command(name = "cargo bench-fleet")]
pub(crate) struct Options {
    /// Fewer edits and smaller fleets: a first impression, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Other sizes of the one configuration's fleet, ascending.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_FLEET)))]
    sizes: Vec<u32>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Edits on real pods.
    Real,
    /// How long the API server waits for the webhook.
    Webhook,
    /// Edits of one configuration among many.
    Configs,
    /// Edits of one configuration with more and more pods.
    Sizes,
}

/// Pods that a fleet may have: as many as have an address here, with room to spare.
const MAX_FLEET: u32 = 20_000;

/// The fleets of one configuration, of which each is the one before with more pods.
const SIZES: [u32; 5] = [100, 300, 1000, 3000, 5000];

// === impl Options ===

impl Options {
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Edits for a percentile.
    pub(crate) fn edits(&self) -> usize {
        if self.quick { 20 } else { 100 }
    }

    /// Edits of a fleet with this many pods.
    pub(crate) fn edits_of(&self, pods: u32) -> usize {
        if self.quick || pods > 1000 { 3 } else { 5 }
    }

    /// For how long pods are created at the webhook's rate.
    pub(crate) fn creating(&self) -> Duration {
        Duration::from_secs(if self.quick { 15 } else { 60 })
    }

    pub(crate) fn sizes(&self) -> Vec<u32> {
        let most = if self.quick { 1000 } else { MAX_FLEET };
        let mut sizes = if self.sizes.is_empty() {
            SIZES.into_iter().filter(|size| *size <= most).collect()
        } else {
            self.sizes.clone()
        };
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Options {
        Options::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn by_default_the_goals_can_be_judged() {
        let options = options("bench-fleet");
        assert_eq!((options.edits(), options.creating()), (100, Duration::from_mins(1)));
        assert_eq!(options.sizes(), SIZES);
        assert!(Part::value_variants().iter().all(|part| options.wants(*part)));
    }

    #[test]
    fn sizes_ascend_because_a_fleet_only_grows() {
        let options = options("bench-fleet --quick --only sizes --sizes 300,10,300");
        assert_eq!(options.sizes(), [10, 300]);
        assert!(options.wants(Part::Sizes) && !options.wants(Part::Real));
    }
}
