//! The operator, its certificates and the API server fail; pods that did not ask never notice.

use cast::cluster::{Cluster, Component};
use cast::time::eventually;

use crate::stage::{App, Stage, chart, install};

const SYSTEM: &str = "postern-system";

#[test]
fn the_operator_goes_and_comes_back_and_pods_that_did_not_ask_never_notice() {
    let cluster = Cluster::fresh();
    install(&cluster);
    let stage = Stage::on(&cluster, "outage");
    stage.configure("");
    stage.apply(&App::waiting("before").pod());
    stage.wait_for("pod/before", "condition=Ready");
    stage.acknowledged(1);

    // The leader dies in the middle of an edit; the other replica goes on.
    let holder =
        cluster.kubectl(["-n", SYSTEM, "get", "lease", "postern-operator", "-o", "jsonpath={.spec.holderIdentity}"]);
    stage.edit_proxy("/client/backoff", "2s");
    let leader = cluster
        .kubectl(["-n", SYSTEM, "get", "pods", "-o", "name"])
        .lines()
        .find(|pod| holder.contains(pod.trim_start_matches("pod/")))
        .map(str::to_owned)
        .expect("the holder of the lease is a pod");
    cluster.kubectl(["-n", SYSTEM, "delete", &leader, "--grace-period=0", "--force"]);
    stage.acknowledged(1);

    // Both replicas are gone.
    cluster.kubectl(["-n", SYSTEM, "scale", "deployment/postern-operator", "--replicas=0"]);
    eventually("no replica is left", || cluster.kubectl(["-n", SYSTEM, "get", "pods", "-o", "name"]).is_empty());
    stage.apply(&App::waiting("unasked").unasked().pod());
    stage.wait_for("pod/unasked", "condition=Ready");
    let refused = stage.try_apply(&App::waiting("asked").pod());
    assert!(!refused.ok && refused.err.contains("postern"), "{}", refused.err);
    stage.apply(&App::waiting("patient").deployment(1));
    assert_eq!(stage.ask("before", "select 1"), "1", "running pods need no operator");
    cluster.kubectl(["-n", SYSTEM, "scale", "deployment/postern-operator", "--replicas=2"]);
    stage.wait_for("deployment/patient", "condition=Available");

    // The certificates' Secret is deleted, then made nonsense of, then the webhook's caBundle is emptied.
    cluster.kubectl(["-n", SYSTEM, "delete", "secret", "postern-webhook-tls"]);
    let certificate = || {
        cluster.try_kubectl(["-n", SYSTEM, "get", "secret", "postern-webhook-tls", "-o", "jsonpath={.data.tls\\.crt}"])
    };
    eventually("the Secret is there again", || !certificate().out.is_empty());
    admits(&stage, "after-delete");
    let nonsense = r#"{"data":{"tls.crt":"bm9uc2Vuc2U=","tls.key":"bm9uc2Vuc2U=","ca.crt":"bm9uc2Vuc2U="}}"#;
    cluster.kubectl(["-n", SYSTEM, "patch", "secret", "postern-webhook-tls", "--type=merge", "-p", nonsense]);
    eventually("the Secret makes sense again", || certificate().ok && certificate().out != "bm9uc2Vuc2U=");
    admits(&stage, "after-nonsense");
    let emptied = r#"[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":""}]"#;
    cluster.kubectl(["patch", "mutatingwebhookconfiguration", "zz-postern", "--type=json", "-p", emptied]);
    eventually("the caBundle is there again", || !bundle(&cluster).is_empty());
    admits(&stage, "after-empty");

    // The API server restarts.
    cluster.node().stop(Component::ApiServer);
    cluster.node().start(Component::ApiServer);
    stage.edit_proxy("/client/backoff", "3s");
    let injected = 5;
    stage.acknowledged(injected);
    admits(&stage, "after-restart");
}

#[test]
fn certificates_that_expire_are_renewed_while_pods_are_created() {
    let cluster = Cluster::fresh();
    for image in [cast::images::gateway(), cast::images::operator(), cast::images::toolbox()] {
        cluster.load(image);
    }
    let words =
        ["install", "postern", chart(), "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "2m"];
    let short =
        ["--set", "image.registry=localhost/postern,webhook.certificateLifetime=30s,webhook.authorityLifetime=60s"];
    cluster.helm([&words[..], &short[..]].concat());
    let stage = Stage::on(&cluster, "expiry");
    stage.configure("");
    stage.says("Programmed", "True");
    let first = bundle(&cluster);
    assert!(!first.is_empty(), "the webhook trusts somebody");
    let mut number = 0;
    // A pod at a time until the authority is another one and the first one's lifetime is over.
    cast::time::within(std::time::Duration::from_secs(150), "the first authority is gone from the bundle", || {
        number += 1;
        let pod = App::waiting(&format!("app-{number}")).pod();
        let created = stage.with_input(["apply", "--dry-run=server", "-f", "-"], &pod);
        assert!(created.ok, "pod {number} was refused: {}", created.err);
        !bundle(&cluster).contains(&first)
    });
}

/// Whom the API server trusts to be the webhook: certificates in PEM.
fn bundle(cluster: &Cluster) -> String {
    let template = "go-template={{with (index .webhooks 0).clientConfig.caBundle}}{{base64decode .}}{{end}}";
    cluster.kubectl(["get", "mutatingwebhookconfiguration", "zz-postern", "-o", template]).trim().to_owned()
}

/// A pod that asks is created with its sidecar as soon as all has healed; until then it is refused with a reason.
#[track_caller]
fn admits(stage: &Stage, name: &str) {
    eventually("a pod that asks is created", || {
        let outcome = stage.try_apply(&App::waiting(name).pod());
        assert!(outcome.ok || !outcome.err.is_empty());
        outcome.ok
    });
    assert_eq!(stage.field(&format!("pod {name}"), "{.spec.initContainers[0].name}"), "postern-gateway");
    stage.wait_for(&format!("pod/{name}"), "condition=Ready");
}
