//! Fake pods: the real webhook injects them, and they are bound to a node that is only an entry in the API server.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use operator::names;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::say;
use crate::sidecars::Sidecars;

/// The node on which fake pods are said to run.
pub(crate) const NODE: &str = "fleet";
/// What is true of a pod that runs.
const CONDITIONS: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
/// How often it says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long it may take until pods are gone.
const PATIENCE: Duration = Duration::from_mins(2);
/// Pods that are created at one time.
const AT_ONCE: usize = 16;

/// Where fake pods are made.
#[derive(Clone)]
pub(crate) struct Pods {
    pods: Api<Pod>,
    sidecars: Sidecars,
}

// === impl Pods ===

impl Pods {
    pub(crate) fn new(client: &Client, namespace: &str, sidecars: Sidecars) -> Self {
        Self { pods: Api::namespaced(client.clone(), namespace), sidecars }
    }

    /// More pods of `config`, whose numbers are these; they run when it returns.
    pub(crate) async fn run(&self, config: &str, numbers: std::ops::Range<u32>) -> Result<()> {
        stream::iter(numbers)
            .map(|number| self.run_one(format!("{config}-{number}"), config))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn run_one(&self, name: String, config: &str) -> Result<()> {
        let address = self.sidecars.start(&name, config).to_string();
        let created = self.create(&name, config).await?;
        let patch = Patch::Strategic(status(&created, &address));
        self.pods.patch_status(&name, &PatchParams::default(), &patch).await.context("a pod's status is not taken")?;
        Ok(())
    }

    /// One pod that asks for a sidecar, and never starts.
    pub(crate) async fn create(&self, name: &str, config: &str) -> Result<Pod> {
        let pod = serde_json::from_value(pod(name, config))?;
        self.pods.create(&PostParams::default(), &pod).await.with_context(|| format!("{name} is not created"))
    }

    /// Deletes those of `config` or, without one, all of them, and waits until they are gone.
    pub(crate) async fn delete(&self, config: Option<&str>) -> Result<()> {
        let fake = ListParams::default().fields(&format!("spec.nodeName={NODE}"));
        let fake = config.iter().fold(fake, |fake, config| fake.labels(&format!("app={config}")));
        let at_once = DeleteParams::default().grace_period(0);
        self.pods.delete_collection(&at_once, &fake).await.context("the pods are not deleted")?;
        let one = fake.limit(1);
        timeout(PATIENCE, async {
            while !self.pods.list_metadata(&one).await?.items.is_empty() {
                sleep(Duration::from_millis(200)).await;
            }
            anyhow::Ok(())
        })
        .await
        .context("the pods do not go")?
    }
}

/// Makes the node, on which nothing is scheduled, and keeps it alive.
pub(crate) async fn make_node(client: &Client, tasks: &mut JoinSet<()>) -> Result<()> {
    let (nodes, leases) =
        (Api::<Node>::all(client.clone()), Api::<Lease>::namespaced(client.clone(), "kube-node-lease"));
    let spec = json!({"unschedulable": true, "taints": [{"key": "postern.dev/fake", "effect": "NoSchedule"}]});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": spec});
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await.context("the node is not made")?;
    let ready = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is played",
        "lastHeartbeatTime": now(), "lastTransitionTime": now(),
    }]}});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Strategic(ready)).await?;
    tasks.spawn(async move {
        loop {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE},
                "spec": {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": precisely_now()},
            });
            let how = PatchParams::apply("bench-fleet").force();
            if let Err(error) = leases.patch(NODE, &how, &Patch::Apply(lease)).await {
                say(&format!("the node cannot say that it is alive: {error}"));
            }
            sleep(HEARTBEAT).await;
        }
    });
    Ok(())
}

fn pod(name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {names::INJECT: config}, "labels": {"app": config}},
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "app", "image": "app", "env": [{"name": "PGDATABASE", "value": "orders"}]}],
        },
    })
}

/// What a kubelet says of a pod whose containers all run.
fn status(pod: &Pod, address: &str) -> Value {
    let runs = |name: &str, image: &str| {
        json!({
            "name": name, "image": image, "imageID": image, "containerID": format!("containerd://{name}"),
            "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": now()}},
        })
    };
    let spec = pod.spec.clone().unwrap_or_default();
    let all = |containers: Vec<k8s_openapi::api::core::v1::Container>| -> Vec<Value> {
        let status =
            |one: &k8s_openapi::api::core::v1::Container| runs(&one.name, one.image.as_deref().unwrap_or_default());
        containers.iter().map(status).collect()
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now()});
    let conditions = CONDITIONS.map(condition);
    json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "hostIP": "10.88.0.9", "startTime": now(),
        "conditions": conditions,
        "initContainerStatuses": all(spec.init_containers.unwrap_or_default()),
        "containerStatuses": all(spec.containers),
    }})
}

fn now() -> String {
    format!("{:.0}", Timestamp::now())
}

fn precisely_now() -> String {
    format!("{:.6}", Timestamp::now())
}
