//! Every case of `cases/inject`: a pod and its namespace's configurations in, what becomes of the pod out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Map;

use super::*;
use crate::choose::Candidate;
use crate::names::INJECT;

/// Set, the whole results in `*.becomes.yaml` are written anew instead of compared.
const WRITE: &str = "POSTERN_WRITE_CASES";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    claim: String,
    #[serde(default)]
    called: Called,
    configs: Vec<Config>,
    #[serde(default)]
    pull_secrets: Vec<String>,
    pod: Value,
    /// The part of the injected pod that matters here, or the word `whole`: all of it, in a file beside.
    becomes: Option<Value>,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    again: bool,
    deny: Option<BTreeMap<String, String>>,
    skip: Option<BTreeMap<String, String>>,
    leave: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Called {
    #[default]
    Pod,
    Namespace,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Config {
    Named(String),
    Whole(Value),
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/inject")
}

fn yaml<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn candidates(configs: Vec<Config>) -> Vec<Candidate> {
    let named: BTreeMap<String, Value> = yaml(&folder().join("configs.yaml"));
    let read = |config| {
        let manifest = match config {
            Config::Named(name) => json!({ "metadata": { "name": name }, "spec": named[&name] }),
            Config::Whole(manifest) => manifest,
        };
        let config: GatewayConfig = serde_json::from_value(manifest).expect("a GatewayConfig");
        Candidate { name: config.name_any(), known: Ok(Arc::new(config)) }
    };
    configs.into_iter().map(read).collect()
}

fn defaults(pull_secrets: &[String]) -> Defaults {
    let amounts = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    Defaults {
        image: "registry.example/postern/gateway:0.1.0".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: pull_secrets.to_vec(),
        requests: amounts(&[("cpu", "10m"), ("memory", "16Mi")]),
        limits: amounts(&[("memory", "256Mi")]),
    }
}

/// Whether `whole` has all that `part` has: keys of maps, and entries of lists one by one; null is nothing.
fn differs(part: &Value, whole: Option<&Value>, path: &str) -> Option<String> {
    let none = Value::Null;
    let whole = whole.unwrap_or(&none);
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().find_map(|(key, part)| differs(part, whole.get(key), &format!("{path}.{key}")))
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => (part.iter().zip(whole).enumerate())
            .find_map(|(at, (part, whole))| differs(part, Some(whole), &format!("{path}[{at}]"))),
        _ if part == whole => None,
        _ => Some(format!("{path} is {whole:#}, not {part:#}")),
    }
}

#[test]
fn every_pod_becomes_what_its_case_says() {
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| !path.ends_with("configs.yaml") && !path.to_string_lossy().ends_with(".becomes.yaml"));
    files.sort();
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let case: Case = yaml(path);
            let claim = case.claim.clone();
            check(path, case).err().map(|what| format!("{}: {claim}\n{what}", path.display()))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(files.len() >= 60, "only {} cases were found", files.len());
}

fn check(path: &Path, case: Case) -> Result<(), String> {
    let called = match case.called {
        Called::Pod => Asker::Pod,
        Called::Namespace => Asker::Namespace,
    };
    let (configs, defaults) = (candidates(case.configs), defaults(&case.pull_secrets));
    let question = Question { pod: &case.pod, namespace: "shop", called };
    let expected = |refusals: &Option<BTreeMap<String, String>>| {
        refusals.as_ref().and_then(|map| map.iter().next().map(|(reason, sentence)| (reason.clone(), sentence.clone())))
    };
    let said = |refusal: &Refusal| Some((refusal.reason.word().to_owned(), refusal.sentence.clone()));
    let same = |said: Option<(String, String)>, expected| {
        if said == expected { Ok(()) } else { Err(format!("said {said:#?}, not {expected:#?}")) }
    };
    match decide(question, &configs, &defaults) {
        Decision::Leave(quiet) if case.leave.as_deref() == Some(quiet.reason()) => Ok(()),
        Decision::Leave(quiet) => Err(format!("it was left alone: {}", quiet.reason())),
        Decision::Deny(refusal) => same(said(&refusal), expected(&case.deny)),
        Decision::Skip(refusal) => same(said(&refusal), expected(&case.skip)),
        Decision::Inject(injection) => {
            let notes: Vec<String> =
                injection.notes.iter().map(|note| format!("{}: {}", note.reason, note.sentence)).collect();
            if notes != case.notes {
                return Err(format!("noted {notes:#?}, not {:#?}", case.notes));
            }
            if injection.is_again != case.again {
                return Err(format!("again is {}", injection.is_again));
            }
            check_sound(&case.pod, &injection, called, &configs, &defaults)?;
            let becomes = case.becomes.ok_or("it was injected")?;
            if becomes != "whole" {
                return differs(&becomes, Some(&injection.pod), "pod").map_or(Ok(()), Err);
            }
            let path = path.with_extension("becomes.yaml");
            if env::var_os(WRITE).is_some() {
                fs::write(&path, serde_yaml::to_string(&injection.pod).unwrap()).unwrap();
            }
            if yaml::<Value>(&path) == injection.pod {
                Ok(())
            } else {
                Err(format!("it became\n{}", serde_yaml::to_string(&injection.pod).unwrap()))
            }
        }
    }
}

