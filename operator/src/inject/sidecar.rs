//! The container, and the volumes that it needs.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crds::{GatewayConfig, Listen, SidecarEnv};
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::overrides::Overrides;
use super::places::Layout;
use super::{Defaults, Reason, Refusal, quantity};
use crate::names::{
    ADMIN_PORT, CONFIG_FOLDER, CONFIG_KEY, CONFIG_VOLUME, CONTAINER, CPU_LIMIT, CPU_REQUEST, HOSTS_KEY, LOG_LEVEL,
    MEMORY_LIMIT, MEMORY_REQUEST, POD_FOLDER, POD_VOLUME, PROGRAM, RUN_FOLDER, RUN_VOLUME, SECRET_VOLUME_PREFIX,
    SECRETS_FOLDER, TOKEN_FOLDER, TOKEN_VOLUME, config_map,
};
use crate::render;
use crate::settings::Resources;

/// The user of a sidecar in a pod whose containers run as root unless they say otherwise.
const USER: i64 = 65532;
/// Below this a port needs a right that no restricted container has, unless the pod lowers it.
const FIRST_FREE_PORT: u16 = 1024;
/// The setting of the pod that does.
pub(super) const FIRST_FREE_PORT_SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

/// What the injection adds for the gateway itself: as it is written, and as it is read again.
pub(super) struct Sidecar {
    pub(super) written: Written,
    pub(super) container: Container,
    pub(super) volumes: Vec<Volume>,
}

/// The container and its volumes, as they go into a patch.
pub(super) struct Written {
    pub(super) container: Value,
    pub(super) volumes: Vec<Value>,
}

/// What of a resource a container asks for, and may use.
struct Amounts {
    requests: Resources,
    limits: Resources,
}

// === impl Sidecar ===

impl Sidecar {
    /// The sidecar of `pod` for this configuration.
    pub(super) fn new(
        (config, layout): (&GatewayConfig, &Layout),
        overrides: &Overrides,
        pod: &PodSpec,
        defaults: &Defaults,
    ) -> Result<Self, Refusal> {
        let written =
            Written { container: container((config, layout), overrides, pod, defaults)?, volumes: volumes(config) };
        // What we write consists of what these types have, so it can be read.
        let container = Container::deserialize(&written.container).unwrap_or_default();
        let volumes = written.volumes.iter().map(|volume| Volume::deserialize(volume).unwrap_or_default()).collect();
        Ok(Self { written, container, volumes })
    }
}

/// The container.
fn container(
    (config, layout): (&GatewayConfig, &Layout),
    overrides: &Overrides,
    pod: &PodSpec,
    defaults: &Defaults,
) -> Result<Value, Refusal> {
    let file = format!("{CONFIG_FOLDER}/{CONFIG_KEY}");
    // The port that the kubelet and the operator ask is the pod's for its life, so the gateway's is as well.
    let admin = layout.admin.to_string();
    let mut args = vec!["run", "--file", &file, "--secrets", SECRETS_FOLDER, "--pod", POD_FOLDER, "--admin", &admin];
    let listens: Vec<String> = layout.places.iter().map(super::places::Place::argument).collect();
    args.extend(listens.iter().flat_map(|listen| ["--listen", listen]));
    let image = overrides.image.clone().or_else(|| config.spec.sidecar.image.clone());
    let Amounts { requests, limits } = amounts(config, overrides, defaults)?;
    let mut resources = json!({ "requests": requests });
    if !limits.is_empty() {
        resources["limits"] = json!(limits);
    }
    Ok(json!({
        "name": CONTAINER,
        "image": image.unwrap_or_else(|| defaults.image.clone()),
        "imagePullPolicy": defaults.image_pull_policy,
        "restartPolicy": "Always",
        "args": args,
        "ports": [{ "name": ADMIN_PORT, "containerPort": layout.admin.port(), "protocol": "TCP" }],
        "lifecycle": { "postStart": { "exec": { "command": [PROGRAM, "wait", "--admin", admin] } } },
        "readinessProbe": {
            "httpGet": { "path": "/readyz", "port": ADMIN_PORT },
            "periodSeconds": 5,
            "timeoutSeconds": 2,
        },
        "resources": resources,
        "securityContext": security_context(pod),
        "volumeMounts": mounts(config),
    }))
}

/// Complete for the standard `restricted` at any version. There is no user id, because the image has a numeric one and
/// any will do; only where the pod says root it is said again.
fn security_context(pod: &PodSpec) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": { "drop": ["ALL"] },
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": { "type": "RuntimeDefault" },
    });
    if pod.security_context.as_ref().and_then(|context| context.run_as_user) == Some(0) {
        context["runAsUser"] = USER.into();
    }
    context
}

