//! `operator probe`: asks every entry of the webhook configuration about a pod as the API server would, by the Service's name
//! and with no trust but in the caBundle; `helm test` runs it. As a dry run it leaves no trace.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::{Api, Client};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::names;
use crate::settings::duration;

/// The command line of `operator probe`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The webhook configuration whose entries are asked.
    #[arg(long, default_value = "zz-postern")]
    pub webhook_configuration: String,
    /// How long to wait until all of them answer, as after an installation.
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub within: Duration,
}

/// One entry, as far as it has to be known for asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    host: String,
    port: u16,
    path: String,
    bundle: Vec<u8>,
}

/// Why an entry did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not show the webhook configuration.
    #[error("cannot read the webhook configuration {0}: {1}")]
    Configuration(String, String),
    /// It has no entries at all.
    #[error("the webhook configuration {0} has no entry; install the chart again")]
    NoEntry(String),
    /// It has no certificates to believe.
    #[error(
        "{0} has no caBundle that could be read: no replica of the operator has written it; see the operator's log"
    )]
    NoBundle(String),
    /// It does not lead to a Service.
    #[error("{0} names no Service; install the chart again")]
    NoService(String),
    /// The Service did not take the connection, or its certificate is not the one of the bundle.
    #[error("{0} does not answer at {1}: {2}")]
    Unreachable(String, String, String),
    /// It answered something that the API server would not take.
    #[error("{0} answers what the API server would not take: {1}")]
    Answer(String, String),
    /// The time is over.
    #[error("{0} did not answer within {1:?}")]
    Late(String, Duration),
}

/// The uid of the question, which the answer repeats.
const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";
/// How long one question may take: as long as the API server waits by default.
const ONE: Duration = Duration::from_secs(5);
/// The pause before all are asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// More than this is no answer to one pod.
const LARGEST_ANSWER: usize = 1 << 20;

/// Asks every entry until all answer, and tells what they say.
///
/// # Errors
/// What the last round failed with when the time was over.
pub async fn run(settings: &Settings) -> Result<(), Error> {
    let name = &settings.webhook_configuration;
    let client = Client::try_default().await.map_err(|error| Error::Configuration(name.clone(), error.to_string()))?;
    let end = Instant::now() + settings.within;
    loop {
        match round(&client, name).await {
            Ok(lines) => {
                // Who does not listen to what it says still has the exit status.
                let _ = io::stdout().write_all(lines.as_bytes());
                return Ok(());
            }
            Err(error) if Instant::now() + PAUSE >= end => return Err(error),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Asks every entry once.
async fn round(client: &Client, name: &str) -> Result<String, Error> {
    let unreadable = |why: String| Error::Configuration(name.to_owned(), why);
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configuration = timeout(ONE, configurations.get(name))
        .await
        .map_err(|_| unreadable(format!("no answer within {ONE:?}")))?
        .map_err(|error| unreadable(error.to_string()))?;
    let webhooks = configuration.webhooks.unwrap_or_default();
    if webhooks.is_empty() {
        return Err(Error::NoEntry(name.to_owned()));
    }
    let mut lines = Vec::new();
    for webhook in &webhooks {
        let entry = Entry::of(webhook)?;
        let body = timeout(ONE, ask(&entry)).await.map_err(|_| Error::Late(entry.name.clone(), ONE))??;
        let said = judge(&body).map_err(|why| Error::Answer(entry.name.clone(), why))?;
        lines.push(format!("{} answers at {}: {said}\n", entry.name, entry.url()));
    }
    Ok(lines.concat())
}

/// Sends the question and returns the answer's body.
async fn ask(entry: &Entry) -> Result<Bytes, Error> {
    let unreachable = |why: String| Error::Unreachable(entry.name.clone(), entry.url(), why);
    let connector = TlsConnector::from(Arc::new(entry.trust()?));
    let server = ServerName::try_from(entry.host.clone()).map_err(|error| unreachable(error.to_string()))?;
    let socket =
        TcpStream::connect((entry.host.as_str(), entry.port)).await.map_err(|error| unreachable(error.to_string()))?;
    let stream = connector.connect(server, socket).await.map_err(|error| unreachable(error.to_string()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let request = Request::post(&entry.path)
        .header(HOST, &entry.host)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(question().to_string())))
        .map_err(|error| unreachable(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| unreachable(error.to_string()))?.to_bytes();
        if status == StatusCode::OK { Ok(body) } else { Err(Error::Answer(entry.name.clone(), status.to_string())) }
    };
    tokio::select! {
        biased;    // The answer first: a connection that ended after it has done its work.
        answer = exchange => answer,
        ended = connection => Err(unreachable(match ended {
            Ok(()) => "the connection was closed without an answer".to_owned(),
            Err(error) => error.to_string(),
        })),
    }
}

/// A pod that asks for a configuration that nobody has.
fn question() -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "postern-probe",
            "namespace": "postern-probe",
            "operation": "CREATE",
            "userInfo": {"username": "postern-probe"},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": "postern-probe",
                    "namespace": "postern-probe",
                    "annotations": {names::INJECT: "postern-probe"},
                },
                "spec": {"containers": [{"name": "app", "image": "app"}]},
            },
            "oldObject": null,
            "dryRun": true,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions", "dryRun": ["All"]},
        },
    })
}

