//! Providers and models: rules, missing variables, and what there is without a file.

use std::time::Duration;

use super::super::load;
use super::{Folder, problems, provider, settings};

/// What is added to one good provider, and the one problem it makes.
const ONE_PROBLEM: &[(&str, &str)] = &[
    ("    base_urk: x\n", "providers[0].base_urk (line 5): unknown key; did you mean `base_url`?"),
    (
        "    base_url: localhost:11434/v1\n",
        "providers[0].base_url (line 5): must be an absolute URL that begins with http:// or https://",
    ),
    (
        "    base_url: /v1\n",
        "providers[0].base_url (line 5): must be an absolute URL that begins with http:// or https://",
    ),
    (
        "    base_url: ftp://host/v1\n",
        "providers[0].base_url (line 5): must be an absolute URL that begins with http:// or https://",
    ),
    (
        "    base_url: https://u:p@host/v1\n",
        "providers[0].base_url (line 5): must not hold credentials; use api_key or headers",
    ),
    (
        "    base_url: https://host/v1?x=1\n",
        "providers[0].base_url (line 5): must not have a query (`?...`)",
    ),
    (
        "    base_url: https://host/v1#x\n",
        "providers[0].base_url (line 5): must not have a fragment (`#...`)",
    ),
    ("    base_url: https://ho st/v1\n", "providers[0].base_url (line 5): is not a URL"),
    ("    base_url: https://host:99999/v1\n", "providers[0].base_url (line 5): is not a URL"),
    ("    base_url: https:///v1\n", "providers[0].base_url (line 5): is not a URL"),
    ("    api_version: v1\n", "providers[0].api_version (line 5): only type azure has versions"),
    (
        "    headers: {\"a b\": c}\n",
        "providers[0].headers.\"a b\" (line 5): is not a header's name",
    ),
    (
        "    headers: {x-a: \"b\\nc\"}\n",
        "providers[0].headers.x-a (line 5): its value holds characters that no header can carry",
    ),
    (
        "    headers: {Host: b}\n",
        "providers[0].headers.Host (line 5): cannot be set: it belongs to the connection or the body",
    ),
    ("    headers: {x-a: b, X-A: c}\n", "providers[0].headers.x-a (line 5): is given twice"),
    ("    timeout: 0s\n", "providers[0].timeout (line 5): must be longer than 0"),
    (
        "    stream_idle_timeout: 0s\n",
        "providers[0].stream_idle_timeout (line 5): must be longer than 0",
    ),
    ("    connect_timeout: 0s\n", "providers[0].connect_timeout (line 5): must be longer than 0"),
    ("    weight: -1\n", "providers[0].weight (line 5): must be from 0 to 4294967295, not `-1`"),
    (
        "    max_concurrent: x\n",
        "providers[0].max_concurrent (line 5): expected a whole number, not `x`",
    ),
    (
        "    api_key: \"a\\nb\"\n",
        "providers[0].api_key (line 5): holds characters that no header can carry, such as a line break",
    ),
    (
        "  - {name: a, type: ollama, models: [m]}\n",
        "providers[1].name (line 5): providers[0] has the name `a` too",
    ),
    ("  - {type: ollama, models: [m]}\n", "providers[1].name (line 5): a provider needs a name"),
    (
        "  - {name: a/b, type: ollama, models: [m]}\n",
        "providers[1].name (line 5): may hold only letters, digits, `-`, `_` and `.`, at most 64",
    ),
    (
        "  - {name: b, type: ollama, models: [\"\"]}\n",
        "providers[1].models[0] (line 5): a model needs a name",
    ),
    (
        "  - {name: b, type: ollama, models: [{weight: 1}]}\n",
        "providers[1].models[0] (line 5): a model needs a name",
    ),
    (
        "  - {name: b, type: ollama, models: [null]}\n",
        "providers[1].models[0] (line 5): is empty, expected a text or a map of keys",
    ),
    (
        "  - {name: b, type: ollama, models: [[x]]}\n",
        "providers[1].models[0] (line 5): expected a text or a map of keys, not a list",
    ),
    (
        "  - {name: b, type: ollama, models: [\"a\\tb\"]}\n",
        "providers[1].models[0] (line 5): holds control characters",
    ),
    (
        "  - {name: b, type: ollama, models: [{name: m, upstream: \"a\\tb\"}]}\n",
        "providers[1].models[0].upstream (line 5): holds control characters",
    ),
    (
        "  - {name: b, type: ollama, models: [{name: \"x/*\", upstream: \"y/*\"}]}\n",
        "providers[1].models[0].upstream (line 5): must not hold `*`: what a wildcard matches goes upstream as it was \
         asked for",
    ),
    (
        "  - {name: b, type: ollama, models: [m, m]}\n",
        "providers[1].models[1] (line 5): is in this provider already, with the same upstream",
    ),
    (
        "  - {name: b, type: ollama, models: [m, {name: m, upstream: m}]}\n",
        "providers[1].models[1].name (line 5): is in this provider already, with the same upstream",
    ),
    (
        "  - {name: b, type: ollama, models: [{name: m, timeout: 0s}]}\n",
        "providers[1].models[0].timeout (line 5): must be longer than 0",
    ),
    (
        "  - {name: b, type: ollama, models: [{name: m, tags: [\"a,b\"]}]}\n",
        "providers[1].models[0].tags[0] (line 5): must be a word without commas: clients list tags in a header",
    ),
    (
        "  - {name: b, type: ollama, tags: [\" \"], models: [m]}\n",
        "providers[1].tags[0] (line 5): must be a word without commas: clients list tags in a header",
    ),
    (
        "  - {name: b, type: ollama, models: [{name: m, uptream: x}]}\n",
        "providers[1].models[0].uptream (line 5): unknown key; did you mean `upstream`?",
    ),
    (
        "  - {name: b, type: ollama, models: [{name: m, input_cost_per_token: -1}]}\n",
        "providers[1].models[0].input_cost_per_token (line 5): must be at least 0, not `-1`",
    ),
    (
        "  - {name: b, type: azure, api_key: k, models: [m]}\n",
        "providers[1].base_url (line 5): type azure needs a base_url",
    ),
    (
        "  - {name: b, type: azure, api_key: k, base_url: \"https://h\", api_version: \"a b\", models: [m]}\n",
        "providers[1].api_version (line 5): is not a version such as 2024-10-21, preview or v1",
    ),
    (
        "  - {name: b, type: azure, api_key: k, base_url: \"https://h\", api_version: v1, headers: {api-version: v2}}\n",
        "providers[1].api_version (line 5): headers.api-version says another",
    ),
    (
        "routing: {default_provider: aa}\n",
        "routing.default_provider (line 5): no provider has this name; did you mean `a`?",
    ),
];

