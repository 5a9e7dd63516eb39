//! How a pod stands: why it has a gateway or none, which configuration that serves, what differs, and what it does right
//! now.

use kube::ResourceExt;

use super::advice::Advice;
use super::explanation::Explanation;
use super::live::{Live, Proxy};
use super::snapshot::{Installation, Known, Namespace, PodView};
use super::words::{count, short, span};
use super::{config, database, injection};
use crate::caches::Held;
use crate::names;
use crate::render;
use crate::sidecars::ask::State as Answer;
use crate::sidecars::fleet::Fixed;
use crate::sidecars::pod::Seen;
use crate::sidecars::{Record, Standing};

/// Says how the pod stands.
pub fn explain(view: &PodView, namespace: &Namespace, installation: &Installation) -> Explanation {
    let mut out = Explanation::of("Pod", &namespace.name, &view.pod.name_any());
    injection::explain(view, namespace, installation, &mut out);
    if let Some(seen) = &view.seen {
        let held = namespace.config(&seen.config.name);
        out.tell("configuration", serves(seen, held, view));
        out.tell("gateway", gateway(seen, view.live.as_ref()));
        out.advise(of_gateway(view, seen, namespace));
        for proxy in proxies(view) {
            out.tell(format!("proxy {}", proxy.name), does(proxy));
            if let Some(held) = held {
                out.advise(database::advice(proxy, held, namespace));
            }
        }
        match held {
            Some(held) => out.advise(config::advice(held, namespace)),
            None => out.advise([gone(seen, namespace)]),
        }
    }
    out.advise(installation.advice());
    out.finish()
}

/// What is wrong with a pod's gateway, or with what it serves.
pub fn of_gateway(view: &PodView, seen: &Seen, namespace: &Namespace) -> Vec<Advice> {
    let mut advice = Vec::new();
    let held = namespace.config(&seen.config.name);
    advice.extend(seen.trouble.as_ref().map(|trouble| fails(trouble, view, seen, held)));
    // Once it runs, what hindered it is over.
    let warnings = view.warnings.iter().filter(|_| seen.address.is_none());
    advice.extend(
        warnings
            .filter(|warning| is_about_starting(&warning.reason))
            .map(|warning| Advice::hint(warning.reason.clone(), format!("the kubelet says: {}", warning.sentence))),
    );
    if let Some(Err(why)) = &view.live {
        advice.push(Advice::hint("NotReached", format!("what the gateway does right now is not known: {why}")));
    }
    advice.extend(held.into_iter().flat_map(|held| differs(view, seen, held)));
    advice
}

/// The sidecar does not run, for this reason.
fn fails(trouble: &str, view: &PodView, seen: &Seen, held: Option<&Held>) -> Advice {
    if OF_ITS_IMAGE.iter().any(|reason| trouble.contains(reason)) {
        let (source, restart) = (image_source(view, seen, held), view.restart());
        return Advice::problem(
            "SidecarImage",
            format!(
                "{trouble}; correct its image in {source}, or let the node pull it (image.pullSecrets of the chart), and \
                 restart the pod: {restart}"
            ),
        );
    }
    let (pod, namespace) = (&seen.key.name, &seen.key.namespace);
    let why = format!("kubectl logs {pod} -c {} -n {namespace} --previous", names::CONTAINER);
    Advice::problem("SidecarFails", format!("{trouble}; see why: {why}"))
}

/// Who says which image the sidecar has: the pod before its configuration, and that before the chart.
fn image_source(view: &PodView, seen: &Seen, held: Option<&Held>) -> String {
    if view.pod.annotations().contains_key(names::IMAGE) {
        return format!("the annotation {} of what the pod is created from", names::IMAGE);
    }
    let config = held.and_then(|held| held.known.as_ref().ok());
    if config.is_some_and(|config| config.spec.sidecar.image.is_some()) {
        let (name, namespace) = (&seen.config.name, &seen.key.namespace);
        return format!("spec.sidecar.image: kubectl edit gatewayconfig {name} -n {namespace}");
    }
    "the chart's values image.registry, image.tag and image.gateway".to_owned()
}

/// Why the kubelet has no image for the sidecar.
const OF_ITS_IMAGE: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];

fn is_about_starting(reason: &str) -> bool {
    ["FailedMount", "Failed", "FailedScheduling", "FailedCreatePodSandBox"].contains(&reason)
}

/// What of the newest configuration the pod does not serve, and why.
fn differs(view: &PodView, seen: &Seen, held: &Held) -> Vec<Advice> {
    let Ok(config) = &held.known else { return Vec::new() };
    let newest = render::render(config).hash;
    let fixed = Fixed { secrets: render::secrets(&config.spec), sidecar_hash: render::sidecar_hash(&config.spec) };
    let said = match &view.live {
        Some(Ok(live)) => Ok(live.report.clone()),
        Some(Err(why)) => Err(why.clone()),
        None => Err("it has no gateway that runs".to_owned()),
    };
    let record = Record::of(seen.clone(), said);
    let (name, pod) = (held.name_any(), &seen.key.name);
    let mut advice = Vec::new();
    match record.standing(Some(&newest)) {
        Standing::Refused(reason) => advice.push(Advice::problem(
            "ConfigRefused",
            format!("the gateway in pod {pod:?} refuses GatewayConfig {name:?} and serves what it had: {reason}"),
        )),
        Standing::Stale => advice.push(stale(view, seen, &name, &newest)),
        _ => {}
    }
    advice.extend(record.restarts(Some(&fixed)).into_iter().map(|sentence| {
        Advice::problem("RestartRequired", format!("{sentence}; restart the pod when it suits: {}", view.restart()))
    }));
    advice
}

