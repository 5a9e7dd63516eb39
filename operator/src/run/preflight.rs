//! Whether the operator may do what it must, asked before it begins: so that what is missing is named, and not found out
//! one error at a time.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::api::{ApiError, within};
use crate::caches::Held;
use crate::settings::Settings;

/// How long one question may take.
const LIMIT: Duration = Duration::from_secs(5);
/// From one attempt to the next.
const PAUSE: Duration = Duration::from_secs(2);
/// How long to wait for rights, or the resource, that are installed at the same time.
const PATIENCE: Duration = Duration::from_secs(30);

/// One thing that the operator must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Right {
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    subresource: &'static str,
    /// The namespace, and the name; everywhere, and any, where they are empty.
    namespace: String,
    name: String,
}

/// Verbs on a resource of all namespaces.
const EVERYWHERE: [(&str, &str, &str, &[&str]); 5] = [
    ("postern.dev", "gatewayconfigs", "", &["get", "list", "watch"]),
    ("postern.dev", "gatewayconfigs", "status", &["patch"]),
    ("", "configmaps", "", &["get", "list", "watch", "create", "patch"]),
    ("", "pods", "", &["list", "watch", "patch"]),
    ("events.k8s.io", "events", "", &["create", "patch"]),
];

/// Says in one sentence what is missing, if anything is.
pub(super) async fn check(client: &Client, settings: &Settings) -> Result<(), String> {
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let Some(sentence) = missing(client, settings).await else { return Ok(()) };
        if begun.elapsed() >= PATIENCE {
            return Err(sentence);
        }
        if sentence != told {
            warn!("{sentence}; looking again for {PATIENCE:?}");
            told = sentence;
        }
        sleep(PAUSE).await;
    }
}

async fn missing(client: &Client, settings: &Settings) -> Option<String> {
    let rights = rights(settings);
    let asked = join_all(rights.iter().map(|right| may(client, right))).await;
    let refused: Vec<&Right> = rights.iter().zip(asked).filter(|(_, may)| !may).map(|(right, _)| right).collect();
    if !refused.is_empty() {
        let refused = named(&refused);
        return Some(format!("the operator may not {refused}; give its service account the roles of the chart"));
    }
    let known = within(LIMIT, Api::<Held>::all(client.clone()).list(&ListParams::default().limit(1))).await;
    match known {
        Err(error) if error.is_not_found() => {
            Some("the cluster does not know GatewayConfig; install it by `operator crd | kubectl apply -f -`".into())
        }
        Err(error) => Some(format!("cannot list the GatewayConfigs: {error}")),
        Ok(_) => None,
    }
}

/// Rights as a person would name them: the verbs on each thing together.
fn named(rights: &[&Right]) -> String {
    let groups = rights.chunk_by(|a, b| a.thing() == b.thing());
    let groups = groups.map(|group| {
        let verbs: Vec<&str> = group.iter().map(|right| right.verb).collect();
        format!("{} {}", verbs.join("/"), group[0].thing())
    });
    groups.collect::<Vec<_>>().join(", ")
}

/// What the account `user` may not do, of what the operator must everywhere, for who may ask about others.
pub(crate) async fn lacks(client: &Client, user: &str) -> Result<Option<String>, ApiError> {
    let everywhere = everywhere();
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let asked = everywhere.iter().map(|right| {
        let spec = SubjectAccessReviewSpec {
            resource_attributes: Some(right.attributes()),
            user: Some(user.to_owned()),
            ..Default::default()
        };
        let (api, review) = (api.clone(), SubjectAccessReview { spec, ..Default::default() });
        async move { within(LIMIT, api.create(&PostParams::default(), &review)).await }
    });
    let mut refused = Vec::new();
    for (right, answer) in everywhere.iter().zip(join_all(asked).await) {
        if answer?.status.is_some_and(|status| !status.allowed) {
            refused.push(right);
        }
    }
    Ok((!refused.is_empty()).then(|| named(&refused)))
}

/// Whether we have a right; where that cannot be asked, the use of it will show.
async fn may(client: &Client, right: &Right) -> bool {
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(right.attributes()), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    match within(LIMIT, api.create(&PostParams::default(), &review)).await {
        Ok(answer) => answer.status.is_none_or(|status| status.allowed),
        Err(error) => {
            warn!(%error, "Cannot ask whether the operator may {}", named(&[right]));
            true
        }
    }
}

fn rights(settings: &Settings) -> Vec<Right> {
    let Settings { namespace, lease, certificate_secret, webhook_configuration, external_certificate, .. } = settings;
    let secret: &[&str] =
        if *external_certificate { &["get", "list", "watch"] } else { &["get", "list", "watch", "update"] };
    let hooks: &[&str] = if *external_certificate { &[] } else { &["get", "list", "watch", "patch"] };
    let mut rights = everywhere();
    let leases = |verb| right(verb, "coordination.k8s.io", "leases", namespace, lease);
    rights.extend(["get", "update"].map(leases));
    rights.push(right("create", "coordination.k8s.io", "leases", namespace, ""));
    rights.extend(secret.iter().map(|verb| right(verb, "", "secrets", namespace, certificate_secret)));
    let hook = "mutatingwebhookconfigurations";
    rights
        .extend(hooks.iter().map(|verb| right(verb, "admissionregistration.k8s.io", hook, "", webhook_configuration)));
    rights
}

fn everywhere() -> Vec<Right> {
    let of = |(group, resource, subresource, verbs): (_, _, _, &'static [&str])| {
        verbs.iter().map(move |verb| right(verb, group, resource, "", "").sub(subresource))
    };
    EVERYWHERE.into_iter().flat_map(of).collect()
}

fn right(verb: &'static str, group: &'static str, resource: &'static str, namespace: &str, name: &str) -> Right {
    Right { verb, group, resource, subresource: "", namespace: namespace.into(), name: name.into() }
}

// === impl Right ===

impl Right {
    fn sub(self, subresource: &'static str) -> Right {
        Right { subresource, ..self }
    }

    fn attributes(&self) -> ResourceAttributes {
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ResourceAttributes {
            verb: Some(self.verb.into()),
            group: Some(self.group.into()),
            resource: Some(self.resource.into()),
            subresource: optional(self.subresource),
            namespace: optional(&self.namespace),
            name: optional(&self.name),
            ..ResourceAttributes::default()
        }
    }

    /// What it is a right to.
    fn thing(&self) -> String {
        let parts = [("/", self.subresource), (" ", &self.name), (" in ", &self.namespace)];
        let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
        parts.fold(self.resource.to_owned(), |thing, (separator, part)| thing + separator + part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_named_so_that_a_person_can_give_them() {
        let secret = |verb| right(verb, "", "secrets", "postern-system", "postern-webhook-tls");
        let rights =
            [right("patch", "postern.dev", "gatewayconfigs", "", "").sub("status"), secret("get"), secret("list")];
        assert_eq!(
            named(&rights.each_ref()),
            "patch gatewayconfigs/status, get/list secrets postern-webhook-tls in postern-system"
        );
    }
}
