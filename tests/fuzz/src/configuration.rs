//! The file that a gateway follows: loaded or refused with sentences, in bounded time; and what the operator makes of what is
//! loaded comes to the same.

use gateway::config::{Config, admin_of, check, load};
use gateway::log::asked_level;
use serde::Deserialize;
use serde_json::Value;

/// No document has more problems said than this: fifty, and how many more there are.
const MOST_PROBLEMS: usize = 51;

/// A document, or the file in which a pod asks for a log level.
pub fn run(data: &[u8]) {
    // What is no level is told in one line.
    assert!(asked_level(data).map_or_else(|sentence| !sentence.contains('\n'), |_| true));
    let explained = check::check(data);
    match load(data) {
        Ok(config) => {
            assert!(explained.valid && explained.problems.is_none());
            assert_eq!(explained.proxies.len(), config.proxies.len());
            assert_eq!(admin_of(data), config.admin);
            assert_eq!(load(data).as_ref(), Ok(&config));
            rendered(data, &config);
        }
        Err(problems) => {
            assert!(!explained.valid && explained.problems.is_some());
            assert!((1..=MOST_PROBLEMS).contains(&problems.iter().count()));
            assert!(problems.iter().all(|problem| !problem.message.is_empty()));
            admin_of(data);
        }
    }
}

/// The operator reads the same as a resource, and what it writes for a sidecar is loaded as the same configuration.
fn rendered(data: &[u8], config: &Config) {
    let Some(mut whole) = tree(data) else { return };
    let mut spec = whole["spec"].take();
    assert!(crds::shape::check(&mut spec).is_empty(), "the gateway has found nothing");
    let spec = crds::GatewayConfigSpec::deserialize(&spec).expect("it has the shape of one");
    let resource = crds::GatewayConfig::new(&config.name, spec);
    let written = operator::render::render(&resource).document;
    assert_eq!(load(written.as_bytes()).as_ref(), Ok(config), "written as\n{written}");
}

/// The document as another reader of YAML sees it; none where the two differ by what they are.
fn tree(data: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(data).ok()?;
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let first = serde_yaml::Value::deserialize(documents.next()?).ok()?;
    // A merged key is not merged here, and nobody knows what stands behind the first document.
    let is_plain = !text.contains("<<") && documents.next().is_none();
    is_plain.then(|| serde_json::to_value(first).ok()).flatten()
}
