//! Tells the linker what to place side by side, where it can be told: what every run needs of the C library
//! (`link-order.txt` says why), and what hardly any run does, which the compiler knows.

use std::env;

/// For this one Rust brings the linker along that understands it.
const KNOWN: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=link-order.txt");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if let Ok(folder) = env::var("CARGO_MANIFEST_DIR")
        && is("TARGET", KNOWN)
        && is("PROFILE", "release")
    {
        println!("cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={folder}/link-order.txt");
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering,-z,keep-text-section-prefix");
    }
}
