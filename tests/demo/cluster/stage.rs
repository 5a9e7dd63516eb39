//! The stage: the cluster, and what is told of the application while time passes.

use std::time::Duration;

use anyhow::{Result, ensure};
use cast::cluster::Cluster;
use cast::time::pause;
use cast::{Stopwatch, images};

use crate::screen::Screen;

/// How often the status is renewed.
const GLANCE: Duration = Duration::from_millis(500);
/// How long the slowest thing may take.
const PATIENCE: Duration = Duration::from_mins(3);

/// Everything that the story needs.
pub(crate) struct Stage<'a> {
    pub(crate) screen: &'a Screen,
    pub(crate) cluster: Cluster,
}

// === impl Stage ===

impl<'a> Stage<'a> {
    /// Brings the cluster up and gives it the images.
    pub(crate) fn set(screen: &'a Screen) -> Result<Self> {
        screen.event(
            "cluster",
            "etcd, API server, controllers, scheduler, kubelet, proxy, DNS, containerd: each the real one",
        );
        let watch = Stopwatch::start();
        let cluster = Cluster::bring_up(&|line: &str| screen.event("cluster", line))?;
        screen.event("cluster", &format!("ready {:.1} s later", watch.elapsed().as_secs_f64()));
        for image in [images::gateway(), images::operator(), images::toolbox()] {
            cluster.load(image);
        }
        Ok(Self { screen, cluster })
    }

    /// Shows a command as a person would type it, runs it, and shows what it says.
    pub(crate) fn types(&self, words: &[&str]) -> Result<()> {
        self.types_with(words, "")
    }

    /// The same with a text on its standard input, which is shown too.
    pub(crate) fn types_with(&self, words: &[&str], input: &str) -> Result<()> {
        let (ok, said) = self.tries(words, input)?;
        ensure!(ok, "`{}` failed: {said}", words.join(" "));
        Ok(())
    }

    /// The same, which may fail: whether it succeeded, and what it said.
    pub(crate) fn tries(&self, words: &[&str], input: &str) -> Result<(bool, String)> {
        self.screen.check()?;
        self.screen.event("you", &format!("$ {}", as_typed(words)));
        for line in input.trim().lines() {
            self.screen.event("+", line);
        }
        let outcome = if words[0] == "helm" {
            self.cluster.try_helm(&words[1..])
        } else {
            self.cluster.with_input(&words[1..], input)
        };
        let said = format!("{}\n{}", outcome.out, outcome.err);
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            self.screen.event("", line);
        }
        Ok((outcome.ok, said))
    }

    /// Shows how it stands until `condition` holds.
    pub(crate) fn watch_until(&self, what: &str, mut condition: impl FnMut() -> bool) -> Result<Duration> {
        let watch = Stopwatch::start();
        while !condition() {
            self.screen.check()?;
            ensure!(watch.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
            self.screen.status(&self.status());
            pause(GLANCE);
        }
        Ok(watch.elapsed())
    }

    /// Lets `time` pass, and shows how it stands meanwhile.
    pub(crate) fn watch(&self, time: Duration) -> Result<()> {
        let watch = Stopwatch::start();
        self.watch_until("time passes", || watch.elapsed() >= time).map(drop)
    }

    /// The last line that the application has written.
    pub(crate) fn application(&self) -> String {
        let words = ["logs", "deployment/shop", "--container", "shop", "--tail=1", "--ignore-errors"];
        let said = self.cluster.try_kubectl(words).out;
        // Instead of failing, kubectl says in its place why there is none.
        if said.is_empty() || said.starts_with("error:") { "starting".to_owned() } else { said }
    }

    fn status(&self) -> String {
        let of = ["get", "gatewayconfig", "orders", "--ignore-not-found", "--no-headers"];
        let resource = self.cluster.try_kubectl(of).out.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("application: {} | resource: {resource}", self.application())
    }
}

/// A command as a shell takes it: what the shell would read otherwise is quoted.
fn as_typed(words: &[&str]) -> String {
    let is_plain = |word: &&str| !word.contains(|letter: char| "[]{}\"* ".contains(letter));
    let quoted = words.iter().map(|word| if is_plain(word) { (*word).to_owned() } else { format!("'{word}'") });
    quoted.collect::<Vec<_>>().join(" ")
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.screen.clear_status();
    }
}
