//! How a configuration stands: whether it can be served, was delivered, has the Secrets that it names, and what its pods
//! make of it.

use crds::{ClientTlsMode, GatewayConfig, GatewayConfigStatus, ServerAuthMode, ServerTlsMode};
use kube::ResourceExt;

use super::advice::Advice;
use super::explanation::Explanation;
use super::snapshot::{Installation, Namespace};
use super::words::{count, short};
use crate::caches::Held;
use crate::status::{ACCEPTED, PROGRAMMED, find};
use crate::{deliver, render};

/// A key that a Secret must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// The Secret.
    pub secret: String,
    /// The key.
    pub key: &'static str,
    /// The setting that names it.
    pub setting: String,
}

/// Says how the configuration `held` stands.
pub fn explain(held: &Held, namespace: &Namespace, installation: &Installation) -> Explanation {
    let mut out = Explanation::of(crds::KIND, &namespace.name, &held.name_any());
    let generation = held.metadata.generation.unwrap_or_default();
    match &held.known {
        Ok(config) => {
            let listed: Vec<String> = config.spec.proxies.iter().map(|proxy| proxy.name.clone()).collect();
            out.tell("configuration", format!("generation {generation}, with {}", proxies(&listed)));
        }
        Err(_) => out.tell("configuration", format!("generation {generation}, which cannot be read")),
    }
    out.tell("delivery", delivery(held, namespace));
    out.tell("pods", pods(&held.status));
    out.advise(advice(held, namespace));
    out.advise(of_status(held));
    out.advise(installation.advice());
    out.finish()
}

fn proxies(names: &[String]) -> String {
    format!("{}: {}", count(names.len() as u64, "proxy", "proxies"), names.join(", "))
}

fn delivery(held: &Held, namespace: &Namespace) -> String {
    let Ok(config) = &held.known else { return "what was delivered before stays".to_owned() };
    let newest = render::render(config).hash;
    match namespace.delivered_of(held) {
        Some(delivered) if delivered.hash == newest => format!("the newest, {}, is delivered", short(&newest)),
        Some(delivered) => format!("{} is delivered, and the newest is {}", short(&delivered.hash), short(&newest)),
        None => format!("nothing is delivered; the newest is {}", short(&newest)),
    }
}

fn pods(status: &GatewayConfigStatus) -> String {
    let pods = status.pods;
    let mut said = vec![format!("{} of {} up to date", pods.up_to_date, pods.injected)];
    let others = [(pods.failed, "fail"), (pods.unknown, "cannot be asked by the operator")];
    said.extend(others.into_iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}")));
    let missing = pods.matched.saturating_sub(pods.injected);
    if missing > 0 {
        said.push(format!("{missing} without the gateway that they asked for"));
    }
    said.push(format!("together they may open {} connections", status.connections.total));
    said.join(", ")
}

/// What hinders the configuration `held` on its way to the pods, and in them.
pub fn advice(held: &Held, namespace: &Namespace) -> Vec<Advice> {
    let (name, space) = (held.name_any(), &namespace.name);
    let refused = |sentence: &str| {
        Advice::problem(
            "ConfigInvalid",
            format!("GatewayConfig {name:?} is refused, and running pods keep the last one that was not: {sentence}"),
        )
    };
    let config = match &held.known {
        Ok(config) => config,
        Err(sentence) => return vec![refused(sentence)],
    };
    if let Err(error) = deliver::check(config) {
        return vec![refused(&error.to_string())];
    }
    let mut advice = secrets(config, namespace);
    if held.metadata.deletion_timestamp.is_some() {
        advice.push(Advice::problem(
            "ConfigDeleting",
            format!(
                "GatewayConfig {name:?} is being deleted, and new pods are refused; apply it again when it is gone"
            ),
        ));
    }
    let newest = render::render(config).hash;
    if namespace.delivered.is_ok() && namespace.delivered_of(held).is_none_or(|delivered| delivered.hash != newest) {
        advice.push(Advice::problem("NotDelivered", undelivered(held, &name, space)));
    }
    advice
}

/// Why the newest is not in the `ConfigMap`, in the operator's words if it has any for this generation.
fn undelivered(held: &Held, name: &str, namespace: &str) -> String {
    let programmed = find(&held.status, PROGRAMMED).filter(|it| it.status == "False");
    let is_of_now = held.status.observed_generation == held.metadata.generation;
    match programmed.filter(|_| is_of_now) {
        Some(condition) => format!(
            "GatewayConfig {name:?} is not delivered: {}; mend that, and the operator tries again",
            condition.message
        ),
        None => format!(
            "the operator has not delivered the newest edit of GatewayConfig {name:?} (it has seen generation {} of {}); it \
             takes a second when all is well, so see what it says: kubectl postern logs gatewayconfig/{name} -n {namespace} \
             --operator",
            held.status.observed_generation.unwrap_or_default(),
            held.metadata.generation.unwrap_or_default()
        ),
    }
}

