//! Applications in five languages. The longer ones are those whose libraries take minutes to fetch.

use crate::application::check;
use crate::program;

#[test]
fn django_shares_connections_and_sits_out_a_restart() {
    check(&program::django());
}

#[test]
fn node_shares_connections_and_sits_out_a_restart() {
    check(&program::node());
}

#[test]
fn go_shares_connections_and_sits_out_a_restart() {
    check(&program::go());
}

#[test]
fn spring_shares_connections_and_sits_out_a_restart() {
    check(&program::spring());
}

#[test]
fn rails_shares_connections_and_sits_out_a_restart() {
    check(&program::rails());
}
