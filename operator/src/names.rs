//! Every name that the operator gives to things in a cluster, or that people write for it.

/// What every annotation and label of ours begins with.
pub const PREFIX: &str = "postern.dev/";

/// The annotation by which a pod asks for a sidecar (`"true"`, or the name of a configuration) or refuses one (`"false"`),
/// and the label by which a namespace asks for all of its pods ([`ENABLED`]).
pub const INJECT: &str = "postern.dev/inject";
/// What the namespace's label says.
pub const ENABLED: &str = "enabled";
/// The configuration that `"true"` means, where there is one of that name.
pub const DEFAULT_CONFIG: &str = "default";

/// The label of an injected pod: `"true"`.
pub const INJECTED: &str = "postern.dev/injected";
/// The label that names the configuration, on injected pods and on what is delivered to them.
pub const CONFIG: &str = "postern.dev/config";
/// The label of every `ConfigMap` that the operator owns: `"true"`.
pub const MANAGED: &str = "postern.dev/managed";
/// The label by which people find what a program manages.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The annotation of a pod that the operator touches so that its kubelet delivers a changed configuration at once; the
/// only thing of a running pod that it may change.
pub const CONFIG_HASH: &str = "postern.dev/config-hash";

/// The annotation that records, at injection, a hash of what of the configuration only a new pod gets.
pub const SIDECAR_HASH: &str = "postern.dev/sidecar-hash";

/// The annotation that overrides the sidecar's image.
pub const IMAGE: &str = "postern.dev/image";
/// The annotation that overrides `log.level`, live.
pub const LOG_LEVEL: &str = "postern.dev/log-level";
/// The annotations that override what the sidecar asks for, and may use.
pub const CPU_REQUEST: &str = "postern.dev/cpu-request";
/// See [`CPU_REQUEST`].
pub const MEMORY_REQUEST: &str = "postern.dev/memory-request";
/// See [`CPU_REQUEST`].
pub const CPU_LIMIT: &str = "postern.dev/cpu-limit";
/// See [`CPU_REQUEST`].
pub const MEMORY_LIMIT: &str = "postern.dev/memory-limit";
/// What an annotation begins with that overrides the port of the proxy whose name follows.
pub const PORT_PREFIX: &str = "postern.dev/port.";

/// The sidecar's container.
pub const CONTAINER: &str = "postern-gateway";
/// The gateway's program in its image.
pub const PROGRAM: &str = "/gateway";
/// The sidecar's port for probes, metrics and the effective configuration.
pub const ADMIN_PORT: &str = "postern-admin";

/// The volume with the delivered configuration.
pub const CONFIG_VOLUME: &str = "postern-config";
/// Where the sidecar sees it.
pub const CONFIG_FOLDER: &str = "/etc/postern";
/// The key of the configuration in its `ConfigMap`.
pub const CONFIG_KEY: &str = "gateway.yaml";
/// The key of the sidecar's own `/etc/hosts`, without the pod's aliases.
pub const HOSTS_KEY: &str = "hosts";
/// The volume for sockets that the application's containers share with the sidecar.
pub const RUN_VOLUME: &str = "postern-run";
/// Where all of them see it.
pub const RUN_FOLDER: &str = "/var/run/postern";
/// The empty volume that stands where the service account's token would be.
pub const TOKEN_VOLUME: &str = "postern-token";
/// Where that is.
pub const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The volume with what the pod itself says of its sidecar.
pub const POD_VOLUME: &str = "postern-pod";
/// Where the sidecar sees it.
pub const POD_FOLDER: &str = "/etc/postern-pod";
/// What the volumes of Secrets begin with; a number follows.
pub const SECRET_VOLUME_PREFIX: &str = "postern-secret-";
/// Where the sidecar sees one folder for each Secret.
pub const SECRETS_FOLDER: &str = "/var/run/postern-secrets";

/// The field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "postern-operator";

/// The name of the `ConfigMap` for the configuration `config`; that has at most 52 characters, so that this is a name too.
pub fn config_map(config: &str) -> String {
    format!("{config}-postern")
}

/// The configuration whose `ConfigMap` is named `config_map`.
pub fn config_of_map(config_map: &str) -> Option<&str> {
    config_map.strip_suffix("-postern").filter(|config| !config.is_empty())
}
