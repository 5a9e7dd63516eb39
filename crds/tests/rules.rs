//! What the API server would say, without one: the schema's defaults are applied and its CEL rules evaluated.

use crds::{schema, shape, validate};
use kube::core::cel::Validator;
use serde_json::{Value, json};

const SAMPLES: [&str; 3] = [
    include_str!("../samples/minimal.yaml"),
    include_str!("../samples/full.yaml"),
    include_str!("../samples/managed.yaml"),
];

/// As the API server does before it evaluates a rule.
fn apply_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default").filter(|_| !map.contains_key(name)) {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    apply_defaults(value, property);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| apply_defaults(value, &schema["items"])),
        _ => {}
    }
}

/// What the rules of the schema say about a document.
fn verdict(mut document: Value) -> Vec<String> {
    let crd = schema::crd();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    apply_defaults(&mut document, schema);
    match Validator::new().validate(schema, &document, None) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn document(proxies: &Value) -> Value {
    json!({
        "apiVersion": crds::API_VERSION, "kind": crds::KIND, "metadata": { "name": "a" }, "spec": { "proxies": proxies }
    })
}

#[test]
fn the_samples_are_accepted_by_schema_rules_and_code() {
    for sample in SAMPLES {
        let mut document: Value = serde_yaml::from_str(sample).unwrap();
        assert_eq!(verdict(document.clone()), [""; 0], "{sample}");
        assert_eq!(shape::check(&mut document["spec"]), [], "{sample}");
        let config: crds::GatewayConfig = serde_json::from_value(document).unwrap();
        assert_eq!(validate(&config.spec), [], "{sample}");
    }
}

#[test]
fn the_full_sample_writes_every_setting_that_has_a_default() {
    let written: Value = serde_yaml::from_str(SAMPLES[1]).unwrap();
    let defaults = serde_json::to_value(crds::Proxy::default()).unwrap();
    let missing = |section: &str| {
        let defaults = defaults[section].as_object().unwrap().iter().filter(|(_, default)| !default.is_null());
        let written = &written["spec"]["proxies"][0][section];
        defaults.filter(|(name, _)| written.get(name).is_none()).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    for section in ["server", "pool", "client"] {
        assert_eq!(missing(section), [""; 0], "{section}");
    }
}

/// `kubectl apply` and others compare lists as a whole: what the API server fills in there is a difference for ever.
#[test]
fn the_api_server_fills_in_nothing_inside_of_a_list() {
    for sample in SAMPLES {
        let applied: Value = serde_yaml::from_str(sample).unwrap();
        let mut stored = applied.clone();
        let crd = schema::crd();
        apply_defaults(&mut stored, &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
        assert!(stored["spec"]["drainTimeout"].is_string(), "outside of lists it does");
        for list in ["proxies", "hooks"] {
            assert_eq!(stored["spec"].get(list).or(Some(&json!([]))), applied["spec"].get(list).or(Some(&json!([]))));
        }
    }
}

#[test]
fn each_rule_refuses_what_it_guards_and_the_code_agrees() {
    let db = json!({ "addresses": ["db:5432"] });
    let managed = json!({ "addresses": ["db:5432"], "auth": { "secretName": "s" } });
    let cases = [
        (json!([{ "name": "a", "client": managed }]), "client.auth needs protocol postgres"),
        (
            json!([{ "name": "a", "protocol": "postgres", "client": { "network": "udp", "addresses": ["db:1"] } }]),
            "protocol postgres does not run over udp",
        ),
        (
            json!([{ "name": "a", "pool": { "mode": "transaction" }, "client": db }]),
            "pool.mode transaction needs client.auth",
        ),
        (
            json!([{ "name": "a", "client": { "addresses": ["db:1"], "targetSessionAttrs": "standby" } }]),
            "targetSessionAttrs other than any needs client.auth",
        ),
        (
            json!([{ "name": "a", "server": { "auth": { "mode": "scram", "secretName": "s" } }, "client": db }]),
            "server.auth.mode scram needs client.auth",
        ),
        (
            json!([{ "name": "a", "pool": { "idleTransactionTimeout": "1s" }, "client": db }]),
            "idleTransactionTimeout needs client.auth",
        ),
        (json!([{ "name": "a", "server": { "network": "udp" }, "client": db }]), "udp goes with udp only"),
        (
            json!([{ "name": "a", "server": { "address": "/run/x" }, "client": db }]),
            "a unix server listens on an absolute path",
        ),
        (
            json!([{ "name": "a", "server": { "network": "unix", "address": "1.2.3.4:5" }, "client": db }]),
            "a unix server",
        ),
        (json!([{ "name": "a", "pool": { "size": 1, "minIdle": 2 }, "client": db }]), "minIdle may not exceed size"),
        (json!([{ "name": "a", "client": { "addresses": ["db"] } }]), "addresses are host:port"),
        (json!([{ "name": "a", "client": { "network": "unix", "addresses": ["db:1"] } }]), "addresses are host:port"),
        (json!([{ "name": "a", "server": { "tls": { "mode": "allow" } }, "client": db }]), "need secretName"),
        (
            json!([{ "name": "a", "protocol": "postgres", "server": { "auth": { "mode": "scram" } }, "client": managed }]),
            "mode scram needs secretName",
        ),
        (
            json!([{ "name": "a", "client": { "addresses": ["db:1"], "tls": { "mode": "verify-ca" } } }]),
            "need secretName",
        ),
        (
            json!([
                { "name": "a", "server": { "address": "127.0.0.1:1" }, "client": db },
                { "name": "b", "server": { "address": "127.0.0.1:1" }, "client": db }
            ]),
            "two proxies may not listen on the same address",
        ),
    ];
    for (proxies, sentence) in cases {
        let document = document(&proxies);
        let said = verdict(document.clone());
        assert!(said.iter().any(|said| said.contains(sentence)), "{proxies}: {said:?}");
        let config: crds::GatewayConfig = serde_json::from_value(document).unwrap();
        assert_ne!(validate(&config.spec), [], "{proxies}");
    }
}

#[test]
fn what_only_looks_alike_is_accepted() {
    let db = json!({ "addresses": ["db:53", "[::1]:53"] });
    let datagrams = json!({ "network": "udp", "addresses": ["db:53"] });
    for proxies in [
        json!([
            { "name": "a", "server": { "address": "127.0.0.1:53" }, "client": db },
            { "name": "b", "server": { "address": "127.0.0.1:53" }, "client": datagrams }
        ]),
        json!([
            { "name": "a", "server": { "address": "127.0.0.1:0" }, "client": db },
            { "name": "b", "server": { "address": "127.0.0.1:0" }, "client": db }
        ]),
        json!([{ "name": "a", "server": { "network": "unix", "address": "/run/x" }, "client": db }]),
        json!([{ "name": "a", "client": { "addresses": ["db:1"], "backoff": "10m", "backoffMultiplier": 100, "retries": 50 } }]),
    ] {
        let document = document(&proxies);
        assert_eq!(verdict(document.clone()), [""; 0], "{proxies}");
        let config: crds::GatewayConfig = serde_json::from_value(document).unwrap();
        assert_eq!(validate(&config.spec), [], "{proxies}");
    }
}

#[test]
fn a_name_leaves_room_for_the_names_of_what_is_made_from_it() {
    let mut document = document(&json!([{ "name": "a", "client": { "addresses": ["db:1"] } }]));
    document["metadata"]["name"] = json!("a".repeat(53));
    assert!(verdict(document)[0].contains("at most 52 characters"));
}

/// The API server evaluates the rules of a section on its default `{}`, as it stands, before it accepts the definition; and
/// nobody has to write what a section holds.
#[test]
fn an_empty_section_breaks_no_rule() {
    fn walk(schema: &Value, path: &str, sections: &mut usize) {
        if schema["properties"].is_object() && schema["required"].is_null() {
            *sections += 1;
            let verdict = Validator::new().validate(schema, &json!({}), None);
            assert!(verdict.is_ok(), "{path}: {verdict:?}");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}.{name}"), sections);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], path, sections);
        }
    }
    let mut sections = 0;
    walk(&schema::spec(), "spec", &mut sections);
    assert!(sections > 5, "only {sections} sections were found");
}
