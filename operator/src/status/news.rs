//! What of a changed status people shall read as an event: what begins, and what an edit brings; never a count that
//! merely changes.

use crds::GatewayConfigStatus;

use super::{ACCEPTED, DEGRADED, PROGRAMMED, READY, REASONS, RESTART_REQUIRED, find, holds};
use crate::events::Severity;

/// One event on a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether somebody has to do something.
    pub severity: Severity,
    /// The reason of the condition that changed.
    pub reason: &'static str,
    /// Its sentence.
    pub sentence: String,
}

/// When a condition is news.
struct Rule {
    name: &'static str,
    /// The state that is told.
    holds: bool,
    severity: Severity,
    /// When a state that lasts is told again.
    again: Again,
}

/// When a state that lasts is told again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Never.
    Never,
    /// When its sentence is another one.
    Sentence,
    /// When something else is delivered.
    Edit,
}

/// What is told, in this order.
const RULES: [Rule; 6] = [
    Rule { name: ACCEPTED, holds: false, severity: Severity::Warning, again: Again::Sentence },
    Rule { name: PROGRAMMED, holds: false, severity: Severity::Warning, again: Again::Never },
    Rule { name: PROGRAMMED, holds: true, severity: Severity::Normal, again: Again::Edit },
    Rule { name: DEGRADED, holds: true, severity: Severity::Warning, again: Again::Never },
    Rule { name: RESTART_REQUIRED, holds: true, severity: Severity::Warning, again: Again::Never },
    Rule { name: READY, holds: true, severity: Severity::Normal, again: Again::Never },
];

/// The events that the change from `before` to `now` deserves.
pub fn news(before: &GatewayConfigStatus, now: &GatewayConfigStatus) -> Vec<News> {
    RULES.iter().filter_map(|rule| rule.apply(before, now)).collect()
}

// === impl Rule ===

impl Rule {
    fn apply(&self, before: &GatewayConfigStatus, now: &GatewayConfigStatus) -> Option<News> {
        let condition = find(now, self.name).filter(|_| holds(now, self.name) == self.holds)?;
        let earlier = find(before, self.name).filter(|_| holds(before, self.name) == self.holds);
        let is_again = match self.again {
            Again::Never => false,
            Again::Sentence => earlier.is_some_and(|earlier| earlier.message != condition.message),
            Again::Edit => before.config_hash != now.config_hash,
        };
        if !is_again && earlier.is_some_and(|earlier| earlier.reason == condition.reason) {
            return None;
        }
        let (reason, _) = REASONS.iter().find(|(reason, _)| *reason == condition.reason)?;
        // Nobody reads that nothing has happened.
        let is_silent = matches!(*reason, "NotAccepted" | "NoPods" | "PodsStarting" | "PodsUnknown");
        (!is_silent).then(|| News { severity: self.severity, reason, sentence: condition.message.clone() })
    }
}
