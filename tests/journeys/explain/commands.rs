//! The other commands: before an edit, while all runs, and when somebody else is to help.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use cast::Folder;
use serde_json::{Value, json};
use tar::Archive;

use crate::stage::{App, Stage, config};
use crate::told::{hints, says};

/// What nobody may find in a bundle, wherever somebody has written it.
const PLANTED: &str = "planted-password-7f3a";

fn with_pod(journey: &str) -> Stage {
    let stage = Stage::of(journey);
    stage.configure("protocol: postgres");
    stage.apply(&App::waiting("app").pod());
    stage.wait_for("pod/app", "condition=Ready");
    stage.acknowledged(1);
    stage
}

#[test]
fn an_edit_is_checked_and_compared_before_it_is_applied() {
    let stage = with_pod("explain-check");
    let folder = Folder::new("edits");
    let file = folder.join("orders.yaml");
    let path = file.display().to_string();
    let put =
        |proxy: &str, more: &str| fs::write(&file, config("orders", proxy) + more).expect("our folder is writable");

    put("protocol: postgres", "");
    hints(&stage, &["diff", "-f", &path], &["it says what the cluster has already"]);
    put("protocol: postgres, pool: {size: 20}", "  workers: 2\n");
    says(&stage, &["diff", "-f", &path], &["proxies[orders].pool.size: 100 -> 20", "live"]);
    says(&stage, &["diff", "-f", &path], &["workers: 1 -> 2", "restart-required"]);
    says(&stage, &["diff", "-f", &path], &["1 pod (app) would follow", "1 of them takes effect only after a restart"]);
    hints(&stage, &["check", "-f", &path], &["client.addresses: db:5432"]);
    let told = stage.postern(["diff", "-f", &path, "-o", "json"]).out;
    let verdicts: Value = serde_json::from_str(&told).expect("it is JSON");
    assert_eq!((&verdicts[0]["pods"], &verdicts[0]["isNew"]), (&json!(["app"]), &json!(false)), "{verdicts:#}");

    put("protocol: postgres, client: {addresses: [\"db:5433\"], auth: {secretName: orders-db}}", "");
    let doubled = fs::read_to_string(&file).expect("it is there").replace("client: {addresses: [\"db:5432\"]}, ", "");
    fs::write(&file, doubled).expect("our folder is writable");
    says(&stage, &["check", "-f", &path], &["SecretMissing", "kubectl create secret generic orders-db"]);
    says(&stage, &["check", "-f", &path], &["DatabasePort", "has no port 5433"]);
    put("server: {address: \"10.1.2.3:5432\"}", "");
    says(&stage, &["check", "-f", &path], &["Invalid", "spec.proxies[0].server.address"]);
    assert_eq!(stage.get("gatewayconfig orders")["metadata"]["generation"], 1, "nothing was applied");
}

#[test]
fn what_runs_is_shown_with_its_rates_and_its_log() {
    let stage = with_pod("explain-top");
    let mut session = stage.session("app");
    session.ask("select 1");
    let told = stage.postern(["top", "--interval", "1s", "-o", "json"]);
    let rows: Value = serde_json::from_str(&told.out).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    let row = &rows[0];
    assert_eq!(
        (&row["pod"], &row["proxy"], &row["database"]),
        (&json!("app"), &json!("orders"), &json!("up")),
        "{rows:#}"
    );
    assert_eq!((&row["sessions"], &row["size"]), (&json!(1), &json!(100)), "{rows:#}");
    hints(&stage, &["top", "--interval", "100ms"], &["orders", "up", "1/100"]);
    hints(&stage, &["logs", "gatewayconfig/orders", "--tail", "1000"], &["Serving"]);
    hints(&stage, &["logs", "--operator", "--tail", "1000"], &["postern-operator-"]);

    let manifest = Folder::new("manifest");
    fs::write(manifest.join("pod.json"), App::waiting("other").pod()).expect("our folder is writable");
    let injected = stage.postern(["inject", "-f", &manifest.join("pod.json").display().to_string()]);
    // The manifest names no namespace, and there the cluster has no such configuration.
    assert_eq!((injected.code, injected.err.contains("ConfigNotFound")), (Some(1), true), "{injected:?}");
}

#[test]
fn a_bundle_has_what_helps_and_no_secret() {
    let stage = with_pod("explain-bundle");
    stage.kubectl(["create", "secret", "generic", "orders-db", &format!("--from-literal=password={PLANTED}")]);
    let env = json!([{"name": "PGPASSWORD", "value": PLANTED}]);
    let app = App::running("leaks", &format!("echo {PLANTED} > /dev/null; sleep 3600")).with_container("env", env);
    stage.apply(&app.annotated("vault.example/token", PLANTED).pod());
    stage.wait_for("pod/leaks", "condition=Ready");

    let folder = Folder::new("bundle");
    let file = folder.join("bundle.tar");
    stage.postern(["support-bundle", "-f", &file.display().to_string()]).succeeded();
    let bytes = fs::read(&file).expect("it is there");
    let mut names = Vec::new();
    for entry in Archive::new(bytes.as_slice()).entries().expect("it is an archive") {
        let mut entry = entry.expect("it is whole");
        let name = entry.path().expect("it has a name").display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("it is text");
        assert!(!text.contains(PLANTED), "{name} has the planted password");
        assert!(!text.contains("cGxhbnRlZC1wYXNzd29yZC03ZjNh"), "{name} has it in base64");
        names.push(name);
    }
    for part in [
        "status.yaml",
        "operator/deployment.yaml",
        "/leaks/pod.yaml",
        "/leaks/state.json",
        "/app/metrics",
        "/app/log",
        "events.yaml",
    ] {
        assert!(names.iter().any(|name| name.ends_with(part)), "{part} is missing: {names:?}");
    }
    let taken = stage.postern(["support-bundle", "-f", &file.display().to_string()]);
    assert_eq!(taken.code, Some(1), "a file that is there is not overwritten: {taken:?}");
}

#[test]
fn the_gateways_own_endpoints_come_to_this_machine() {
    let stage = with_pod("explain-dashboard");
    let mut program =
        stage.postern_command().args(["dashboard", "app"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(program.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where");
    let address = line.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let mut stream = TcpStream::connect(&address).expect("it listens");
    write!(stream, "GET /state HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it takes a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    program.kill().expect("it runs");
    program.wait().expect("it is ours");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"proxies\""), "{answer}");
}

#[test]
fn who_may_not_see_something_is_told_so_and_sees_the_rest() {
    let stage = with_pod("explain-rights");
    let user = format!("system:serviceaccount:{}:default", stage.name());
    let refused = stage.acting_as(&user).postern(["status"]);
    assert_eq!((refused.code, refused.err.contains("gatewayconfigs")), (Some(1), true), "{refused:?}");
    let space = stage.name();
    stage.kubectl([
        "create",
        "rolebinding",
        "views",
        "--clusterrole=view",
        &format!("--serviceaccount={space}:default"),
    ]);
    let viewer = stage.acting_as(&user);
    hints(&viewer, &["status"], &["NotReached", "needs the right to create pods/portforward"]);
    hints(&viewer, &["explain", "pod/app"], &["NotKnown", "webhook configuration"]);
}