#[test]
fn an_annotation_that_is_more_than_a_value_is_refused_in_one_line() {
    let (configs, defaults) = (candidates(vec![Config::Named("orders".into())]), defaults(&[]));
    let annotations = ["image", "cpu-request", "memory-request", "cpu-limit", "memory-limit", "port.orders"];
    let values = ["1\ncontainers: []", "1, \"x\": {}", "1\u{1b}[31m", "1\u{9b}2J", "5432\n", "1\u{2028}", "\0"];
    for (annotation, value) in annotations.iter().flat_map(|name| values.map(|value| (name, value))) {
        let said = json!({ INJECT: "true", format!("postern.dev/{annotation}"): value });
        let pod = json!({ "metadata": { "annotations": said }, "spec": { "containers": [{ "name": "app" }] } });
        match decide(Question { pod: &pod, namespace: "shop", called: Asker::Pod }, &configs, &defaults) {
            Decision::Deny(refusal) => {
                assert!(
                    !refusal.sentence.contains(|letter: char| letter.is_control() || letter == '\u{2028}'),
                    "{refusal:?}"
                );
            }
            decision => panic!("{annotation}: {value:?}: {decision:?}"),
        }
    }
}

/// What holds for every injected pod.
fn check_sound(
    raw: &Value,
    injection: &Injection,
    called: Asker,
    configs: &[Candidate],
    defaults: &Defaults,
) -> Result<(), String> {
    let mut patched = raw.clone();
    json_patch::patch(&mut patched, &injection.patch).map_err(|error| error.to_string())?;
    if patched != injection.pod {
        return Err("the patch does not make the pod".into());
    }
    let question = Question { pod: &patched, namespace: "shop", called };
    match decide(question, configs, defaults) {
        Decision::Inject(again) if again.patch.is_empty() && again.is_again => {}
        Decision::Inject(again) => return Err(format!("the second time changes {:#}", again.patch)),
        decision => return Err(format!("the second time: {decision:?}")),
    }
    let pod: Pod = serde_json::from_value(patched.clone()).map_err(|error| error.to_string())?;
    if let Some(lost) = differs(&without_nulls(&patched), Some(&serde_json::to_value(pod).unwrap()), "pod") {
        return Err(format!("Kubernetes does not know all of it: {lost}"));
    }
    for (list, from) in [("containers", raw), ("initContainers", raw)] {
        let is_replaced = |container: &&Value| !injection.is_again && container["name"] == CONTAINER;
        for container in from["spec"][list].as_array().into_iter().flatten().filter(|it| !is_replaced(it)) {
            let list = patched["spec"][list].as_array().ok_or("a list went away")?;
            let same = list.iter().find(|other| other["name"] == container["name"]).ok_or("a container went away")?;
            if unchanged(container) != unchanged(same) {
                return Err(format!("the container {} was changed", container["name"]));
            }
        }
    }
    Ok(())
}

/// A container without what the injection may add to.
fn unchanged(container: &Value) -> Map<String, Value> {
    let mut container = container.as_object().expect("a container").clone();
    for list in ["env", "volumeMounts"] {
        container.remove(list);
    }
    container
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(without_nulls).collect()),
        value => value.clone(),
    }
}

#[test]
fn a_pod_without_end_is_refused_soon() {
    let containers: Vec<Value> = (0..100_000).map(|number| json!({ "name": format!("c{number}") })).collect();
    let pod = json!({"metadata": {"annotations": {INJECT: "true"}}, "spec": {"containers": containers}});
    let configs = candidates(vec![Config::Named("orders".into())]);
    let question = Question { pod: &pod, namespace: "shop", called: Asker::Pod };
    let Decision::Deny(refusal) = decide(question, &configs, &defaults(&[])) else { panic!("it is refused") };
    assert_eq!(
        refusal.sentence,
        "the pod has 100000 containers, and one with more than 256 gets no sidecar; write postern.dev/inject: \"false\""
    );
}

