use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;

use serde_json::json;

use super::*;

const CONFIG: &str = "\
apiVersion: postern.dev/v1alpha1
kind: GatewayConfig
metadata: {name: orders}
spec: {proxies: [{name: orders, client: {addresses: ['db.example:5432']}}]}
";

/// A folder that ends with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("postern-inject-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("there is room");
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("there is room");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Who cleans up temporary folders cleans up this one too.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Parser)]
struct Inject {
    #[command(flatten)]
    settings: Settings,
}

fn run(manifest: &str, config: &str, arguments: &[&str]) -> Result<Outcome, String> {
    let folder = Folder::new();
    let (file, config) = (folder.write("app.yaml", manifest), folder.write("config.yaml", config));
    let arguments = ["inject", "-f", &file, "-c", &config].into_iter().chain(arguments.iter().copied());
    let settings = Inject::parse_from(arguments).settings;
    Outcome::of(&settings).map_err(|error| error.to_string().replace(folder.0.to_string_lossy().as_ref(), "."))
}

/// A workload, with its pod where it belongs.
fn workload(api_version: &str, kind: &str, path: &[&str]) -> String {
    let pod = json!({
        "metadata": {"annotations": {"postern.dev/inject": "true"}},
        "spec": {"containers": [{"name": "app"}]},
    });
    let mut whole = path.iter().rev().fold(pod, |inner, key| json!({ *key: inner }));
    (whole["apiVersion"], whole["kind"]) = (api_version.into(), kind.into());
    whole["metadata"]["name"] = "app".into();
    serde_yaml::to_string(&whole).expect("YAML")
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).expect("YAML")).collect()
}

#[test]
fn whatever_makes_pods_gets_the_sidecar_in_its_template() {
    for (api_version, kind, path) in [
        ("v1", "Pod", [].as_slice()),
        ("v1", "ReplicationController", &["spec", "template"]),
        ("apps/v1", "Deployment", &["spec", "template"]),
        ("apps/v1", "StatefulSet", &["spec", "template"]),
        ("apps/v1", "DaemonSet", &["spec", "template"]),
        ("apps/v1", "ReplicaSet", &["spec", "template"]),
        ("batch/v1", "Job", &["spec", "template"]),
        ("batch/v1", "CronJob", &["spec", "jobTemplate", "spec", "template"]),
    ] {
        let manifest = workload(api_version, kind, path);
        let outcome = run(&manifest, CONFIG, &[]).expect("it works");
        let made = &documents(&outcome.printed)[0];
        let pod = path.iter().fold(made, |place, key| &place[*key]);
        assert_eq!(pod["spec"]["initContainers"][0]["name"], "postern-gateway", "{kind}");
        assert_eq!(pod["metadata"]["labels"]["postern.dev/config"], "orders", "{kind}");

        let patch = run(&manifest, CONFIG, &["-o", "patch"]).expect("it works").printed;
        let mut patched = documents(&manifest).remove(0);
        json_patch::patch(&mut patched, &serde_json::from_str::<Patch>(&patch).expect("a patch")).expect("it applies");
        assert_eq!(&patched, made, "{kind}");

        let again = run(&outcome.printed, CONFIG, &[]).expect("it works");
        assert_eq!(again.printed, outcome.printed, "{kind}");
    }
}

#[test]
fn other_documents_and_items_of_lists_pass_in_their_order() {
    let job = workload("batch/v1", "Job", &["spec", "template"]);
    let list = serde_yaml::to_string(&json!({"apiVersion": "v1", "kind": "List", "items": documents(&job)}));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: app}\n";
    let all = format!("---\n{service}---\n\n---\n{job}---\n{}", list.expect("YAML"));
    let printed = documents(&run(&all, CONFIG, &[]).expect("it works").printed);
    let kinds: Vec<&str> = printed.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["Service", "Job", "List"]);
    assert_eq!(printed[0], documents(service)[0]);
    assert_eq!(printed[2]["items"][0], printed[1]);
}

#[test]
fn a_denied_pod_prints_nothing_and_says_why() {
    let deployment = workload("apps/v1", "Deployment", &["spec", "template"]);
    let other = CONFIG.replace("metadata: {name: orders}", "metadata: {name: orders, namespace: shop}");
    let outcome = run(&deployment, &other, &[]).expect("it works");
    assert!(outcome.is_denied && outcome.printed.is_empty());
    assert_eq!(
        outcome.said,
        ["Deployment app: denied (NoConfig): there is no GatewayConfig in namespace \"default\"; apply one, or write \
          postern.dev/inject: \"false\""]
    );
}

#[test]
fn a_pod_that_did_not_ask_is_printed_as_it_is_unless_its_namespace_asks() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: app\nspec:\n  containers:\n  - name: app\n";
    let outcome = run(pod, CONFIG, &[]).expect("it works");
    assert_eq!((outcome.printed.as_str(), outcome.said), (pod, vec!["Pod app: left as it is (NotAsked)".to_owned()]));
    assert!(run(pod, CONFIG, &["--namespace-asks"]).expect("it works").printed.contains("postern-gateway"));
}

#[test]
fn the_sidecar_is_as_the_arguments_say() {
    let pod = workload("v1", "Pod", &[]);
    let arguments = ["--gateway-image", "mine:1", "--sidecar-requests", "cpu=1", "--image-pull-secret", "pull"];
    let made = documents(&run(&pod, CONFIG, &arguments).expect("it works").printed).remove(0);
    let sidecar = &made["spec"]["initContainers"][0];
    assert_eq!((&sidecar["image"], &sidecar["resources"]["requests"]), (&json!("mine:1"), &json!({"cpu": "1"})));
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
}

#[test]
fn bad_input_gets_one_sentence() {
    let pod = workload("v1", "Pod", &[]);
    for (manifest, config, sentence) in [
        ("", CONFIG, "./app.yaml has no manifest"),
        ("hello", CONFIG, "./app.yaml has no manifest"),
        ("a: [", CONFIG, "./app.yaml is not YAML: "),
        (&pod, "", "./config.yaml has no manifest"),
        (&pod, &pod, "./config.yaml: Pod app is no GatewayConfig of postern.dev/v1alpha1; give it to --file"),
        (&pod, "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\n", "./config.yaml: spec: it is missing; "),
        (&pod, &CONFIG.replace("client:", "cleint:"), "./config.yaml: spec.proxies[0].cleint: unknown key `cleint`; "),
    ] {
        let said = run(manifest, config, &[]).expect_err("it is bad");
        assert!(said.starts_with(sentence), "{said}");
    }
    let settings = Inject::parse_from(["inject", "-f", "/nowhere.yaml", "-c", "/nowhere.yaml"]).settings;
    let said = Outcome::of(&settings).expect_err("there is none").to_string();
    assert_eq!(said, "cannot read /nowhere.yaml: No such file or directory (os error 2)");
}
