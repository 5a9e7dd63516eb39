//! Keeps the Secret, the certificate that is served and the caBundle in step, for as long as it is polled.

use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::contents::{Contents, Moment, Pair};
use super::{Clock, Current, Lifetimes, Names, Plan, issue, now};
use crate::api::{ApiError, CALL, within};
use crate::metrics::Metrics;
use crate::names::{FIELD_MANAGER, MANAGED_BY};
use crate::probes::Latch;
use crate::settings::Settings;

mod trust;

/// Even if nothing changes we look this often: clocks are set, and watches miss things.
const LOOK: Duration = Duration::from_mins(1);
/// Moments in certificates are whole seconds.
const LEAST: Duration = Duration::from_millis(100);
/// After a failure we wait this long, twice as long after the next, up to [`LOOK`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps certificates.
pub struct Keeper {
    secrets: Api<Secret>,
    configurations: Api<MutatingWebhookConfiguration>,
    secret_name: String,
    configuration_name: String,
    names: Names,
    lifetimes: Lifetimes,
    pub(super) clock: Clock,
    /// Somebody else makes the certificate, and the caBundle.
    is_external: bool,
    current: Current,
    metrics: Metrics,
    /// There is a certificate, and the API server believes it.
    certificate: Latch,
    bundle: Latch,
    seen: Seen,
    pause: Duration,
}

/// What the watches have told.
#[derive(Default)]
struct Seen {
    secret: Told<Secret>,
    configuration: Told<MutatingWebhookConfiguration>,
    /// What was served last, in case that the Secret is lost.
    served: Contents,
    /// The caBundle, and since when the webhook configuration has it.
    trusted: Option<(String, Instant)>,
}

/// What a watch has told of one object.
#[derive(Clone, Default)]
enum Told<T> {
    /// Nothing yet.
    #[default]
    Nothing,
    /// There is none.
    Absent,
    /// This is it.
    Present(T),
}

/// Why nothing could be done now.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("a certificate for the Service {0:?} would be believed by nobody; is it a name?")]
    Useless(String),
    #[error("cannot {verb} the {what} {name:?}: {error}")]
    Call { verb: &'static str, what: &'static str, name: String, error: ApiError },
}

// === impl Told ===

impl<T> From<Option<T>> for Told<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Told::Absent, Told::Present)
    }
}

// === impl Keeper ===

