//! An API server for tests: it answers as a closure says, over a real connection, and remembers what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// An API server that ends with the test.
pub(crate) struct FakeApi {
    pub(crate) client: Client,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: JoinSet<()>,
}

impl FakeApi {
    /// Answers everything as `answer` says: a status code and a body.
    pub(crate) async fn new(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> FakeApi {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (asked, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let mut server = JoinSet::new();
        server.spawn(serve(listener, asked.clone(), answer));
        let config = Config::new(format!("http://{address}").parse().expect("an address"));
        let client = Client::try_from(config).expect("plain HTTP needs nothing");
        FakeApi { client, asked, _server: server }
    }

    /// What it was asked so far, as `METHOD path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    /// What it was asked so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }
}

/// What the API server answers when it refuses.
pub(crate) fn refusal(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code
    });
    (code, status)
}

async fn serve(
    listener: TcpListener,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static>,
) {
    let mut talks = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (asked, answer) = (asked.clone(), answer.clone());
        let reply = service_fn(move |request: Request<Incoming>| {
            let (asked, answer) = (asked.clone(), answer.clone());
            async move {
                let one = read(request).await;
                asked.lock().expect("no test panics while it holds this").push(one.clone());
                let (code, body) = answer(&one);
                let response = Response::builder().status(code).header("content-type", "application/json");
                Ok::<_, Infallible>(response.body(Full::<Bytes>::from(body.to_string())).expect("it is valid"))
            }
        });
        talks.spawn(async move {
            // The client may leave at any time.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), reply).await;
        });
    }
}

async fn read(request: Request<Incoming>) -> Asked {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("the client sends all of it").to_bytes();
    Asked {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}
