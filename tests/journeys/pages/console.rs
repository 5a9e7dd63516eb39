//! The block at the beginning of `gateway/CONSOLE.md`, as psql has it on a real gateway.

use cast::postgres::psql;
use cast::process::run;
use cast::{Folder, Gateway, Page, Postgres, Proxy};

#[test]
fn the_consoles_first_sight_is_as_the_page_has_it() {
    let page = Page::read("gateway/CONSOLE.md");
    let blocks = page.blocks();
    let block = blocks.iter().find(|block| block.text.contains("SHOW POOLS;")).unwrap();
    let postgres = Postgres::start();
    let secrets = Folder::new("secrets");
    std::fs::create_dir(secrets.join("app")).unwrap();
    for key in ["username", "password"] {
        std::fs::write(secrets.join("app").join(key), "postgres").unwrap();
    }
    let proxy = Proxy::to(&postgres.address()).set("protocol", "postgres");
    let proxy = proxy.set("client.auth.secretName", "app").set("client.auth.database", "postgres");
    let gateway = Gateway::with(proxy).told(&["--secrets", &secrets.display().to_string()]).start();
    let asked = |words: &[&str]| run(psql(&gateway.address()).args(["-U", "postgres", "-d", "postern"]).args(words));
    // What only a terminal is greeted with.
    let version = asked(&["-c", "\\echo :SERVER_VERSION_NAME"]);
    let greeting = block.text.lines().find(|line| line.starts_with("psql (")).unwrap();
    assert!(greeting.ends_with(&format!("server {})", version.trim())), "{greeting} is of another version: {version}");
    let pools = asked(&["-P", "tuples_only=off", "-c", "SHOW POOLS"]);
    let (shown, seen) = (cells(&block.text, "database"), cells(&pools, "database"));
    assert!(shown.len() > 3 && seen.starts_with(&shown), "the page has the columns {shown:?}, and there are {seen:?}");
    let (shown, seen) = (cells(&block.text, "orders"), cells(&pools, "db"));
    let is_alike = |shown: &str, seen: &str| shown.is_empty() == seen.is_empty();
    let all = seen.len() > shown.len() && shown.iter().zip(&seen).all(|(shown, seen)| is_alike(shown, seen));
    assert!(all, "the page has the row {shown:?}, and there is {seen:?}");
}

/// The cells of the line that begins so, but for those that the page leaves out.
fn cells(text: &str, first: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>());
    let mut of_table = lines.filter(|cells| cells.len() > 2 && cells[0] == first);
    of_table.next().unwrap_or_default().into_iter().take_while(|cell| cell != "...").collect()
}
