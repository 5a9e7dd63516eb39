//! A pod that is about to be created: it is refused with a sentence, or gets a sidecar by a patch that does what it says and
//! changes nothing the second time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::GatewayConfig;
use operator::choose::{Asker, Candidate};
use operator::inject::{Decision, Defaults, Injection, Question, decide};
use operator::names::CONTAINER;
use serde_json::{Value, json};

use super::input::Input;

/// The configurations that the operator's cases name.
const CONFIGS: &str = include_str!("../../../operator/cases/inject/configs.yaml");
/// No sentence is longer than what is told of it, and some words more.
const MOST_TOLD: usize = 4096;

thread_local! {
    static CANDIDATES: Vec<Candidate> = candidates();
}

fn candidates() -> Vec<Candidate> {
    let specs: BTreeMap<String, Value> = serde_yaml::from_str(CONFIGS).expect("specs by name");
    let read = |(name, spec): (String, Value)| {
        let config = serde_json::from_value::<GatewayConfig>(json!({ "metadata": { "name": &name }, "spec": spec }));
        Candidate { name, known: Ok(Arc::new(config.expect("a GatewayConfig"))) }
    };
    specs.into_iter().map(read).collect()
}

/// Which configurations there are, whether the namespace asks, then the pod as JSON.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (which, called) = (input.byte(), input.one_of(&[Asker::Pod, Asker::Namespace]));
    let Ok(pod) = serde_json::from_slice::<Value>(input.rest()) else { return };
    CANDIDATES.with(|all| {
        // One of them, so that a pod needs not name it; or all.
        let one = all.get(usize::from(which)).map_or(&all[..], std::slice::from_ref);
        judge(&pod, called, one);
    });
}

fn judge(pod: &Value, called: Asker, candidates: &[Candidate]) {
    let defaults = Defaults {
        image: "registry.example/postern/gateway:0.1.0".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: vec!["pull".into()],
        requests: BTreeMap::default(),
        limits: BTreeMap::default(),
    };
    let decide = |pod: &Value| decide(Question { pod, namespace: "shop", called }, candidates, &defaults);
    match decide(pod) {
        Decision::Leave(_) => {}
        Decision::Skip(refusal) | Decision::Deny(refusal) => {
            assert!(!refusal.sentence.is_empty(), "{:?}", refusal.reason);
        }
        Decision::Inject(injection) => {
            let patched = patched(pod, &injection);
            match decide(&patched) {
                Decision::Inject(again) => assert!(again.is_again && again.patch.is_empty(), "{:#}", again.patch),
                decision => panic!("the second time: {decision:?}"),
            }
        }
    }
}

/// The pod with its sidecar.
fn patched(pod: &Value, injection: &Injection) -> Value {
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &injection.patch).unwrap_or_else(|error| panic!("{error}: {:#}", injection.patch));
    assert_eq!(patched, injection.pod, "the patch does not make the pod");
    let sidecars = patched["spec"]["initContainers"].as_array().into_iter().flatten();
    assert_eq!(sidecars.filter(|container| container["name"] == CONTAINER).count(), 1);
    assert!(injection.notes.iter().all(|note| (1..MOST_TOLD).contains(&note.sentence.len())));
    patched
}
