//! "Use it by hand" in the README: its file and its commands, with nothing exchanged but ports.

use std::os::unix::fs::symlink;
use std::process::Command;

use cast::loopback::free_address;
use cast::process::{owned, run};
use cast::{Folder, Page, Postgres, Process, gateway};

use crate::shell;

/// What the page says, and what is here.
struct Here(Vec<(String, String)>);

impl Here {
    fn of(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }
}

#[test]
fn what_the_readme_does_by_hand_does_it() {
    let page = Page::read("README.md");
    let below = |block: &&cast::pages::Block| block.heading == "Use it by hand";
    let blocks = page.blocks();
    let config = blocks.iter().filter(below).find(|block| block.info == "yaml").expect("the page has ten lines");
    let commands =
        blocks.iter().filter(below).find(|block| block.text.contains("gateway run -f")).expect("and uses them");
    let postgres = Postgres::start();
    let [server, admin] = [free_address(), free_address()];
    let port = |there: u16, here: u16| (format!("-p {there}"), format!("-h {} -p {here}", server.ip()));
    let here = Here(vec![
        ("127.0.0.1:6432".into(), server.to_string()),
        ("127.0.0.1:5432".into(), postgres.address().to_string()),
        ("127.0.0.1:19187".into(), admin.to_string()),
        port(6432, server.port()),
    ]);
    let folder = Folder::new("hand");
    symlink(gateway::binary(), folder.join("gateway")).unwrap();
    std::fs::write(folder.join("orders.yaml"), here.of(&config.text)).unwrap();
    let shell = |command: &mut Command, line: &str| {
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        command.args(["-c", line]).env("PATH", path).env("PGUSER", "postgres").current_dir(&*folder);
    };
    let said = |line: &str| {
        let mut command = Command::new("sh");
        shell(&mut command, line);
        run(&mut command)
    };
    let mut serving = None;
    for line in shell::lines(&commands.text) {
        let line = here.of(&line.text);
        match line.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["gateway", "run"] => {
                let mut command = owned("sh");
                shell(&mut command, &format!("exec {line}"));
                serving = Some(Process::start("the gateway", &mut command));
            }
            ["gateway", "check"] => assert!(said(&line).contains("GatewayConfig orders is valid.")),
            ["gateway", "wait"] => drop(said(&line)),
            ["psql", ..] => assert_eq!(said(&format!("{line} -X -At -c 'select 1 + 1'")).trim(), "2"),
            ["curl", ..] if line.ends_with("/metrics") => assert!(said(&line).contains("postern_sessions_total")),
            ["curl", ..] => assert!(said(&line).contains("\"generation\":1")),
            _ => panic!("nothing is known of {line}"),
        }
    }
    assert!(serving.is_some_and(|mut gateway| gateway.ended().is_none()), "the gateway does not run");
}
