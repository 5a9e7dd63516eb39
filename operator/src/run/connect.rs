//! The way to the API server: the pod's own service account, or a kubeconfig.

use std::time::Duration;

use kube::{Client, Config};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::api::{ApiError, within};
use crate::caches::WATCH;

/// How long dialing, or an answer, may take.
const LIMIT: Duration = Duration::from_secs(5);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_secs(2);
/// How long to go on trying: an API server that restarts is back by then.
const PATIENCE: Duration = Duration::from_mins(2);

/// Connects, or says in one sentence why that is not possible.
pub(super) async fn connect() -> Result<Client, String> {
    let mut config = Config::infer().await.map_err(|error| {
        format!("there is no cluster to connect to, neither a pod's service account nor a kubeconfig: {error}")
    })?;
    config.connect_timeout = Some(LIMIT);
    // A connection that has died in silence must not hold a watch up; each watch says something, or ends, before that.
    config.read_timeout = Some(Duration::from_secs(u64::from(WATCH) + 10));
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| format!("cannot connect to {url}: {error}"))?;
    let begun = Instant::now();
    loop {
        let error = match within(LIMIT, client.apiserver_version()).await {
            Ok(_) => return Ok(client),
            // It is there, and preflight will tell what it does not let us do.
            Err(error) if error.is_forbidden() => return Ok(client),
            Err(error) => error,
        };
        let sentence = sentence(&url, &error);
        if begun.elapsed() >= PATIENCE {
            return Err(sentence);
        }
        warn!("{sentence}; trying again");
        sleep(PAUSE).await;
    }
}

fn sentence(url: &str, error: &ApiError) -> String {
    format!("the API server at {url} does not answer: {error}")
}
