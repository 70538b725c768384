//! What the log and the traces say, and where to.

use std::collections::BTreeMap;

use http::uri::Authority;
use http::{HeaderName, HeaderValue, Uri};

use super::check::Check;
use super::file;
use super::{Collector, LogFormat, Logging, TraceProtocol, Tracing, nearest};

/// Names and values that go to the collector with all spans: credentials, usually.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// Attributes of all that this process reports.
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The levels of the log, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Where OTLP's spans go over HTTP.
const TRACES_PATH: &str = "/v1/traces";

pub(super) fn logging(check: &mut Check<'_>) -> Logging {
    let file::Logging { level, format, content } = &check.config.logging;
    if let Err(message) = check_levels(level) {
        check.missing("logging.level", &message);
    }
    let format = match format {
        file::LogFormat::Json => LogFormat::Json,
        file::LogFormat::Text => LogFormat::Text,
    };
    Logging { level: level.clone(), format, content: *content }
}

/// Checks a level, or a list of levels of which all but one are for a module: `info,llmux_server::proxy=debug`. The
/// problem does not show the text, which may come from a variable.
fn check_levels(text: &str) -> Result<(), String> {
    const FORM: &str = "or a list such as info,llmux_server::proxy=debug";
    let mut general = 0;
    for part in text.split(',').map(str::trim) {
        let (module, level) = match part.split_once('=') {
            Some((module, level)) => (Some(module), level),
            None => (None, part),
        };
        if !LEVELS.contains(&level) {
            let near = nearest(level, LEVELS.into_iter());
            return Err(format!("expected one of {}, {FORM}{near}", LEVELS.join(", ")));
        }
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
        match module {
            Some(module) if module.is_empty() || !module.chars().all(is_letter) => {
                return Err(
                    "names a module as no module is named: llmux_server::proxy is one".into()
                );
            }
            Some(_) => {}
            None => general += 1,
        }
    }
    if general > 1 {
        return Err("has more than one level for everything".to_owned());
    }
    Ok(())
}

pub(super) fn tracing(check: &mut Check<'_>, environment: &BTreeMap<String, String>) -> Tracing {
    let config = &check.config.tracing;
    let protocol = match config.protocol {
        file::Protocol::Grpc => TraceProtocol::Grpc,
        file::Protocol::Http => TraceProtocol::Http,
    };
    let endpoint = match protocol {
        // The usual port of the protocol, where nobody says another.
        TraceProtocol::Http if !check.is_given("tracing.endpoint") => "localhost:4318",
        _ => &config.endpoint,
    };
    let mut collector = match collector(endpoint, protocol) {
        Ok(collector) => collector,
        Err(message) => {
            check.missing("tracing.endpoint", message);
            Collector::default()
        }
    };
    if config.service_name.trim().is_empty() {
        check.missing("tracing.service_name", "must not be empty");
    }
    if !(0.0..=1.0).contains(&config.sample_rate) {
        check.missing("tracing.sample_rate", "must be from 0 to 1");
    }
    let mut resource = Vec::new();
    if config.enabled {
        for (name, value) in pairs(check, environment, HEADERS) {
            let header = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
            match header {
                Some((name, mut value)) => {
                    value.set_sensitive(true);
                    collector.headers.push((name, value));
                }
                None => check.problem(HEADERS, "holds what no header may have"),
            }
        }
        resource = pairs(check, environment, RESOURCE);
        // The configuration is nearer.
        resource.retain(|(name, _)| name != "service.name");
    }
    Tracing {
        enabled: config.enabled,
        collector,
        protocol,
        service_name: config.service_name.clone(),
        sample_rate: config.sample_rate,
        resource,
    }
}

