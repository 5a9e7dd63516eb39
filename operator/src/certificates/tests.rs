use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::contents::{Contents, Pair, Validity, validity};
use super::plan::Plan;
use super::*;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const BEGIN: Moment = Duration::from_hours(24 * 365 * 55);
const LIFETIMES: Lifetimes =
    Lifetimes { authority: Duration::from_hours(8760), certificate: Duration::from_hours(720) };

pub(crate) fn names() -> Names {
    Names { service: "postern-webhook".into(), namespace: "postern-system".into() }
}

fn plan(contents: &Contents, now: Moment) -> Plan {
    Plan::of(contents, &names(), LIFETIMES, now)
}

fn carried_out(plan: Plan, contents: &Contents, now: Moment) -> Contents {
    issue::carry_out(plan, contents.clone(), (&names(), LIFETIMES), now).expect("keys can be made")
}

/// What there is after `now`, where there was nothing.
fn fresh(now: Moment) -> Contents {
    carried_out(plan(&Contents::default(), now), &Contents::default(), now)
}

/// Serves a new certificate; says which authority is to be trusted.
pub(crate) fn serve_another(current: &Current) -> String {
    let contents = fresh(now());
    current.set(contents.served.certified().expect("it is a pair"));
    contents.bundle()
}

fn is_trusted(contents: &Contents, bundle: &str, now: Moment) -> bool {
    let authorities: Vec<String> = bundle.split_inclusive("-----END CERTIFICATE-----").map(str::to_owned).collect();
    let authorities: Vec<&str> = authorities.iter().map(String::as_str).collect();
    contents.is_trusted_by(&authorities, &names(), now)
}

#[test]
fn from_nothing_comes_a_certificate_that_the_bundle_trusts() {
    let contents = fresh(BEGIN);
    assert!(is_trusted(&contents, &contents.bundle(), BEGIN));
    assert!(contents.previous.is_empty());
    let Plan::Keep(until) = plan(&contents, BEGIN) else { panic!("there is nothing to do") };
    assert!((DAY * 19..DAY * 21).contains(&until.saturating_sub(BEGIN)), "it is renewed after two thirds of 30 days");
    let read = Contents::of(&Secret { data: Some(contents.write()), ..Secret::default() });
    assert_eq!(read, contents, "and it can be read again");
}

#[test]
fn a_certificate_is_for_all_names_of_the_service_and_no_other() {
    let contents = fresh(BEGIN);
    let own = contents.authority.certificate.as_str();
    let other = Names { service: "another".into(), ..names() };
    assert!(!contents.is_trusted_by(&[own], &other, BEGIN));
    assert_eq!(Plan::of(&contents, &other, LIFETIMES, BEGIN), Plan::NewCertificate);
    let (_, parsed) = x509_parser::pem::parse_x509_pem(contents.served.certificate.as_bytes())
        .map(|(rest, pem)| (rest.len(), pem))
        .expect("it is PEM");
    let parsed = parsed.parse_x509().expect("it is a certificate");
    assert!(!parsed.is_ca());
    let alternatives = parsed.subject_alternative_name().expect("it has names").expect("it has names");
    assert_eq!(alternatives.value.general_names.len(), 4);
}

/// The API server trusts what was there before, until somebody tells it; so whatever is served right after a renewal
/// must be trusted by what was there before.
#[test]
fn for_five_years_no_renewal_makes_a_moment_in_which_the_webhook_is_not_trusted() {
    let (mut now, mut contents) = (BEGIN, fresh(BEGIN));
    let (mut authorities, mut certificates) = (0, 0);
    while now < BEGIN + DAY * 365 * 5 {
        match plan(&contents, now) {
            Plan::Keep(until) => {
                assert!(until > now, "it waits for what is over");
                now = until;
                assert!(is_trusted(&contents, &contents.bundle(), now));
            }
            due => {
                let renewed = carried_out(due, &contents, now);
                assert!(is_trusted(&renewed, &contents.bundle(), now), "by what was there before");
                assert!(is_trusted(&renewed, &renewed.bundle(), now), "by what is there now");
                authorities += i32::from(renewed.authority != contents.authority);
                certificates += i32::from(renewed.served != contents.served);
                contents = renewed;
            }
        }
    }
    assert_eq!(authorities, 7);
    assert!((90..110).contains(&certificates), "{certificates}");
}

#[test]
fn a_new_authority_leaves_the_certificate_until_it_is_trusted_everywhere() {
    let contents = fresh(BEGIN);
    let now = contents.authority.validity().expect("it is valid").two_thirds();
    // What the certificate was renewed to meanwhile.
    let contents = carried_out(Plan::NewCertificate, &contents, now);
    assert_eq!(plan(&contents, now), Plan::NewAuthority);
    let renewed = carried_out(Plan::NewAuthority, &contents, now);
    assert_eq!((&renewed.previous, &renewed.served), (&contents.authority.certificate, &contents.served));
    let Plan::Keep(settled) = plan(&renewed, now) else { panic!("it waits") };
    assert_eq!(settled.saturating_sub(now), Duration::from_mins(1));
    assert_eq!(plan(&renewed, settled), Plan::NewCertificate);
    let last = carried_out(Plan::NewCertificate, &renewed, settled);
    assert!(last.is_trusted_by(&[&last.authority.certificate], &names(), settled));
}

