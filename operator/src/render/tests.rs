//! A rendered resource is read back as what it was.

use super::*;
use crds::{ClientAuth, Duration, Network, OnError, Protocol, SidecarEnv, resolve, shape, validate};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use proptest::prelude::*;

const SAMPLES: [&str; 3] = [
    include_str!("../../../crds/samples/minimal.yaml"),
    include_str!("../../../crds/samples/full.yaml"),
    include_str!("../../../crds/samples/managed.yaml"),
];

fn parse(document: &str) -> GatewayConfig {
    let mut value: Value = serde_yaml::from_str(document).expect("YAML");
    assert_eq!(shape::check(&mut value["spec"]), [], "{document}");
    serde_json::from_value(value).expect("a resource")
}

fn config(proxies: Vec<Proxy>) -> GatewayConfig {
    let mut config = GatewayConfig::new("orders", GatewayConfigSpec { proxies, ..GatewayConfigSpec::default() });
    config.metadata.namespace = Some("shop".into());
    config
}

fn proxy(name: &str) -> Proxy {
    let client = crds::Client { addresses: vec!["db:5432".into()], ..crds::Client::default() };
    Proxy { name: name.into(), client, ..Proxy::default() }
}

#[test]
fn only_what_differs_from_its_default_is_written() {
    let mut one = proxy("orders");
    one.pool.size = Some(5);
    one.client.backoff = Duration::from_secs(2);
    let expected = "\
apiVersion: postern.dev/v1alpha1
kind: GatewayConfig
metadata:
  name: orders
  namespace: shop
spec:
  proxies:
  - client:
      addresses:
      - db:5432
      backoff: 2s
    name: orders
    pool:
      size: 5
";
    assert_eq!(render(&config(vec![one])).document, expected);
}

#[test]
fn what_the_api_server_filled_in_changes_nothing() {
    let mut written: Value = serde_yaml::from_str(SAMPLES[0]).expect("YAML");
    let plain: GatewayConfig = serde_json::from_value(written.clone()).expect("a resource");
    written["spec"]["proxies"][0]["pool"] = json!({ "mode": "session", "acquireTimeout": "30s", "maxWaiting": 1000 });
    written["spec"]["drainTimeout"] = json!("25s");
    written["spec"]["hooks"] = json!([]);
    let filled: GatewayConfig = serde_json::from_value(written).expect("a resource");
    assert_eq!(render(&plain), render(&filled));
}

#[test]
fn every_sample_is_read_back_as_it_was() {
    for sample in SAMPLES {
        let config = parse(sample);
        let rendered = render(&config);
        assert_eq!(parse(&rendered.document).spec, config.spec, "{}", rendered.document);
        assert_eq!(render(&parse(&rendered.document)), rendered);
    }
}

