//! One gateway with a proxy for each mode.

use std::path::PathBuf;

use cast::wire::Address;
use cast::{Folder, Gateway, Manifest, Postgres, Proxy};

/// The modes in which the gateway itself logs in.
pub(crate) const MANAGED: [&str; 2] = ["session", "transaction"];
/// All modes, by the names of their proxies.
pub(crate) const ALL: [&str; 3] = ["passthrough", "session", "transaction"];

/// The folder of the Secrets: `app` has the name and password of `postgres`.
pub(crate) fn secrets() -> Folder {
    let folder = Folder::new("secrets");
    std::fs::create_dir(folder.join("app")).unwrap();
    std::fs::write(folder.join("app/username"), "postgres").unwrap();
    std::fs::write(folder.join("app/password"), "correct").unwrap();
    folder
}

/// The proxy of one mode.
pub(crate) fn proxy(mode: &str, address: &Address) -> Proxy {
    let proxy = Proxy::to(address).named(mode).set("protocol", "postgres");
    if mode == "passthrough" {
        return proxy;
    }
    proxy.set("client.auth.secretName", "app").set("client.auth.database", "postgres").set("pool.mode", mode)
}

/// A gateway with a proxy for each mode, each as `more` makes it.
#[track_caller]
pub(crate) fn gateway_with(postgres: &Postgres, secrets: &Folder, more: impl Fn(Proxy) -> Proxy) -> Gateway {
    let proxies = ALL.map(|mode| more(proxy(mode, &postgres.address())));
    start(Manifest::of(proxies).set("drainTimeout", "6s"), secrets)
}

/// The same with the defaults.
#[track_caller]
pub(crate) fn gateway(postgres: &Postgres, secrets: &Folder) -> Gateway {
    gateway_with(postgres, secrets, |proxy| proxy)
}

/// A gateway with this manifest.
#[track_caller]
pub(crate) fn start(manifest: impl Into<Manifest>, secrets: &Folder) -> Gateway {
    let folder: PathBuf = secrets.to_path_buf();
    Gateway::with(manifest).told(&["--secrets", &folder.display().to_string()]).start()
}