/// What the answer says, or why the API server would not take it.
fn judge(body: &[u8]) -> Result<String, String> {
    let review: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    if review["apiVersion"] != "admission.k8s.io/v1" || review["kind"] != "AdmissionReview" {
        return Err("no AdmissionReview of admission.k8s.io/v1".to_owned());
    }
    let response = &review["response"];
    if response["uid"] != UID {
        return Err(format!("the answer to another question: uid {}", response["uid"]));
    }
    match (response["allowed"].as_bool(), response["status"]["message"].as_str()) {
        (Some(true), _) => Ok("a pod that it does not know may pass".to_owned()),
        (Some(false), Some(sentence)) => Ok(format!("a pod that it does not know is denied: {sentence}")),
        (Some(false), None) => Err("a denial without a sentence".to_owned()),
        (None, _) => Err("neither allowed nor denied".to_owned()),
    }
}

// === impl Entry ===

impl Entry {
    fn of(webhook: &MutatingWebhook) -> Result<Self, Error> {
        let name = webhook.name.clone();
        let service = webhook.client_config.service.as_ref().ok_or_else(|| Error::NoService(name.clone()))?;
        let port = u16::try_from(service.port.unwrap_or(443)).map_err(|_| Error::NoService(name.clone()))?;
        let bundle = webhook.client_config.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default();
        let host = format!("{}.{}.svc", service.name, service.namespace);
        let path = service.path.clone().unwrap_or_else(|| "/".to_owned());
        Ok(Self { name, host, port, path, bundle })
    }

    fn url(&self) -> String {
        format!("https://{}:{}{}", self.host, self.port, self.path)
    }

    /// Trust in the bundle alone.
    fn trust(&self) -> Result<ClientConfig, Error> {
        let no_bundle = || Error::NoBundle(self.name.clone());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.bundle) {
            roots.add(certificate.map_err(|_| no_bundle())?).map_err(|_| no_bundle())?;
        }
        if roots.is_empty() {
            return Err(no_bundle());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(versions.map_err(|_| no_bundle())?.with_root_certificates(roots).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use k8s_openapi::api::admissionregistration::v1::{ServiceReference, WebhookClientConfig};

    fn webhook(bundle: &str) -> MutatingWebhook {
        let service = ServiceReference {
            name: "postern-webhook".to_owned(),
            namespace: "postern-system".to_owned(),
            path: Some("/inject/pod".to_owned()),
            port: None,
        };
        let client_config = WebhookClientConfig {
            ca_bundle: Some(ByteString(bundle.as_bytes().to_vec())),
            service: Some(service),
            url: None,
        };
        MutatingWebhook { name: "pod.inject.postern.dev".to_owned(), client_config, ..MutatingWebhook::default() }
    }

    fn answer(response: &Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn an_entry_is_asked_by_its_services_name() {
        let entry = Entry::of(&webhook("")).expect("an entry with a Service");
        assert_eq!(entry.url(), "https://postern-webhook.postern-system.svc:443/inject/pod");
    }

    #[test]
    fn an_entry_without_a_certificate_to_believe_says_who_would_have_written_it() {
        for bundle in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let entry = Entry::of(&webhook(bundle)).expect("an entry with a Service");
            let error = entry.trust().expect_err("nothing to believe").to_string();
            assert!(error.contains("pod.inject.postern.dev has no caBundle"), "{bundle:?}: {error}");
        }
    }

    #[test]
    fn an_answer_is_believed_only_if_the_api_server_would() {
        let denied = json!({"uid": UID, "allowed": false, "status": {"message": "there is no such GatewayConfig"}});
        let said = judge(&answer(&denied)).expect("a denial");
        assert!(said.ends_with("there is no such GatewayConfig"), "{said}");
        assert!(judge(&answer(&json!({"uid": UID, "allowed": true}))).is_ok());
        for wrong in
            [json!({"uid": "another", "allowed": true}), json!({"uid": UID}), json!({"uid": UID, "allowed": false})]
        {
            assert!(judge(&answer(&wrong)).is_err(), "{wrong}");
        }
        assert!(judge(b"404 page not found").is_err());
        assert!(judge(b"{}").is_err());
    }

    #[test]
    fn the_question_is_a_dry_run_for_a_pod_that_asked() {
        let question = question();
        assert_eq!(question["request"]["dryRun"], true);
        assert_eq!(question["request"]["object"]["metadata"]["annotations"]["postern.dev/inject"], "postern-probe");
    }
}
