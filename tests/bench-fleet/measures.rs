//! What is measured, part by part.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cast::{Random, images};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use crate::edits::{Settings, last_served};
use crate::figures::Times;
use crate::options::Options;
use crate::say;
use crate::stage::Stage;
use crate::usage::{Calls, Counts, Leader};

/// Pods that are real.
pub(crate) const REAL: u32 = 5;
/// Between two edits that do not meet in one second of a kubelet: it rests so long at least, and so much longer at most.
const APART: [Duration; 2] = [Duration::from_millis(1500), Duration::from_secs(2)];
/// Configurations, when there are many, and pods of each.
pub(crate) const CONFIGS: u32 = 100;
pub(crate) const PODS_EACH: u32 = 10;
/// The webhook's calls come at this pace.
pub(crate) const CREATES_A_SECOND: u32 = 20;
/// How long what was told about pods may still be on its way after they run.
const SETTLES: Duration = Duration::from_secs(3);

/// The configuration of the one fleet, and of real pods.
const CONFIG: &str = "orders";

/// Edits on real pods, one right after the other was acknowledged and with pauses between.
pub(crate) struct Real {
    pub(crate) spaced: Times,
    pub(crate) back_to_back: Times,
}

/// Edits of one configuration among many.
pub(crate) struct Configs {
    pub(crate) one: Times,
    /// When all are edited at one time.
    pub(crate) all: Times,
}

/// A fleet of one configuration.
pub(crate) struct Sized {
    pub(crate) pods: u32,
    /// From the API server's answer to the status that says that all have it.
    pub(crate) told: Times,
    /// To the moment in which the last sidecar has it.
    pub(crate) served: Times,
    /// Of all these edits.
    pub(crate) counts: Counts,
    /// Resident memory of the leader in MiB, afterwards and at most.
    pub(crate) memory: [f64; 2],
}

/// The webhook's calls.
pub(crate) struct Webhook {
    /// How many pods were there already.
    pub(crate) beside: u32,
    pub(crate) calls: Calls,
    /// From the call to the API server to its answer.
    pub(crate) created: Times,
}

pub(crate) fn real(stage: &Stage, options: &Options) -> Result<Real> {
    let (place, mut settings) = (&stage.real, Settings::new());
    let first = stage.runtime.block_on(place.editor.apply(CONFIG, settings))?;
    for number in 0..REAL {
        place.tenant.apply(&real_pod(number));
    }
    for number in 0..REAL {
        place.tenant.wait_for(&format!("pod/app-{number}"), "condition=Ready");
    }
    stage.runtime.block_on(place.editor.acknowledged(CONFIG, first, REAL))?;
    let mut random = Random::seeded(5);
    let [least, more] = APART.map(|time| u64::try_from(time.as_millis()).unwrap_or_default());
    let mut run = |is_spaced: bool| {
        let mut times = Times::default();
        for _ in 0..options.edits() {
            let pause = Duration::from_millis(least + random.below(more));
            settings.edit();
            times.push(stage.runtime.block_on(async {
                if is_spaced {
                    sleep(pause).await;
                }
                let edit = place.editor.apply(CONFIG, settings).await?;
                let told = place.editor.acknowledged(CONFIG, edit, REAL).await?;
                anyhow::Ok(told.at.duration_since(edit.at))
            })?);
        }
        anyhow::Ok(times)
    };
    let (spaced, back_to_back) = (run(true)?, run(false)?);
    let path = "{.items[*].status.initContainerStatuses[*].restartCount}";
    let restarts = place.tenant.field("pods", path);
    ensure!(restarts.split(' ').all(|count| count == "0"), "a sidecar was restarted by an edit: {restarts}");
    place.tenant.delete("pods --all --grace-period=0 --force");
    Ok(Real { spaced, back_to_back })
}

