//! The rule that keeps web pages away from a gateway that is open to its own machine.

use std::net::IpAddr;

/// Tells whether a request was addressed to a loopback name and comes from no web page, or from one that this very
/// gateway served (`https` says how). `Host` stops DNS rebinding, `Origin` (RFC 6454) stops cross-site requests; `null` is an origin too.
pub(crate) fn is_local(https: bool, host: Option<&str>, origin: Option<&str>) -> bool {
    let Some(host) = host else { return false };
    if !is_loopback_name(host_name(host)) {
        return false;
    }
    let Some(origin) = origin else { return true };
    let authority = origin.strip_prefix(if https { "https://" } else { "http://" });
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Cuts the port off a `Host` value.
fn host_name(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

fn is_loopback_name(name: &str) -> bool {
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match address {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.is_loopback()),
        None => {
            name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4() && address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn loopback_hosts_without_an_origin_are_local() {
        for host in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:8080"]
        {
            assert!(is_local(false, Some(host), None), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_not() {
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "10.0.0.1",
            "[::2]",
            "::1",
            "0.0.0.0",
        ] {
            assert!(!is_local(false, Some(host), None), "{host}");
        }
        assert!(!is_local(false, None, None));
    }

    #[test]
    fn the_scheme_belongs_to_the_origin() {
        let host = Some("localhost");
        assert!(is_local(true, host, Some("https://localhost")));
        assert!(!is_local(true, host, Some("http://localhost")));
    }

    #[test]
    fn only_the_same_origin_is_local() {
        let host = Some("localhost:8080");
        assert!(is_local(false, host, Some("http://localhost:8080")));
        for origin in [
            "null",
            "http://localhost:8081",
            "https://localhost:8080",
            "http://localhost",
            "file://",
            "https://evil.example",
            "localhost:8080",
            "",
        ] {
            assert!(!is_local(false, host, Some(origin)), "{origin}");
        }
    }
}
