//! The results for people, as Markdown tables, and which goals hold.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::figures::{Times, slope};
use crate::measures::{CONFIGS, CREATES_A_SECOND, Configs, PODS_EACH, REAL, Real, Sized, Webhook};

/// A machine that is busier than this with other things is not a quiet one.
const QUIET: f64 = 0.1;
/// An edit on real pods is acknowledged before this in 99 of a hundred cases.
const REAL_GOAL: Duration = Duration::from_secs(3);
/// And of one configuration among many.
const CONFIGS_GOAL: Duration = Duration::from_secs(5);
/// And by this many pods of one configuration always before this.
const FLEET_GOAL: (u32, Duration) = (1000, Duration::from_secs(30));
/// So many of a hundred calls of the webhook are in the API server's bucket of 25 ms.
const CALLS_GOAL: f64 = 99.0;
/// With so many pods the leader stays below so many MiB.
const MEMORY_GOAL: (u32, f64) = (5000, 64.0);

/// What was measured, as far as it was.
#[derive(Default)]
pub(crate) struct Results {
    /// Which part of the machine others kept busy before it began.
    pub(crate) others: f64,
    pub(crate) real: Option<Real>,
    pub(crate) configs: Option<Configs>,
    pub(crate) sizes: Vec<Sized>,
    pub(crate) webhook: Vec<Webhook>,
}

struct Goal {
    what: String,
    wanted: String,
    measured: String,
    holds: bool,
}

// === impl Results ===

impl Results {
    /// The whole report.
    pub(crate) fn markdown(&self) -> String {
        let mut text = head(self.others);
        self.edits(&mut text);
        self.fleet(&mut text);
        self.calls(&mut text);
        self.verdicts(&mut text);
        text
    }

    fn edits(&self, text: &mut String) {
        let real = self.real.iter().flat_map(|real| {
            [
                (format!("{REAL} real pods, edits apart"), &real.spaced),
                (format!("{REAL} real pods, edits back to back"), &real.back_to_back),
            ]
        });
        let configs = self.configs.iter().flat_map(|configs| {
            [
                (format!("{CONFIGS} configurations of {PODS_EACH} pods, one edited"), &configs.one),
                (format!("{CONFIGS} configurations of {PODS_EACH} pods, all edited"), &configs.all),
            ]
        });
        let sizes = self.sizes.iter().map(|size| (format!("1 configuration of {} pods", size.pods), &size.told));
        let columns = ["", "edits", "median", "p99", "slowest"];
        let rows: Vec<(String, &Times)> = real.chain(configs).chain(sizes).collect();
        let title = "Seconds from the API server's answer to the status that says that all pods serve the edit";
        table(text, title, &columns, rows.iter().map(|(what, times)| format!("{what} | {times}")));
    }

    fn fleet(&self, text: &mut String) {
        let columns = [
            "pods of 1 configuration",
            "last has it, s",
            "status says so, s",
            "ms per pod",
            "pokes per pod",
            "questions per pod",
            "statuses per edit",
            "turned away",
            "CPU of the operator, s per edit",
            "of the API server",
            "leader, MiB",
            "at most",
        ];
        let row = |size: &Sized| {
            let (pods, edits) = (f64::from(size.pods), f64::from(u32::try_from(size.told.count()).unwrap_or(u32::MAX)));
            let (served, told) = (size.served.median().as_secs_f64(), size.told.median().as_secs_f64());
            let Sized { counts, memory: [memory, most], .. } = size;
            let [pokes, asks] = [counts.pokes, counts.asks].map(|count| count / pods / edits);
            let [operator, api] = [counts.operator, counts.api_server].map(|time| time.as_secs_f64() / edits);
            format!(
                "{pods} | {served:.2} | {told:.2} | {:.2} | {pokes:.2} | {asks:.2} | {:.1} | {} | {operator:.2} | {api:.2} | {memory:.1} | {most:.1}",
                told * 1000.0 / pods,
                counts.statuses / edits,
                counts.rejected,
            )
        };
        table(text, "What an edit costs (medians; sums divided by the edits)", &columns, self.sizes.iter().map(row));
        let line = |figure: fn(&Sized) -> f64| {
            slope(&self.sizes.iter().map(|size| (f64::from(size.pods), figure(size))).collect::<Vec<_>>())
        };
        if let (Some(time), Some(memory)) = (line(|size| size.told.median().as_secs_f64()), line(|size| size.memory[1]))
        {
            let (time, memory) = (time * 1000.0, memory * 1024.0);
            let _ = writeln!(
                text,
                "\nEach pod more adds {time:.1} ms to an edit and {memory:.1} KiB to the leader at most."
            );
        }
    }