fn real_pod(number: u32) -> String {
    let image = images::toolbox().name();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: app-{number}, annotations: {{postern.dev/inject: {CONFIG}}}}}, spec: \
         {{containers: [{{name: app, image: '{image}', command: [/bin/sh, -c, \"trap 'exit 0' TERM; sleep 3600 & wait\"]}}]}}}}"
    )
}

pub(crate) fn configs(stage: &Stage, options: &Options) -> Result<Configs> {
    say(&format!("making {CONFIGS} configurations with {PODS_EACH} pods each"));
    let measured = stage.runtime.block_on(async {
        let (editor, mut settings) = (&stage.fake.editor, Settings::new());
        let names: Vec<_> = (0..CONFIGS).map(|number| format!("config-{number}")).collect();
        let mut made = Vec::new();
        for name in &names {
            made.push((name, editor.apply(name, settings).await?));
        }
        for (name, edit) in &made {
            editor.acknowledged(name, *edit, 0).await.with_context(|| format!("{name} without pods"))?;
            stage.pods.run(name, 0..PODS_EACH).await?;
        }
        for (name, edit) in &made {
            editor.acknowledged(name, *edit, PODS_EACH).await?;
        }
        sleep(SETTLES).await;
        let (mut one, mut random) = (Times::default(), Random::seeded(6));
        settings.edit();
        for name in names.iter().cycle().take(options.edits()) {
            let edit = editor.apply(name, settings).await?;
            let told = editor.acknowledged(name, edit, PODS_EACH).await?;
            last_served(&stage.sidecars, name, (&told, PODS_EACH))?;
            one.push(told.at.duration_since(edit.at));
            sleep(Duration::from_millis(random.below(500))).await;
        }
        sleep(SETTLES).await;
        settings.edit();
        let begun = Instant::now();
        let mut edits = Vec::new();
        for name in &names {
            edits.push((name, editor.apply(name, settings).await?));
        }
        say(&format!("all {CONFIGS} were edited within {:.2?}", begun.elapsed()));
        let mut all = Times::default();
        for (name, edit) in edits {
            let told = editor.acknowledged(name, edit, PODS_EACH).await?;
            all.push(told.at.duration_since(edit.at));
        }
        anyhow::Ok(Configs { one, all })
    })?;
    stage.runtime.block_on(stage.pods.delete(None))?;
    stage.sidecars.clear();
    stage.fake.tenant.delete("gatewayconfigs --all");
    Ok(measured)
}

pub(crate) fn sizes(stage: &Stage, options: &Options) -> Result<Vec<Sized>> {
    // What the parts before have left in the leader's memory is not this fleet's.
    restart_operator(stage);
    let mut settings = Settings::new();
    stage.runtime.block_on(stage.fake.editor.apply(CONFIG, settings))?;
    let (mut measured, mut there) = (Vec::new(), 0);
    for pods in options.sizes() {
        say(&format!("making {} more pods, so that there are {pods}", pods - there));
        stage.runtime.block_on(stage.pods.run(CONFIG, there..pods))?;
        let edit = stage.runtime.block_on(stage.fake.editor.apply(CONFIG, settings))?;
        stage.runtime.block_on(stage.fake.editor.acknowledged(CONFIG, edit, pods))?;
        measured.push(size(stage, (pods, options.edits_of(pods)), &mut settings)?);
        there = pods;
    }
    Ok(measured)
}

fn size(stage: &Stage, (pods, edits): (u32, usize), settings: &mut Settings) -> Result<Sized> {
    let leader = Leader::find(&stage.cluster)?;
    let (mut told_times, mut served) = (Times::default(), Times::default());
    leader.forget_highest()?;
    let before = leader.counts(&stage.cluster);
    for _ in 0..edits {
        settings.edit();
        let settings = *settings;
        let (told, last) = stage.runtime.block_on(async {
            sleep(SETTLES).await;
            let edit = stage.fake.editor.apply(CONFIG, settings).await?;
            let told = stage.fake.editor.acknowledged(CONFIG, edit, pods).await?;
            let last = last_served(&stage.sidecars, CONFIG, (&told, pods))?;
            anyhow::Ok((told.at.duration_since(edit.at), last.duration_since(edit.at)))
        })?;
        say(&format!("{pods} pods: the last has it after {last:.2?}, the status says so after {told:.2?}"));
        told_times.push(told);
        served.push(last);
    }
    let counts = leader.counts(&stage.cluster).since(before);
    Ok(Sized { pods, told: told_times, served, counts, memory: leader.memory()? })
}

fn restart_operator(stage: &Stage) {
    let operator = |words: &[&str]| {
        stage.cluster.kubectl([words, &["deployment/postern-operator", "--namespace", "postern-system"]].concat())
    };
    operator(&["rollout", "restart"]);
    operator(&["rollout", "status", "--timeout=2m"]);
}

/// Creates pods at a steady pace, of which each asks for a sidecar.
pub(crate) fn webhook(stage: &Stage, options: &Options, beside: u32) -> Result<Webhook> {
    const NAME: &str = "webhook";
    let edit = stage.runtime.block_on(stage.fake.editor.apply(NAME, Settings::new()))?;
    stage.runtime.block_on(stage.fake.editor.acknowledged(NAME, edit, 0))?;
    let before = Calls::count(&stage.cluster);
    let created = stage.runtime.block_on(async {
        let (end, mut creates) = (Instant::now() + options.creating(), JoinSet::new());
        let mut pace = interval(Duration::from_secs(1) / CREATES_A_SECOND);
        // Who could not create in time creates later, and as many.
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for number in 0.. {
            let begun = pace.tick().await;
            if begun >= end {
                break;
            }
            let pods = stage.pods.clone();
            creates.spawn(async move {
                pods.create(&format!("{NAME}-{beside}-{number}"), NAME).await?;
                anyhow::Ok(begun.elapsed())
            });
        }
        sleep_until(end).await;
        creates.join_all().await.into_iter().collect::<Result<Times>>()
    })?;
    let calls = Calls::count(&stage.cluster).since(before);
    ensure!(calls.all > 0.0, "the API server has not called the webhook");
    stage.runtime.block_on(stage.pods.delete(Some(NAME)))?;
    stage.fake.tenant.delete(&format!("gatewayconfig {NAME}"));
    Ok(Webhook { beside, calls, created })
}