#[test]
fn the_hash_is_the_one_that_sha256sum_prints() {
    assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn the_order_of_lists_counts() {
    let there = render(&config(vec![proxy("a"), proxy("b")]));
    let back = render(&config(vec![proxy("b"), proxy("a")]));
    assert_ne!(there.hash, back.hash);
}

#[test]
fn settings_of_a_hook_are_kept_whatever_they_are() {
    let mut with_hook = config(vec![proxy("a")]);
    let settings = json!({ "z": null, "a": [1, { "y": "on", "b": 2.50 }], "empty": {} });
    let Value::Object(settings) = settings else { unreachable!("it is an object") };
    with_hook.spec.hooks = vec![Hook { name: "limit".into(), on_error: OnError::Pass, config: settings, source: None }];
    let rendered = render(&with_hook);
    assert_eq!(parse(&rendered.document).spec.hooks, with_hook.spec.hooks);
}

#[test]
fn whatever_a_resource_says_stays_a_word_of_it_and_its_annotations_stay_outside() {
    let words = "a\nworkers: 64\n---\nspec: {}\n# \"'{{ .x }}\u{1b}[31m\r\n\t%&*!|>@` $(cat /etc/passwd)\u{2028}";
    let mut hostile = config(vec![proxy("a")]);
    hostile.spec.proxies[0].client.addresses = vec![words.into()];
    hostile.spec.proxies[0].client.tls.server_name = Some(words.into());
    hostile.spec.proxies[0].server.address = Some(words.into());
    hostile.spec.sidecar.image = Some(words.into());
    let settings = Map::from_iter([(words.to_owned(), json!([words, { words: words }]))]);
    hostile.spec.hooks = vec![Hook { name: words.into(), on_error: OnError::Pass, config: settings, source: None }];
    let rendered = render(&hostile);
    let back: GatewayConfig = serde_yaml::from_str(&rendered.document).expect("one document");
    assert_eq!((back.spec, back.metadata.name.as_deref()), (hostile.spec.clone(), Some("orders")));
    hostile.metadata.annotations = Some([(words.to_owned(), words.to_owned())].into());
    hostile.metadata.labels = hostile.metadata.annotations.clone();
    assert_eq!(render(&hostile), rendered);
}

#[test]
fn each_secret_is_named_once() {
    let mut managed = Proxy { protocol: Protocol::Postgres, ..proxy("a") };
    managed.client.auth = Some(ClientAuth { secret_name: "z".into(), database: None });
    managed.client.tls.secret_name = Some("ca".into());
    let mut second = managed.clone();
    second.server.tls.secret_name = Some("peers".into());
    assert_eq!(secrets(&config(vec![managed, second]).spec), ["ca", "peers", "z"]);
}

#[test]
fn the_sidecars_hash_follows_what_the_injector_adds_and_nothing_else() {
    let plain = config(vec![proxy("a")]);
    let mut more = config(vec![proxy("a"), proxy("b")]);
    assert_eq!(sidecar_hash(&plain.spec), sidecar_hash(&more.spec));
    more.spec.sidecar.env = SidecarEnv::Hosts;
    assert_ne!(sidecar_hash(&plain.spec), sidecar_hash(&more.spec));
    assert_eq!(sidecar_hash(&plain.spec).len(), SIDECAR_HASH);
}

fn durations() -> impl Strategy<Value = Duration> {
    (0_u64..10_000_000).prop_map(Duration::from_millis)
}

prop_compose! {
    fn proxies()(
        name in "[a-z][a-z0-9]{0,8}",
        udp in any::<bool>(),
        size in proptest::option::of(1_u32..10_000),
        min_idle in proptest::option::of(0_u32..10_000),
        backoff in durations(),
        deadline in proptest::option::of(durations()),
        multiplier in 0.0_f64..20.0,
        jitter in 0.0_f64..=1.0,
        chunk in 1_u32..16_777_216,
        auth in proptest::option::of("[a-z]{1,8}"),
        address in proptest::option::of("127\\.0\\.0\\.[1-9]:[1-9][0-9]{3}"),
    ) -> Proxy {
        let mut proxy = proxy(&name);
        proxy.client.network = if udp { Network::Udp } else { Network::Tcp };
        proxy.pool.size = size;
        proxy.pool.min_idle = min_idle;
        proxy.pool.max_idle = deadline;
        proxy.client.backoff = backoff;
        proxy.client.backoff_multiplier = multiplier;
        proxy.client.jitter = jitter;
        proxy.client.receive_chunk_size = chunk;
        proxy.client.auth = auth.map(|secret_name| ClientAuth { secret_name, database: Some("on".into()) });
        proxy.server.address = address;
        proxy
    }
}

proptest! {
    #[test]
    fn whatever_is_rendered_is_read_back_as_it_was(
        proxies in proptest::collection::vec(proxies(), 1..4),
        workers in 1_u32..64,
        drain in durations(),
        image in proptest::option::of("[a-z]{1,8}(:[0-9]{1,3})?"),
        memory in proptest::option::of("[1-9][0-9]{0,3}(Mi|M)?"),
    ) {
        let mut config = config(proxies);
        config.spec.workers = workers;
        config.spec.drain_timeout = drain;
        config.spec.sidecar.image = image;
        config.spec.sidecar.resources.limits =
            memory.into_iter().map(|amount| ("memory".to_owned(), Quantity(amount))).collect();
        let rendered = render(&config);
        let back: GatewayConfig = serde_yaml::from_str(&rendered.document).expect("a resource");
        prop_assert_eq!(&back.spec, &config.spec);
        prop_assert_eq!(resolve(&back.spec), resolve(&config.spec));
        prop_assert_eq!(validate(&back.spec), validate(&config.spec));
        prop_assert_eq!(render(&back).hash, rendered.hash);
    }
}
