//! Who may look at more than probes and scrapes do: whoever is beside us. A browser is, and may be led here by a page of
//! somebody else under a name of theirs, so the name that it calls us by counts too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Request;
use hyper::header::HOST;

/// Why whoever asks from `remote` may not see this, if so.
pub(super) fn objection<B>(remote: IpAddr, request: &Request<B>) -> Option<&'static str> {
    if !remote.to_canonical().is_loopback() {
        return Some("ask from inside the pod, or through kubectl port-forward\n");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(hyper::http::uri::Authority::as_str);
    let is_ours = hosts.next().is_none() && host.is_some_and(is_ours) && authority.is_none_or(is_ours);
    (!is_ours).then_some("call this address localhost or 127.0.0.1; other names are not answered\n")
}

/// Whether `host`, with or without a port, is a name of this very machine.
fn is_ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let is_ipv6 = |name: &str| {
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()).is_some_and(|addr| addr.is_loopback())
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|addr| addr.is_loopback())
        || is_ipv6(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_answered(remote: &str, uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).expect("a request");
        objection(remote.parse().expect("an address"), &request).is_none()
    }

    #[test]
    fn whoever_is_beside_us_and_calls_us_by_our_name_is_answered() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:19187", "127.9.9.9", "[::1]", "[::1]:19187"] {
            assert!(is_answered("127.0.0.1", "/state", &[host]), "{host}");
        }
        for remote in ["::1", "::ffff:127.0.0.1", "127.0.0.9"] {
            assert!(is_answered(remote, "/state", &["localhost"]), "{remote}");
        }
        for remote in ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1", "0.0.0.0"] {
            assert!(!is_answered(remote, "/state", &["localhost"]), "{remote}");
        }
    }

    #[test]
    fn a_browser_that_was_led_here_under_another_name_is_not() {
        for host in [
            "evil.example",
            "evil.example:19187",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.7:19187",
            "::1",
            "[::1",
            "[::2]",
            "127.1",
            "localhost:x",
            "",
        ] {
            assert!(!is_answered("127.0.0.1", "/state", &[host]), "{host}");
        }
        assert!(!is_answered("127.0.0.1", "/state", &[]), "no name at all");
        assert!(!is_answered("127.0.0.1", "/state", &["localhost", "localhost"]), "two names");
        assert!(!is_answered("127.0.0.1", "http://evil.example/state", &["localhost"]), "another name in the request");
        assert!(is_answered("127.0.0.1", "http://localhost/state", &["localhost"]));
    }
}