#[test]
fn each_broken_rule_is_told_with_its_key_its_line_and_what_would_be_right() {
    for (more, problem) in ONE_PROBLEM {
        assert_eq!(problems(&provider(more), &[]), [*problem], "{more}");
    }
}

#[test]
fn an_unknown_type_lists_the_known_ones_and_suggests_the_nearest() {
    let told = problems("providers:\n  - {name: a, type: OpenAI, models: [m]}\n", &[]);
    assert_eq!(told.len(), 1);
    let known: Vec<&str> = llmux_providers::vendors().iter().map(|vendor| vendor.name).collect();
    let text = format!(
        "providers[0].type (line 2): unknown type; it is one of {}; did you mean `openai`?",
        known.join(", ")
    );
    assert_eq!(told, [text]);
    let told = problems("providers:\n  - {name: a, models: [m]}\n", &[]);
    assert!(
        told[0].starts_with("providers[0].type (line 2): a provider needs a type: one of "),
        "{told:?}"
    );
}

#[test]
fn long_names_of_models_are_refused() {
    let file = |length: usize| {
        provider(&format!("  - {{name: b, type: ollama, models: [{}]}}\n", "m".repeat(length)))
    };
    settings(&file(256), &[]);
    assert_eq!(
        problems(&file(257), &[]),
        ["providers[1].models[0] (line 5): is longer than 256 bytes"]
    );
}

