//! Every command of every page: its program, subcommand and options are there, and it is known where it is run, or why it is
//! not.

use std::collections::BTreeSet;

use cast::{Page, pages, workspace};

use crate::programs;
use crate::shell::{self, Line};

/// Where a command of a page is run.
enum Tried {
    /// By this source.
    In(&'static str),
    /// Nowhere here, for this reason.
    Not(&'static str),
}

use Tried::{In, Not};

/// What a command begins with, and where it is run.
const TRIED: &[(&str, Tried)] = &[
    ("cargo bench", Not("it takes minutes to an hour, and its numbers are of a quiet machine")),
    ("cargo build --release -p operator --bin kubectl-postern", In("tests/cast/cluster/plugin.rs")),
    ("cargo build-gateway", In("tests/cast/workspace.rs")),
    ("cargo check -p gateway", Not("`lints` of `cargo verify` does more")),
    ("cargo cluster", In("tests/cast/cluster.rs")),
    ("cargo demo", Not("it is for looking at; the journeys of the cluster take the same steps")),
    ("cargo images", In("tests/cast/images.rs")),
    ("cargo test", In("tests/verify/main.rs")),
    ("cargo verify", In("tests/verify/main.rs")),
    ("ctr -n k8s.io images import", In("tests/journeys/first_steps/main.rs")),
    ("curl -o ca.crt https://truststore.pki.rds", Not("nothing here reaches it; `recipes` makes a file like it")),
    ("curl 127.0.0.1:19187", In("tests/journeys/pages/by_hand.rs")),
    ("gateway", In("tests/journeys/pages/by_hand.rs")),
    ("helm push postern-VERSION.tgz", Not("there is no registry here")),
    ("helm install postern", In("tests/journeys/first_steps/main.rs")),
    ("helm test postern", In("tests/journeys/cluster_chart.rs")),
    ("helm uninstall postern", In("tests/journeys/cluster_chart.rs")),
    ("helm upgrade postern", In("tests/journeys/cluster_chart.rs")),
    ("install target/release/kubectl-postern", Not("it writes into a folder of the whole machine")),
    ("kind load image-archive", Not("kind needs Docker, which is not here; it takes the archives that ctr takes")),
    ("kubectl apply -f crds/samples/minimal.yaml", In("tests/journeys/first_steps/main.rs")),
    (
        "kubectl create secret generic",
        Not("what it makes is laid out by `recipes` as files, as the kubelet mounts them"),
    ),
    (
        "kubectl delete mutatingwebhookconfiguration",
        Not("what follows from it is in tests/journeys/operator/outages.rs"),
    ),
    ("kubectl get --raw /api/v1/namespaces", Not("the operator's own way to a pod is in tests/journeys/operator")),
    ("kubectl get gatewayconfigs --watch", Not("it does not end; its columns are in tests/journeys/cluster_chart.rs")),
    (
        "kubectl get pods -A -l postern.dev/injected=true",
        Not("the labels and the container are in tests/journeys/operator"),
    ),
    ("kubectl get secret", Not("it takes the operator of CloudNativePG")),
    ("kubectl logs POD -c postern-gateway", In("tests/cast/cluster/kubectl.rs")),
    ("kubectl get pods,gatewayconfigs", In("tests/journeys/first_steps/main.rs")),
    ("kubectl patch deployment", In("tests/journeys/first_steps/main.rs")),
    ("kubectl patch gatewayconfig", In("tests/demo/cluster/story.rs")),
    ("kubectl port-forward pod/NAME 19187", Not("it does not end; the page behind it is in tests/journeys/page")),
    ("kubectl postern", In("tests/journeys/explain/main.rs")),
    ("kubectl-postern man", Not("what it writes is looked at by the tests beside its code")),
    ("kubectl run probe", Not("the dry run of a pod that asks is in tests/journeys/operator/denials.rs")),
    ("mariadb --host", In("tests/journeys/recipes/others.rs")),
    ("POSTERN_SEED", In("tests/simulation/main.rs")),
    ("psql -h 127.0.0.1 -p 6432", In("tests/journeys/pages/by_hand.rs")),
    ("redis-cli -h", In("tests/journeys/recipes/others.rs")),
    ("source <(kubectl-postern completion bash)", Not("it takes a shell that somebody types into")),
    ("skopeo copy", Not("there is no registry here")),
];

/// The commands of a page's indented blocks.
fn commands(page: &Page) -> Vec<(String, Line)> {
    let blocks = page.blocks().into_iter().filter(|block| block.info.is_empty() || block.info == "sh");
    blocks
        .flat_map(|block| {
            shell::lines(&block.text).into_iter().map(move |line| (page.place(&block), line)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_command_names_what_is_there() {
    let mut wrong = Vec::new();
    for page in pages::all() {
        let written = commands(&page)
            .into_iter()
            .flat_map(|(place, line)| line.commands().into_iter().map(move |words| (place.clone(), words)));
        let in_prose = programs::in_prose(&page).into_iter().map(|words| (page.path.display().to_string(), words));
        for (place, words) in written.chain(in_prose) {
            if let Err(sentence) = programs::check(&words) {
                wrong.push(format!("{place}: {}: {sentence}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_command_is_run_or_it_is_said_why_not() {
    let (mut unknown, mut used) = (Vec::new(), BTreeSet::new());
    for page in pages::all() {
        for (place, line) in commands(&page) {
            match TRIED.iter().find(|(begin, _)| line.text.starts_with(begin)) {
                Some((begin, _)) => drop(used.insert(*begin)),
                None => unknown.push(format!("{place}: {}", line.text)),
            }
        }
    }
    assert!(unknown.is_empty(), "nobody says where these are run, or why not:\n{}", unknown.join("\n"));
    let unused: Vec<_> = TRIED.iter().filter(|(begin, _)| !used.contains(begin)).map(|(begin, _)| begin).collect();
    let unused: Vec<_> = unused.into_iter().filter(|begin| **begin != "cargo bench").collect();
    assert!(unused.is_empty(), "no page has these commands any more: {unused:?}");
}

#[test]
fn what_runs_a_command_is_there() {
    for (begin, tried) in TRIED {
        match tried {
            In(source) => assert!(workspace::root().join(source).is_file(), "{begin}: there is no {source}"),
            Not(reason) => assert!(reason.len() > 20, "{begin}: that is no reason"),
        }
    }
}