#[test]
fn a_list_of_what_a_pod_has_is_no_pod() {
    let pod = json!([{"annotations": {INJECT: "true"}}, {"containers": [{"name": "app"}]}]);
    let configs = candidates(vec![Config::Named("orders".into())]);
    let question = Question { pod: &pod, namespace: "shop", called: Asker::Pod };
    let Decision::Deny(refusal) = decide(question, &configs, &defaults(&[])) else { panic!("it is refused") };
    assert_eq!(refusal.sentence, "the pod cannot be read: it is no object");
}

/// Pods as people write them, and as they should not.
fn pods() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        4 => Just("app"), 2 => Just("migrate"), 1 => Just("istio-proxy"), 1 => Just("linkerd-init"),
        1 => Just("postern-gateway"), 1 => Just("sidecar"),
    ];
    let variable = (
        prop_oneof![Just("PGHOST"), Just("PGPORT"), Just("URL"), Just("POSTERN_ORDERS_HOST")],
        prop_oneof![Just("127.0.0.1"), Just("5432"), Just("postgres://db.example:5432/x"), Just("")],
    );
    let env = proptest::option::of(proptest::collection::vec(variable, 0..3));
    let port = proptest::option::of((prop_oneof![Just(5432), Just(19187), Just(8080)], any::<bool>()));
    let mount = proptest::option::of(prop_oneof![Just("/var/run/postern"), Just("/data")]);
    let container = (names, env, port, mount, any::<bool>()).prop_map(|(name, env, port, mount, native)| {
        let mut container = json!({ "name": name });
        if let Some(env) = env {
            let env = env.iter().map(|(name, value)| json!({ "name": name, "value": value }));
            container["env"] = env.collect();
        }
        if let Some((number, udp)) = port {
            container["ports"] = json!([{ "containerPort": number, "protocol": if udp { "UDP" } else { "TCP" } }]);
        }
        if let Some(path) = mount {
            container["volumeMounts"] = json!([{ "name": "data", "mountPath": path }]);
        }
        if native {
            container["restartPolicy"] = "Always".into();
        }
        container
    });
    let containers = proptest::collection::vec(container, 0..5);
    let annotation = (
        prop_oneof![
            Just("postern.dev/image"),
            Just("postern.dev/port.orders"),
            Just("postern.dev/cpu-limit"),
            Just("x")
        ],
        prop_oneof![Just("1"), Just("6543"), Just("img"), Just("")],
    );
    let annotations = proptest::collection::btree_map(annotation.0, annotation.1, 0..3);
    let volume = proptest::option::of(prop_oneof![Just("data"), Just("postern-run"), Just("postern-config")]);
    (containers.clone(), proptest::option::of(containers), annotations, volume, any::<bool>()).prop_map(
        |(mut containers, mut init, annotations, volume, aliased)| {
            // As the API server asks for.
            let mut seen = BTreeSet::new();
            for list in [Some(&mut containers), init.as_mut()].into_iter().flatten() {
                list.retain(|container| seen.insert(container["name"].to_string()));
            }
            let mut pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": containers}});
            pod["metadata"]["annotations"][INJECT] = "true".into();
            if let Some(init) = init {
                pod["spec"]["initContainers"] = init.into();
            }
            if let Some(volume) = volume {
                pod["spec"]["volumes"] = json!([{ "name": volume, "configMap": { "name": "orders-postern" } }]);
            }
            if aliased {
                pod["spec"]["hostAliases"] = json!([{ "ip": "127.0.0.2", "hostnames": ["db-0.db"] }]);
            }
            pod
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_pod_it_is_refused_with_a_sentence_or_sound(
        pod in pods(),
        config in prop_oneof![Just("orders"), Just("several"), Just("sockets"), Just("names"), Just("mapped"), Just("unfound")],
    ) {
        let (configs, defaults) = (candidates(vec![Config::Named(config.into())]), defaults(&[]));
        let question = Question { pod: &pod, namespace: "shop", called: Asker::Pod };
        match decide(question, &configs, &defaults) {
            Decision::Inject(injection) => {
                let sound = check_sound(&pod, &injection, Asker::Pod, &configs, &defaults);
                prop_assert_eq!(sound, Ok(()));
                let made = &injection.pod["spec"];
                let named = |list: &str, key: &str| -> Vec<String> {
                    made[list].as_array().into_iter().flatten().map(|entry| entry[key].to_string()).collect()
                };
                let ours = named("initContainers", "name").iter().filter(|name| *name == "\"postern-gateway\"").count();
                prop_assert_eq!(ours, 1);
            }
            Decision::Deny(refusal) => prop_assert!(!refusal.sentence.is_empty()),
            decision => prop_assert!(false, "{decision:?}"),
        }
    }
}
