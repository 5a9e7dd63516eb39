//! What comes out of the chart, and what an upgrade changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cast::Folder;
use cast::images::VERSION;
use operator::names;
use serde_json::Value;

use crate::render::{Chart, Objects};

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let chart = Chart::with_everything();
    assert_eq!(chart.text(), chart.text());
}

#[test]
fn lint_has_nothing_to_say() {
    for chart in [Chart::new(), Chart::with_everything(), Chart::new().set("webhook.certManager.enabled=true")] {
        let output = chart.helm(&["lint", "--strict", "--quiet"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("[WARNING]"), "{said}");
    }
}

#[test]
fn what_needs_other_software_is_off_until_it_is_asked_for() {
    let usual: BTreeSet<_> = kinds(&Chart::new().render());
    let everything = kinds(&Chart::with_everything().set("webhook.certManager.enabled=true").render());
    let added: Vec<_> = everything.difference(&usual).map(String::as_str).collect();
    assert_eq!(added, ["Certificate", "ConfigMap", "Issuer", "NetworkPolicy", "PodMonitor", "PrometheusRule"]);
}

#[test]
fn everything_is_in_the_namespace_of_the_release() {
    for object in Chart::with_everything().set("webhook.certManager.enabled=true").render().iter() {
        let cluster_wide =
            ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "MutatingWebhookConfiguration"];
        let kind = object["kind"].as_str().expect("an object has a kind");
        let is_cluster_wide = cluster_wide.contains(&kind) || kind.starts_with("ValidatingAdmissionPolicy");
        let namespace = object["metadata"]["namespace"].as_str();
        assert_eq!(namespace, (!is_cluster_wide).then_some("postern-system"), "{kind} {}", object["metadata"]["name"]);
    }
}

#[test]
fn another_version_changes_only_the_operators_own_pods() {
    let chart = Chart::with_everything();
    let folder = copy(&chart);
    let file = folder.join("Chart.yaml");
    let old = fs::read_to_string(&file).expect("the chart has a Chart.yaml");
    let new = old.replace(&format!("ersion: {VERSION}\n"), "ersion: 9.9.9\n");
    assert_eq!(new.matches("9.9.9").count(), 2, "version and appVersion: {new}");
    fs::write(&file, new).expect("our own folder can be written");
    let upgraded = Chart::at(folder.to_path_buf());
    let upgraded = ["podMonitor", "prometheusRule", "dashboard", "networkPolicy"]
        .into_iter()
        .fold(upgraded.set("image.registry=registry.example.com/postern"), |chart, name| {
            chart.set(&format!("{name}.enabled=true"))
        });
    let (before, after) = (versionless(&chart.render()), versionless(&upgraded.render()));
    let changed: Vec<_> = before.iter().filter(|(name, object)| after.get(*name) != Some(object)).collect();
    let changed: Vec<_> = changed.into_iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(changed, ["Deployment/postern-operator", "Pod/postern-test"]);
    assert_eq!(before.len(), after.len());
    let selector =
        |objects: &BTreeMap<String, Value>| objects["Deployment/postern-operator"]["spec"]["selector"].clone();
    assert_eq!(selector(&before), selector(&after), "an upgrade would be refused: the selector cannot be changed");
}

#[test]
fn the_resource_stays_when_the_chart_goes_unless_it_is_said() {
    let policy = |chart: Chart| {
        let objects = chart.render();
        let crd = objects.the("CustomResourceDefinition", "gatewayconfigs.postern.dev");
        crd["metadata"]["annotations"]["helm.sh/resource-policy"].clone()
    };
    assert_eq!(policy(Chart::new()), "keep");
    assert_eq!(policy(Chart::new().set("crds.keep=false")), Value::Null);
    assert_eq!(Chart::new().set("crds.enabled=false").render().of_kind("CustomResourceDefinition").count(), 0);
}

#[test]
fn the_notes_tell_the_next_two_commands_and_they_are_right() {
    let folder = copy(&Chart::new());
    // Helm shows notes only to who installs; as part of an object they are rendered without a cluster.
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes, namespace: postern-system}\n\
                  data: {text: {{ include (print $.Template.BasePath \"/NOTES.txt\") . | toJson }}}\n";
    fs::write(folder.join("templates/notes.yaml"), object).expect("our own folder can be written");
    let objects = Chart::at(folder.to_path_buf()).set("image.registry=registry.example.com/postern").render();
    let notes = objects.the("ConfigMap", "notes")["data"]["text"].as_str().expect("a text").to_owned();
    let (_, rest) = notes.split_once("<<'END'\n").expect("the first command has a document");
    let (document, rest) = rest.split_once("END\n").expect("which ends");
    let config: crds::GatewayConfig = serde_yaml::from_str(document).expect("it is a GatewayConfig");
    assert_eq!(crds::validate(&config.spec), []);
    let (_, patch) = rest.split_once("--patch '").expect("the second command has a patch");
    let (patch, _) = patch.split_once('\'').expect("which ends");
    let patch: Value = serde_json::from_str(patch).expect("it is JSON");
    let annotations = &patch["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations[names::INJECT].as_str(), config.metadata.name.as_deref());
}

fn kinds(objects: &Objects) -> BTreeSet<String> {
    objects.iter().map(|object| object["kind"].as_str().unwrap_or_default().to_owned()).collect()
}

/// A copy of the chart that may be changed.
fn copy(chart: &Chart) -> Folder {
    let folder = Folder::new("chart");
    for part in ["", "files", "templates"] {
        fs::create_dir_all(folder.join(part)).expect("our own folder can be written");
        for entry in fs::read_dir(chart.folder().join(part)).expect("the chart can be read") {
            let entry = entry.expect("the chart can be read");
            if entry.path().is_file() {
                fs::copy(entry.path(), folder.join(part).join(entry.file_name())).expect("a file can be copied");
            }
        }
    }
    folder
}

/// Each object by kind and name, without the labels that say which version made it.
fn versionless(objects: &Objects) -> BTreeMap<String, Value> {
    let strip = |object: &Value| {
        let mut object = object.clone();
        for label in ["app.kubernetes.io/version", "helm.sh/chart"] {
            if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
                labels.remove(label);
            }
        }
        object
    };
    objects
        .iter()
        .map(|object| {
            (
                format!(
                    "{}/{}",
                    object["kind"].as_str().unwrap_or_default(),
                    object["metadata"]["name"].as_str().unwrap_or_default()
                ),
                strip(object),
            )
        })
        .collect()
}
