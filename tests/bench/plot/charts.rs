//! Which charts are drawn of results.

use clap::ValueEnum as _;
use serde_json::Value;

use super::axis::number;
use super::chart::{Chart, Group, Line, Shape};
use crate::place::Place;
use crate::recovery::Fault;
use crate::results::Spread;
use crate::scale::slope;

/// How bars are to be read.
const BARS: &str = "Medians, with a thin line from the lowest to the highest.";

/// How lines are to be read.
const LINES: &str = "Medians; what each adds is the slope of a line through all looks, by least squares.";

/// A figure of growth: what it belongs to, its key, what a chart calls it, and its unit.
type Grown = (&'static str, &'static str, &'static str, &'static str);

/// Those that are drawn.
const GROWTH: [Grown; 5] = [
    ("peers", "kib", "Resident memory, KiB", "KiB"),
    ("peers", "cpuMicroseconds", "CPU of a query beside idle peers, µs", "µs"),
    ("clients", "kib", "Resident memory, KiB", "KiB"),
    ("proxies", "kib", "Resident memory, KiB", "KiB"),
    ("proxies", "startMilliseconds", "Start until the first peer is let in, ms", "ms"),
];

/// All of them.
pub(super) fn charts(results: &Value) -> Vec<Chart> {
    let place = Place::of(results).caption();
    let of_part = |part| {
        let growth = GROWTH.into_iter().map(move |figure| growth(part, figure));
        contests(part).into_iter().chain(outages(part)).chain(growth)
    };
    let mut charts: Vec<_> = rows(&results["parts"]).iter().flat_map(of_part).filter(Chart::shows_something).collect();
    for chart in &mut charts {
        chart.caption[0].clone_from(&place);
    }
    charts
}

/// Throughput and processor time, a group for each workload.
fn contests(part: &Value) -> [Chart; 2] {
    let suite = part["part"].as_str().unwrap_or_default();
    let chart = |name: &str, title: String, figure: &str| Chart {
        name: format!("{suite}-{name}"),
        title,
        caption: [String::new(), BARS.to_owned()],
        shape: Shape::Bars {
            groups: groups(rows(&part["runs"]), "workload", |run| run[figure].as_f64()),
            share_a_scale: false,
        },
    };
    [
        chart("throughput", format!("Transactions per second (copy: MB/s), {suite}"), "rate"),
        chart("cpu", format!("CPU of the proxy, ms per 1000 transactions (copy: per GB), {suite}"), "cpuMilliseconds"),
    ]
}

/// Time to recover and errors, a group for each fault.
fn outages(part: &Value) -> [Chart; 2] {
    let chart = |name: &str, title: &str, figure: &dyn Fn(&Value) -> Option<f64>| {
        let mut groups = groups(rows(&part["outages"]), "fault", figure);
        for group in &mut groups {
            Fault::from_str(&group.title, false).map_or("", Fault::story).clone_into(&mut group.title);
        }
        Chart {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: [String::new(), BARS.to_owned()],
            shape: Shape::Bars { groups, share_a_scale: true },
        }
    };
    let late = |outage: &Value| Some(outage["gapSeconds"].as_f64()? - outage["awaySeconds"].as_f64()?);
    [
        chart("recovery", "Seconds without an answer beyond those in which the database was away", &late),
        chart("recovery-errors", "Errors that the application was told", &|outage| outage["errors"].as_f64()),
    ]
}

/// A figure over the size, a line for each target.
fn growth(part: &Value, (dimension, figure, title, unit): Grown) -> Chart {
    let points: Vec<_> = rows(&part["points"]).iter().filter(|point| point["dimension"] == dimension).collect();
    let lines = names(points.iter().copied(), "target").into_iter().filter_map(|target| {
        let of_target = points.iter().filter(|point| point["target"] == target);
        let looks: Vec<_> =
            of_target.filter_map(|point| Some((point["size"].as_f64()?, point[figure].as_f64()?))).collect();
        let each = slope(&looks).map(|slope| format!("each adds {} {unit}", number(slope)));
        Some(Line { target, remark: each?, points: medians(looks) })
    });
    Chart {
        name: format!("growth-{dimension}-{}", title.split([' ', ',']).next().unwrap_or_default().to_lowercase()),
        title: title.to_owned(),
        caption: [String::new(), LINES.to_owned()],
        shape: Shape::Lines { size: dimension.to_owned(), lines: lines.collect() },
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The values of a key, each once, in the order in which they first occur.
fn names<'a>(rows: impl Iterator<Item = &'a Value>, key: &str) -> Vec<String> {
    let mut names = Vec::new();
    for name in rows.filter_map(|row| row[key].as_str()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A group for each value of a key, with a bar for each target.
fn groups(rows: &[Value], key: &str, figure: impl Fn(&Value) -> Option<f64>) -> Vec<Group> {
    let group = |title: String| {
        let of_group: Vec<_> = rows.iter().filter(|row| row[key] == title).collect();
        let bars = names(of_group.iter().copied(), "target").into_iter().filter_map(|target| {
            let of_target = of_group.iter().filter(|row| row["target"] == target);
            let spread = Spread::of(of_target.filter_map(|row| figure(row)).collect())?;
            Some((target, spread))
        });
        let bars = bars.collect();
        Group { title, bars }
    };
    names(rows.iter(), key).into_iter().map(group).collect()
}

/// The median at each size, in the order of the sizes.
fn medians(mut looks: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    looks.sort_by(|one, other| one.0.total_cmp(&other.0));
    let of_one_size = looks.chunk_by(|one, other| one.0.total_cmp(&other.0).is_eq());
    let median = |looks: &[(f64, f64)]| {
        let spread = Spread::of(looks.iter().map(|look| look.1).collect())?;
        Some((looks.first()?.0, spread.median))
    };
    of_one_size.filter_map(median).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_each_size_the_median_is_drawn() {
        let looks = vec![(10.0, 7.0), (1.0, 2.0), (10.0, 5.0), (1.0, 1.0), (10.0, 6.0)];
        assert_eq!(medians(looks), [(1.0, 1.5), (10.0, 6.0)]);
    }

    #[test]
    fn a_chart_is_drawn_only_of_what_was_measured() {
        let outage = |target: &str, gap: f64| json!({"fault": "kill", "target": target, "gapSeconds": gap, "awaySeconds": 0.5, "errors": 3});
        let outages = [outage("direct", 0.75), outage("haproxy", 4.5), outage("direct", 1.0), outage("direct", 0.5)];
        let charts = charts(&json!({"parts": [{"part": "recovery", "runs": [], "outages": outages}]}));
        let [late, errors] = &charts[..] else { panic!("{charts:?}") };
        assert_eq!((late.name.as_str(), errors.name.as_str()), ("recovery", "recovery-errors"));
        let Shape::Bars { groups, .. } = &late.shape else { panic!("{late:?}") };
        assert_eq!(groups[0].bars[0], ("direct".to_owned(), Spread { median: 0.25, min: 0.0, max: 0.5 }));
        let svg = late.svg();
        assert!(svg.contains(Fault::Kill.story()) && svg.contains(">haproxy<"), "{svg}");
    }
}
