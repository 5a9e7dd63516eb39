//! A `GatewayConfig` manifest, put together as a person would say it.

use serde_json::{Map, Value, json};

use crate::wire::Address;

/// The whole document.
#[derive(Clone, Debug)]
pub struct Manifest(Value);

/// One proxy of it.
#[derive(Clone, Debug)]
pub struct Proxy(Value);

// === impl Manifest ===

impl Manifest {
    /// A manifest with these proxies, in which every listener takes any free port.
    pub fn of(proxies: impl IntoIterator<Item = Proxy>) -> Self {
        let proxies: Vec<_> = proxies.into_iter().map(|proxy| proxy.0).collect();
        Self(json!({
            "apiVersion": "postern.dev/v1alpha1",
            "kind": "GatewayConfig",
            "metadata": {"name": "journey"},
            "spec": {"proxies": proxies, "admin": {"address": "127.0.0.1:0"}, "drainTimeout": "10s"},
        }))
    }

    /// Sets a key of `spec`, as in `set("log.level", "debug")`.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        put(&mut self.0["spec"], path, value.into());
        self
    }

    /// The names of its proxies.
    pub fn names(&self) -> Vec<String> {
        let proxies = self.0["spec"]["proxies"].as_array();
        let name = |proxy: &Value| proxy["name"].as_str().unwrap_or_default().to_owned();
        proxies.map(|proxies| proxies.iter().map(name).collect()).unwrap_or_default()
    }

    /// The document as a file has it (JSON is YAML).
    pub fn text(&self) -> String {
        format!("{:#}\n", self.0)
    }
}

impl From<Proxy> for Manifest {
    fn from(proxy: Proxy) -> Self {
        Self::of([proxy])
    }
}

// === impl Proxy ===

impl Proxy {
    /// A proxy named `db` for the database at `address`, listening on any free port of the loopback.
    pub fn to(address: &Address) -> Self {
        Self::reaching(address.network(), &address.to_string())
    }

    /// The same for an address that is written differently, such as a name.
    pub fn reaching(network: &str, address: &str) -> Self {
        Self(json!({
            "name": "db",
            "server": {"network": "tcp", "address": "127.0.0.1:0"},
            "client": {"network": network, "addresses": [address]},
        }))
    }

    /// Gives it another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.set("name", name)
    }

    /// Lets it listen somewhere else.
    #[must_use]
    pub fn listening_on(self, address: &Address) -> Self {
        self.set("server.network", address.network()).set("server.address", address.to_string())
    }

    /// Sets a key of it, as in `set("pool.size", 2)`.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        put(&mut self.0, path, value.into());
        self
    }
}

fn put(section: &mut Value, path: &str, value: Value) {
    if section.is_null() {
        *section = Value::Object(Map::new());
    }
    match path.split_once('.') {
        Some((key, rest)) => put(&mut section[key], rest, value),
        None => section[path] = value,
    }
}
