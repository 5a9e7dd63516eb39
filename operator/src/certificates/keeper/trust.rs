//! Whom the API server trusts: the caBundle is kept right, and nothing is served that it does not trust yet.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use tokio::time::Instant;
use tracing::info;

use super::super::contents::{Contents, Moment};
use super::super::{bundle, plan};
use super::{Error, Keeper, Told};
use crate::api::{CALL, within};
use crate::names::FIELD_MANAGER;

// === impl Keeper ===

impl Keeper {
    /// For how long the certificate of `contents`, by the authority before, is served on: until the API server has trusted
    /// the new one for long enough. Nothing if it is not by the authority before, or ends sooner.
    ///
    /// By the plan that time begins when the authority is made, but the caBundle may be written long after the Secret:
    /// the API server was away in between, say, or takes writes of the one and not of the other.
    pub(super) fn settles(&self, contents: &Contents, now: Moment) -> Option<Duration> {
        let own = contents.authority.certificate.as_str();
        let is_trusted = |authorities: &[&str]| contents.is_trusted_by(authorities, &self.names, now);
        if is_trusted(&[own]) || !is_trusted(&[own, &contents.previous]) {
            return None;
        }
        let settle = plan::settle(self.lifetimes);
        let rest = match (&self.seen.configuration, &self.seen.trusted) {
            (Told::Absent, _) => return None,
            (_, Some((bundle, since))) if *bundle == contents.bundle() => settle.saturating_sub(since.elapsed()),
            _ => settle,
        };
        let is_over_sooner = contents.served.validity().is_some_and(|validity| validity.until <= now + rest);
        (!rest.is_zero() && !is_over_sooner).then_some(rest)
    }

    /// Sees to it that the API server believes what is served; false if what we have seen is old, and now is new.
    ///
    /// A watch may be behind. So the Secret is read once more after the webhook configuration was, and the change
    /// holds only for the version of that: a bundle that somebody has made of a newer Secret came later than both,
    /// and is never overwritten.
    pub(super) async fn see_to_bundle(&mut self, contents: &Contents) -> Result<bool, Error> {
        let configuration = match &self.seen.configuration {
            Told::Nothing => return Ok(true),
            Told::Absent => {
                // Not installed yet, or uninstalled: nobody calls.
                self.bundle.ready();
                return Ok(true);
            }
            Told::Present(configuration) => configuration.clone(),
        };
        let bundle = contents.bundle();
        if let Some(patch) = bundle::patch(&configuration, &self.names, &bundle) {
            self.seen.trusted = None;
            self.look_again().await?;
            if !matches!(&self.seen.secret, Told::Present(secret) if Contents::of(secret) == *contents) {
                return Ok(false);
            }
            if !self.write_bundle(&configuration, patch).await? {
                return Ok(false);
            }
            info!("Wrote the authority into the webhook configuration");
        }
        if self.seen.trusted.as_ref().is_none_or(|(trusted, _)| *trusted != bundle) {
            self.seen.trusted = Some((bundle, Instant::now()));
        }
        self.bundle.ready();
        Ok(true)
    }

    /// Changes the webhook configuration, which is `seen`; false if somebody else was faster.
    pub(super) async fn write_bundle(
        &mut self,
        seen: &MutatingWebhookConfiguration,
        patch: json_patch::Patch,
    ) -> Result<bool, Error> {
        let name = seen.name_any();
        let failed = |verb, error| {
            let what = "MutatingWebhookConfiguration";
            Error::Call { verb, what, name: name.clone(), error }
        };
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patched = within(CALL, self.configurations.patch(&name, &params, &Patch::Json::<()>(patch))).await;
        let refused = match patched {
            Ok(patched) => {
                self.seen.configuration = Told::Present(patched);
                return Ok(true);
            }
            Err(error) => error,
        };
        let there = within(CALL, self.configurations.get_opt(&name)).await.map_err(|error| failed("get", error))?;
        let is_same = there.as_ref().is_some_and(|there| there.resource_version() == seen.resource_version());
        self.seen.configuration = there.into();
        if is_same { Err(failed("patch", refused)) } else { Ok(false) }
    }
}
