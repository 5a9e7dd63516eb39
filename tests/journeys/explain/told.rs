//! What a mistake is told as.

use std::time::Duration;

use cast::cluster::Kubectl;
use cast::time::{comes_true, pause};

use crate::stage::PATIENCE;

/// From one look to the next: each is a program and a dozen questions, and others want the machine too.
const PERIOD: Duration = Duration::from_millis(300);

/// Waits until `kubectl postern WORDS...` has a line that contains all of `parts`, which are a reason and the essential words
/// of what is wrong and what mends it; and, as something is wrong, that it says so by its exit status.
#[track_caller]
pub(crate) fn says(tenant: &Kubectl, words: &[&str], parts: &[&str]) -> String {
    says_with(tenant, words, Some(1), parts)
}

/// The same of what may be meant so: nothing is wrong.
#[track_caller]
pub(crate) fn hints(tenant: &Kubectl, words: &[&str], parts: &[&str]) -> String {
    says_with(tenant, words, Some(0), parts)
}

#[track_caller]
fn says_with(tenant: &Kubectl, words: &[&str], code: Option<i32>, parts: &[&str]) -> String {
    let mut last = None;
    let mut line = String::new();
    let is_said = comes_true(PATIENCE, || {
        let outcome = tenant.postern(words);
        let found = outcome.out.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        found.unwrap_or_default().clone_into(&mut line);
        let is_said = !line.is_empty() && outcome.code == code;
        last = Some(outcome);
        if !is_said {
            pause(PERIOD);
        }
        is_said
    });
    assert!(is_said, "kubectl postern {words:?} does not say {parts:?} with exit status {code:?}: {last:#?}");
    line
}
