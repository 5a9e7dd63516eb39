//! Which code a configuration means.

use super::*;
use crate::render::{digest, render};
use serde_json::{Value, json};

const CODE: &[u8] = b"\0asm of a guard";

fn config(hooks: &Value) -> Arc<GatewayConfig> {
    let document = json!({
        "apiVersion": crds::API_VERSION, "kind": crds::KIND, "metadata": { "name": "orders", "namespace": "shop" },
        "spec": { "proxies": [{ "name": "a", "client": { "addresses": ["db:1"] } }], "hooks": hooks }
    });
    Arc::new(serde_json::from_value(document).expect("a resource"))
}

/// The one `ConfigMap` that there is, `plugins`, with this code under `guard.wasm`.
fn there(code: &[u8]) -> impl Fn(&str) -> Option<Arc<PluginMap>> {
    let code = Code { digest: digest(code), size: code.len() };
    let map = Arc::new(PluginMap { code: [("guard.wasm".to_owned(), code)].into(), ..PluginMap::default() });
    move |name: &str| (name == "plugins").then(|| map.clone())
}

fn guard() -> Value {
    json!({ "name": "guard", "source": { "configMap": { "name": "plugins", "key": "guard.wasm" } } })
}

fn sentence(hook: &Value, look: impl Fn(&str) -> Option<Arc<PluginMap>>) -> String {
    let problems = pin(&config(&json!([hook])), look).expect_err("it is refused");
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn the_digest_of_what_is_there_becomes_part_of_what_is_rendered() {
    let pinned = pin(&config(&json!([{ "name": "log" }, guard()])), there(CODE)).expect("it is there");
    let rendered = render(&pinned);
    assert!(rendered.document.contains(&format!("digest: sha256:{}", digest(CODE))), "{}", rendered.document);
    let expected = Carried { digest: digest(CODE), map: "plugins".into(), key: "guard.wasm".into() };
    assert_eq!(rendered.plugins, std::slice::from_ref(&expected));
    assert_eq!(expected.file(), format!("{}.wasm", digest(CODE)));
    let other = pin(&config(&json!([guard()])), there(b"other code")).expect("it is there");
    assert_ne!(render(&other).hash, render(&pin(&config(&json!([guard()])), there(CODE)).expect("it is")).hash);
}

#[test]
fn a_configuration_without_plugins_from_config_maps_is_as_it_was() {
    let plain = config(&json!([{ "name": "log" }, { "name": "x", "source": { "file": "/x.wasm" } }]));
    let pinned = pin(&plain, |_| None).expect("nothing is looked for");
    assert!(Arc::ptr_eq(&plain, &pinned));
    assert_eq!(render(&pinned).plugins, []);
}

#[test]
fn what_is_missing_or_another_is_said_in_one_sentence() {
    let mut elsewhere = guard();
    elsewhere["source"]["configMap"]["name"] = json!("plugin");
    assert_eq!(
        sentence(&elsewhere, there(CODE)),
        "spec.hooks[0].source.configMap.name: there is no ConfigMap \"plugin\" with the label postern.dev/plugin: \"true\" \
         here; create it, or label it"
    );
    let mut default_key = guard();
    default_key["source"]["configMap"] = json!({ "name": "plugins" });
    assert_eq!(
        sentence(&default_key, there(CODE)),
        "spec.hooks[0].source.configMap.key: the ConfigMap \"plugins\" has no \"plugin.wasm\" in its binaryData, which holds \
         guard.wasm; correct one of them"
    );
    let mut meant = guard();
    meant["digest"] = json!(format!("sha256:{}", digest(CODE)));
    assert!(pin(&config(&json!([meant])), there(CODE)).is_ok(), "it is what is meant");
    assert_eq!(
        sentence(&meant, there(b"other code")),
        format!(
            "spec.hooks[0].digest: the ConfigMap \"plugins\" holds other code under \"guard.wasm\", sha256:{}; write that \
             digest, or put back the code that is meant",
            digest(b"other code")
        )
    );
}

#[test]
fn more_than_a_config_map_holds_is_refused_and_the_same_code_counts_once() {
    let large = vec![7; MAX_PLUGINS];
    let mut again = guard();
    again["name"] = json!("again");
    let twice = pin(&config(&json!([guard(), again])), there(&large)).expect("it is one code");
    assert_eq!(carried(&twice.spec).len(), 1);
    let larger = vec![7; MAX_PLUGINS + 1];
    assert!(
        sentence(&guard(), there(&larger)).starts_with("spec.hooks: the plugins from ConfigMaps have 921601 bytes")
    );
}

#[test]
fn of_a_config_map_only_digests_are_kept() {
    let map = json!({
        "metadata": { "name": "plugins", "namespace": "shop", "annotations": { "big": "x" } },
        "data": { "readme": "words" }, "binaryData": { "guard.wasm": "AGFzbQ==" }
    });
    let map: PluginMap = serde_json::from_value(map).expect("a ConfigMap");
    assert_eq!(map.code, [("guard.wasm".to_owned(), Code { digest: digest(b"\0asm"), size: 4 })].into());
    assert_eq!(map.metadata.annotations, None);
}