/// An older configuration is served, or none at all.
fn stale(view: &PodView, seen: &Seen, name: &str, newest: &str) -> Advice {
    let report = match &view.live {
        Some(Ok(live)) => Some(&live.report),
        _ => None,
    };
    let pod = &seen.key.name;
    let refused = report.filter(|report| report.state == Answer::Refused).and_then(|report| report.refused.as_ref());
    match refused {
        Some(refused) => Advice::problem(
            "ConfigRefused",
            format!("the gateway in pod {pod:?} does not serve GatewayConfig {name:?}: {}", refused.reason),
        ),
        None => Advice::problem(
            "ConfigStale",
            format!(
                "the gateway in pod {pod:?} serves {} of GatewayConfig {name:?}, and the newest is {}; it arrives within \
                 two seconds of its delivery, or two minutes where the operator is away",
                report.map_or("nothing", |report| short(&report.hash)),
                short(newest)
            ),
        ),
    }
}

/// Which configuration is served.
fn serves(seen: &Seen, held: Option<&Held>, view: &PodView) -> String {
    let name = &seen.config.name;
    let Some(held) = held else { return format!("GatewayConfig {name}, which is not there any more") };
    let generation = held.metadata.generation.unwrap_or_default();
    let newest = held.known.as_ref().map(|config| render::render(config).hash).unwrap_or_default();
    match &view.live {
        Some(Ok(Live { report, .. })) if report.hash == newest => {
            format!("GatewayConfig {name}, generation {generation} ({}), which is the newest", short(&newest))
        }
        Some(Ok(Live { report, .. })) => {
            let served = if report.hash.is_empty() { "none yet" } else { short(&report.hash) };
            format!("GatewayConfig {name}, {served}; the newest is generation {generation} ({})", short(&newest))
        }
        _ => format!("GatewayConfig {name}; the newest is generation {generation} ({})", short(&newest)),
    }
}

/// Whether the gateway runs, and for how long.
fn gateway(seen: &Seen, live: Option<&Known<Live>>) -> String {
    let state = match (&seen.address, &seen.trouble) {
        (_, Some(_)) => "does not run",
        (None, None) => "does not run yet",
        (Some(_), None) if seen.is_ready => "is ready",
        (Some(_), None) => "runs, and is not ready",
    };
    let restarts = count(seen.run.restarts.unsigned_abs().into(), "restart", "restarts");
    match live {
        Some(Ok(Live { state: Some(said), .. })) => {
            let draining = if said.draining { ", and is about to end" } else { "" };
            format!("{} {state}, for {}, with {restarts}{draining}", said.version, span(said.uptime_seconds))
        }
        Some(Ok(Live { report, .. })) => {
            let version = report.version.as_deref().unwrap_or("an unknown version");
            format!("{version} {state}, with {restarts}; it is too old to say what it does right now")
        }
        _ => format!("it {state}, with {restarts}"),
    }
}

/// The proxies of the gateway, as far as it tells.
pub fn proxies(view: &PodView) -> &[Proxy] {
    match &view.live {
        Some(Ok(Live { state: Some(state), .. })) => &state.proxies,
        _ => &[],
    }
}

/// What one proxy does right now.
fn does(proxy: &Proxy) -> String {
    let database = &proxy.database;
    let place = database.current.clone().unwrap_or_else(|| database.addresses.join(", "));
    let since = span(database.since_seconds);
    let database_is = match database.state.as_str() {
        "up" => format!("has been up for {since}"),
        "away" => format!("has been away for {since}"),
        "down" => format!("has been down for {since}"),
        _ => "has not been reached yet".to_owned(),
    };
    let retry = database.retry.as_ref().map(|retry| {
        let next = retry.next_dial_seconds.map_or_else(String::new, |next| format!(", the next in {}", span(next)));
        match retry.round {
            0 | 1 => format!(" (dial {} of {}{next})", retry.attempt, retry.of),
            _ => format!(" (the schedule of {} dials is over{next})", retry.of),
        }
    });
    let pool = proxy.pool;
    let waits = match pool.waiting {
        0 => "nobody waits".to_owned(),
        waiting => {
            let longest = span(pool.longest_wait_seconds);
            format!("{} (the longest for {longest})", count(waiting, "peer waits", "peers wait"))
        }
    };
    format!(
        "{}, {} -> {place}, which {database_is}{}; of {} {} lent and {} idle; {}, {waits}",
        proxy.mode,
        proxy.address,
        retry.unwrap_or_default(),
        count(pool.size, "connection", "connections"),
        pool.lent,
        pool.idle,
        count(proxy.sessions, "session", "sessions")
    )
}

/// The pod outlives its configuration.
fn gone(seen: &Seen, namespace: &Namespace) -> Advice {
    let (name, space) = (&seen.config.name, &namespace.name);
    Advice::problem(
        "ConfigNotFound",
        format!(
            "GatewayConfig {name:?} is not in namespace {space} any more: the pod keeps what it has, and new pods are \
             refused; apply it again"
        ),
    )
}