/// What only the operator knows: what it found when it asked the pods.
pub fn of_status(held: &Held) -> Vec<Advice> {
    let name = held.name_any();
    let status = &held.status;
    let mut advice = Vec::new();
    for pod in &status.failing {
        let sentence = format!("pod {:?} fails with GatewayConfig {name:?}: {}", pod.name, pod.reason);
        advice.push(Advice::problem("PodsFailing", sentence));
    }
    if status.pods.unknown > 0 {
        let message = find(status, crate::status::READY).map(|ready| ready.message.as_str()).unwrap_or_default();
        advice.push(Advice::problem(
            "PodsUnknown",
            format!(
                "the operator cannot ask {} of GatewayConfig {name:?} what it serves ({message}); let its namespace in to \
                 that port (NetworkPolicy), and leave the port out of a mesh",
                count(status.pods.unknown.unsigned_abs().into(), "pod", "pods")
            ),
        ));
    }
    if find(status, ACCEPTED).is_none() && status.observed_generation.is_none() {
        advice.push(Advice::hint("NotLookedAt", format!("the operator has not looked at GatewayConfig {name:?} yet")));
    }
    advice
}

/// The keys that the Secrets of `config` must have.
pub fn needed(config: &GatewayConfig) -> Vec<Needed> {
    let mut needed = Vec::new();
    let mut need = |secret: &Option<String>, keys: &[&'static str], setting: String| {
        for key in keys.iter().filter(|_| secret.is_some()) {
            needed.push(Needed { secret: secret.clone().unwrap_or_default(), key, setting: setting.clone() });
        }
    };
    for (index, proxy) in config.spec.proxies.iter().enumerate() {
        let at = |setting: &str| format!("spec.proxies[{index}].{setting}.secretName");
        let auth = proxy.client.auth.as_ref().map(|auth| auth.secret_name.clone());
        need(&auth, &["username", "password"], at("client.auth"));
        if matches!(proxy.client.tls.mode, ClientTlsMode::VerifyCa | ClientTlsMode::VerifyFull) {
            need(&proxy.client.tls.secret_name, &["ca.crt"], at("client.tls"));
        }
        if proxy.server.auth.mode == ServerAuthMode::Scram {
            need(&proxy.server.auth.secret_name, &["username", "password"], at("server.auth"));
        }
        if proxy.server.tls.mode != ServerTlsMode::Disable {
            need(&proxy.server.tls.secret_name, &["tls.crt", "tls.key"], at("server.tls"));
        }
    }
    needed
}

/// Which of the Secrets that `config` names are not there, or lack a key.
pub fn secrets(config: &GatewayConfig, namespace: &Namespace) -> Vec<Advice> {
    let space = &namespace.name;
    let needed = needed(config);
    let mut advice = Vec::new();
    for secret in render::secrets(&config.spec) {
        let of_it = || needed.iter().filter(|one| one.secret == secret);
        let setting = of_it().next().map_or_else(|| "the configuration".to_owned(), |one| one.setting.clone());
        match namespace.secrets.get(&secret) {
            None => {}
            Some(Err(why)) => {
                advice.push(Advice::hint("NotKnown", format!("Secret {secret:?} was not looked at: {why}")));
            }
            Some(Ok(None)) => {
                let keys: Vec<String> = of_it().map(|one| format!("--from-literal={}=...", one.key)).collect();
                advice.push(Advice::problem(
                    "SecretMissing",
                    format!(
                        "there is no Secret {secret:?} in namespace {space}, which {setting} names, so pods wait for it; \
                         create it: kubectl create secret generic {secret} -n {space} {}",
                        keys.join(" ")
                    ),
                ));
            }
            Some(Ok(Some(keys))) => {
                let missing: Vec<&str> = of_it().map(|one| one.key).filter(|key| !keys.contains(*key)).collect();
                if let Some(first) = missing.first() {
                    let patch = format!("{{\"stringData\":{{\"{first}\":\"...\"}}}}");
                    advice.push(Advice::problem(
                        "SecretKeyMissing",
                        format!(
                            "Secret {secret:?} in namespace {space}, which {setting} names, has no key {}; add it: kubectl \
                             patch secret {secret} -n {space} -p '{patch}'",
                            missing.join(" and no key ")
                        ),
                    ));
                }
            }
        }
    }
    advice
}
