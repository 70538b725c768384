//! What crosses between clients and vendors, and what does not.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    RETRY_AFTER, USER_AGENT,
};
use ipnet::IpNet;
use llmux_auth::limits::{Quota, Standing};
use llmux_types::Secret;
use memchr::memmem;

use crate::catalog::Provider;
use crate::traces::{RequestTrace, TRACEPARENT, TRACESTATE, tracestate};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client's headers that a vendor gets as they are; besides these only the content type, the trace and our own.
static FORWARDED: [HeaderName; 3] = [
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("anthropic-version"),
];

/// The vendor's headers that say nothing to the client: of the connection, of an encoding that we do not pass on, or
/// for browsers.
static NOT_PASSED_ON: [&str; 15] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "content-encoding",
    "content-type",
    "set-cookie",
    "set-cookie2",
    "date",
    "alt-svc",
];

pub(crate) const AGENT: &str = concat!("llmux/", env!("CARGO_PKG_VERSION"));

/// Makes the headers of a request to a vendor. Without a trace of ours the client's own passes; `content_type` is `None` where
/// the body is JSON, whatever the client called it.
pub(crate) fn to_vendor(
    client: &HeaderMap,
    content_type: Option<&HeaderValue>,
    provider: &Provider,
    dialect: &[(HeaderName, HeaderValue)],
    request_id: &HeaderValue,
    trace: Option<&RequestTrace>,
) -> HeaderMap {
    // With the host's, which is added, and a few that clients seldom send.
    let mut headers = HeaderMap::with_capacity(12 + provider.headers.len());
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, content_type.cloned().unwrap_or(json));
    headers.insert(ACCEPT, client.get(ACCEPT).cloned().unwrap_or(HeaderValue::from_static("*/*")));
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(X_REQUEST_ID, request_id.clone());
    for (name, value) in dialect {
        headers.insert(name.clone(), value.clone());
    }
    for name in &FORWARDED {
        if let Some(value) = client.get(name) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let (parent, state) = match trace {
        Some(trace) => {
            let (parent, state) = trace.headers();
            (Some(parent), state.cloned())
        }
        None => (client.get(TRACEPARENT).cloned(), tracestate(client)),
    };
    for (name, value) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// Returns the client's headers by which a vendor may answer otherwise: versions and features in testing.
pub(crate) fn features(client: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let traces = |name: &&HeaderName| matches!(name.as_str(), "traceparent" | "tracestate");
    FORWARDED
        .iter()
        .filter(move |name| !traces(name))
        .filter_map(|name| client.get(name).map(|value| (name, value)))
}

/// How many of our own headers an answer may have.
const OWN: usize = 18;

/// Renames a vendor's headers to `llm_provider-*`, but for those that repeat a secret of ours.
pub(crate) fn from_vendor(vendor: &HeaderMap, secrets: &[Secret]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(vendor.len() + OWN);
    for (name, value) in vendor {
        let value_bytes = value.as_bytes();
        let told = |secret: &Secret| {
            let secret = secret.expose().as_bytes();
            secret.len() <= value_bytes.len() && memmem::find(value_bytes, secret).is_some()
        };
        if let Some(renamed) = renamed(name)
            && !secrets.iter().any(told)
        {
            headers.append(renamed, value.clone());
        }
    }
    headers
}

/// Returns the name that a vendor's header is passed on by; `None`: it is not.
fn renamed(name: &HeaderName) -> Option<HeaderName> {
    /// Vendors use the same few names over and over. What else they make up is not to fill the memory.
    const REMEMBERED: usize = 256;
    const LONGEST: usize = 64;
    thread_local! {
        static RENAMED: RefCell<HeaderMap<Option<HeaderName>>> = RefCell::default();
    }
    RENAMED.with_borrow_mut(|known| {
        if let Some(renamed) = known.get(name) {
            return renamed.clone();
        }
        let renamed = match NOT_PASSED_ON.contains(&name.as_str()) {
            true => None,
            false => HeaderName::try_from(format!("llm_provider-{name}")).ok(),
        };
        if name.as_str().len() <= LONGEST {
            if known.len() == REMEMBERED {
                known.clear();
            }
            known.insert(name.clone(), renamed.clone());
        }
        renamed
    })
}

/// Reads how long a vendor asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let seconds = |number: f64| Duration::try_from_secs_f64(number).ok();
    let milliseconds = text(&HeaderName::from_static("retry-after-ms"));
    if let Some(wait) = milliseconds.and_then(|text| text.parse::<f64>().ok()) {
        return seconds(wait / 1000.0);
    }
    let value = text(&RETRY_AFTER)?;
    match value.parse::<f64>() {
        Ok(number) => seconds(number),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            Some(date.duration_since(now).unwrap_or_default())
        }
    }
}

/// Finds the key that a client presents: `Authorization: Bearer`, `x-api-key` (Anthropic's clients) or `api-key`
/// (Azure's).
pub(crate) fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    bearer.or_else(|| named("x-api-key")).or_else(|| named("api-key"))
}