/// Reads `host:port`, or a URL.
fn collector(endpoint: &str, protocol: TraceProtocol) -> Result<Collector, &'static str> {
    const FORM: &str = "expected host:port or an http or https URL";
    let (scheme, rest) = endpoint.trim().split_once("://").unwrap_or(("", endpoint.trim()));
    let (https, port) = match (scheme, protocol) {
        ("", TraceProtocol::Grpc) => (false, 4317),
        ("", TraceProtocol::Http) => (false, 4318),
        ("http", _) => (false, 80),
        ("https", _) => (true, 443),
        _ => return Err(FORM),
    };
    let uri: Uri = format!("http://{rest}").parse().map_err(|_| FORM)?;
    let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    if host.is_empty() || authority.contains('@') || uri.query().is_some() || rest.contains('#') {
        return Err(FORM);
    }
    let path = uri.path().trim_end_matches('/');
    let path = match protocol {
        TraceProtocol::Grpc if !path.is_empty() => {
            return Err("has a path, which gRPC does not: `tracing.protocol: http` may be meant");
        }
        TraceProtocol::Grpc => String::new(),
        TraceProtocol::Http if path.ends_with(TRACES_PATH) => path.to_owned(),
        TraceProtocol::Http => format!("{path}{TRACES_PATH}"),
    };
    let port = uri.port_u16().unwrap_or(port);
    if authority.len() > host.len() && uri.port_u16().is_none() {
        return Err("has a port that is none");
    }
    Ok(Collector {
        https,
        // The brackets of an IPv6 address belong to the URL, not to the address.
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port,
        authority: format!("{host}:{port}"),
        path,
        headers: Vec::new(),
    })
}

/// Reads a variable such as `name=value,other=value`, where `%2C` is a comma.
fn pairs(
    check: &mut Check<'_>,
    environment: &BTreeMap<String, String>,
    variable: &str,
) -> Vec<(String, String)> {
    let text = environment.get(variable).map_or("", String::as_str);
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let read: Option<Vec<_>> = parts
        .map(|part| {
            let (name, value) = part.split_once('=')?;
            let name = name.trim();
            (!name.is_empty()).then_some(())?;
            Some((name.to_owned(), decoded(value.trim())?))
        })
        .collect();
    read.unwrap_or_else(|| {
        check.problem(variable, "expected name=value, and commas between those");
        Vec::new()
    })
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_one_or_a_list_by_module() {
        for fine in [
            "info",
            "off",
            "info,llmux_server::proxy=debug",
            "llmux_server=trace",
            "warn, hyper=debug",
        ] {
            assert_eq!(check_levels(fine), Ok(()), "{fine}");
        }
        for (bad, told) in [
            ("", "expected one of"),
            ("warning", "expected one of off, error, warn, info, debug, trace, or a list"),
            ("INFO", "did you mean `info`?"),
            ("info,", "expected one of"),
            ("llmux_server::proxy", "expected one of"),
            ("info,proxy=debugg", "did you mean `debug`?"),
            ("info,debug", "more than one level"),
            ("=debug", "no module"),
            ("a b=debug", "no module"),
            ("[span]=debug", "no module"),
        ] {
            let message = check_levels(bad).expect_err(bad);
            assert!(message.contains(told), "{bad}: {message}");
        }
    }

    #[test]
    fn collectors_are_addresses_or_urls() {
        let read = |endpoint, protocol| {
            collector(endpoint, protocol).map(|it| {
                let scheme = if it.https { "https" } else { "http" };
                format!("{scheme} {} {} {} {}", it.host, it.port, it.authority, it.path)
            })
        };
        let (grpc, http) = (TraceProtocol::Grpc, TraceProtocol::Http);
        for (endpoint, protocol, found) in [
            ("localhost:4317", grpc, "http localhost 4317 localhost:4317 "),
            ("collector", grpc, "http collector 4317 collector:4317 "),
            ("http://otel:4317/", grpc, "http otel 4317 otel:4317 "),
            ("https://otel.example", grpc, "https otel.example 443 otel.example:443 "),
            ("[::1]:4317", grpc, "http ::1 4317 [::1]:4317 "),
            ("localhost:4318", http, "http localhost 4318 localhost:4318 /v1/traces"),
            ("collector", http, "http collector 4318 collector:4318 /v1/traces"),
            ("https://o.example/otlp", http, "https o.example 443 o.example:443 /otlp/v1/traces"),
            ("http://h:1/v1/traces", http, "http h 1 h:1 /v1/traces"),
        ] {
            assert_eq!(read(endpoint, protocol).as_deref(), Ok(found), "{endpoint}");
        }
        for bad in ["", "ftp://host", "a b", "user:pw@host:1", "host:99999", "host:1?x=y", ":4317"]
        {
            assert!(read(bad, http).is_err(), "{bad}");
        }
        assert!(read("http://host:4318/v1/traces", grpc).unwrap_err().contains("protocol"));
    }

    #[test]
    fn values_are_percent_encoded() {
        assert_eq!(decoded("Basic%20a%2Cb").as_deref(), Some("Basic a,b"));
        assert_eq!(decoded("%2"), None);
        assert_eq!(decoded("%zz"), None);
    }
}
