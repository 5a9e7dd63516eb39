//! Tells the linker what to place side by side, where it can be told: what every run needs of the C library
//! (`link-order.txt` says why) and of Rust (`link-order.ld`), and what hardly any run does, which the compiler knows.

use std::env;

/// Here, and for here, Rust brings the linker along that understands it.
const KNOWN: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=link-order.txt");
    println!("cargo::rerun-if-changed=link-order.ld");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if let Ok(folder) = env::var("CARGO_MANIFEST_DIR")
        && is("HOST", KNOWN)
        && is("TARGET", KNOWN)
        && is("PROFILE", "release")
    {
        // Other than with -Wl, a comma in the path is one.
        println!("cargo::rustc-link-arg-bins=-Xlinker");
        println!("cargo::rustc-link-arg-bins=--symbol-ordering-file={folder}/link-order.txt");
        println!("cargo::rustc-link-arg-bins=-Xlinker");
        println!("cargo::rustc-link-arg-bins=--script={folder}/link-order.ld");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering,-z,keep-text-section-prefix");
    }
}