/// Adds what is left of the limits per minute, in the words of OpenAI's API.
/// <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>
pub(crate) fn add_standing(map: &mut HeaderMap, standing: &Standing) {
    let mut add = |quota: Option<Quota>, names: &[HeaderName; 3]| {
        let Some(quota) = quota else { return };
        // Whole seconds, rounded up: what a client waits for must be there.
        let reset = quota.reset.as_secs() + u64::from(quota.reset.subsec_nanos() > 0);
        let [limit, remaining, until] = names;
        map.insert(limit, HeaderValue::from(quota.limit));
        map.insert(remaining, HeaderValue::from(quota.remaining));
        let mut seconds = itoa::Buffer::new().format(reset).to_owned();
        seconds.push('s');
        if let Ok(reset) = HeaderValue::try_from(seconds) {
            map.insert(until, reset);
        }
    };
    add(standing.requests, &REQUESTS_LEFT);
    add(standing.tokens, &TOKENS_LEFT);
}

/// The limit, what is left of it, and until when.
static REQUESTS_LEFT: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS_LEFT: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// Returns the name that the client used for this gateway: the authority of HTTP/2, the `Host` of HTTP/1.1.
pub(crate) fn host<'a>(uri: &'a http::Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    authority.or_else(|| headers.get(HOST)?.to_str().ok())
}

/// Returns the web page that a request comes from, if it comes from one.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&str> {
    // What is no text is no origin that we know.
    headers.get(ORIGIN).map(|value| value.to_str().unwrap_or("null"))
}

/// Keeps a client's request id if it is sane: 1 to 128 letters, digits, `-`, `_` and `.`; else makes one that begins with
/// the time, as those of UUIDv7 do. Databases index ids that come in order with a fraction of the writes.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    headers.get(X_REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let id = format!("{:012x}{:020x}", now.as_millis(), fastrand::u128(..) >> 48);
        HeaderValue::try_from(id).expect("hexadecimal digits are a header value")
    })
}

/// Finds the address of the client: the peer's, unless that is a trusted proxy; then the last address in `Forwarded`
/// (RFC 7239) or `X-Forwarded-For` that is not one itself.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let hops = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|hop| hop.trim().to_owned()).collect()
    };
    let forwarded: Vec<_> = hops("forwarded").iter().filter_map(|hop| forwarded_for(hop)).collect();
    let addresses = if forwarded.is_empty() {
        hops("x-forwarded-for").iter().filter_map(|hop| address(hop)).collect()
    } else {
        forwarded
    };
    addresses.into_iter().rev().find(|ip| !is_trusted(ip)).unwrap_or(peer)
}

fn forwarded_for(hop: &str) -> Option<IpAddr> {
    hop.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| address(value.trim().trim_matches('"')))?
    })
}

/// Reads an address with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let socket = || text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    text.parse()
        .ok()
        .or_else(socket)
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_wait_is_read_in_all_its_forms() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").expect("a date");
        for (name, value, wait) in [
            ("retry-after", "2", Some(2000)),
            ("retry-after", "1.5", Some(1500)),
            ("retry-after-ms", "20", Some(20)),
            ("retry-after", "Wed, 21 Oct 2015 07:28:09 GMT", Some(9000)),
            ("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("retry-after", "-3", None),
            ("retry-after", "soon", None),
        ] {
            let found = retry_after(&headers(&[(name, value)]), now);
            assert_eq!(found, wait.map(Duration::from_millis), "{name}: {value}");
        }
    }

    #[test]
    fn keys_come_in_three_headers() {
        for pair in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer  k"),
            ("x-api-key", "k"),
            ("api-key", "k"),
        ] {
            assert_eq!(presented_key(&headers(&[pair])), Some("k"), "{pair:?}");
        }
        assert_eq!(presented_key(&headers(&[("authorization", "Basic k")])), None);
    }

    #[test]
    fn only_sane_request_ids_are_kept() {
        assert_eq!(request_id(&headers(&[("x-request-id", "a-B_9.z")])), "a-B_9.z");
        for bad in ["", "a b", "ä", "a/b"] {
            let mut map = HeaderMap::new();
            map.insert(X_REQUEST_ID, HeaderValue::from_bytes(bad.as_bytes()).expect("a value"));
            let id = request_id(&map);
            assert_eq!(id.len(), 32, "{bad}");
            assert!(id != request_id(&map), "{bad}");
        }
        let id = |_| request_id(&HeaderMap::new()).to_str().expect("text")[..12].to_owned();
        assert!([(), (), ()].map(id).is_sorted());
    }

    #[test]
    fn forwarded_addresses_count_only_behind_a_trusted_proxy() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().expect("a net")];
        let proxy: IpAddr = "10.0.0.1".parse().expect("an address");
        let other: IpAddr = "192.0.2.9".parse().expect("an address");
        let xff = headers(&[("x-forwarded-for", "203.0.113.1, 198.51.100.7:99, 10.1.1.1")]);
        assert_eq!(client_ip(other, &xff, &trusted), other);
        assert_eq!(client_ip(proxy, &xff, &trusted).to_string(), "198.51.100.7");
        let forwarded =
            headers(&[("forwarded", "for=1.1.1.1;proto=http, for=\"[2001:db8::7]:80\"")]);
        assert_eq!(client_ip(proxy, &forwarded, &trusted).to_string(), "2001:db8::7");
        assert_eq!(client_ip(proxy, &HeaderMap::new(), &trusted), proxy);
    }
}
