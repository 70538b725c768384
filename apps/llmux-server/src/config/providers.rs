//! The providers: which there are when none are written, what the environment changes in them, and whether they can work.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue, Uri};
use llmux_providers::{Dialect, Vendor, vendor, vendors};
use llmux_types::{Secret, pico_dollars};

use super::check::Check;
use super::environment::{Overrides, spelled};
use super::file::{self, ModelEntry};
use super::node::{Entry, Node, Origin, Value};
use super::{Model, Problem, Provider, nearest};

const LONGEST_MODEL_NAME: usize = 256;
const LONGEST_PROVIDER_NAME: usize = 64;
const AZURE_ENDPOINT: &str = "AZURE_OPENAI_ENDPOINT";

/// Headers that the connection itself decides on.
const FORBIDDEN_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "accept-encoding",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Adds the providers that the environment enables when the file names none, and applies the
/// `LLMUX_PROVIDERS__<NAME>__<KEY>` variables.
pub(super) fn complete(
    file: &mut Node,
    overrides: &Overrides,
    environment: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
    problems: &mut Vec<Problem>,
) {
    if file.get("providers").is_none_or(|node| matches!(node.value, Value::Null)) {
        let asked = |vendor: &&Vendor| overrides.providers.contains_key(&spelled(vendor.name));
        let enabled = |vendor: &&Vendor| asked(vendor) || is_enabled(vendor, environment, warnings);
        let items = vendors().iter().filter(enabled).map(|vendor| well_known(vendor, environment));
        let value = Value::List(items.collect());
        file.set(&["providers".to_owned()], Node { value, origin: Origin::Unknown });
    }
    let Value::Map(entries) = &mut file.value else {
        return;
    };
    let providers = entries.iter_mut().find(|entry| entry.key == "providers");
    let Some(Entry { node: Node { value: Value::List(items), .. }, .. }) = providers else {
        return;
    };
    for (name, over) in &overrides.providers {
        let mut named =
            items.iter_mut().filter(|item| name_of(item).is_some_and(|it| spelled(it) == *name));
        let variable = format!("LLMUX_PROVIDERS__{}__*", name.to_ascii_uppercase());
        match (named.next(), named.next()) {
            (Some(item), None) => item.merge(over),
            (Some(_), Some(_)) => {
                problems.push(Problem::new(
                    variable,
                    &Origin::Unknown,
                    "fits the names of several providers",
                ));
            }
            (None, _) => {
                problems.push(Problem::new(variable, &Origin::Unknown, "no provider has this name"))
            }
        }
    }
}

fn name_of(provider: &Node) -> Option<&str> {
    match provider.get("name").map(|name| &name.value) {
        Some(Value::Scalar(text) | Value::Literal(text)) => Some(text),
        _ => None,
    }
}

/// Returns the first of a vendor's key variables that is set, and its value.
fn key_variable<'a>(
    vendor: &Vendor,
    environment: &'a BTreeMap<String, String>,
) -> Option<(&'static str, &'a str)> {
    vendor.key_variables.iter().find_map(|name| {
        let value = environment.get(*name).filter(|value| !value.is_empty())?;
        Some((*name, value.as_str()))
    })
}

