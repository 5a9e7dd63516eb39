use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::config::Target;

/// What is answered to the only query of a server that reports nothing.
async fn asked(target: Target, value: &str) -> (Result<bool, Error>, String) {
    let row = [&[0, 1], u32::try_from(value.len()).expect("short").to_be_bytes().as_slice(), value.as_bytes()].concat();
    let answer =
        [one(tag::ROW_DESCRIPTION, b"\0\0"), one(tag::DATA_ROW, &row), one(tag::COMMAND_COMPLETE, b"SELECT 1\0")];
    let bytes = [answer.concat(), READY.to_vec()].concat();
    asked_of(target, &bytes).await
}

async fn asked_of(target: Target, bytes: &[u8]) -> (Result<bool, Error>, String) {
    let (mut ours, mut database) = duplex(64 * 1024);
    database.write_all(bytes).await.expect("there is room");
    database.shutdown().await.expect("it is open");
    let mut backend = Backend::new(Version::V3_0);
    let said = will_do(&mut ours, &mut backend, target).await;
    drop(ours);
    let mut heard = Vec::new();
    database.read_to_end(&mut heard).await.expect("all that was said");
    (said, String::from_utf8_lossy(&heard).into_owned())
}

#[tokio::test]
async fn a_server_that_reports_its_state_is_not_asked() {
    use Target::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
    for (standby, read_only, fit) in [
        ("off", "off", vec![Any, ReadWrite, Primary]),
        ("off", "on", vec![Any, ReadOnly, Primary]),
        ("on", "off", vec![Any, ReadOnly, Standby, PreferStandby]),
        ("on", "on", vec![Any, ReadOnly, Standby, PreferStandby]),
    ] {
        let settings = [reported("in_hot_standby", standby), reported("default_transaction_read_only", read_only)];
        let mut backend = answered(&[OK, &settings.concat(), READY].concat()).await.expect("a login");
        for target in [Any, ReadWrite, ReadOnly, Primary, Standby, PreferStandby] {
            // Whoever asked here would find nobody.
            let (mut ours, _) = duplex(1);
            let said = will_do(&mut ours, &mut backend, target).await.expect("no question");
            assert_eq!(said, fit.contains(&target), "{target:?} {standby} {read_only}");
        }
    }
}

#[tokio::test]
async fn a_server_that_reports_nothing_is_asked() {
    for (target, value, expected, question) in [
        (Target::ReadWrite, "off", true, "transaction_read_only"),
        (Target::ReadWrite, "on", false, "transaction_read_only"),
        (Target::ReadOnly, "on", true, "transaction_read_only"),
        (Target::Primary, "f", true, "pg_is_in_recovery"),
        (Target::Primary, "t", false, "pg_is_in_recovery"),
        (Target::Standby, "t", true, "pg_is_in_recovery"),
        (Target::PreferStandby, "f", false, "pg_is_in_recovery"),
    ] {
        let (said, heard) = asked(target, value).await;
        assert_eq!(said.expect("an answer"), expected, "{target:?} {value}");
        assert!(heard.contains(question), "{heard}");
    }
    assert!(asked(Target::Any, "t").await.1.is_empty());
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused() {
    let row = one(tag::DATA_ROW, b"\0\x01\0\0\0\x01t");
    let complete = one(tag::COMMAND_COMPLETE, b"SELECT 1\0");
    let cases = [
        [&complete, READY].concat(),
        [&row, READY].concat(),
        [&row, &row, &complete, READY].concat(),
        [&one(tag::DATA_ROW, b"\0\x02\0\0\0\x01t"), &complete, READY].concat(),
        [&one(tag::DATA_ROW, b"\0\x01\xff\xff\xff\xff"), &complete, READY].concat(),
        [&row, &complete, b"Z\0\0\0\x05T".as_slice()].concat(),
        [&row, &complete, READY, b"x"].concat(),
    ];
    for bytes in cases {
        let (said, _) = asked_of(Target::Primary, &bytes).await;
        assert!(matches!(said, Err(Error::Protocol(_))), "{said:?}");
    }
    let (said, _) = asked_of(Target::Primary, &refusal("57P01", "terminating")).await;
    assert!(matches!(said, Err(Error::Refused(_))), "{said:?}");
    let whole = [row, complete, READY.to_vec()].concat();
    for cut in 0..whole.len() {
        let (said, _) = asked_of(Target::Primary, &whole[..cut]).await;
        assert!(matches!(said, Err(Error::Io(_))), "cut at {cut}: {said:?}");
    }
}