#[test]
fn a_provider_arrives_with_all_it_says_and_the_defaults_of_the_rest() {
    let file = "\
providers:
  - name: east
    type: openai
    api_key: k
    base_url: https://host/v1//
    headers: {X-A: b}
    timeout: 1m
    stream_idle_timeout: 2s
    connect_timeout: 300ms
    max_concurrent: 4
    weight: 5
    models:
      - gpt-4o
      - {name: fast, upstream: gpt-4o-mini, weight: 0, timeout: 6s}
      - {name: fast, upstream: gpt-4.1-nano}
      - \"vendor/*\"
      - deepseek-ai/DeepSeek-V3
  - name: west
    type: ollama
routing: {default_provider: west}
";
    let loaded = settings(file, &[]);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(loaded.routing.default_provider.as_deref(), Some("west"));
    let [east, west] = &loaded.providers[..] else { unreachable!("two providers") };
    assert_eq!(
        (east.name.as_str(), east.vendor.name, east.base_url.as_str()),
        ("east", "openai", "https://host/v1")
    );
    assert_eq!(east.api_key.as_ref().expect("set").expose(), "k");
    assert_eq!(
        (east.headers[0].0.as_str(), &east.headers[0].1),
        ("x-a", &"b".parse().expect("a value"))
    );
    assert!(east.headers[0].1.is_sensitive());
    assert_eq!(
        [east.timeout, east.stream_idle_timeout, east.connect_timeout].map(|it| it.as_millis()),
        [60_000, 2_000, 300]
    );
    assert_eq!(east.max_concurrent, 4);
    let models: Vec<_> = east
        .models
        .iter()
        .map(|model| {
            (model.name.as_str(), model.upstream.as_deref(), model.weight, model.timeout.as_secs())
        })
        .collect();
    assert_eq!(
        models,
        [
            ("gpt-4o", None, Some(5), 60),
            ("fast", Some("gpt-4o-mini"), Some(0), 6),
            ("fast", Some("gpt-4.1-nano"), Some(5), 60),
            ("vendor/*", None, Some(5), 60),
            ("deepseek-ai/DeepSeek-V3", None, Some(5), 60),
        ]
    );
    assert_eq!(
        west.base_url,
        llmux_providers::vendor("ollama").expect("known").base_url.expect("local")
    );
    assert_eq!(
        (west.api_key.is_none(), west.max_concurrent, west.api_version.as_deref()),
        (true, 0, None)
    );
    assert_eq!(
        [west.timeout, west.stream_idle_timeout, west.connect_timeout],
        [600, 120, 5].map(Duration::from_secs)
    );
}

#[test]
fn azure_takes_its_version_from_the_key_or_the_header() {
    for more in [
        "api_version: 2024-10-21",
        "headers: {api-version: 2024-10-21}",
        "headers: {API-Version: 2024-10-21}",
    ] {
        let file = format!(
            "providers:\n  - {{name: a, type: azure, api_key: k, base_url: \"https://h/\", {more}, models: [d]}}\n"
        );
        let loaded = settings(&file, &[]);
        let azure = &loaded.providers[0];
        assert_eq!(azure.api_version.as_deref(), Some("2024-10-21"), "{more}");
        assert_eq!((azure.base_url.as_str(), azure.headers.len()), ("https://h", 0), "{more}");
    }
}

