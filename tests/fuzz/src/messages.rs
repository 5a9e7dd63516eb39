//! The bodies of messages: what is read of one, is written as it was, or means the same.

use gateway::postgres::scram::server;
use gateway::postgres::wire::{CancelKey, ErrorResponse, HEADER, Parameters, Status, split_text};

/// The body of a message.
pub fn run(data: &[u8]) {
    if let Some(key) = CancelKey::read(data) {
        let mut written = Vec::new();
        key.write(&mut written);
        assert_eq!(written, data);
        assert!(!format!("{key:?}").contains("secret"));
    }
    let error = ErrorResponse::read(data);
    let mut written = Vec::new();
    error.write(&mut written);
    assert_eq!(ErrorResponse::read(&written[HEADER..]), error, "{error}");
    if let Some((name, value)) = Parameters::read(data) {
        let mut parameters = Parameters::default();
        assert!(parameters.set(name, value) && !parameters.set(name, value));
        assert_eq!(parameters.get(name), Some(value));
        let mut written = Vec::new();
        parameters.write(&mut written);
        assert_eq!(Parameters::read(&written[HEADER..]), Some((name, value)));
    }
    assert!(Status::read(data).is_none() || data.len() == 1);
    if let Ok((mechanism, message)) = server::initial(data) {
        let length = mechanism.len() + 1 + 4 + message.map_or(0, <[u8]>::len);
        assert_eq!(length, data.len());
    }
    if let Some((text, rest)) = split_text(data) {
        assert_eq!([text, b"\0", rest].concat(), data);
        assert!(!text.contains(&0));
    }
}
