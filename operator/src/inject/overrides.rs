//! What a pod's annotations say of its own sidecar.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Note, Reason, Refusal, quantity};
use crate::choose::shorten;
use crate::names::{
    CONFIG_HASH, CPU_LIMIT, CPU_REQUEST, IMAGE, INJECT, LOG_LEVEL, MEMORY_LIMIT, MEMORY_REQUEST, PORT_PREFIX, PREFIX,
    SIDECAR_HASH,
};

/// Annotations by name.
pub(super) type Annotations = BTreeMap<String, String>;

/// What a pod's annotations say of its own sidecar.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    pub(super) image: Option<String>,
    pub(super) requests: BTreeMap<String, Quantity>,
    pub(super) limits: BTreeMap<String, Quantity>,
    /// Ports by proxy.
    pub(super) ports: BTreeMap<String, u16>,
}

/// Annotations that mean something on a pod; besides them, those that begin with [`PORT_PREFIX`].
const KNOWN: [&str; 9] =
    [INJECT, CONFIG_HASH, SIDECAR_HASH, IMAGE, LOG_LEVEL, CPU_REQUEST, MEMORY_REQUEST, CPU_LIMIT, MEMORY_LIMIT];

/// What `postern.dev/log-level` can be.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

// === impl Overrides ===

impl Overrides {
    /// Reads what can be read; an annotation that cannot mean anything is refused.
    pub(super) fn read(annotations: &Annotations) -> Result<Self, Refusal> {
        let mut overrides = Self { image: image(annotations)?, ..Self::default() };
        for (annotation, resource, example, is_limit) in [
            (CPU_REQUEST, "cpu", "50m", false),
            (MEMORY_REQUEST, "memory", "32Mi", false),
            (CPU_LIMIT, "cpu", "500m", true),
            (MEMORY_LIMIT, "memory", "256Mi", true),
        ] {
            let Some(amount) = annotations.get(annotation) else { continue };
            if quantity::parse(amount).is_none() {
                return Err(bad(
                    annotation,
                    amount,
                    &format!("is no amount of {resource}; write one such as {example}"),
                ));
            }
            let amounts = if is_limit { &mut overrides.limits } else { &mut overrides.requests };
            amounts.insert(resource.into(), Quantity(amount.clone()));
        }
        for (annotation, port) in annotations.iter().filter(|(name, _)| name.starts_with(PORT_PREFIX)) {
            match port.parse::<u16>() {
                Ok(number) if number > 0 && port.starts_with(|c: char| c.is_ascii_digit()) => {
                    overrides.ports.insert(annotation[PORT_PREFIX.len()..].to_owned(), number);
                }
                _ => return Err(bad(annotation, port, "is no port; write a number from 1 to 65535")),
            }
        }
        Ok(overrides)
    }
}

fn image(annotations: &Annotations) -> Result<Option<String>, Refusal> {
    let Some(image) = annotations.get(IMAGE) else { return Ok(None) };
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    if image.is_empty() || image.len() > 512 || image.contains(is_odd) {
        return Err(bad(IMAGE, image, "is no image; write one such as registry.example/postern/gateway:0.1.0"));
    }
    Ok(Some(image.clone()))
}

fn bad(annotation: &str, value: &str, what: &str) -> Refusal {
    Reason::BadAnnotation.because(format!("the annotation {annotation} is {:?}, which {what}", shorten(value)))
}

/// What is odd about the annotations, and hinders nothing.
pub(super) fn notes(annotations: &Annotations) -> Vec<Note> {
    let is_unknown =
        |name: &&String| name.starts_with(PREFIX) && !name.starts_with(PORT_PREFIX) && !KNOWN.contains(&name.as_str());
    let unknown = annotations.keys().filter(is_unknown).map(|name| {
        let name = shorten(name);
        let known = "inject, image, log-level, cpu-request, memory-request, cpu-limit, memory-limit and port.PROXY";
        Note::new(
            "UnknownAnnotation",
            format!("the annotation {name} means nothing; behind {PREFIX} there are {known}"),
        )
    });
    let level = annotations.get(LOG_LEVEL).filter(|level| !level.is_empty() && !LEVELS.contains(&level.as_str()));
    let level = level.map(|level| {
        let (level, levels) = (shorten(level), LEVELS.join(", "));
        Note::new("BadLogLevel", format!("the annotation {LOG_LEVEL} is {level:?}, which is none of {levels}"))
    });
    unknown.chain(level).collect()
}
