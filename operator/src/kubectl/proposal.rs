//! Configurations as somebody has written them into a file, before the cluster has them.

use std::path::Path;

use crds::{API_VERSION, GatewayConfig, GatewayConfigSpec, KIND, Problem, shape};
use serde::Deserialize;
use serde_json::Value;

use super::Error;
use crate::{deliver, inject, offline};

/// A configuration as somebody has written it.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The namespace for which it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The configuration, or all that is wrong with it.
    pub read: Result<GatewayConfig, Vec<Problem>>,
}

/// The configurations of a file; where they name no namespace they are for `namespace`. Other manifests are left out.
pub fn read(file: &Path, namespace: &str) -> Result<Vec<Proposal>, Error> {
    let manifests = offline::read(file).map_err(|error| Error::Failed(error.to_string()))?;
    let is_config = |manifest: &Value| manifest["apiVersion"] == API_VERSION && manifest["kind"] == KIND;
    let proposals: Vec<Proposal> =
        manifests.into_iter().filter(is_config).map(|manifest| Proposal::of(manifest, namespace)).collect();
    if proposals.is_empty() {
        let file = file.display();
        return Err(Error::Failed(format!("{file} has no {KIND} of {API_VERSION}")));
    }
    Ok(proposals)
}

// === impl Proposal ===

impl Proposal {
    fn of(mut manifest: Value, namespace: &str) -> Self {
        let text = |key: &str| manifest["metadata"][key].as_str().map(str::to_owned);
        let namespace = text("namespace").unwrap_or_else(|| namespace.to_owned());
        let name = text("name").unwrap_or_default();
        let mut problems = match manifest.get_mut("spec") {
            Some(spec) => shape::check(spec),
            None => vec![Problem::new("spec", "it is missing; write the proxies below it")],
        };
        if name.is_empty() {
            problems.push(Problem::new("metadata.name", "it is missing; pods ask for the configuration by it"));
        }
        let spec = match GatewayConfigSpec::deserialize(&manifest["spec"]) {
            Ok(spec) if problems.is_empty() => spec,
            Err(error) if problems.is_empty() => {
                problems.push(Problem::new("spec", error.to_string()));
                return Self { namespace, name, read: Err(problems) };
            }
            _ => return Self { namespace, name, read: Err(problems) },
        };
        let mut problems = crds::validate(&spec);
        if problems.is_empty() {
            problems = inject::problems(&spec);
        }
        let mut config = GatewayConfig::new(&name, spec);
        config.metadata.namespace = Some(namespace.clone());
        if problems.is_empty()
            && let Err(error) = deliver::check(&config)
        {
            problems.push(Problem::new("", error.to_string()));
        }
        let read = if problems.is_empty() { Ok(config) } else { Err(problems) };
        Self { namespace, name, read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(spec: &Value) -> Proposal {
        Proposal::of(serde_json::json!({ "metadata": { "name": "orders" }, "spec": spec }), "shop")
    }

    #[test]
    fn what_a_pod_cannot_serve_is_told_as_what_no_gateway_can() {
        let good = serde_json::json!({ "proxies": [{ "name": "a", "client": { "addresses": ["db:5432"] } }] });
        let good = proposal(&good);
        assert_eq!((good.namespace.as_str(), good.read.is_ok()), ("shop", true));
        for (spec, path) in [
            (serde_json::json!({ "proxies": [{ "nam": "a" }] }), "spec.proxies[0].nam"),
            (serde_json::json!({ "proxies": [] }), "spec.proxies"),
            (
                serde_json::json!({ "proxies": [{ "name": "a", "server": { "address": "10.1.2.3:1" }, "client": { "addresses": ["db:1"] } }] }),
                "spec.proxies[0].server.address",
            ),
        ] {
            let problems = proposal(&spec).read.expect_err("it is wrong");
            assert_eq!(problems[0].path, path, "{problems:?}");
        }
    }
}
