//! The stacks that `perf script` tells, added up. Pure.

use std::collections::BTreeMap;

/// A function, with what was called from it.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// In so many samples.
    pub(super) samples: u64,
    /// Those of them in which it was at work itself.
    own: u64,
    pub(super) callees: BTreeMap<String, Frame>,
}

/// Whose code a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The gateway's.
    Postern,
    /// That of the libraries that it is linked with.
    Library,
    /// The kernel's.
    Kernel,
}

/// All stacks of a process.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub(super) root: Frame,
}

/// How functions of the library of C begin that a gateway calls.
const IN_C: [&str; 6] = ["main", "_start", "__libc", "epoll_wait", "__memmove", "clock_gettime"];
/// How a mangled name of Rust ends: `::h` and so many digits.
const HASH_DIGITS: usize = 16;

// === impl Stacks ===

impl Stacks {
    /// Of what perf says: a line with the process's name for each sample, then a line `address symbol` for each function,
    /// the innermost first, then an empty one.
    pub(super) fn read(text: &str) -> Self {
        let mut stacks = Self::default();
        for sample in text.split("\n\n") {
            let frames = sample.lines().filter(|line| line.starts_with(char::is_whitespace));
            let names = frames.filter_map(|line| line.trim().split_once(' ')).map(|(_, symbol)| name(symbol));
            // Where a stack begins or ends elsewhere than in a function that has a name.
            let names: Vec<_> = names.filter(|name| name != "[unknown]").collect();
            if !names.is_empty() {
                stacks.root.add(names.into_iter().rev());
            }
        }
        stacks
    }

    /// How many there are.
    pub(super) fn samples(&self) -> u64 {
        self.root.samples
    }

    /// In which part of the samples whose code was at work.
    pub(super) fn share_of(&self, owner: Owner) -> f64 {
        let mut own = BTreeMap::new();
        self.root.count_own(&mut own);
        let theirs = own.into_iter().filter(|(name, _)| Owner::of(name) == owner).map(|(_, samples)| samples);
        share(theirs.sum(), self.samples())
    }

    /// The functions that were at work themselves in most samples, and in which part of all.
    pub(super) fn heaviest(&self, most: usize) -> Vec<(String, f64)> {
        let mut own = BTreeMap::new();
        self.root.count_own(&mut own);
        let mut own: Vec<_> = own.into_iter().collect();
        own.sort_by_key(|(_, samples)| std::cmp::Reverse(*samples));
        own.truncate(most);
        own.into_iter().map(|(name, samples)| (name.to_owned(), share(samples, self.samples()))).collect()
    }
}

// === impl Owner ===

impl Owner {
    /// By what its name is made of.
    pub(super) fn of(function: &str) -> Self {
        let is_of_rust = function.contains("::") || function.starts_with('<');
        match () {
            () if function.contains("gateway::") => Self::Postern,
            () if is_of_rust || IN_C.iter().any(|begin| function.starts_with(begin)) => Self::Library,
            () => Self::Kernel,
        }
    }
}

// === impl Frame ===

impl Frame {
    /// Adds a stack, from the outermost function on.
    fn add(&mut self, mut names: impl Iterator<Item = String>) {
        self.samples += 1;
        match names.next() {
            Some(name) => self.callees.entry(name).or_default().add(names),
            None => self.own += 1,
        }
    }

    fn count_own<'a>(&'a self, own: &mut BTreeMap<&'a str, u64>) {
        for (name, callee) in &self.callees {
            *own.entry(name).or_default() += callee.own;
            callee.count_own(own);
        }
    }
}

/// Which part of all.
#[expect(clippy::cast_precision_loss, reason = "samples of some seconds")]
pub(super) fn share(samples: u64, of: u64) -> f64 {
    samples as f64 / of.max(1) as f64
}

/// A symbol as a person reads it: without the hash and without what its types are made of.
fn name(symbol: &str) -> String {
    let plain = match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => name,
        _ => symbol,
    };
    plain.replace("{{closure}}", "{closure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_a_tree_of_functions() {
        let text = "gateway \n\t  1 read\n\t  2 gateway::relay::run::h0123456789abcdef\n\t  3 main\n\n\
                    gateway \n\t  4 gateway::relay::run::h0123456789abcdef\n\t  3 main\n\n\
                    gateway \n\t  0 [unknown]\n\t  5 write\n\t  3 main\n";
        let stacks = Stacks::read(text);
        assert_eq!(stacks.samples(), 3);
        let main = &stacks.root.callees["main"];
        assert_eq!((main.samples, main.own), (3, 0));
        let relay = &main.callees["gateway::relay::run"];
        assert_eq!((relay.samples, relay.own, relay.callees["read"].own), (2, 1, 1));
        assert_eq!(stacks.heaviest(9).len(), 4);
        let shares =
            [Owner::Postern, Owner::Library, Owner::Kernel].map(|owner| format!("{:.2}", stacks.share_of(owner)));
        assert_eq!(shares, ["0.33", "0.00", "0.67"]);
        assert!((stacks.heaviest(1)[0].1 - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_perf_says_otherwise_is_no_sample() {
        assert_eq!(Stacks::read("").samples(), 0);
        assert_eq!(Stacks::read("gateway \n\n\n").samples(), 0);
    }
}
