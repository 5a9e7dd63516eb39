//! What is served without its protocol: MariaDB and Redis.

use std::net::IpAddr;
use std::process::Stdio;

use cast::process::run;
use cast::{Folder, MariaDb, Redis, eventually};

use crate::page::Recipe;

/// More than the connections in a row after which MariaDB blocks a host.
const MORE_THAN_IT_FORGIVES: usize = 120;

#[test]
fn mariadb_is_served_and_blocks_nobody() {
    let (mariadb, secrets) = (MariaDb::start(), Folder::new("secrets"));
    let gateway = Recipe::of("MariaDB and MySQL").serve(&mariadb.address(), &secrets);
    let address = gateway.address_of("shop");
    for _ in 0..MORE_THAN_IT_FORGIVES {
        assert_eq!(run(MariaDb::app_at(&address).args(["-e", "select 1 + 1"])).trim(), "2");
    }
    let loopback: IpAddr = [127, 0, 0, 1].into();
    assert_eq!(mariadb.connect_errors(loopback), 0, "connections that ended without a login");
    gateway.ends_well();
}

#[test]
fn redis_is_served_with_its_subscribers() {
    let (redis, secrets) = (Redis::start(), Folder::new("secrets"));
    let gateway = Recipe::of("Redis and Valkey").serve(&redis.address(), &secrets);
    let address = gateway.address_of("cache");
    assert_eq!(run(Redis::cli(&address).arg("ping")).trim(), "PONG");
    let mut subscriber = Redis::cli(&address);
    let subscriber = subscriber.args(["subscribe", "news"]).stdin(Stdio::null());
    let subscriber = cast::Process::start("a subscriber", subscriber);
    let heard = |word: &str| subscriber.lines().iter().any(|line| line == word);
    eventually("the subscriber listens", || heard("subscribe"));
    assert_eq!(run(Redis::cli(&address).args(["publish", "news", "hello"])).trim(), "1");
    eventually("the subscriber hears it", || heard("hello"));
    gateway.expect_metric("postern_sessions", &[("proxy", "cache")], 1.0);
    drop(subscriber);
    gateway.expect_quiet("cache");
    gateway.ends_well();
}
