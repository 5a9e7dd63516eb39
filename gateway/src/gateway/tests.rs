//! What counts as applied, with workers that do what the test says, in simulated time.

use std::io;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::config::load;
use crate::worker::Update;

/// The questions to a scripted worker.
type Questions = UnboundedReceiver<Command>;
type Answer = oneshot::Sender<Vec<Unserved>>;

pub(crate) fn in_simulated_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(test)
}

/// A configuration of one proxy on any free port, with a pool of this size.
pub(crate) fn config(size: usize) -> Config {
    let document = format!(
        "{{apiVersion: postern.dev/v1alpha1, kind: GatewayConfig, spec: {{proxies: [{{name: db, server: {{address: \
         '127.0.0.1:0'}}, client: {{addresses: ['127.0.0.1:9']}}, pool: {{size: {size}}}}}]}}}}"
    );
    load(document.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A gateway that serves nothing yet, and the questions to each of its workers.
pub(crate) fn gateway(workers: usize) -> (Gateway, Vec<Questions>) {
    let (handles, questions) = (0..workers).map(|_| Handle::scripted()).unzip();
    let config = config(1);
    let gateway = Gateway {
        config: Arc::new(Config { proxies: Vec::new(), ..config.clone() }),
        fixed: Fixed {
            pins: Pins::default(),
            admin: config.admin,
            log_format: LogFormat::Json,
            secrets: Secrets::in_folder(std::path::Path::new("/nowhere")),
            console: crate::console::Console::unanswered(),
            is_sidecar: false,
        },
        restart_required: Vec::new(),
        workers: handles,
        takeover: TakeOver::default(),
        metrics: Metrics::new().expect("metrics"),
        drain: Drain::default(),
        open: HashMap::new(),
        acceptors: Vec::new(),
    };
    (gateway, questions)
}

/// What the worker was asked last; each time it is asked to serve something.
pub(crate) fn asked(worker: &mut Questions) -> (Update, Answer) {
    match worker.try_recv() {
        Ok(Command::Apply(update, answer)) => (update, answer),
        _ => panic!("it is asked to serve something"),
    }
}

#[test]
fn a_configuration_is_applied_once_every_worker_serves_it() {
    in_simulated_time(async {
        let (mut gateway, mut workers) = gateway(2);
        gateway.apply(config(5)).await.expect("it can be bound");
        let hangs = |worker| format!("worker {worker} of 2 does not answer, so it may serve what came before");
        assert_eq!(gateway.shortfall(), Some(hangs(1)));
        let (first, answer) = asked(&mut workers[0]);
        assert_eq!(first.config.proxies[0].pool.size.get(), 5);
        answer.send(Vec::new()).expect("somebody listens");
        assert_eq!(gateway.shortfall(), Some(hangs(2)));
        asked(&mut workers[1]).1.send(Vec::new()).expect("somebody listens");
        assert_eq!(gateway.shortfall(), None);
    });
}

#[test]
fn an_answer_to_the_question_before_is_none_to_this_one() {
    in_simulated_time(async {
        let (mut gateway, mut workers) = gateway(1);
        gateway.apply(config(5)).await.expect("it can be bound");
        gateway.apply(config(6)).await.expect("it can be bound");
        let (_, before) = asked(&mut workers[0]);
        before.send(Vec::new()).expect_err("nobody waits for it any more");
        assert!(gateway.shortfall().is_some());
        asked(&mut workers[0]).1.send(Vec::new()).expect("somebody listens");
        assert_eq!(gateway.shortfall(), None);
    });
}

#[test]
fn a_worker_that_has_ended_serves_nothing() {
    in_simulated_time(async {
        let (mut gateway, workers) = gateway(1);
        drop(workers);
        gateway.apply(config(5)).await.expect("it can be bound");
        assert_eq!(gateway.shortfall().as_deref(), Some("worker 1 of 1 has ended; restart the gateway"));
    });
}

#[test]
fn a_socket_that_no_worker_could_take_over_is_said_and_opened_anew_with_the_next_configuration() {
    in_simulated_time(async {
        let (mut gateway, mut workers) = gateway(1);
        gateway.apply(config(5)).await.expect("it can be bound");
        let (update, answer) = asked(&mut workers[0]);
        let [(place, _socket)] = <[_; 1]>::try_from(update.opened).expect("one socket");
        let why = io::Error::other("no memory is left");
        answer.send(vec![Unserved { place: place.clone(), why }]).expect("somebody listens");
        let sentence = "cannot listen on 127.0.0.1:0: no memory is left; restart the gateway";
        assert_eq!(gateway.shortfall().as_deref(), Some(sentence));

        for opened in [1, 0] {
            gateway.apply(config(6)).await.expect("it can be bound");
            let (update, answer) = asked(&mut workers[0]);
            assert_eq!(update.opened.len(), opened);
            answer.send(Vec::new()).expect("somebody listens");
            assert_eq!(gateway.shortfall(), None);
        }
    });
}
