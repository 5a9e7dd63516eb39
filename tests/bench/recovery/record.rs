//! What a caller has seen, and what can be read from that.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;

/// When a caller had answers, and when errors, since the start of the run.
#[derive(Debug, Default)]
pub(super) struct Record {
    answers: Vec<Duration>,
    errors: Vec<(Duration, String)>,
}

// === impl Record ===

impl Record {
    /// Writes down what became of a question.
    pub(super) fn note(&mut self, at: Duration, answer: Result<()>) {
        match answer {
            Ok(()) => self.answers.push(at),
            Err(error) => self.errors.push((at, cause(&format!("{error:#}")))),
        }
    }

    /// When the answers came.
    pub(super) fn answers(&self) -> &[Duration] {
        &self.answers
    }

    /// Whether an answer came after `time`.
    pub(super) fn answered_since(&self, time: Duration) -> bool {
        self.answers.last().is_some_and(|last| *last > time)
    }

    /// The errors within some time.
    pub(super) fn errors<'a>(&'a self, window: &'a Range<Duration>) -> impl Iterator<Item = &'a str> {
        self.errors.iter().filter(|(at, _)| window.contains(at)).map(|(_, cause)| cause.as_str())
    }

    /// The last error.
    pub(super) fn last_error(&self) -> Option<String> {
        self.errors.last().map(|(_, cause)| cause.clone())
    }
}

/// The longest time without an answer within some time.
pub(super) fn longest_gap(mut answers: Vec<Duration>, window: &Range<Duration>) -> Duration {
    answers.retain(|at| window.contains(at));
    answers.extend([window.start, window.end]);
    answers.sort_unstable();
    answers.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
}

/// How often each cause occurs.
pub(super) fn causes<'a>(all: impl Iterator<Item = &'a str>) -> BTreeMap<String, u32> {
    all.fold(BTreeMap::new(), |mut counts, cause| {
        *counts.entry(cause.to_owned()).or_default() += 1;
        counts
    })
}

/// The short name of an error: the SQLSTATE of what a database said, else what was said last.
fn cause(text: &str) -> String {
    let is_state =
        |word: &&str| word.len() == 5 && word.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    let state = text.split(' ').filter_map(|word| word.strip_prefix('C')).find(is_state);
    state.or_else(|| text.rsplit(": ").next()).unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(times: &[f64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_secs_f64).collect()
    }

    #[test]
    fn the_longest_gap_lies_between_two_answers_of_whoever_it_was() {
        let window = Duration::from_secs(1)..Duration::from_secs(10);
        // Those before the window do not count.
        let answers = seconds(&[0.1, 7.5, 2.0, 9.0, 3.0]);
        assert_eq!(longest_gap(answers, &window), Duration::from_secs_f64(4.5));
    }

    #[test]
    fn who_had_no_answer_at_all_waited_for_the_whole_time() {
        let window = Duration::from_secs(1)..Duration::from_secs(10);
        assert_eq!(longest_gap(Vec::new(), &window), Duration::from_secs(9));
        assert_eq!(longest_gap(seconds(&[2.0]), &window), Duration::from_secs(8));
    }

    #[test]
    fn only_errors_of_the_outage_count_each_by_its_cause() {
        let mut record = Record::default();
        let at = Duration::from_secs;
        record.note(at(1), Err(anyhow::anyhow!("E SFATAL VFATAL C57P03 Mthe database system is starting up")));
        for time in [3, 4] {
            record.note(at(time), Err(anyhow::anyhow!("E\u{0}\u{0} SFATAL VFATAL C57P01 Mterminating connection")));
        }
        record.note(at(5), Err(anyhow::anyhow!("cannot dial 127.0.0.1:1").context("session 3")));
        record.note(at(6), Ok(()));
        let counts = causes(record.errors(&(at(2)..at(9))));
        assert_eq!(counts, BTreeMap::from([("57P01".to_owned(), 2), ("cannot dial 127.0.0.1:1".to_owned(), 1)]));
        assert!(record.answered_since(at(5)) && !record.answered_since(at(6)));
    }

    #[test]
    fn an_error_without_a_state_is_named_by_its_last_words() {
        assert_eq!(
            cause("cannot dial 127.0.0.1:1: Connection refused (os error 111)"),
            "Connection refused (os error 111)"
        );
    }
}
