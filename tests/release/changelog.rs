//! The changelog, in the form of keepachangelog.com: a section for each version, the newest one first.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cast::images::VERSION;

/// Where it is.
pub(crate) const FILE: &str = "charts/postern/CHANGELOG.md";

/// What is in no version yet.
const UNRELEASED: &str = "Unreleased";

/// One of its sections.
#[derive(Debug)]
struct Section<'a> {
    version: &'a str,
    /// The day of the release, as in 2026-11-28.
    day: Option<&'a str>,
    text: &'a str,
}

/// The section of this version, in the workspace at `root`.
pub(crate) fn of_this_version(root: &Path) -> Result<String> {
    let text = fs::read_to_string(root.join(FILE)).with_context(|| format!("cannot read {FILE}"))?;
    of_version(&text, VERSION)
}

/// The version of the newest section.
pub(crate) fn newest(text: &str) -> Option<&str> {
    sections(text).iter().map(|section| section.version).find(|version| *version != UNRELEASED)
}

fn of_version(text: &str, version: &str) -> Result<String> {
    let sections = sections(text);
    for section in &sections {
        if section.version == UNRELEASED {
            ensure!(section.text.is_empty(), "{FILE}: what is under {UNRELEASED} belongs under {version}");
        } else if section.version == version {
            let Some(day) = section.day.filter(|day| is_day(day)) else {
                bail!("{FILE}: {version} has no day; write it as in ## [{version}] - 2026-11-28")
            };
            ensure!(!section.text.is_empty(), "{FILE}: nothing is under {version}");
            return Ok(format!("# Postern {version} ({day})\n\n{}\n", section.text));
        }
    }
    bail!("{FILE} has no section {version}; it begins with ## [{version}] - and the day")
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let parts = text.split("\n## ").skip(1).map(|part| part.split_once('\n').unwrap_or((part, "")));
    parts
        .map(|(heading, text)| {
            let (version, day) =
                heading.split_once(" - ").map_or((heading, None), |(one, day)| (one, Some(day.trim())));
            Section { version: version.trim().trim_matches(['[', ']']), day, text: text.trim() }
        })
        .collect()
}

/// Whether it is written as a day: 2026-11-28.
fn is_day(text: &str) -> bool {
    let form = |letter: char| if letter.is_ascii_digit() { '0' } else { letter };
    text.chars().map(form).eq("0000-00-00".chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Changelog\n\nAll of it.\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-31\n\n### Added\n\n- Doors.\n\n\
                        ## [0.1.0] - 2026-11-28\n\n### Added\n\n- Walls.\n";

    #[test]
    fn a_version_has_its_own_section() {
        assert_eq!(newest(TEXT), Some("0.2.0"));
        assert_eq!(of_version(TEXT, "0.1.0").unwrap(), "# Postern 0.1.0 (2026-11-28)\n\n### Added\n\n- Walls.\n");
        assert_eq!(of_version(TEXT, "0.2.0").unwrap(), "# Postern 0.2.0 (2027-01-31)\n\n### Added\n\n- Doors.\n");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (from, to, said) in [
            ("[0.2.0]", "[0.3.0]", "has no section 0.2.0"),
            ("2027-01-31", "soon", "0.2.0 has no day"),
            (" - 2027-01-31", "", "0.2.0 has no day"),
            ("### Added\n\n- Doors.", "", "nothing is under 0.2.0"),
            ("[Unreleased]\n", "[Unreleased]\n\n- Windows.\n", "what is under Unreleased belongs under 0.2.0"),
        ] {
            let error = of_version(&TEXT.replacen(from, to, 1), "0.2.0").expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn ours_has_this_version() {
        let changes = of_this_version(&cast::workspace::root()).expect("it can be released");
        assert!(changes.contains("\n- "), "{changes}");
    }
}
