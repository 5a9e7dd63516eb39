//! The short texts in a configuration, an annotation or on a command line: what is understood of one is written in a form that
//! is understood as the same.

use crds::{Duration, DurationError, HostPort, Listen};

/// A text.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    duration(text);
    if let Ok(address) = text.parse::<HostPort>() {
        assert_eq!(address.to_string().parse(), Ok(address.clone()));
        assert!(address.port > 0 && !address.host.is_empty());
    }
    match Listen::from_word(text) {
        Ok(listen) => {
            assert_eq!(Listen::from_word(&listen.word()), Ok(listen.clone()));
            assert!(listen.overlaps(&listen) || listen.word().trim_end_matches("/udp").ends_with(":0"), "{listen:?}");
        }
        Err(sentence) => assert!(!sentence.is_empty()),
    }
    let is_amount = operator::inject::is_amount(text);
    assert!(!is_amount || text.len() <= 32 && text.is_ascii());
}

fn duration(text: &str) {
    match text.parse::<Duration>() {
        Ok(duration) => {
            assert!(is_of_the_pattern(text));
            assert_eq!(duration.to_string().parse(), Ok(duration), "{duration}");
        }
        Err(DurationError::TooLong | DurationError::Overflow) => {}
        Err(error) => assert!(!is_of_the_pattern(text), "{error}"),
    }
}

/// Whether the API server takes it for a duration: [`Duration::PATTERN`].
fn is_of_the_pattern(mut text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let is_some = !text.is_empty();
    while !text.is_empty() {
        let whole = digits(text);
        let mut behind = &text[whole..];
        if let Some(fraction) = behind.strip_prefix('.') {
            let length = digits(fraction);
            behind = &fraction[length..];
            if length == 0 {
                return false;
            }
        }
        let unit = ["ns", "us", "ms", "s", "m", "h"].iter().find_map(|unit| behind.strip_prefix(unit));
        let Some(rest) = unit.filter(|_| whole > 0) else { return false };
        text = rest;
    }
    is_some
}
