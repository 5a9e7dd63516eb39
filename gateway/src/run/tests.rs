//! What is told of a configuration that a worker does not take over.

use super::*;
use crate::admin::State;
use crate::gateway::tests::{asked, config, gateway, in_simulated_time};

#[test]
fn the_hash_is_told_once_every_worker_serves_the_configuration() {
    in_simulated_time(async {
        let (gateway, mut workers) = gateway(2);
        let (metrics, drain) = (Metrics::new().expect("metrics"), Drain::default());
        let admin = Admin::new(metrics.clone(), drain.clone(), log::Events::default());
        let mut running = Running {
            options: Options { file: PathBuf::new(), secrets: PathBuf::new(), pins: Pins::default(), pod: None },
            log: Log::start(&LogConfig::default()),
            fixed: Fixed {
                pins: Pins::default(),
                admin: config(1).admin,
                log_format: config::LogFormat::Json,
                secrets: Secrets::in_folder(std::path::Path::new("/nowhere")),
                console: crate::console::Console::unanswered(),
                is_sidecar: false,
            },
            metrics,
            drain,
            admin: admin.clone(),
            gateway: Some(gateway),
            pending: None,
            offered: Rc::default(),
        };
        let told = || {
            let status = admin.status();
            (status.hash, status.state, status.generation, status.refused.map(|refused| refused.hash))
        };
        running.take_over(Candidate { hash: "aa".into(), config: Ok(config(5)), document: Rc::default() }).await;
        let missing = (String::new(), State::Refused, 0, Some("aa".to_owned()));
        assert_eq!(told(), missing);
        asked(&mut workers[0]).1.send(Vec::new()).expect("somebody listens");
        running.try_again().await;
        assert_eq!(told(), missing, "one worker serves something else");
        asked(&mut workers[1]).1.send(Vec::new()).expect("somebody listens");
        running.try_again().await;
        assert_eq!(told(), ("aa".to_owned(), State::Applied, 1, None));
        assert!(running.pending.is_none());

        running.take_over(Candidate { hash: "bb".into(), config: Ok(config(6)), document: Rc::default() }).await;
        assert_eq!(told(), ("aa".to_owned(), State::Refused, 1, Some("bb".to_owned())));
        drop(workers);
        running.try_again().await;
        let reason = admin.status().refused.expect("it is not served").reason;
        assert_eq!(reason, "worker 1 of 2 has ended; restart the gateway");
    });
}
