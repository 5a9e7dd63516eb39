//! What a worker does with sockets that it cannot serve.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use super::*;

#[test]
fn a_socket_that_cannot_be_watched_is_told_of_and_the_others_are_served() {
    let document = "{apiVersion: postern.dev/v1alpha1, kind: GatewayConfig, spec: {proxies: [{name: db, server: \
                    {address: '127.0.0.1:0'}, client: {addresses: ['127.0.0.1:9']}}]}}";
    let config = crate::config::load(document.as_bytes()).unwrap_or_else(|problems| panic!("{problems}"));
    let (wanted, config) = (config.proxies[0].clone(), Arc::new(config));
    // No kernel tells of what happens to a regular file.
    let file = File::open(std::env::current_exe().expect("a program")).expect("it can be read");
    let file = TcpListener::from(OwnedFd::from(file));
    file.set_nonblocking(true).expect("a flag");
    let place = Place::Unix("/a/file".into());
    let opened =
        vec![(place.clone(), Bound::Tcp(file)), (Place::of(&wanted), Bound::bind(&wanted).expect("a free port"))];
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(async {
        let secrets = Secrets::in_folder(std::path::Path::new("/nowhere"));
        let metrics = Metrics::new().expect("metrics");
        let (cancels, console) = (Cancels::default(), crate::console::Console::unanswered());
        let common = Common { metrics, secrets, cancels, console, workers: 1 };
        let mut worker = Worker::new(0, common, Drain::default());
        let unserved = worker.apply(Update { config, opened });
        assert_eq!(unserved.iter().map(|unserved| &unserved.place).collect::<Vec<_>>(), [&place]);
        assert_eq!(worker.servers.len(), 1);
    });
}
