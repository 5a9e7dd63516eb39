//! What the fuzzer is given to begin with, and what it once broke: each input keeps what its target claims.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "the fuzzer's programs reach it")]
#[path = "src/lib.rs"]
mod fuzz;

// The meeting of strangers is written inside the gateway, where its modules have these names.
use gateway::{config, postgres};

#[test]
fn every_input_that_is_kept_is_as_its_target_claims() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in fuzz::TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() >= 3, "{name} has {} inputs", inputs.len());
        for input in inputs {
            eprintln!("{}", input.display());
            run(&fs::read(&input).unwrap());
        }
    }
}
