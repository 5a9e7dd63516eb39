//! What happens to machines and their programs, and what pods make of it.

use std::time::Duration;

use cast::cluster::Component;
use cast::{Cluster, eventually, images, within};

use crate::stage::{alone, cluster, pod};

#[test]
fn a_killed_container_is_started_again() {
    let cluster = cluster();
    let tenant = cluster.tenant("crash");
    tenant.apply(&pod("app", "exec sleep 3600").replace("restartPolicy: Never", "restartPolicy: Always"));
    tenant.wait_for("pod/app", "condition=Ready");
    cluster.node().end_container(&tenant, "app", "main");
    tenant.wait_for("pod/app", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    tenant.wait_for("pod/app", "condition=Ready");
}

#[test]
fn components_can_be_stopped_frozen_and_killed_and_come_back() {
    let _alone = alone();
    let cluster = Cluster::fresh();
    cluster.load(images::toolbox());
    let tenant = cluster.tenant("hard");
    tenant.apply(&pod("app", "exec sleep 3600"));
    tenant.wait_for("pod/app", "condition=Ready");
    let node = cluster.node();
    for component in [Component::Kubelet, Component::Containerd, Component::Proxy, Component::Dns] {
        node.stop(component);
        node.start(component);
    }
    for component in [Component::ApiServer, Component::Etcd, Component::ControllerManager, Component::Scheduler] {
        node.kill(component);
        node.start(component);
    }
    node.freeze(Component::ApiServer);
    assert!(!tenant.try_kubectl(["get", "pods", "--request-timeout=1s"]).ok);
    node.thaw(Component::ApiServer);
    eventually("the API server answers", || tenant.try_kubectl(["get", "pods"]).ok);
    assert_eq!(tenant.field("pod app", "{.status.containerStatuses[0].restartCount}"), "0");
    assert!(!node.log(Component::Kubelet).is_empty());
}

#[test]
fn a_pod_comes_back_after_its_node_was_restarted() {
    let _alone = alone();
    let cluster = Cluster::fresh();
    cluster.load(images::toolbox());
    let tenant = cluster.tenant("reboot");
    let web = "mkdir -p /tmp/www && echo $((1 + $(cat /disk/starts || echo 0))) > /disk/starts; cp /disk/starts /tmp/www/; \
               exec httpd -f -p 8080 -h /tmp/www";
    let volume = "    volumeMounts: [{name: disk, mountPath: /disk}]\n  volumes: [{name: disk, emptyDir: {}}]\n";
    tenant.apply(&(pod("web", web).replace("restartPolicy: Never", "restartPolicy: Always") + volume));
    tenant.wait_for("pod/web", "condition=Ready");
    assert_eq!(tenant.http_get("web", "8080", "starts").succeeded(), "1");
    cluster.node().restart();
    within(Duration::from_mins(2), "the pod is back, with what it had on disk", || {
        tenant.http_get("web", "8080", "starts").out == "2"
    });
}

#[test]
fn two_clusters_do_not_disturb_each_other() {
    let _alone = alone();
    let (one, other) = (Cluster::fresh(), Cluster::fresh());
    for cluster in [&one, &other] {
        cluster.load(images::toolbox());
    }
    let (here, there) = (one.tenant("here"), other.tenant("there"));
    here.apply(&pod("web", "exec httpd -f -p 8080 -h /etc"));
    there.apply(&pod("web", "exec httpd -f -p 8080 -h /etc"));
    for tenant in [&here, &there] {
        tenant.wait_for("pod/web", "condition=Ready");
    }
    drop(one);
    assert!(there.http_get("web", "8080", "passwd").succeeded().contains("app:x:65532"));
    assert!(!here.try_kubectl(["get", "pods", "--request-timeout=2s"]).ok);
    std::mem::forget(here);
}
