//! Which cluster, which namespace, and as whom: as kubectl has it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::Error;
use crate::api::within;

/// How long dialing, or the first answer, may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Which cluster, which namespace, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The namespace; by default the one of the kubeconfig's context.
    #[arg(short, long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// The kubeconfig; by default what KUBECONFIG names, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Act as this user.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub user: Option<String>,
    /// Where the operator is.
    #[arg(long, global = true, value_name = "NAME", default_value = "postern-system")]
    pub operator_namespace: String,
}

// === impl Place ===

impl Place {
    /// Connects; says which namespace is meant.
    pub async fn connect(&self) -> Result<(Client, String), Error> {
        let mut config =
            self.config().await.map_err(|why| Error::Unreachable(format!("there is no cluster to ask: {why}")))?;
        config.connect_timeout = Some(LIMIT);
        if self.user.is_some() {
            config.auth_info.impersonate.clone_from(&self.user);
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let unreachable = |why: String| Error::Unreachable(format!("the API server at {url} does not answer: {why}"));
        let client = Client::try_from(config).map_err(|error| unreachable(error.to_string()))?;
        match within(LIMIT, client.apiserver_version()).await {
            Ok(_) => {}
            // It is there; what it does not let us see is said where that matters.
            Err(error) if error.is_forbidden() => {}
            Err(error) => return Err(unreachable(error.to_string())),
        }
        Ok((client, namespace))
    }

    async fn config(&self) -> Result<Config, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let said = |error: &dyn std::error::Error| error.to_string();
        if self.kubeconfig.is_none() && self.context.is_none() {
            return Config::infer().await.map_err(|error| said(&error));
        }
        let file = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file).map_err(|error| said(&error))?,
            None => Kubeconfig::read().map_err(|error| said(&error))?,
        };
        Config::from_custom_kubeconfig(file, &options).await.map_err(|error| said(&error))
    }
}
