//! The database of an application's pods stops and comes back.

use cast::prometheus::Alert;

use crate::stage::{App, Stage, cluster};
use crate::watch::Watch;

/// How often it stops; set to have it more often.
const ROUNDS: &str = "POSTERN_TEST_ROUNDS";

#[test]
fn a_database_that_stops_fires_its_alert_and_its_return_clears_it() {
    let rounds = std::env::var(ROUNDS).map_or(2, |rounds| rounds.parse().expect("a number of rounds"));
    let mut stage = Stage::of("alerts");
    stage.configure("");
    stage.apply(&App::waiting("app").deployment(2));
    stage.wait_for("deployment/app", "condition=Available");
    let watch = Watch::begin(cluster(), &["postern-sidecars"]);
    let name = stage.name().to_owned();
    let is_here = |alert: &Alert| alert.labels.get("namespace") == Some(&name);
    let up =
        format!("count(postern_database_up{{namespace=\"{name}\",gatewayconfig=\"orders\",proxy=\"orders\"}} == 1)");
    for round in 1..=rounds {
        watch.says(&up, 2.0);
        watch.fires(is_here, &[]);
        stage.postgres.stop();
        watch.fires(is_here, &["PosternDatabaseAway"]);
        stage.postgres.start_again();
        watch.says(&up, 2.0);
        watch.fires(is_here, &[]);
        eprintln!("      round {round} of {rounds}");
    }
}
