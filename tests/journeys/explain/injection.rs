//! Pods that get no gateway, or do not use it.

use serde_json::{Value, json};

use crate::stage::{App, Stage, cluster, config};
use crate::told::{hints, says};

/// A mistake in what pods are made from: how it is planted, and the essential words of how it is told.
struct Mistake {
    name: &'static str,
    app: fn(App) -> App,
    told: &'static [&'static str],
}

/// Mistakes that the webhook refuses: no pod is ever created, so the Deployment is asked about.
const REFUSED: [Mistake; 5] = [
    Mistake {
        name: "wrong-annotation",
        app: |app| app.annotated("postern.dev/inject", "Yes!"),
        told: &["BadAnnotation", "postern.dev/inject is \"Yes!\"", "write \"true\", \"false\" or a name"],
    },
    Mistake {
        name: "no-such-config",
        app: |app| app.annotated("postern.dev/inject", "oders"),
        told: &[
            "ConfigNotFound",
            "\"oders\" is not found",
            "there is \"billing\", \"orders\"",
            "correct the annotation",
        ],
    },
    Mistake {
        name: "two-configs",
        app: |app| app.annotated("postern.dev/inject", "true"),
        told: &[
            "ManyConfigs",
            "\"billing\", \"orders\"",
            "write the one you mean into the annotation postern.dev/inject",
        ],
    },
    Mistake {
        name: "port-clash",
        app: |app| app.with_container("ports", json!([{"containerPort": 5432}])),
        told: &[
            "PortClash",
            "declares port 5432/TCP",
            "the annotation postern.dev/port.orders gives the proxy another",
        ],
    },
    Mistake {
        name: "host-network",
        app: |app| app.with("hostNetwork", true),
        told: &["HostNetwork", "node's network", "remove hostNetwork, or write postern.dev/inject: \"false\""],
    },
];

#[test]
fn a_pod_that_is_refused_is_explained_by_what_makes_it() {
    let stage = Stage::of("explain-refused");
    stage.configure("");
    stage.apply(&config("billing", "server: {address: \"127.0.0.1:6000\"}"));
    for Mistake { name, app, .. } in &REFUSED {
        stage.apply(&app(App::waiting(name)).deployment(1));
    }
    for Mistake { name, told, .. } in &REFUSED {
        says(&stage, &["explain", &format!("deployment/{name}")], told);
        // A name alone is enough, and the table has it too.
        says(&stage, &["explain", name], told);
        says(&stage, &["status"], &[told[0], &format!("ReplicaSet/{name}-")]);
    }
}

#[test]
fn pods_that_are_refused_to_other_kinds_are_told_too() {
    let stage = Stage::of("explain-kinds");
    let app = |name: &str| App::waiting(name).annotated("postern.dev/inject", "Yes!");
    stage.apply(&app("set").workload("StatefulSet", &json!({"serviceName": "set", "replicas": 1})));
    stage.apply(&app("every").workload("DaemonSet", &json!({})));
    stage.apply(&app("once").job());
    for (kind, name) in [("StatefulSet", "set"), ("DaemonSet", "every"), ("Job", "once")] {
        let told = ["BadAnnotation", "write \"true\", \"false\" or a name"];
        says(&stage, &["explain", &format!("{}/{name}", kind.to_lowercase())], &told);
        says(&stage, &["status"], &[&format!("1 pod of {kind}/{name} "), told[0], told[1]]);
    }
}

#[test]
fn an_annotation_on_the_deployment_is_not_on_its_pods() {
    let stage = Stage::of("explain-outer");
    stage.configure("");
    let mut deployment: Value = serde_json::from_str(&App::waiting("app").unasked().deployment(1)).expect("it is JSON");
    deployment["metadata"]["annotations"] = json!({"postern.dev/inject": "orders"});
    stage.apply(&deployment.to_string());
    stage.wait_for("deployment/app", "condition=Available");
    let told = [
        "AnnotationOnOwner",
        "on the Deployment \"app\"",
        "move it to spec.template.metadata.annotations",
        "kubectl patch deployment app",
    ];
    says(&stage, &["explain", &format!("pod/{}", stage.pod_of("app"))], &told);
    let line = says(&stage, &["explain", "deployment/app"], &told);

    // What mends it can be typed as it is told.
    let (_, patch) = line.split_once(" -p '").expect("it is a patch");
    stage.kubectl(["patch", "deployment", "app", "-p", patch.trim_end_matches('\'')]);
    stage.wait_for("deployment/app", "condition=Available");
    hints(&stage, &["explain", "deployment/app"], &["Nothing is wrong"]);
}

