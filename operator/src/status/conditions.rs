//! The five conditions, each from what was found.

use super::{ACCEPTED, DEGRADED, Delivery, Observed, PROGRAMMED, READY, RESTART_REQUIRED, Said};
use crate::sidecars::Summary;

/// Sentences on restarts that are told; of more, only the number.
const MAX_RESTARTS: usize = 5;

/// All of them, in the order in which a person would ask.
pub(super) fn all(observed: &Observed<'_>) -> [Said; 5] {
    [accepted(observed), programmed(observed), ready(observed), degraded(observed), restart_required(observed)]
}

fn said(name: &'static str, holds: bool, reason: &'static str, sentence: impl Into<String>) -> Said {
    Said { name, holds, reason, sentence: sentence.into() }
}

fn accepted(observed: &Observed<'_>) -> Said {
    match &observed.delivery {
        Delivery::Invalid(sentences) => said(ACCEPTED, false, "Invalid", sentences),
        _ => said(ACCEPTED, true, "Valid", "the configuration can be served"),
    }
}

fn programmed(observed: &Observed<'_>) -> Said {
    match &observed.delivery {
        Delivery::Done => said(PROGRAMMED, true, "Delivered", "the newest configuration is delivered"),
        Delivery::Invalid(_) => {
            let sentence = match observed.hash {
                Some(_) => "the configuration is invalid; the last good one stays delivered",
                None => "the configuration is invalid; nothing is delivered",
            };
            said(PROGRAMMED, false, "NotAccepted", sentence)
        }
        Delivery::Taken(sentence) => said(PROGRAMMED, false, "ConfigMapTaken", sentence),
        Delivery::Failed(sentence) => said(PROGRAMMED, false, "DeliveryFailed", sentence),
    }
}

fn ready(observed: &Observed<'_>) -> Said {
    let pods = observed.pods;
    match &observed.delivery {
        Delivery::Invalid(_) => return said(READY, false, "NotAccepted", "the configuration is invalid; see Accepted"),
        Delivery::Taken(sentence) => return said(READY, false, "ConfigMapTaken", sentence),
        Delivery::Failed(sentence) => return said(READY, false, "DeliveryFailed", sentence),
        Delivery::Done => {}
    }
    if pods.failed > 0 {
        return said(READY, false, "PodsFailing", failing(pods));
    }
    if pods.stale > 0 {
        let sentence = format!(
            "{} of {} not serve the newest configuration yet{}",
            pods.stale,
            if pods.injected == 1 { "1 pod does".into() } else { format!("{} pods do", pods.injected) },
            hidden(pods)
        );
        return said(READY, false, "WaitingForPods", sentence);
    }
    match (pods.injected, pods.up_to_date, pods.unknown) {
        (0, _, _) => said(READY, true, "NoPods", "no pod has the sidecar with this configuration yet"),
        (_, 0, 0) => said(READY, true, "PodsStarting", format!("{} about to start", are(begin(pods)))),
        (_, 0, _) => {
            let why = pods.unreachable.as_deref().unwrap_or_default();
            said(READY, true, "PodsUnknown", format!("{} cannot be asked: {why}", count(pods.unknown)))
        }
        _ => {
            let sentence = format!("{} the newest configuration{}{}", serve(pods), starting(pods), hidden(pods));
            said(READY, true, "UpToDate", sentence)
        }
    }
}

fn degraded(observed: &Observed<'_>) -> Said {
    if observed.pods.failed > 0 {
        return said(DEGRADED, true, "PodsFailing", failing(observed.pods));
    }
    if observed.uninjected > 0 {
        let sentence = match observed.uninjected {
            1 => "1 pod that asked for the sidecar runs without it, created while the operator was away; restart it"
                .into(),
            many => format!(
                "{many} pods that asked for the sidecar run without it, created while the operator was away; restart them"
            ),
        };
        return said(DEGRADED, true, "NotInjected", sentence);
    }
    said(DEGRADED, false, "AsExpected", "there is nothing to complain of")
}

fn restart_required(observed: &Observed<'_>) -> Said {
    let pods = observed.pods;
    if pods.to_restart == 0 {
        return said(RESTART_REQUIRED, false, "AsExpected", "all of it is in effect");
    }
    let mut sentences: Vec<String> = pods.restarts.keys().take(MAX_RESTARTS).cloned().collect();
    if pods.restarts.len() > MAX_RESTARTS {
        sentences.push(format!("and {} more", pods.restarts.len() - MAX_RESTARTS));
    }
    let sentence = format!("restart {}: {}", count(pods.to_restart), sentences.join("; "));
    said(RESTART_REQUIRED, true, "PodsOutdated", sentence)
}

/// The first pod that fails, with its own sentence, and how many more do.
fn failing(pods: &Summary) -> String {
    let first = pods.failing.first().map(|pod| format!("{}: {}", pod.name, pod.reason)).unwrap_or_default();
    match pods.failed {
        0 | 1 => first,
        many => format!("{many} of {} fail, the first is {first}", count(pods.injected)),
    }
}

fn count(pods: usize) -> String {
    if pods == 1 { "1 pod".into() } else { format!("{pods} pods") }
}

fn are(pods: usize) -> String {
    if pods == 1 { "1 pod is".into() } else { format!("{pods} pods are") }
}

fn serve(pods: &Summary) -> String {
    match (pods.injected, pods.up_to_date) {
        (1, 1) => "1 pod serves".into(),
        (all, some) if all == some => format!("{all} pods serve"),
        (all, some) => format!("{some} of {} serve", count(all)),
    }
}

/// Pods of which nothing can be known yet; a new pod makes nothing unready.
fn begin(pods: &Summary) -> usize {
    pods.starting + pods.unasked
}

fn starting(pods: &Summary) -> String {
    if begin(pods) == 0 { String::new() } else { format!(", {} about to start", begin(pods)) }
}

fn hidden(pods: &Summary) -> String {
    match (&pods.unreachable, pods.unknown) {
        (_, 0) | (None, _) => String::new(),
        (Some(why), some) => format!("; {some} cannot be asked, the first is {why}"),
    }
}
