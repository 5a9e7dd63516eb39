//! `gateway/SETTINGS.md` has every setting, in the order of the README's table.

use cast::Page;
use crds::table::settings;

#[test]
fn every_setting_says_when_to_change_it() {
    let page = Page::read("gateway/SETTINGS.md");
    let rows = page.text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: Vec<(&str, &str)> = rows.collect();
    let told: Vec<&str> = rows.iter().map(|(path, _)| *path).collect();
    let there = settings();
    let there: Vec<&str> = there.iter().map(|setting| &*setting.path).collect();
    assert_eq!(told, there);
    let empty = rows.iter().find(|(_, when)| when.trim_end_matches(['|', ' ', '.']).is_empty());
    assert_eq!(empty, None, "it does not say when");
}
