//! What a peer says first: understood as soon as it is whole, refused for good, and written as it was read.

use gateway::postgres::startup::{MAX_STARTUP, Request};

/// The bytes of a peer.
pub fn run(data: &[u8]) {
    let whole = Request::read(data);
    if let Ok(Some((request, length))) = &whole {
        assert!((8..=MAX_STARTUP).contains(length));
        let mut written = Vec::new();
        request.write(&mut written);
        assert_eq!(written, data[..*length]);
        if let Request::Startup(startup) = request {
            assert!(!startup.database().is_empty() || startup.user().is_empty());
            startup.is_replication();
            for (name, _) in &startup.parameters {
                assert!(startup.get(name).is_some() && startup.get_any_case(&name.to_ascii_uppercase()).is_some());
            }
            startup.protocol_options().for_each(|option| assert!(option.starts_with("_pq_.")));
        }
    }
    // Whoever reads it while it arrives comes to the same, and not before it is there.
    for cut in 0..data.len().min(MAX_STARTUP) {
        let part = Request::read(&data[..cut]);
        assert!(part == whole || part == Ok(None), "{part:?} at {cut}, and then {whole:?}");
    }
}
