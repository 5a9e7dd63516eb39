//! Every configuration of every page is one.

use std::fs;

use cast::gateway::cli;
use cast::{Folder, pages};

#[test]
fn every_configuration_of_every_page_is_valid() {
    let folder = Folder::new("pages");
    let file = folder.join("config.yaml").display().to_string();
    let mut count = 0;
    for page in pages::all() {
        for block in page.configurations() {
            fs::write(&file, &block.text).unwrap();
            let (status, said) = cli(&["check", "-f", &file]);
            assert_eq!(status, Some(0), "{}\n{said}", page.place(&block));
            count += 1;
        }
    }
    assert!(count >= 9, "only {count} configurations were found");
}

#[test]
fn what_looks_like_a_configuration_is_marked_as_one() {
    for page in pages::all() {
        for block in page.blocks() {
            let is_one = block.text.contains("kind: GatewayConfig") && block.text.contains("proxies:");
            assert!(!is_one || block.info.starts_with("yaml"), "{} is a yaml block", page.place(&block));
        }
    }
}