impl Keeper {
    /// Keeps what `settings` name; `latches` say whether there is a certificate, and whether it is believed.
    pub fn new(
        client: &Client,
        settings: &Settings,
        (current, metrics): (Current, Metrics),
        [certificate, bundle]: [Latch; 2],
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &settings.namespace),
            configurations: Api::all(client.clone()),
            secret_name: settings.certificate_secret.clone(),
            configuration_name: settings.webhook_configuration.clone(),
            names: settings.into(),
            lifetimes: settings.into(),
            clock: Box::new(now),
            is_external: settings.external_certificate,
            current,
            metrics,
            certificate,
            bundle,
            seen: Seen::default(),
            pause: FIRST_PAUSE,
        }
    }

    /// Keeps them, until `stop`.
    pub async fn keep(mut self, stop: CancellationToken) {
        let secrets = watcher::watch_object(self.secrets.clone(), &self.secret_name).default_backoff();
        let hooks = watcher::watch_object(self.configurations.clone(), &self.configuration_name).default_backoff();
        let (mut secrets, mut hooks) = (pin!(secrets), pin!(hooks));
        let mut next = Instant::now() + LOOK;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                told = secrets.next() => match told {
                    Some(Ok(secret)) => self.seen.secret = secret.into(),
                    Some(Err(error)) => self.is_blind("secrets", &error),
                    None => return,
                },
                told = hooks.next(), if !self.is_external => match told {
                    Some(Ok(configuration)) => self.seen.configuration = configuration.into(),
                    Some(Err(error)) => self.is_blind("mutatingwebhookconfigurations", &error),
                    None => return,
                },
                () = sleep_until(next) => {}
            }
            let due = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                due = self.act() => due,
            };
            next = Instant::now() + due.min(LOOK);
        }
    }

    fn is_blind(&self, resource: &'static str, error: &watcher::Error) {
        self.metrics.watch_failed(resource);
        warn!(%error, resource, "A watch broke; it begins anew");
    }

    /// Does what is due; says for how long nothing is.
    async fn act(&mut self) -> Duration {
        let done = if self.is_external { Ok(self.follow()) } else { self.renew().await };
        match done {
            Ok(due) => {
                self.pause = FIRST_PAUSE;
                due
            }
            Err(error) => {
                warn!("{error}; trying again in {:?}", self.pause);
                let longer = (self.pause * 2).min(LOOK);
                mem::replace(&mut self.pause, longer)
            }
        }
    }

    /// Serves what somebody else has put into the Secret.
    fn follow(&mut self) -> Duration {
        self.bundle.ready();
        match &self.seen.secret {
            Told::Nothing => {}
            Told::Absent => self.serve(&Contents::default(), (self.clock)()),
            Told::Present(secret) => self.serve(&Contents::of(secret), (self.clock)()),
        }
        LOOK
    }

    /// Renews what is due, serves what there is, and sees to it that it is believed.
    async fn renew(&mut self) -> Result<Duration, Error> {
        let secret = match self.seen.secret.clone() {
            Told::Nothing => return Ok(LOOK),
            Told::Absent => None,
            Told::Present(secret) => Some(secret),
        };
        let now = (self.clock)();
        let mut contents = self.with_what_is_known(secret.as_ref().map(Contents::of).unwrap_or_default(), now);
        let mut plan = Plan::of(&contents, &self.names, self.lifetimes, now);
        if plan == Plan::NewCertificate
            && let Some(rest) = self.settles(&contents, now)
        {
            self.serve(&contents, now);
            return Ok(if self.see_to_bundle(&contents).await? { rest } else { Duration::ZERO });
        }
        if !matches!(plan, Plan::Keep(_)) {
            contents = issue::carry_out(plan, contents, (&self.names, self.lifetimes), now)?;
            if !contents.is_trusted_by(&[&contents.authority.certificate, &contents.previous], &self.names, now) {
                return Err(Error::Useless(self.names.service.clone()));
            }
            match self.write(secret.as_ref(), &contents).await {
                Ok(written) => {
                    self.seen.secret = Told::Present(written);
                    plan_done(plan, &contents);
                    plan = Plan::of(&contents, &self.names, self.lifetimes, now);
                }
                // Another replica was faster, or somebody else was: what counts is there now.
                Err(Error::Call { error, .. }) if error.is_conflict() || error.is_not_found() => {
                    self.look_again().await?;
                    return Ok(Duration::ZERO);
                }
                Err(error) => return Err(error),
            }
        }
        self.serve(&contents, now);
        if !self.see_to_bundle(&contents).await? {
            return Ok(Duration::ZERO);
        }
        Ok(if let Plan::Keep(until) = plan { until.saturating_sub(now).max(LEAST) } else { FIRST_PAUSE })
    }

    /// `contents`; where the Secret was lost or made unreadable, the certificate that is served goes on until the
    /// API server trusts a new authority beside the one by which it was made.
    fn with_what_is_known(&self, contents: Contents, now: Moment) -> Contents {
        let known = &self.seen.served;
        let is_usable = |authority: &Pair| authority.is_usable(now) && issue::can_sign(authority);
        if is_usable(&contents.authority) || !is_usable(&known.authority) {
            return contents;
        }
        let previous = known.authority.certificate.clone();
        Contents { authority: Pair::default(), previous, served: known.served.clone() }
    }

    /// Serves the certificate, unless it is none.
    fn serve(&mut self, contents: &Contents, now: Moment) {
        let certified = match contents.served.certified() {
            Ok(certified) => certified,
            Err(sentence) => {
                let sentence = format!("the Secret {:?} cannot be used: {sentence}", self.secret_name);
                // What is served is still trusted: nobody is better off without it.
                if self.seen.served.served.validity().is_some_and(|validity| validity.holds(now)) {
                    warn!("{sentence}; the last certificate is served on");
                } else {
                    self.certificate.not_ready(sentence);
                }
                return;
            }
        };
        if contents.served != self.seen.served.served || self.current.get().is_none() {
            self.current.set(certified);
            info!(until = %until(contents.served.validity().map(|validity| validity.until)), "Serving a certificate");
        }
        self.seen.served = contents.clone();
        let validities = [("webhook", contents.served.validity()), ("authority", contents.authority.validity())];
        for (which, validity) in validities {
            if let Some(validity) = validity {
                self.metrics.certificate_expires(which, validity.until.as_secs_f64());
            }
        }
        match contents.served.validity() {
            Some(validity) if validity.holds(now) => self.certificate.ready(),
            _ => self.certificate.not_ready("the certificate is not valid at this time"),
        }
    }

    async fn write(&self, before: Option<&Secret>, contents: &Contents) -> Result<Secret, Error> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let mut secret = before.cloned().unwrap_or_else(|| self.empty());
        secret.data = Some(contents.write());
        secret.metadata.managed_fields = None;
        let (verb, written) = match before {
            None => ("create", within(CALL, self.secrets.create(&params, &secret)).await),
            Some(_) => ("replace", within(CALL, self.secrets.replace(&self.secret_name, &params, &secret)).await),
        };
        written.map_err(|error| Error::Call { verb, what: "Secret", name: self.secret_name.clone(), error })
    }

    /// Reads the Secret, beside the watch.
    async fn look_again(&mut self) -> Result<(), Error> {
        let found = within(CALL, self.secrets.get_opt(&self.secret_name)).await;
        let name = || self.secret_name.clone();
        let found = found.map_err(|error| Error::Call { verb: "get", what: "Secret", name: name(), error })?;
        self.seen.secret = found.into();
        Ok(())
    }

    fn empty(&self) -> Secret {
        let labels = [(MANAGED_BY.to_owned(), "postern".to_owned())].into();
        let name = Some(self.secret_name.clone());
        let metadata = ObjectMeta { name, labels: Some(labels), ..ObjectMeta::default() };
        Secret { metadata, type_: Some("kubernetes.io/tls".into()), ..Secret::default() }
    }
}

fn plan_done(plan: Plan, contents: &Contents) {
    match plan {
        Plan::NewAuthority => {
            info!(until = %until(contents.authority.validity().map(|validity| validity.until)), "Made an authority");
        }
        Plan::NewCertificate => info!("Made a certificate"),
        Plan::Keep(_) => {}
    }
}

/// A moment for people.
fn until(moment: Option<Moment>) -> String {
    let seconds = moment.and_then(|moment| i64::try_from(moment.as_secs()).ok());
    let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| "unknown".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests;