    fn calls(&self, text: &mut String) {
        let columns = ["pods beside", "calls", "within 5 ms", "within 25 ms", "creates, median ms", "p99 ms"];
        let row = |webhook: &Webhook| {
            let Webhook { beside, calls, created } = webhook;
            let share = |part: f64| part * 100.0 / calls.all;
            let (quick, in_time) = (share(calls.within_5), share(calls.within_25));
            let [median, high] = [created.median(), created.quantile(99)].map(|time| time.as_secs_f64() * 1000.0);
            format!("{beside} | {} | {quick:.1} % | {in_time:.2} % | {median:.1} | {high:.1}", calls.all)
        };
        let title =
            format!("The webhook's calls at {CREATES_A_SECOND} creates a second, as the API server measures them");
        table(text, &title, &columns, self.webhook.iter().map(row));
    }

    fn verdicts(&self, text: &mut String) {
        let goals = self.goals();
        let row = |goal: &Goal| {
            let verdict = if goal.holds { "holds" } else { "**missed**" };
            format!("{} | {} | {} | {verdict}", goal.what, goal.wanted, goal.measured)
        };
        table(text, "Goals", &["what", "goal", "measured", ""], goals.iter().map(row));
    }

    fn goals(&self) -> Vec<Goal> {
        let within = |what: String, limit: Duration, measured: Duration| Goal {
            what,
            wanted: format!("below {limit:?}"),
            measured: format!("{measured:.2?}"),
            holds: measured < limit,
        };
        let real = self.real.iter().flat_map(|real| {
            [("apart", &real.spaced), ("back to back", &real.back_to_back)].map(|(how, times)| {
                within(format!("edits {how} on {REAL} real pods, p99"), REAL_GOAL, times.quantile(99))
            })
        });
        let configs = self.configs.iter().map(|configs| {
            let what = format!("an edit of 1 of {CONFIGS} configurations of {PODS_EACH} pods, p99");
            within(what, CONFIGS_GOAL, configs.one.quantile(99))
        });
        let (pods, limit) = FLEET_GOAL;
        let fleet = self.sizes.iter().filter(|size| size.pods == pods);
        let fleet = fleet.map(|size| within(format!("an edit of {pods} pods, slowest"), limit, size.told.longest()));
        let (pods, limit) = MEMORY_GOAL;
        let memory = self.sizes.iter().filter(|size| size.pods == pods).map(|size| Goal {
            what: format!("the operator's resident memory with {pods} pods, at most"),
            wanted: format!("below {limit} MiB"),
            measured: format!("{:.1} MiB", size.memory[1]),
            holds: size.memory[1] < limit,
        });
        let calls = self.webhook.iter().map(|Webhook { beside, calls, .. }| {
            let share = calls.within_25 * 100.0 / calls.all;
            Goal {
                what: format!("calls of the webhook within 25 ms, beside {beside} pods"),
                wanted: format!("at least {CALLS_GOAL} %"),
                measured: format!("{share:.2} %"),
                holds: share >= CALLS_GOAL,
            }
        });
        real.chain(configs).chain(fleet).chain(memory).chain(calls).collect()
    }
}

fn head(others: f64) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let verdict = if others > QUIET { "**take the figures for noise**" } else { "it was quiet" };
    format!(
        "# bench-fleet\n\nLinux {}; all of Kubernetes, Postern and this program share {cpus} CPUs. Fake pods are on a node that is \
         only an entry; their sidecars answer as real ones do, 0.1 to 0.5 s after a poke. Before \
         it began others kept {:.0} % of the machine busy: {verdict}.\n",
        kernel.trim(),
        others * 100.0
    )
}

/// Nothing where there are no rows.
fn table(text: &mut String, title: &str, columns: &[&str], rows: impl IntoIterator<Item = impl Display>) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = writeln!(text, "\n## {title}\n\n| {} |\n|---|{}", columns.join(" | "), "---:|".repeat(columns.len() - 1));
    for row in rows {
        let _ = writeln!(text, "| {row} |");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(seconds: u64) -> Times {
        [Duration::from_secs(seconds)].into_iter().collect()
    }

    #[test]
    fn a_goal_is_judged_by_what_was_measured_and_not_told_of_otherwise() {
        let mut results =
            Results { real: Some(Real { spaced: times(2), back_to_back: times(3) }), ..Results::default() };
        let text = results.markdown();
        assert!(text.contains("| edits apart on 5 real pods, p99 | below 3s | 2.00s | holds |"), "{text}");
        assert!(text.contains("| edits back to back on 5 real pods, p99 | below 3s | 3.00s | **missed** |"), "{text}");
        assert!(!text.contains("webhook"), "{text}");
        results.configs = Some(Configs { one: times(6), all: times(1) });
        let holds: Vec<_> = results.goals().iter().map(|goal| goal.holds).collect();
        assert_eq!(holds, [true, false, false]);
    }
}