#[test]
fn an_unset_variable_disables_its_provider_alone() {
    let file = provider(
        "  - {name: b, type: openai, api_key: \"${NO_KEY}\", models: [x]}
  - {name: c, type: azure, api_key: \"${NO_KEY}\", base_url: \"${NO_URL}\", models: [\"${NO_KEY}\"]}
  - {name: d, type: ollama, models: [{name: n, timeout: \"${NO_TIME}\"}]}
routing: {default_provider: c}
",
    );
    let loaded = settings(&file, &[]);
    assert_eq!(loaded.providers.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        loaded.warnings,
        [
            "provider b is disabled: NO_KEY is not set",
            "provider c is disabled: NO_KEY, NO_URL are not set",
            "provider d is disabled: NO_TIME is not set",
            "routing.default_provider has no effect: provider c is disabled",
        ]
    );
    assert_eq!(loaded.routing.default_provider, None);
}

#[test]
fn a_key_that_is_needed_and_empty_disables_its_provider() {
    for (more, given) in [
        ("api_key: \"${EMPTY}\", ", "is empty"),
        ("api_key: \"${NONE:}\", ", "is empty"),
        ("api_key: , ", "is empty"),
        ("", "is missing"),
    ] {
        for vendor in ["openai", "anthropic"] {
            let file = format!("providers:\n  - {{name: b, type: {vendor}, {more}models: [x]}}\n");
            let loaded = settings(&file, &[("EMPTY", "")]);
            assert!(loaded.providers.is_empty(), "{file}");
            assert_eq!(
                loaded.warnings,
                [format!("provider b is disabled: its api_key {given}, and {vendor} needs one")]
            );
        }
    }
    let local = "providers:\n  - {name: b, type: openai, base_url: \"http://127.0.0.1:1/v1\", models: [x]}\n";
    assert_eq!(settings(local, &[]).providers.len(), 1);
    assert_eq!(settings(&provider("    api_key: ${EMPTY}\n"), &[("EMPTY", "")]).providers.len(), 1);
}

#[test]
fn strict_env_makes_missing_variables_and_keys_fatal() {
    let file = "\
strict_env: true
providers:
  - name: b
    type: openai
    api_key: ${NONE}
    models: [x]
  - name: c
    type: anthropic
    models: [x]
";
    assert_eq!(
        problems(file, &[]),
        [
            "providers[0].api_key (line 5): NONE is not set (strict_env is on)",
            "providers[1].api_key (line 7): its api_key is missing, and anthropic needs one (strict_env is on)",
        ]
    );
    let file = provider("    api_key: ${NONE}\n");
    assert_eq!(
        problems(&file, &[("LLMUX__STRICT_ENV", "true")]),
        ["providers[0].api_key (line 5): NONE is not set (strict_env is on)"]
    );
}

#[test]
fn a_provider_without_models_is_warned_of() {
    let loaded = settings("providers:\n  - {name: b, type: ollama}\n", &[]);
    assert_eq!(loaded.warnings, ["provider b has no models, so nothing reaches it"]);
}

#[test]
fn without_providers_in_the_file_each_vendor_whose_key_is_set_is_enabled() {
    for (variable, name) in [
        ("OPENAI_API_KEY", "openai"),
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("GOOGLE_API_KEY", "gemini"),
        ("GEMINI_API_KEY", "gemini"),
    ] {
        for file in ["", "server: {port: 1}\n", "providers:\n"] {
            let loaded =
                settings(file, &[(variable, "sk-1"), ("AZURE_OPENAI_ENDPOINT", "https://unused")]);
            let [only] = &loaded.providers[..] else {
                unreachable!("one provider, not {:?}", loaded.providers)
            };
            let vendor = llmux_providers::vendor(name).expect("known");
            assert_eq!((only.name.as_str(), only.vendor.name), (name, name));
            assert_eq!(only.api_key.as_ref().expect("set").expose(), "sk-1");
            let mut models: Vec<String> =
                vendor.models.iter().map(|model| (*model).to_owned()).collect();
            models.push(format!("{name}/*"));
            assert_eq!(
                only.models.iter().map(|model| model.name.clone()).collect::<Vec<_>>(),
                models
            );
            assert_eq!(loaded.warnings, Vec::<String>::new());
        }
    }
    assert!(settings("", &[("OPENAI_API_KEY", "")]).providers.is_empty());
    assert!(settings("providers: []\n", &[("OPENAI_API_KEY", "sk-1")]).providers.is_empty());
}

#[test]
fn azure_without_a_file_needs_its_endpoint() {
    let loaded = settings(
        "",
        &[("AZURE_OPENAI_API_KEY", "k"), ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com/")],
    );
    let azure = &loaded.providers[0];
    assert_eq!(
        (azure.name.as_str(), azure.base_url.as_str()),
        ("azure", "https://r.openai.azure.com")
    );
    assert_eq!(
        azure.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(),
        ["azure/*"]
    );
    let loaded = settings("", &[("AZURE_OPENAI_API_KEY", "k")]);
    assert!(loaded.providers.is_empty());
    assert_eq!(
        loaded.warnings,
        [
            "AZURE_OPENAI_API_KEY is set but AZURE_OPENAI_ENDPOINT is not: provider azure is disabled"
        ]
    );
    assert_eq!(
        problems("", &[("AZURE_OPENAI_API_KEY", "k"), ("AZURE_OPENAI_ENDPOINT", "nowhere")]),
        [
            "providers[0].base_url: must be an absolute URL that begins with http:// or https:// (set by AZURE_OPENAI_ENDPOINT)"
        ]
    );
}

#[test]
fn overrides_reach_providers_by_name_also_those_without_a_file() {
    let loaded = settings(
        "",
        &[
            ("OPENAI_API_KEY", "k"),
            ("LLMUX_PROVIDERS__OPENAI__BASE_URL", "http://127.0.0.1:1/v1"),
            ("LLMUX_PROVIDERS__OLLAMA__BASE_URL", "http://ollama:11434/v1"),
        ],
    );
    let urls: Vec<_> =
        loaded.providers.iter().map(|it| (it.name.as_str(), it.base_url.as_str())).collect();
    assert!(urls.contains(&("openai", "http://127.0.0.1:1/v1")), "{urls:?}");
    assert!(urls.contains(&("ollama", "http://ollama:11434/v1")), "{urls:?}");
    let file = provider("  - {name: Azure-East.2, type: ollama, models: [m]}\n");
    let loaded = settings(&file, &[("LLMUX_PROVIDERS__AZURE_EAST_2__WEIGHT", "9")]);
    assert_eq!(loaded.providers[1].models[0].weight, Some(9));
    let file = provider("  - {name: A, type: ollama, models: [m]}\n");
    assert_eq!(
        problems(&file, &[("LLMUX_PROVIDERS__A__WEIGHT", "9")]),
        ["LLMUX_PROVIDERS__A__*: fits the names of several providers"]
    );
}

#[test]
fn there_is_no_file_needed_for_providers() {
    let folder = Folder::new();
    let loaded = load(&folder.sources(&[("OPENAI_API_KEY", "k")])).expect("right");
    assert_eq!(loaded.providers[0].name, "openai");
}
