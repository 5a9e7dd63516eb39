//! What the operator was told when it was started; the chart fills it in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::inject::is_amount;

/// The command line of `operator run`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The operator's own namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "postern-system")]
    pub namespace: String,
    /// The name of this replica's pod; it names the holder of the lease.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub pod_name: String,
    /// The Service by which the API server reaches the webhook; the certificate is made for it.
    #[arg(long, default_value = "postern-webhook")]
    pub service: String,
    /// The webhook configuration whose caBundle the operator keeps right.
    #[arg(long, default_value = "zz-postern")]
    pub webhook_configuration: String,
    /// The Secret in the operator's namespace that holds the certificate authority and the webhook's certificate.
    #[arg(long, default_value = "postern-webhook-tls")]
    pub certificate_secret: String,
    /// Use the certificate in that Secret and never write it: somebody else (cert-manager, say) makes it, and the caBundle.
    #[arg(long)]
    pub external_certificate: bool,
    /// The lease that the leader holds.
    #[arg(long, default_value = "postern-operator")]
    pub lease: String,
    /// What sidecars are like.
    #[command(flatten)]
    pub sidecars: Sidecars,
    /// Where the webhook listens, over TLS.
    #[arg(long, default_value = "[::]:10250")]
    pub webhook_address: SocketAddr,
    /// Where probes and metrics are, over plain HTTP.
    #[arg(long, default_value = "[::]:9187")]
    pub http_address: SocketAddr,
    /// How long the certificate authority is valid; renewed after two thirds.
    #[arg(long, default_value = "8760h", value_parser = duration)]
    pub authority_lifetime: Duration,
    /// How long the webhook's certificate is valid; renewed after two thirds.
    #[arg(long, default_value = "720h", value_parser = duration)]
    pub certificate_lifetime: Duration,
    /// How long a lease lasts that is not renewed; renewed three times in that.
    #[arg(long, default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: Duration,
    /// How long the webhook goes on after the signal to end, while others still send to this replica.
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub shutdown_delay: Duration,
    /// The least severe level that is logged: error, warn, info, debug or trace.
    #[arg(long, default_value = "info")]
    pub log_level: tracing::Level,
}

/// What sidecars are like where neither their configuration nor their pod says otherwise.
#[derive(Args, Clone, Debug)]
pub struct Sidecars {
    /// The image of sidecars whose configuration and pod name none.
    #[arg(long, env = "POSTERN_GATEWAY_IMAGE", default_value = GATEWAY_IMAGE)]
    pub gateway_image: String,
    /// When the kubelet pulls that image.
    #[arg(long, default_value = PULL_POLICY)]
    pub image_pull_policy: String,
    /// A Secret for pulling it, added to injected pods; may be repeated.
    #[arg(long = "image-pull-secret", value_name = "NAME")]
    pub image_pull_secrets: Vec<String>,
    /// What a sidecar asks for: `cpu=10m,memory=16Mi`.
    #[arg(long, default_value = REQUESTS, value_parser = resources)]
    pub sidecar_requests: Resources,
    /// What a sidecar may use: `memory=256Mi`.
    #[arg(long, default_value = LIMITS, value_parser = resources)]
    pub sidecar_limits: Resources,
}

/// The image as `cargo images` names it.
const GATEWAY_IMAGE: &str = concat!("localhost/postern/gateway:", env!("CARGO_PKG_VERSION"));

/// When it is pulled.
const PULL_POLICY: &str = "IfNotPresent";
/// What a sidecar asks for.
const REQUESTS: &str = "cpu=10m,memory=16Mi";
/// What a sidecar may use.
const LIMITS: &str = "memory=256Mi";

impl Default for Sidecars {
    fn default() -> Self {
        // What is written above can be read, and tested.
        let amounts = |text| resources(text).unwrap_or_default();
        Self {
            gateway_image: GATEWAY_IMAGE.to_owned(),
            image_pull_policy: PULL_POLICY.to_owned(),
            image_pull_secrets: Vec::new(),
            sidecar_requests: amounts(REQUESTS),
            sidecar_limits: amounts(LIMITS),
        }
    }
}

/// Amounts by resource.
pub type Resources = BTreeMap<String, Quantity>;

/// Reads a duration as people write it: `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration: crds::Duration = text.parse().map_err(|error: crds::DurationError| error.to_string())?;
    Ok(duration.get())
}

/// A lease that is shorter could not be renewed in time.
fn lease_duration(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(3);
    let duration = duration(text)?;
    if duration < SHORTEST { Err(format!("it is too short; write at least {SHORTEST:?}")) } else { Ok(duration) }
}

fn resources(text: &str) -> Result<Resources, String> {
    let pair = |part: &str| {
        let (name, amount) = part.split_once('=').ok_or_else(|| format!("{part} is not like cpu=10m"))?;
        if !is_amount(amount.trim()) {
            return Err(format!("{amount} is no amount of {name}; write one such as 10m or 16Mi"));
        }
        Ok((name.trim().to_owned(), Quantity(amount.trim().to_owned())))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        #[derive(clap::Parser)]
        struct CommandLine {
            #[command(flatten)]
            sidecars: Sidecars,
        }
        let parsed = <CommandLine as clap::Parser>::parse_from(["operator"]).sidecars;
        let default = Sidecars::default();
        assert_eq!(
            (parsed.sidecar_requests, parsed.sidecar_limits),
            (default.sidecar_requests, default.sidecar_limits)
        );
        assert_eq!(parsed.image_pull_policy, default.image_pull_policy);
    }

    #[test]
    fn the_sample_of_every_setting_has_the_amounts_that_hold_without_it() {
        let sample = include_str!("../../crds/samples/full.yaml");
        let sample: crds::GatewayConfig = serde_yaml::from_str(sample).expect("a resource");
        let (written, default) = (sample.spec.sidecar.resources, Sidecars::default());
        assert_eq!((written.requests, written.limits), (default.sidecar_requests, default.sidecar_limits));
    }

    #[test]
    fn amounts_are_read_by_resource() {
        let amounts = resources("cpu=10m, memory=16Mi").expect("two amounts");
        assert_eq!(amounts["cpu"], Quantity("10m".to_owned()));
        assert_eq!(amounts["memory"], Quantity("16Mi".to_owned()));
        assert!(resources("").expect("none").is_empty());
        assert_eq!(resources("cpu"), Err("cpu is not like cpu=10m".to_owned()));
        assert_eq!(resources("cpu=much"), Err("much is no amount of cpu; write one such as 10m or 16Mi".to_owned()));
    }
}
