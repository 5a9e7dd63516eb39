//! Reads command lines as a shell does, as far as pages have them. Pure.

/// A command as one types it: of several lines where it goes on, without what is said of it behind `#`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
}

/// What ends one command and begins the next.
const BETWEEN: [&str; 4] = ["|", ";", "&&", "||"];

/// What a transcript has before each command; its other lines are answers.
const PROMPT: &str = "$ ";

/// The commands of a block. A line goes on where it ends with a backslash, or within quotes.
pub(crate) fn lines(block: &str) -> Vec<Line> {
    let (mut lines, mut begun) = (Vec::new(), String::new());
    let is_transcript = block.lines().any(|line| line.starts_with(PROMPT));
    for line in block.lines() {
        let line = match line.strip_prefix(PROMPT) {
            Some(command) => command,
            None if is_transcript && begun.is_empty() => continue,
            None => line,
        };
        begun.push_str(line.trim_start());
        if let Some(more) = begun.strip_suffix('\\') {
            begun = more.to_owned();
            continue;
        }
        let (text, is_whole) = without_comment(&begun);
        if !is_whole {
            continue;
        }
        if !text.trim().is_empty() {
            lines.push(Line { text: text.trim().to_owned() });
        }
        begun.clear();
    }
    lines
}

/// What stands before `#`, and whether all quotes are closed.
fn without_comment(line: &str) -> (&str, bool) {
    let (mut quote, mut before) = (None, ' ');
    for (at, one) in line.char_indices() {
        match (quote, one) {
            (Some(open), one) if open == one => quote = None,
            (None, '\'' | '"') => quote = Some(one),
            (None, '#') if before == ' ' => return (&line[..at], true),
            _ => {}
        }
        before = one;
    }
    (line, quote.is_none())
}

/// The words of a line, without their quotes.
pub(crate) fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_begun) = (Vec::new(), String::new(), None, false);
    for one in text.chars() {
        match (quote, one) {
            (Some(open), one) if open == one => quote = None,
            (None, '\'' | '"') => (quote, is_begun) = (Some(one), true),
            (None, ' ') => {
                if is_begun {
                    words.push(std::mem::take(&mut word));
                }
                is_begun = false;
            }
            (_, one) => {
                word.push(one);
                is_begun = true;
            }
        }
    }
    if is_begun {
        words.push(word);
    }
    words
}

// === impl Line ===

impl Line {
    /// Each simple command, as its words: without variables before it, and without where its input and output are.
    pub(crate) fn commands(&self) -> Vec<Vec<String>> {
        let words = words(&self.text);
        let parts = words.split(|word| BETWEEN.contains(&&**word));
        let command = |part: &[String]| -> Vec<String> {
            let is_redirection = |word: &&String| ["<", ">", "2>"].iter().any(|mark| word.starts_with(mark));
            let end = part.iter().take_while(|word| !is_redirection(word)).count();
            let assigns = |word: &&String| word.split_once('=').is_some_and(|(name, _)| is_variable(name));
            part[..end].iter().skip_while(assigns).cloned().collect()
        };
        parts.map(command).filter(|words| !words.is_empty()).collect()
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|one| one.is_ascii_uppercase() || one == '_')
}

#[test]
fn lines_are_read_as_a_shell_reads_them() {
    let block = "A=1 one -x '{\"#\": 2}' \\\n  more    # it's said\ntwo 'three\n  four' | five > six\n";
    let lines = lines(block);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0].commands(), [["one", "-x", "{\"#\": 2}", "more"].map(str::to_owned).to_vec()]);
    let second: Vec<Vec<String>> = lines[1].commands();
    assert_eq!(second, [vec!["two".to_owned(), "threefour".to_owned()], vec!["five".to_owned()]]);
    let transcript = super::shell::lines("$ one \\\n  two\nan answer\n$ three\n");
    assert_eq!(transcript, ["one two", "three"].map(|text| Line { text: text.to_owned() }));
}
