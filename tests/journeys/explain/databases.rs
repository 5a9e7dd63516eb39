//! Databases that cannot be reached, each for another reason.

use cast::time::eventually;
use cast::wire::Address;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::stage::{App, PATIENCE, Stage, cluster};
use crate::told::{hints, says};
use crate::wall::Wall;

/// A pod with the gateway of a configuration whose proxy says this besides.
fn pod_with(stage: &Stage, name: &str, client: &str) {
    stage.apply(&format!(
        "apiVersion: postern.dev/v1alpha1\nkind: GatewayConfig\nmetadata: {{name: {name}}}\nspec:\n  proxies:\n  \
         - {{name: {name}, protocol: postgres, client: {{{client}}}}}\n"
    ));
    stage.apply(&App::waiting(name).annotated("postern.dev/inject", name).pod());
}

#[test]
fn a_database_that_cannot_be_reached_is_told_with_the_reason_and_the_setting() {
    let mut stage = Stage::of("explain-databases");
    pod_with(&stage, "port", "addresses: [\"db:5433\"]");
    pod_with(&stage, "name", "addresses: [\"database:5432\"]");
    stage.configure("protocol: postgres");
    stage.apply(&App::waiting("down").pod());
    says(
        &stage,
        &["explain", "pod/port"],
        &[
            "DatabasePort",
            "has no port 5433, but 5432",
            "correct spec.proxies[0].client.addresses",
            "kubectl edit gatewayconfig port",
        ],
    );
    says(
        &stage,
        &["explain", "pod/name"],
        &["DatabaseUnresolved", "no Service \"database\"", "has db", "correct spec.proxies[0].client.addresses"],
    );

    stage.wait_for_within(PATIENCE, "pod/down", "condition=Ready");
    hints(&stage, &["explain", "pod/down"], &["Nothing is wrong"]);
    stage.postgres.stop();
    let told = ["DatabaseDown", "nobody listens there", "start the database"];
    says(&stage, &["explain", "pod/down"], &told);
    says(&stage, &["status"], &["down", told[0], told[2]]);
    stage.postgres.start_again();
    hints(&stage, &["explain", "pod/down"], &["Nothing is wrong"]);
}

#[test]
fn a_database_that_is_silent_is_told_with_who_may_keep_the_pod_from_it() {
    let stage = Stage::of("explain-silent");
    let Address::Tcp(address) = stage.postgres.address() else { unreachable!("it listens on the node's address") };
    let wall = Wall::before(cluster().node(), address);
    pod_with(&stage, "app", "addresses: [\"db:5432\"], dialTimeout: 1s");
    let told = ["DatabaseSilent", "no answer from", "let the pods of namespace explain-silent", "NetworkPolicy"];
    says(&stage, &["explain", "pod/app"], &told);
    says(&stage, &["status"], &told);
    drop(wall);
    hints(&stage, &["explain", "pod/app"], &["Nothing is wrong"]);
}

#[test]
fn tls_that_does_not_fit_is_told_with_what_mends_it() {
    let stage = Stage::of("explain-tls");
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("it signs itself")
    };
    pod_with(&stage, "none", "addresses: [\"db:5432\"], tls: {mode: require}");
    says(
        &stage,
        &["explain", "pod/none"],
        &["DatabaseTls", "does not offer TLS", "set ssl = on there, or client.tls.mode"],
    );

    // The database has TLS now, of another authority than the Secret's.
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let mut params = CertificateParams::new(["db".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "db");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &theirs).expect("it is signed");
    put(&stage, "server.crt", &certificate.pem());
    put(&stage, "server.key", &key.serialize_pem());
    stage.postgres.query("alter system set ssl = on");
    stage.postgres.query("select pg_reload_conf()");
    eventually("PostgreSQL offers TLS", || stage.postgres.query("show ssl") == "on");
    stage.kubectl(["create", "secret", "generic", "db-ca", &format!("--from-literal=ca.crt={}", ours.pem())]);
    pod_with(&stage, "other", "addresses: [\"db:5432\"], tls: {mode: verify-full, secretName: db-ca}");
    says(
        &stage,
        &["explain", "pod/other"],
        &["DatabaseTls", "ca.crt of Secret \"db-ca\" does not have", "put the authority's certificate there"],
    );
}

/// Puts a file into the database's folder, by its own hand: it belongs to its user, and nobody else reads it.
fn put(stage: &Stage, name: &str, text: &str) {
    let sql = format!(
        "copy (select E'{}') to program 'umask 077; printf \"%b\" \"$(cat)\" > {name}'",
        text.replace('\n', "\\n")
    );
    stage.postgres.query(&sql);
}
