//! What happens: calm, a restart of the database, an edit, a bad edit, the end. Or, with `--keep`, what you do.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use cast::Stopwatch;

use super::stage::Stage;

const CALM: Duration = Duration::from_secs(4);
const OUTAGE: Duration = Duration::from_secs(5);

/// Plays all scenes and sums up.
pub(crate) fn tell(stage: &mut Stage<'_>) -> Result<()> {
    stage.screen.title("An ordinary day");
    stage.watch(CALM)?;
    restart(stage)?;
    edit(stage)?;
    bad_edit(stage)?;
    end(stage)?;
    sum_up(stage);
    Ok(())
}

fn restart(stage: &mut Stage<'_>) -> Result<()> {
    stage.screen.title("The database is stopped, and started again 5 seconds later");
    stage.postgres.stop();
    stage.screen.event("database", "PostgreSQL is stopped; who asks now waits instead of failing");
    stage.watch(OUTAGE)?;
    stage.screen.event("database", "PostgreSQL is being started");
    stage.postgres.start_again();
    let watch = Stopwatch::start();
    stage.watch_until(|stage| stage.waiting() < 1.0)?;
    let waited = watch.elapsed();
    stage
        .screen
        .event("application", &format!("nobody waits any more, {} ms after PostgreSQL answered", waited.as_millis()));
    stage.watch(CALM)
}

fn edit(stage: &mut Stage<'_>) -> Result<()> {
    stage.screen.title("The configuration is edited");
    let before = generation(stage);
    let watch = Stopwatch::start();
    stage.edit(&[("size: 10", "size: 20"), ("backoff: 1s", "backoff: 500ms")]);
    stage.watch_until(|stage| generation(stage) > before)?;
    let size = stage.gateway.metric("postern_pool_size", &[]);
    let taken = watch.elapsed().as_secs_f64();
    stage.screen.event(
        "gateway",
        &format!("in force after {taken:.1} s: the pool may have {size} clients; no session was dropped"),
    );
    stage.watch(CALM)
}

fn bad_edit(stage: &mut Stage<'_>) -> Result<()> {
    stage.screen.title("The configuration is edited again, with a mistake in one line");
    stage.edit(&[("size: 20", "size: 30"), ("backoff: 500ms", "backoff: soon")]);
    stage.watch_until(|stage| stage.gateway.applied()["state"] == "refused")?;
    let size = stage.gateway.metric("postern_pool_size", &[]);
    stage.screen.event(
        "gateway",
        &format!("refused as a whole: the pool may still have {size} clients, and everything goes on"),
    );
    stage.watch(CALM)
}

/// Ends the gateway as Kubernetes does; the application leaves two seconds later.
fn end(stage: &mut Stage<'_>) -> Result<()> {
    stage.screen.title("The gateway is told to end (SIGTERM), before the application is");
    let before = stage.app.figures().answered.load(Ordering::SeqCst);
    stage.gateway.terminate();
    stage.watch(Duration::from_secs(2))?;
    let ready = stage.gateway.try_get("/readyz").map_or(0, |response| response.status);
    stage.screen.event("gateway", &format!("/readyz says {ready}, and peers are served until the last one has left"));
    stage.app.end();
    let after = stage.app.figures().answered.load(Ordering::SeqCst) - before;
    stage.screen.event("application", &format!("ended; {after} requests were answered after the SIGTERM"));
    let code = stage.gateway.exit_code(Duration::from_secs(30));
    stage.tell_log();
    ensure!(code == Some(0), "the gateway ended with {code:?}, not with 0");
    stage.screen.event("gateway", "ended with exit status 0");
    Ok(())
}

fn sum_up(stage: &Stage<'_>) {
    let figures = stage.app.figures();
    let [answered, failed, repeated, kept, kept_ended] =
        [&figures.answered, &figures.failed, &figures.repeated, &figures.kept, &figures.kept_ended]
            .map(|figure| figure.load(Ordering::SeqCst));
    let rows = stage.postgres.query("select count(*) from visits");
    let screen = stage.screen;
    screen.title("Summary");
    screen.note(&format!("requests        {answered} answered, {failed} failed; PostgreSQL holds {rows} rows of them"));
    screen.note(&format!("longest wait    {:.1} s, while the database was away", figures.longest().as_secs_f64()));
    screen.note(&format!("asked again     {repeated}, which PostgreSQL met while it went down or came up"));
    screen.note(&format!(
        "kept connection {kept} queries; it was lost {kept_ended} time(s), if PostgreSQL went in the middle of one"
    ));
    if let Some(reason) = figures.last_failure() {
        screen.note(&format!("last failure    {reason}"));
    }
    screen.title("Where to look next");
    screen.note("cargo demo -- --keep    leaves all of this running, to stop, edit and query by hand");
    screen.note("cargo verify            runs every check of the project");
    screen.note("README.md               how to run the gateway by hand, and every setting");
}

/// Leaves everything running until Ctrl-C, and shows what happens.
pub(crate) fn keep(stage: &mut Stage<'_>) -> Result<()> {
    let (address, admin) = (stage.gateway.address_of("shop").to_string(), stage.gateway.admin());
    let (host, port) = address.rsplit_once(':').unwrap_or((&address, ""));
    let screen = stage.screen;
    screen.title("It runs, and is yours to play with");
    screen.note(&format!("query     psql -h {host} -p {port} -U postgres"));
    screen.note(&format!("edit      $EDITOR {}", stage.gateway.config_file().display()));
    screen.note(&format!("watch     curl http://{admin}/metrics    also /config /readyz /livez"));
    screen.note(&format!(
        "stop      kill -INT {}    the database, which is started again 5 s later",
        stage.postgres.pid()
    ));
    screen.note("end       Ctrl-C\n");
    loop {
        stage.watch_until(|stage| !stage.postgres.runs() || !stage.gateway.runs())?;
        ensure!(stage.gateway.runs(), "the gateway was ended from outside");
        screen.event("database", "PostgreSQL is stopped; it is started again in 5 s");
        stage.watch(OUTAGE)?;
        stage.postgres.start_again();
        screen.event("database", &format!("PostgreSQL runs again; to stop it: kill -INT {}", stage.postgres.pid()));
    }
}

fn generation(stage: &Stage<'_>) -> u64 {
    stage.gateway.applied()["generation"].as_u64().unwrap_or(0)
}
