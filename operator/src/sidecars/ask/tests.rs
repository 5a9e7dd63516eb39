//! What is made of answers, whoever gives them.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Somebody who answers one question with these bytes.
async fn answering(answer: Vec<u8>) -> (SocketAddr, JoinSet<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        let mut question = vec![0; 1024];
        let length = stream.read(&mut question).await.expect("they ask");
        // Who asks may have enough before all is said.
        let _ = stream.write_all(&answer).await;
        String::from_utf8_lossy(&question[..length]).into_owned()
    });
    (address, server)
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn told(answer: Vec<u8>) -> Result<Report, String> {
    let (address, _server) = answering(answer).await;
    ask(address).await
}

#[tokio::test]
async fn a_gateways_answer_is_read() {
    let body = r#"{"name":"orders","hash":"aa","generation":2,"state":"refused","refused":{"hash":"bb","reason":"no"},
        "proxies":[{"name":"orders","address":"127.0.0.1:5432"}],"restartRequired":["x"],"version":"0.1.0"}"#;
    let (address, mut server) = answering(ok(body)).await;
    let report = ask(address).await.expect("it is a gateway");
    assert_eq!((report.hash.as_str(), report.state), ("aa", State::Refused));
    assert_eq!(report.refused, Some(Refused { hash: "bb".into(), reason: "no".into() }));
    assert_eq!((report.restart_required, report.version), (vec!["x".to_owned()], Some("0.1.0".to_owned())));
    let question = server.join_next().await.expect("it was asked").expect("it does not panic");
    assert!(question.starts_with("GET /config HTTP/1.1\r\n"), "{question}");
}

#[tokio::test]
async fn an_older_gateways_answer_is_read() {
    let body = r#"{"name":"a","hash":"aa","generation":1,"state":"applied","refused":null,"proxies":[]}"#;
    let report = told(ok(body)).await.expect("it is a gateway");
    assert_eq!(report, Report { hash: "aa".into(), ..Report::default() });
}

#[tokio::test]
async fn what_is_not_a_gateways_answer_is_not_known() {
    for (answer, part) in [
        (b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n".to_vec(), "answers 302 Found to /config"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "is it a Postern gateway?"),
        (ok("hello"), "gives no answer that we understand"),
        (ok(r#"{"hash": 3}"#), "gives no answer that we understand"),
        (ok(&format!("{{\"state\": \"applied\", \"x\": \"{}\"}}", "x".repeat(MAX_ANSWER))), "length limit exceeded"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), "gives no answer that we understand"),
        (Vec::new(), "gives no answer that we understand"),
    ] {
        let sentence = told(answer).await.expect_err("it is no gateway");
        assert!(sentence.contains(part), "{sentence}");
    }
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let sentence = ask(address).await.expect_err("nobody answers");
    assert_eq!(sentence, format!("{address} does not answer within 1s; does a NetworkPolicy or a mesh keep us out?"));
    drop(listener);
    let sentence = ask(address).await.expect_err("nobody listens");
    assert!(sentence.contains("cannot be reached"), "{sentence}");
}

#[tokio::test]
async fn sentences_are_kept_within_bounds() {
    let many = vec!["y".repeat(5000); 100];
    let body = serde_json::json!({ "state": "applied", "hash": "aa", "restartRequired": &many[..10] }).to_string();
    let report = told(ok(&body)).await.expect("it is a gateway");
    assert!(report.restart_required.iter().all(|sentence| sentence.chars().count() == MAX_SENTENCE));
    let body = serde_json::json!({ "state": "applied", "hash": "aa", "restartRequired": vec!["y"; 100] }).to_string();
    let report = told(ok(&body)).await.expect("it is a gateway");
    assert_eq!(report.restart_required.len(), MAX_SENTENCES);
    let long = "y".repeat(5000);
    let refused = serde_json::json!({ "hash": &long, "reason": &long });
    let body =
        serde_json::json!({ "state": "refused", "hash": &long, "refused": refused, "version": &long }).to_string();
    let report = told(ok(&body)).await.expect("it is a gateway");
    let refused = report.refused.expect("it refuses");
    let kept = [report.hash, refused.hash, refused.reason, report.version.expect("it says one")];
    assert!(kept.iter().all(|text| text.chars().count() == MAX_SENTENCE));
}