fn mounts(config: &GatewayConfig) -> Vec<Value> {
    let mut mounts = vec![
        json!({ "name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": true }),
        json!({ "name": POD_VOLUME, "mountPath": POD_FOLDER, "readOnly": true }),
        json!({ "name": RUN_VOLUME, "mountPath": RUN_FOLDER }),
        json!({ "name": TOKEN_VOLUME, "mountPath": TOKEN_FOLDER, "readOnly": true }),
    ];
    if config.spec.sidecar.env == SidecarEnv::Hosts {
        // The pod's own would lead the gateway to itself.
        let hosts = "/etc/hosts";
        mounts.push(json!({ "name": CONFIG_VOLUME, "mountPath": hosts, "subPath": HOSTS_KEY, "readOnly": true }));
    }
    let secrets = render::secrets(&config.spec).into_iter().enumerate().map(|(index, secret)| {
        let folder = format!("{SECRETS_FOLDER}/{secret}");
        json!({ "name": format!("{SECRET_VOLUME_PREFIX}{index}"), "mountPath": folder, "readOnly": true })
    });
    mounts.extend(secrets);
    mounts
}

/// The volumes that the container mounts.
fn volumes(config: &GatewayConfig) -> Vec<Value> {
    let annotation = format!("metadata.annotations['{LOG_LEVEL}']");
    let level = json!({ "path": "log-level", "fieldRef": { "apiVersion": "v1", "fieldPath": annotation } });
    let mut volumes = vec![
        json!({ "name": CONFIG_VOLUME, "configMap": { "name": config_map(&config.name_any()) } }),
        json!({ "name": POD_VOLUME, "downwardAPI": { "items": [level] } }),
        json!({ "name": RUN_VOLUME, "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }),
        json!({ "name": TOKEN_VOLUME, "emptyDir": { "medium": "Memory", "sizeLimit": "4Ki" } }),
    ];
    let secrets = render::secrets(&config.spec).into_iter().enumerate();
    volumes.extend(secrets.map(|(index, secret)| {
        json!({ "name": format!("{SECRET_VOLUME_PREFIX}{index}"), "secret": { "secretName": secret } })
    }));
    volumes
}

/// The lowest port that the sidecar needs and may not have, unless the pod lowers the first free one.
pub(super) fn privileged_port(layout: &Layout) -> Option<u16> {
    let ports = layout.places.iter().filter_map(|place| match &place.listen {
        Listen::Tcp(addr) | Listen::Udp(addr) => Some(addr.port()),
        Listen::Unix(_) => None,
    });
    ports.chain([layout.admin.port()]).filter(|port| *port < FIRST_FREE_PORT).min()
}

/// The operator's amounts, over them the configuration's, over them the pod's; what was not asked for here never
/// exceeds what may be used.
fn amounts(config: &GatewayConfig, pod: &Overrides, defaults: &Defaults) -> Result<Amounts, Refusal> {
    let written = &config.spec.sidecar.resources;
    let over = |mut under: Resources, over: &BTreeMap<String, Quantity>| {
        under.extend(over.iter().map(|(name, amount)| (name.clone(), amount.clone())));
        under
    };
    let mut requests = over(over(defaults.requests.clone(), &written.requests), &pod.requests);
    let mut limits = over(over(defaults.limits.clone(), &written.limits), &pod.limits);
    for (name, limit) in &mut limits {
        let Some(request) = requests.get_mut(name) else { continue };
        let (Some(asked), Some(most)) = (quantity::parse(&request.0), quantity::parse(&limit.0)) else { continue };
        if asked <= most {
            continue;
        }
        // The nearer word is the one that was meant: the pod's before the configuration's before the operator's.
        let rank = |near: &Resources, middle: &Resources| match name.as_str() {
            name if near.contains_key(name) => 2,
            name if middle.contains_key(name) => 1,
            _ => 0,
        };
        let (of_request, of_limit) = (rank(&pod.requests, &written.requests), rank(&pod.limits, &written.limits));
        match of_request.cmp(&of_limit) {
            Ordering::Less => *request = limit.clone(),
            Ordering::Greater => *limit = request.clone(),
            Ordering::Equal => return Err(too_much(config, name, of_request, (&request.0, &limit.0))),
        }
    }
    Ok(Amounts { requests, limits })
}

fn too_much(config: &GatewayConfig, name: &str, rank: u8, (request, limit): (&str, &str)) -> Refusal {
    let (reason, place) = match (rank, name) {
        (2, "cpu") => (Reason::BadAnnotation, format!("the annotations {CPU_REQUEST} and {CPU_LIMIT}")),
        (2, _) => (Reason::BadAnnotation, format!("the annotations {MEMORY_REQUEST} and {MEMORY_LIMIT}")),
        _ => (Reason::ConfigInvalid, format!("spec.sidecar.resources of GatewayConfig {:?}", config.name_any())),
    };
    reason.because(format!("by {place} the sidecar asks for {request} of {name} and may use {limit}; swap them"))
}
