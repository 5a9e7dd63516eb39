//! One apply of everything, and then nothing.

use crate::stage::{App, Stage, config};

#[test]
fn one_apply_with_the_deployment_first_converges_and_a_second_one_changes_nothing() {
    let stage = Stage::of("gitops");
    let everything = format!(
        "{}\n---\n{}",
        App::waiting("app").migrating("create table if not exists moved ()").deployment(2),
        config("orders", "pool: {size: 5}")
    );
    stage.apply(&everything);
    stage.wait_for("deployment/app", "condition=Available");
    stage.acknowledged(2);
    let versions = || {
        ["deployment app", "gatewayconfig orders", "configmap orders-postern"]
            .map(|what| (stage.field(what, "{.metadata.generation}"), stage.field(what, "{.metadata.uid}{.data}")))
    };
    let before = versions();
    let again = stage.try_apply(&everything);
    assert!(again.ok, "{}{}", again.out, again.err);
    assert_eq!(versions(), before, "nothing has changed");
    let diff = stage.with_input(["diff", "-f", "-"], &everything);
    assert!(diff.ok && diff.out.is_empty(), "nothing of ours shows as drift: {}{}", diff.out, diff.err);
}
