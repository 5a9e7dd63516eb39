//! When the trouble is over everything agrees: what people wrote, what was delivered, what gateways serve, and what the
//! operator says of it. Whatever does not is a complaint, and in the end there are none.

use std::time::Duration;

use cast::time::{Stopwatch, comes_true, pause};
use crds::GatewayConfig;
use operator::render::{Rendered, render};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::replicas::{self, Replica, count, list};
use crate::stage::{App, condition};
use crate::world::World;

/// A container that died several times is started again after minutes; everything else is a matter of seconds.
const PATIENCE: Duration = Duration::from_mins(5);

/// Nothing is written, and nothing fails, for so long.
const CALM: Duration = Duration::from_secs(15);

/// A configuration has a turn every ten minutes anyway, and whenever pods change.
const TURNS: f64 = 10.0;

/// Waits until nobody complains, and then until nothing changes any more.
pub(crate) fn check(world: &mut World<'_>) {
    let watch = Stopwatch::start();
    let mut last = Vec::new();
    let is_settled = comes_true(PATIENCE, || {
        last = complaints(world);
        last.is_empty()
    });
    assert!(is_settled, "after {PATIENCE:?} it is not as it should be:\n{}\n{}", last.join("\n"), logs(world));
    world.told.settled = watch.elapsed();
    world.say("all agree");
    let mut moves = Vec::new();
    let is_calm = comes_true(PATIENCE, || {
        let (before, turns) = footprints(world);
        pause(CALM);
        let (after, more) = footprints(world);
        moves = before.iter().filter(|one| !after.contains(one)).cloned().collect();
        moves.is_empty() && before.len() == after.len() && (0.0..TURNS).contains(&(more - turns))
    });
    assert!(is_calm, "something goes on without an end: {moves:#?}\n{}", logs(world));
    world.say("nothing changes any more");
    assert_eq!(complaints(world), [""; 0], "and all agree still");
    let backends = world.backends();
    assert_eq!(backends.len(), 1, "one session of an application all the time: {backends:?}");
}

/// All that is not as it should be.
fn complaints(world: &World<'_>) -> Vec<String> {
    let mut said = replicas_agree(world);
    let configs = list(&world.stage.try_kubectl(["get", "gatewayconfigs", "-o", "json"]).out);
    let pods = list(&world.stage.try_kubectl(["get", "pods", "-o", "json"]).out);
    let maps =
        list(&world.stage.try_kubectl(["get", "configmaps", "-l", "postern.dev/managed=true", "-o", "json"]).out);
    if configs.len() < 2 || pods.is_empty() {
        said.push("configurations or pods are missing".to_owned());
    }
    for config in &configs {
        said.extend(config_agrees(world, config, &maps, &pods));
    }
    said.extend(orphans(&configs, &maps));
    said.extend(pods.iter().filter_map(|pod| pod_agrees(world, pod)));
    said.extend(webhook_works(world));
    said
}

/// Two replicas, one leader, and a certificate that the API server believes.
fn replicas_agree(world: &World<'_>) -> Vec<String> {
    let all = replicas::replicas(world);
    if all.len() != 2 || all.iter().any(|replica| !replica.ready) {
        return vec![format!("there are not two replicas that are ready: {all:?}")];
    }
    let leads = |replica: &&Replica| count(&replicas::metrics(world, replica), "postern_operator_leader ") > 0.0;
    let leaders: Vec<_> = all.iter().filter(leads).map(|replica| replica.name.clone()).collect();
    let mut said = Vec::new();
    if leaders != [replicas::holder(world)] {
        said.push(format!("{leaders:?} lead, and the lease is held by {:?}", replicas::holder(world)));
    }
    let secret = decoded(world, "secret postern-webhook-tls", "index .data \"tls.crt\"");
    let written = CertificateDer::from_pem_slice(secret.as_bytes());
    for webhook in 0..2 {
        let bundle = format!("(index .webhooks {webhook}).clientConfig.caBundle");
        let bundle = decoded(world, "mutatingwebhookconfiguration zz-postern", &bundle);
        for replica in &all {
            match (replicas::served(world, replica, &bundle), &written) {
                (Ok(served), Ok(written)) if served == *written => {}
                (Ok(_), _) => said.push(format!("{} does not serve the Secret's certificate", replica.name)),
                (Err(why), _) => said.push(format!("webhook {webhook} does not believe {}: {why}", replica.name)),
            }
        }
    }
    said
}

/// A field that holds bytes.
fn decoded(world: &World<'_>, what: &str, field: &str) -> String {
    let template = format!("go-template={{{{with {field}}}}}{{{{base64decode .}}}}{{{{end}}}}");
    let words = ["get", "-o", &template].into_iter().chain(what.split_whitespace());
    world.system.try_kubectl(words).out
}

