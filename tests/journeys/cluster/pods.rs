//! Pods run, find each other and the node, and are refused with a reason.

use std::net::SocketAddr;

use cast::wire::Address;
use cast::{Cluster, eventually};

use crate::stage::{cluster, output_of, pod, service};

#[test]
fn a_pod_runs_and_says_so_in_its_log() {
    let tenant = cluster().tenant("hello");
    tenant.apply(&pod("hello", "echo hello from $(id -u)"));
    assert_eq!(output_of(&tenant, "hello"), "hello from 65532");
}

#[test]
fn a_service_is_resolved_and_leads_to_its_pod() {
    let tenant = cluster().tenant("web");
    let serve = "mkdir /tmp/www && echo found > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
    tenant.apply(&pod("web", serve));
    tenant.apply(&service("web", 8080));
    tenant.wait_for("pod/web", "condition=Ready");
    tenant.apply(&pod("visitor", "until timeout 2 wget -q -O - http://web:8080/; do sleep 0.1; done"));
    assert_eq!(output_of(&tenant, "visitor"), "found");
    assert_eq!(tenant.http_get("web", "8080", "/index.html").succeeded(), "found");
    // Its own Service leads a pod back to itself.
    eventually("a pod reaches itself", || tenant.exec("web", "main", ["wget", "-qO-", "http://web:8080/"]).ok);
}

#[test]
fn a_database_in_a_pod_serves_an_application_in_another() {
    let tenant = cluster().tenant("db");
    tenant.apply(&pod("db", "exec serve-postgres max_connections=20"));
    tenant.apply(&service("db", 5432));
    let ask = "until pg_isready -q -h db; do sleep 0.1; done; psql -h db -U postgres -Atc 'show max_connections'";
    tenant.apply(&pod("app", ask));
    assert_eq!(output_of(&tenant, "app"), "20");
    // It ends when it is told to, as at the end of its pod.
    tenant.exec("db", "main", ["kill", "1"]).succeeded();
    tenant.wait_for("pod/db", "jsonpath={.status.phase}=Succeeded");
}

#[test]
fn a_pod_reaches_a_database_on_the_node_by_the_name_of_a_service() {
    let cluster = cluster();
    let tenant = cluster.tenant("outside");
    let postgres = cluster.node().postgres(&[]);
    tenant.publish("orders-db", 5432, tcp(&postgres.address()));
    tenant.apply(&pod("app", "until psql -h orders-db -U postgres -Atc 'select 6*7' 2>/dev/null; do sleep 0.2; done"));
    assert_eq!(output_of(&tenant, "app"), "42");
}

#[test]
fn what_the_api_server_refuses_is_told_in_its_own_words() {
    let tenant = cluster().tenant("refused");
    let refusal = tenant.try_apply("{apiVersion: v1, kind: Pod, metadata: {name: empty}, spec: {}}").refused();
    assert!(refusal.contains("spec.containers: Required value"), "{refusal}");
    let account = format!("system:serviceaccount:{}:default", tenant.name());
    let refusal = tenant.acting_as(&account).try_kubectl(["get", "secrets"]).refused();
    assert!(refusal.contains("cannot list resource \"secrets\""), "{refusal}");
}

#[test]
fn a_restricted_namespace_refuses_a_privileged_pod_and_takes_the_toolbox() {
    let restricted = "labels: {pod-security.kubernetes.io/enforce: restricted}";
    let tenant = cluster().tenant_with("strict", restricted);
    let privileged = pod("app", "true").replace("allowPrivilegeEscalation: false", "privileged: true");
    assert!(tenant.try_apply(&privileged).refused().contains("violates PodSecurity"));
    tenant.apply(&pod("app", "echo allowed"));
    assert_eq!(output_of(&tenant, "app"), "allowed");
}

#[test]
fn something_that_is_done_once_is_done_once() {
    let times = std::sync::atomic::AtomicU32::new(0);
    let count = |_: &Cluster| {
        times.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    };
    let name = format!("counted-{}", std::process::id());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| cluster().once(&name, count));
        }
    });
    assert_eq!(times.into_inner(), 1);
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(address) => *address,
        Address::Unix(_) => panic!("a database on the node has a TCP address"),
    }
}