#[test]
fn a_pod_that_says_no_or_nothing_has_no_gateway_and_nothing_is_wrong() {
    let stage = Stage::of("explain-quiet");
    stage.configure("");
    stage.apply(&App::waiting("refuses").annotated("postern.dev/inject", "false").pod());
    hints(
        &stage,
        &["explain", "pod/refuses"],
        &["SaidNo", "postern.dev/inject: \"false\"", "write \"true\" or the name"],
    );
    stage.apply(&App::waiting("silent").unasked().pod());
    let label = format!("kubectl label namespace {} postern.dev/inject=enabled", stage.name());
    hints(&stage, &["explain", "silent"], &["NotAsked", "nobody asked for a gateway", &label]);

    // A label that means nothing is more than nothing.
    stage.kubectl(["label", "namespace", stage.name(), "postern.dev/inject=true"]);
    says(
        &stage,
        &["explain", "silent"],
        &["NamespaceLabel", "is \"true\", which means nothing", "postern.dev/inject=enabled"],
    );

    // Labelled as it is told, the pod counts as one that runs without.
    stage.kubectl(["label", "namespace", stage.name(), "postern.dev/inject=enabled", "--overwrite"]);
    says(&stage, &["explain", "silent"], &["NotInjected", "was created without one", "kubectl delete pod silent"]);
    says(&stage, &["status"], &["(no gateway)", "silent", "NotInjected"]);
}

#[test]
fn an_application_that_goes_round_its_gateway_is_told_by_which_variable() {
    let stage = Stage::of("explain-bypass");
    stage.configure("");
    stage.apply(&App::waiting("app").with_container("env", json!([{"name": "PGHOST", "value": "db"}])).pod());
    stage.wait_for("pod/app", "condition=Ready");
    says(
        &stage,
        &["explain", "pod/app"],
        &["BypassesGateway", "PGHOST of container \"app\" names db:5432", "remove it"],
    );
}

#[test]
fn a_sidecar_whose_image_is_nowhere_is_told_with_who_names_it() {
    let stage = Stage::of("explain-image");
    stage.configure("");
    let nowhere = "localhost/postern/gateway:nowhere";
    stage.apply(&App::waiting("app").annotated("postern.dev/image", nowhere).deployment(1));
    let told = ["SidecarImage", nowhere, "correct its image in the annotation postern.dev/image"];
    says(&stage, &["explain", "deployment/app"], &told);
    says(&stage, &["status"], &told);
    let mended = r#"[{"op": "remove", "path": "/spec/template/metadata/annotations/postern.dev~1image"}]"#;
    stage.kubectl(["patch", "deployment", "app", "--type=json", "-p", mended]);
    stage.wait_for("deployment/app", "condition=Available");
    hints(&stage, &["explain", "deployment/app"], &["Nothing is wrong"]);

    stage.edit(&json!({"sidecar": {"image": nowhere}}));
    stage.says("Programmed", "True");
    stage.apply(&App::waiting("other").pod());
    let told = ["SidecarImage", nowhere, "correct its image in spec.sidecar.image: kubectl edit gatewayconfig orders"];
    says(&stage, &["explain", "pod/other"], &told);
}

#[test]
fn a_namespace_that_the_webhook_leaves_out_is_named() {
    let system = cluster().in_namespace("postern-system");
    let template = json!({"metadata": {"name": "excluded", "annotations": {"postern.dev/inject": "orders"}},
        "spec": {"restartPolicy": "Never", "containers": [crate::stage::container("app", "true")]}});
    let mut pod = template;
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    system.apply(&pod.to_string());
    let outcome = says(&system, &["explain", "pod/excluded"], &["NamespaceExcluded", "webhook.excludedNamespaces"]);
    system.delete("pod excluded");
    assert!(outcome.contains("postern-system"), "{outcome}");
}