/// The resource's last generation is delivered, served and acknowledged.
fn config_agrees(world: &World<'_>, config: &Value, maps: &[Value], pods: &[Value]) -> Vec<String> {
    let name = config["metadata"]["name"].as_str().unwrap_or_default();
    let (wanted, status) = (rendered(config), &config["status"]);
    let map = maps.iter().find(|map| map["metadata"]["name"] == format!("{name}-postern"));
    let injected = pods.iter().filter(|pod| pod["metadata"]["labels"]["postern.dev/config"] == name).count();
    let asked = pods.iter().filter(|pod| pod["metadata"]["annotations"]["postern.dev/inject"] == name).count();
    let mut said = Vec::new();
    let mut expect = |what: &str, found: &Value, wanted: Value| {
        if *found != wanted {
            said.push(format!("{name}: {what} is {found}, not {wanted}"));
        }
    };
    let map = map.unwrap_or(&Value::Null);
    expect("what is delivered", &map["data"]["gateway.yaml"], wanted.document.into());
    expect("its owner", &map["metadata"]["ownerReferences"][0]["uid"], config["metadata"]["uid"].clone());
    expect("its label", &map["metadata"]["labels"]["postern.dev/config"], name.into());
    expect("the generation", &status["observedGeneration"], config["metadata"]["generation"].clone());
    expect("the hash", &status["configHash"], wanted.hash.into());
    expect("who serves it", &status["pods"]["upToDate"], injected.into());
    expect("who asked", &status["pods"]["matched"], asked.into());
    let degraded = if asked > injected { "True" } else { "False" };
    let conditions = [("Accepted", "True"), ("Programmed", "True"), ("Ready", "True"), ("Degraded", degraded)];
    for (condition_, wanted) in conditions {
        expect(condition_, &condition(config, condition_)["status"], wanted.into());
    }
    if asked > injected && !world.ignores {
        said.push(format!("{name}: {asked} pods asked, {injected} were injected, and the webhook's policy is Fail"));
    }
    said
}

/// What is to be delivered of a resource.
fn rendered(config: &Value) -> Rendered {
    let mut config = config.clone();
    // Whatever somebody has written there.
    config["status"] = Value::Null;
    render(&serde_json::from_value::<GatewayConfig>(config).expect("the API server has accepted it"))
}

/// With a resource goes what was delivered of it.
fn orphans(configs: &[Value], maps: &[Value]) -> Vec<String> {
    let is_there = |owner: &Value| configs.iter().any(|config| config["metadata"]["uid"] == *owner);
    let orphans = maps.iter().filter(|map| !is_there(&map["metadata"]["ownerReferences"][0]["uid"]));
    orphans.map(|map| format!("nobody owns the ConfigMap {}", map["metadata"]["name"])).collect()
}

/// A pod that asked has one sidecar, the first of all, which serves what the resource says.
fn pod_agrees(world: &World<'_>, pod: &Value) -> Option<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return Some(format!("{name} is about to end"));
    }
    let containers = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let sidecars = containers.iter().filter(|one| one["name"] == "postern-gateway").count();
    let wanted = pod["metadata"]["annotations"]["postern.dev/inject"].as_str()?;
    if sidecars == 0 && world.ignores {
        return None;
    }
    if sidecars != 1 || containers[0]["name"] != "postern-gateway" {
        return Some(format!("{name} has {sidecars} sidecars"));
    }
    let hash = world.stage.try_kubectl(["get", "gatewayconfig", wanted, "-o", "jsonpath={.status.configHash}"]).out;
    let served: Value = serde_json::from_str(&world.stage.admin(name, "/config")).unwrap_or_default();
    (served["hash"] != hash || served["state"] != "applied" || !served["refused"].is_null())
        .then(|| format!("{name} serves {served}, and {wanted} is {hash}"))
}

/// A pod that asks would be created with its sidecar, whoever of the replicas is asked.
fn webhook_works(world: &World<'_>) -> Option<String> {
    let pod = App::waiting("last").pod();
    let created = world.stage.with_input(["create", "--dry-run=server", "-o", "json", "-f", "-"], &pod);
    let made: Value = serde_json::from_str(&created.out).unwrap_or_default();
    let is_injected = made["spec"]["initContainers"][0]["name"] == "postern-gateway";
    (!is_injected).then(|| format!("a new pod has no sidecar: {}", created.err))
}

/// Everything that would change if somebody wrote something, and how many turns there were.
fn footprints(world: &World<'_>) -> (Vec<String>, f64) {
    let version = "custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion";
    let written = |kubectl: &cast::cluster::Kubectl, what: &str| {
        let said = kubectl.try_kubectl(["get", what, "--no-headers", "-o", version]).out;
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut all = written(&world.stage, "gatewayconfigs,configmaps,pods");
    all.extend(written(&world.system, "secrets,mutatingwebhookconfigurations"));
    let mut turns = 0.0;
    for replica in replicas::replicas(world) {
        let metrics = replicas::metrics(world, &replica);
        for failing in ["postern_operator_reconciles_total{result=\"failed\"}", "postern_operator_watch_errors_total"] {
            all.push(format!("{}: {failing} {}", replica.name, count(&metrics, failing)));
        }
        all.push(format!("{}: {} restarts", replica.name, replica.restarts));
        turns += count(&metrics, "postern_operator_reconciles_total");
    }
    (all, turns)
}

/// The last that the replicas said, and those before them.
fn logs(world: &World<'_>) -> String {
    let one = |replica: Replica, more: &[&str]| {
        let said = world.system.try_kubectl([&["logs", &replica.name, "--tail=40"], more].concat());
        format!("--- {}\n{}{}", json!(replica.name), said.out, said.err)
    };
    let all = replicas::replicas(world);
    let all = all.into_iter().flat_map(|replica| [one(replica.clone(), &["--previous"]), one(replica, &[])]);
    all.collect::<Vec<_>>().join("\n")
}
