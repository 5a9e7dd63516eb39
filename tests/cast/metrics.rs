//! What `/metrics` says, read as a person would ask for it.

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

// === impl Metrics ===

impl Metrics {
    /// Reads the text format.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).collect())
    }

    /// The sum of all series of `name` that carry all these labels; none if there is no such series.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.0.iter().filter(|sample| sample.name == name && sample.carries(labels)).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// Every series as one line, for comparisons and messages.
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(|sample| format!("{} {:?} {}", sample.name, sample.labels, sample.value)).collect()
    }
}

// === impl Sample ===

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.trim().rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        // Our labels hold no commas and no quotes.
        let labels = labels.trim_end_matches('}').split(',').filter_map(|label| {
            let (key, value) = label.split_once('=')?;
            Some((key.trim().to_owned(), value.trim_matches('"').to_owned()))
        });
        Some(Self { name: name.to_owned(), labels: labels.collect(), value: value.parse().ok()? })
    }

    fn carries(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(key, value)| self.labels.iter().any(|(other, has)| other == key && has == value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_any_of_their_labels() {
        let metrics =
            Metrics::parse("# HELP a b\na{proxy=\"db\",state=\"idle\"} 3\na{proxy=\"db\",state=\"lent\"} 2\nb 1.5\n");
        assert_eq!(metrics.get("a", &[("proxy", "db")]), Some(5.0));
        assert_eq!(metrics.get("a", &[("state", "lent")]), Some(2.0));
        assert_eq!(metrics.get("b", &[]), Some(1.5));
        assert_eq!(metrics.get("c", &[]), None);
    }
}