fn is_enabled(
    vendor: &Vendor,
    environment: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> bool {
    let Some((variable, _)) = key_variable(vendor, environment) else {
        return false;
    };
    let endpoint = environment.get(AZURE_ENDPOINT).is_some_and(|endpoint| !endpoint.is_empty());
    if vendor.dialect == Dialect::Azure && !endpoint {
        warnings.push(format!(
            "{variable} is set but {AZURE_ENDPOINT} is not: provider {} is disabled",
            vendor.name
        ));
        return false;
    }
    true
}

/// The provider that a vendor is without a configuration.
fn well_known(vendor: &Vendor, environment: &BTreeMap<String, String>) -> Node {
    let literal = |text: &str| Node::literal(text, Origin::Unknown);
    let variable = |name: &str, value: &str| Node::literal(value, Origin::Named(name.to_owned()));
    let mut provider = Node::map(Vec::new());
    let mut set = |key: &str, node| provider.set(&[key.to_owned()], node);
    set("name", literal(vendor.name));
    set("type", literal(vendor.name));
    if let Some((name, value)) = key_variable(vendor, environment) {
        set("api_key", variable(name, value));
    }
    let mut models = Vec::new();
    if vendor.dialect == Dialect::Azure {
        // Azure's model names are the account's own: there are no well-known ones.
        if let Some(endpoint) = environment.get(AZURE_ENDPOINT) {
            set("base_url", variable(AZURE_ENDPOINT, endpoint));
        }
    } else {
        models.extend(vendor.models.iter().copied().map(literal));
    }
    models.push(literal(&format!("{}/*", vendor.name)));
    set("models", Node { value: Value::List(models), origin: Origin::Unknown });
    provider
}

/// Checks all providers and returns the enabled ones.
pub(super) fn check(check: &mut Check<'_>) -> Vec<Provider> {
    let mut names = BTreeMap::new();
    let mut enabled = Vec::new();
    for (index, provider) in check.config.providers.iter().enumerate() {
        let path = format!("providers[{index}]");
        if !provider.name.is_empty() {
            if let Some(first) = names.get(provider.name.as_str()) {
                check.problem(
                    format!("{path}.name"),
                    format!("providers[{first}] has the name `{}` too", provider.name),
                );
            } else {
                names.insert(provider.name.as_str(), index);
            }
        }
        enabled.extend(check_one(check, index, provider, &path));
    }
    enabled
}

fn check_one(
    check: &mut Check<'_>,
    index: usize,
    config: &file::Provider,
    path: &str,
) -> Option<Provider> {
    let name = check_name(check, &config.name, &format!("{path}.name"));
    let vendor = check_vendor(check, &config.vendor, &format!("{path}.type"));
    let base_url = vendor
        .and_then(|vendor| check_base_url(check, vendor, config, &format!("{path}.base_url")));
    let (headers, header_version) = check_headers(check, vendor, config, path);
    let api_version = check_api_version(check, vendor, config, header_version, path);
    for (key, period) in [
        ("timeout", config.timeout),
        ("stream_idle_timeout", config.stream_idle_timeout),
        ("connect_timeout", config.connect_timeout),
    ] {
        check.positive(&format!("{path}.{key}"), period);
    }
    check_tags(check, &config.tags, &format!("{path}.tags"));
    let models = check_models(check, config, path);
    let api_key = config.api_key.clone().filter(|key| !key.is_empty());
    if api_key.as_ref().is_some_and(|key| HeaderValue::from_str(key.expose()).is_err()) {
        check.problem(
            format!("{path}.api_key"),
            "holds characters that no header can carry, such as a line break",
        );
    }
    if let Some((key, reason)) = disabled(check, index, vendor, &base_url, api_key.as_ref(), path) {
        if check.config.strict_env {
            check.problem(key, format!("{reason} (strict_env is on)"));
        } else {
            let name = if config.name.is_empty() { path } else { &config.name };
            check.warnings.push(format!("provider {name} is disabled: {reason}"));
        }
        return None;
    }
    if config.models.is_empty()
        && !name.is_empty()
        && check.config.routing.default_provider != config.name
    {
        check.warnings.push(format!("provider {name} has no models, so nothing reaches it"));
    }
    Some(Provider {
        name: name.to_owned(),
        vendor: vendor?,
        api_key,
        base_url: base_url?,
        api_version,
        headers,
        timeout: config.timeout.duration(),
        stream_idle_timeout: config.stream_idle_timeout.duration(),
        connect_timeout: config.connect_timeout.duration(),
        max_concurrent: config.max_concurrent,
        models,
    })
}

/// Returns why a provider cannot work in this environment, after the key that is to blame.
fn disabled(
    check: &Check<'_>,
    index: usize,
    vendor: Option<&'static Vendor>,
    base_url: &Option<String>,
    api_key: Option<&Secret>,
    path: &str,
) -> Option<(String, String)> {
    if let Some(unset) = check.unset.get(&index) {
        let names: BTreeSet<&str> = unset.iter().map(|unset| unset.variable.as_str()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        let verb = if names.len() == 1 { "is" } else { "are" };
        let key = unset.first().map_or(path, |unset| &unset.path);
        return Some((key.to_owned(), format!("{} {verb} not set", names.join(", "))));
    }
    let key = format!("{path}.api_key");
    let vendor = vendor.filter(|_| api_key.is_none() && !check.is_known_bad(&key))?;
    // A type that also serves keyless local servers needs a key at the vendor's own address all the same.
    let own =
        vendor.base_url.is_some_and(|url| base_url.as_deref() == Some(url.trim_end_matches('/')));
    if !vendor.key_required && (vendor.key_variables.is_empty() || !own) {
        return None;
    }
    let given = if check.is_given(&key) { "is empty" } else { "is missing" };
    Some((key, format!("its api_key {given}, and {} needs one", vendor.name)))
}

fn check_name<'a>(check: &mut Check<'_>, name: &'a str, path: &str) -> &'a str {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() {
        check.missing(path, "a provider needs a name");
    } else if name.len() > LONGEST_PROVIDER_NAME || !name.bytes().all(sane) {
        check.problem(
            path,
            format!(
                "may hold only letters, digits, `-`, `_` and `.`, at most {LONGEST_PROVIDER_NAME}"
            ),
        );
    }
    name
}

fn check_vendor(check: &mut Check<'_>, name: &str, path: &str) -> Option<&'static Vendor> {
    let found = vendor(name);
    if found.is_none() {
        let known: Vec<&str> = vendors().iter().map(|vendor| vendor.name).collect();
        let list = known.join(", ");
        if name.is_empty() {
            check.missing(path, &format!("a provider needs a type: one of {list}"));
        } else {
            let suggestion = nearest(name, known.iter().copied());
            check.problem(path, format!("unknown type; it is one of {list}{suggestion}"));
        }
    }
    found
}

fn check_base_url(
    check: &mut Check<'_>,
    vendor: &Vendor,
    config: &file::Provider,
    path: &str,
) -> Option<String> {
    if config.base_url.is_empty() {
        if vendor.base_url.is_none() {
            check.missing(path, &format!("type {} needs a base_url", vendor.name));
        }
        return vendor.base_url.map(|url| url.trim_end_matches('/').to_owned());
    }
    let scheme = config.base_url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    // The texts never hold the URL: it may be somebody's credential.
    let wrong = if !matches!(scheme.as_deref(), Some("http" | "https")) {
        Some("must be an absolute URL that begins with http:// or https://")
    } else if config.base_url.contains('#') {
        Some("must not have a fragment (`#...`)")
    } else {
        match config.base_url.parse::<Uri>() {
            Ok(url) => url.authority().map_or(Some("is not a URL"), |authority| {
                if authority.as_str().contains('@') {
                    Some("must not hold credentials; use api_key or headers")
                } else if url.query().is_some() {
                    Some("must not have a query (`?...`)")
                } else if authority.host().is_empty()
                    || authority.as_str() != authority.host() && authority.port_u16().is_none()
                {
                    Some("is not a URL")
                } else {
                    None
                }
            }),
            Err(_) => Some("is not a URL"),
        }
    };
    if let Some(wrong) = wrong {
        check.problem(path, wrong);
        return None;
    }
    Some(config.base_url.trim_end_matches('/').to_owned())
}

/// Returns the headers, and apart from them Azure's `api-version`.
fn check_headers(
    check: &mut Check<'_>,
    vendor: Option<&Vendor>,
    config: &file::Provider,
    path: &str,
) -> (Vec<(HeaderName, HeaderValue)>, Option<String>) {
    let azure = vendor.is_some_and(|vendor| vendor.dialect == Dialect::Azure);
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    let mut version = None;
    for (name, value) in &config.headers {
        let key = super::walk::join(&format!("{path}.headers"), name);
        if azure && name.eq_ignore_ascii_case("api-version") {
            version = Some(value.expose().to_owned());
            continue;
        }
        let Ok(name) = name.parse::<HeaderName>() else {
            check.problem(key, "is not a header's name");
            continue;
        };
        let Ok(mut value) = HeaderValue::from_str(value.expose()) else {
            check.problem(key, "its value holds characters that no header can carry");
            continue;
        };
        if FORBIDDEN_HEADERS.contains(&name.as_str()) {
            check.problem(key, "cannot be set: it belongs to the connection or the body");
        } else if headers.iter().any(|(other, _)| *other == name) {
            check.problem(key, "is given twice");
        } else {
            value.set_sensitive(true);
            headers.push((name, value));
        }
    }
    (headers, version)
}

fn check_api_version(
    check: &mut Check<'_>,
    vendor: Option<&Vendor>,
    config: &file::Provider,
    header: Option<String>,
    path: &str,
) -> Option<String> {
    let path = format!("{path}.api_version");
    let key = Some(config.api_version.clone()).filter(|version| !version.is_empty());
    if key.is_some() && vendor.is_some_and(|vendor| vendor.dialect != Dialect::Azure) {
        check.problem(&path, "only type azure has versions");
    }
    if key.is_some() && header.is_some() && key != header {
        check.problem(&path, "headers.api-version says another");
    }
    let version = key.or(header)?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !version.bytes().all(sane) {
        check.problem(&path, "is not a version such as 2024-10-21, preview or v1");
    }
    Some(version).filter(|version| !version.is_empty())
}

fn check_models(check: &mut Check<'_>, config: &file::Provider, path: &str) -> Vec<Model> {
    let mut seen = BTreeSet::new();
    let mut models = Vec::new();
    for (index, entry) in config.models.iter().enumerate() {
        let bare;
        let (model, path) = match entry {
            ModelEntry::Name(name) => {
                bare = file::Model { name: name.clone(), ..file::Model::default() };
                (&bare, format!("{path}.models[{index}]"))
            }
            ModelEntry::Model(model) => (&**model, format!("{path}.models[{index}]")),
        };
        let name_path = format!("{path}.name");
        let name_path = if check.is_given(&name_path) { &name_path } else { &path };
        check_model_name(check, &model.name, name_path);
        if !model.upstream.is_empty() {
            let path = format!("{path}.upstream");
            check_model_name(check, &model.upstream, &path);
            if model.upstream.contains('*') {
                check.problem(
                    path,
                    "must not hold `*`: what a wildcard matches goes upstream as it was asked for",
                );
            }
        }
        let upstream = Some(model.upstream.clone()).filter(|upstream| !upstream.is_empty());
        let effective = upstream.clone().unwrap_or_else(|| model.name.clone());
        if !seen.insert((model.name.as_str().to_owned(), effective)) && !model.name.is_empty() {
            check.problem(name_path, "is in this provider already, with the same upstream");
        }
        if let Some(timeout) = model.timeout {
            check.positive(&format!("{path}.timeout"), timeout);
        }
        let mut tags = config.tags.clone();
        tags.extend(model.tags.iter().filter(|tag| !config.tags.contains(tag)).cloned());
        check_tags(check, &model.tags, &format!("{path}.tags"));
        let mut price = |key: &str, dollars: Option<f64>| {
            // As it is written: the decimal text, not the binary fraction, is the price.
            let picos = pico_dollars(&dollars?.to_string());
            if picos.is_none() {
                let message =
                    "is no price that can be counted: whole picodollars, below 18 million dollars";
                check.problem(format!("{path}.{key}"), message);
            }
            picos
        };
        let input_price = price("input_cost_per_token", model.input_cost_per_token);
        let output_price = price("output_cost_per_token", model.output_cost_per_token);
        models.push(Model {
            name: model.name.clone(),
            upstream,
            // A provider's usual weight says nothing, so that limits may decide the shares.
            weight: model.weight.or(Some(config.weight).filter(|&weight| weight != 1)),
            rpm: model.rpm,
            tpm: model.tpm,
            tags,
            input_price,
            output_price,
            timeout: model.timeout.unwrap_or(config.timeout).duration(),
        });
    }
    models
}

fn check_tags(check: &mut Check<'_>, tags: &[String], path: &str) {
    for (index, tag) in tags.iter().enumerate() {
        if tag.trim().is_empty() || tag.contains(',') {
            let message = "must be a word without commas: clients list tags in a header";
            check.problem(format!("{path}[{index}]"), message);
        }
    }
}

fn check_model_name(check: &mut Check<'_>, name: &str, path: &str) {
    if name.is_empty() {
        check.missing(path, "a model needs a name");
    } else if name.len() > LONGEST_MODEL_NAME {
        check.problem(path, format!("is longer than {LONGEST_MODEL_NAME} bytes"));
    } else if name.chars().any(char::is_control) {
        check.problem(path, "holds control characters");
    }
}
