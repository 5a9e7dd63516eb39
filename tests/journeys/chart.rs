//! The chart: what Helm makes of it, what it refuses, and what its rules let the operator's account do. No cluster is needed.

use clap::Parser;
use operator::settings::Settings;
use serde_json::{Value, json};

#[path = "chart/render.rs"]
mod render;
#[path = "chart/cel.rs"]
mod cel;
#[path = "chart/rendering.rs"]
mod rendering;
#[path = "chart/values.rs"]
mod values;
#[path = "chart/agreement.rs"]
mod agreement;
#[path = "chart/rights.rs"]
mod rights;
#[path = "chart/asking.rs"]
mod asking;
#[path = "chart/fence.rs"]
mod fence;
#[path = "chart/monitoring.rs"]
mod monitoring;

use render::Objects;

/// The program as the image's entrypoint has it.
#[derive(Parser)]
enum Program {
    Run(Box<Settings>),
    Probe(operator::probe::Settings),
}

/// The operator's pod.
fn operator_pod(objects: &Objects) -> &Value {
    &objects.the("Deployment", "postern-operator")["spec"]["template"]["spec"]
}

/// What the operator understands of its arguments.
fn settings(objects: &Objects) -> Settings {
    let arguments = operator_pod(objects)["containers"][0]["args"].as_array().expect("it has arguments");
    let arguments = arguments.iter().map(|argument| argument.as_str().expect("a word"));
    match Program::try_parse_from(["operator"].into_iter().chain(arguments)) {
        Ok(Program::Run(settings)) => *settings,
        Ok(Program::Probe(_)) => panic!("the Deployment probes"),
        Err(error) => panic!("the operator refuses the arguments of its Deployment: {error}"),
    }
}

fn rules(role: &Value) -> &[Value] {
    role["rules"].as_array().map_or(&[], Vec::as_slice)
}

/// A pod as its creator wrote it, with these annotations or none.
fn pod(annotations: Value) -> Value {
    let pod = json!({
        "metadata": {
            "name": "orders-1",
            "labels": {"app": "orders"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "orders"}],
        },
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    });
    with(&pod, "/metadata/annotations", annotations)
}

/// The same with another value in one place; null takes it away.
fn with(object: &Value, path: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (parent, key) = path.rsplit_once('/').expect("a path begins with a slash");
    let parent = object.pointer_mut(parent).and_then(Value::as_object_mut).expect("the place exists");
    if value.is_null() {
        parent.remove(key);
    } else {
        parent.insert(key.to_owned(), value);
    }
    object
}