#[test]
fn what_is_over_is_made_anew_whatever_it_was() {
    let now = BEGIN + DAY * 3650;
    let contents = fresh(BEGIN);
    assert_eq!(plan(&contents, now), Plan::NewAuthority);
    let renewed = carried_out(Plan::NewAuthority, &contents, now);
    assert!(is_trusted(&renewed, &renewed.bundle(), now));
    assert!(renewed.previous.is_empty(), "nobody needs an authority that is over");
}

#[test]
fn garbage_of_any_kind_is_replaced() {
    let (good, other) = (fresh(BEGIN), fresh(BEGIN));
    let garbage = || "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let broken: Vec<(&str, Contents, Plan)> = vec![
        ("no key of the authority", with(&good, |it| it.authority.key.clear()), Plan::NewAuthority),
        ("another's key", with(&good, |it| it.authority.key.clone_from(&other.authority.key)), Plan::NewAuthority),
        ("no authority", with(&good, |it| it.authority = Pair::default()), Plan::NewAuthority),
        ("an authority that is none", with(&good, |it| it.authority = good.served.clone()), Plan::NewAuthority),
        ("a certificate that is none", with(&good, |it| it.served.certificate = garbage()), Plan::NewCertificate),
        ("an empty certificate", with(&good, |it| it.served.certificate.clear()), Plan::NewCertificate),
        ("no key", with(&good, |it| it.served.key = "hello".into()), Plan::NewCertificate),
        (
            "a key that is another's",
            with(&good, |it| it.served.key.clone_from(&other.served.key)),
            Plan::NewCertificate,
        ),
        ("another's certificate", with(&good, |it| it.served = other.served.clone()), Plan::NewCertificate),
        ("everything empty", Contents::default(), Plan::NewAuthority),
    ];
    for (what, contents, wanted) in broken {
        let due = plan(&contents, BEGIN);
        assert_eq!(due, wanted, "{what}");
        let healed = carried_out(due, &contents, BEGIN);
        assert!(is_trusted(&healed, &healed.bundle(), BEGIN), "{what}");
        assert!(matches!(plan(&healed, BEGIN), Plan::Keep(_)), "{what}");
    }
}

fn with(contents: &Contents, change: impl FnOnce(&mut Contents)) -> Contents {
    let mut contents = contents.clone();
    change(&mut contents);
    contents
}

#[test]
fn a_lifetime_of_seconds_works_like_one_of_months() {
    let lifetimes = Lifetimes { authority: Duration::from_mins(1), certificate: Duration::from_secs(12) };
    let (mut now, mut contents) = (BEGIN, Contents::default());
    let mut renewals = 0;
    while now < BEGIN + HOUR / 6 {
        match Plan::of(&contents, &names(), lifetimes, now) {
            Plan::Keep(until) => now = until.max(now + Duration::from_millis(100)),
            due => {
                let before = contents.bundle();
                contents = issue::carry_out(due, contents, (&names(), lifetimes), now).expect("keys can be made");
                assert!(before.is_empty() || is_trusted(&contents, &before, now));
                renewals += 1;
            }
        }
        assert!(is_trusted(&contents, &contents.bundle(), now));
    }
    assert!((60..150).contains(&renewals), "{renewals}");
}

#[test]
fn a_certificate_ends_with_its_authority() {
    let lifetimes = Lifetimes { authority: HOUR, certificate: DAY };
    let contents = issue::carry_out(Plan::NewAuthority, Contents::default(), (&names(), lifetimes), BEGIN);
    let contents = contents.expect("keys can be made");
    let until = |pem: &str| validity(pem).map(|Validity { until, .. }| until);
    assert_eq!(until(&contents.served.certificate), until(&contents.authority.certificate));
}

#[test]
fn keys_are_never_shown() {
    let contents = fresh(BEGIN);
    let certified = contents.served.certified().expect("it is a pair");
    let current = Current::default();
    current.set(certified);
    let shown = format!("{contents:?} {:?} {current:?}", contents.served);
    assert!(!shown.contains("PRIVATE") && !shown.contains(&contents.served.key[60..80]), "{shown}");
}

#[test]
fn only_our_webhooks_get_the_bundle_and_only_if_they_lack_it() {
    let webhook = |name: &str, service: &str, bundle: Option<&str>| {
        let bundle = bundle.map(|bundle| ByteString(bundle.as_bytes().to_vec()));
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"caBundle": bundle, "service": {"name": service, "namespace": "postern-system"}},
        })
    };
    let configuration = |webhooks: Vec<Value>| {
        serde_json::from_value(
            json!({"metadata": {"name": "zz-postern", "resourceVersion": "7"}, "webhooks": webhooks}),
        )
        .expect("it is one")
    };
    let patch = |webhooks| bundle::patch(&configuration(webhooks), &names(), "trust me").map(|patch| json!(patch));
    let right = webhook("b", "postern-webhook", Some("trust me"));
    assert_eq!(patch(vec![right.clone()]), None);
    assert_eq!(patch(vec![webhook("a", "another", None)]), None);
    let wrong = vec![
        webhook("a", "another", None),
        right,
        webhook("c", "postern-webhook", None),
        webhook("d", "postern-webhook", Some("another")),
    ];
    let value = "dHJ1c3QgbWU=";
    assert_eq!(
        patch(wrong),
        Some(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
            {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": value},
            {"op": "add", "path": "/webhooks/3/clientConfig/caBundle", "value": value},
        ]))
    );
}
