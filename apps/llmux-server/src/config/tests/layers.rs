//! Which source wins, and how files and variables are read.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::super::{IncludeUsage, LogFormat, Sources, load};
use super::{Folder, problems, provider, settings, texts};

#[test]
fn without_any_source_the_defaults_of_the_contract_hold() {
    let folder = Folder::new();
    let settings = load(&folder.sources(&[])).expect("defaults are right");
    let server = &settings.server;
    assert_eq!(
        (server.host, server.port, server.admin_port),
        (IpAddr::V4(Ipv4Addr::LOCALHOST), 8080, 0)
    );
    assert_eq!(
        [server.read_timeout, server.write_timeout, server.idle_timeout, server.shutdown_grace]
            .map(|it| it.as_secs()),
        [30, 120, 75, 60]
    );
    assert_eq!(server.max_body_bytes, 32 << 20);
    assert!(server.workers > 0 && server.trusted_proxies.is_empty() && server.tls.is_none());
    assert!(!settings.auth.data_plane_needs_key && settings.auth.master_key.is_none());
    assert!(settings.providers.is_empty());
    let routing = &settings.routing;
    assert_eq!((routing.retry.fallback, routing.retry.count, routing.retry.jitter), (true, 3, 0.2));
    assert_eq!(
        [routing.retry.backoff, routing.retry.max_backoff],
        [Duration::from_millis(100), Duration::from_secs(5)]
    );
    assert_eq!(routing.default_provider, None);
    assert_eq!(
        (settings.stream.keep_alive, settings.stream.include_usage),
        (Duration::from_secs(15), IncludeUsage::Auto)
    );
    assert_eq!(
        (settings.logging.level.as_str(), settings.logging.format),
        ("info", LogFormat::Json)
    );
    assert_eq!(settings.data_dir, folder.0.join("data"));
    assert_eq!(settings.warnings, Vec::<String>::new());
}

#[test]
fn flags_win_over_overrides_over_the_file_over_low_variables_over_defaults() {
    let folder = Folder::new();
    let mut sources = folder.sources(&[]);
    let port = |sources: &Sources| load(sources).expect("right").server.port;
    let set = |sources: &mut Sources, name: &str, value: &str| {
        sources.environment.insert(name.to_owned(), value.to_owned());
    };
    assert_eq!(port(&sources), 8080);
    set(&mut sources, "PORT", "1001");
    assert_eq!(port(&sources), 1001);
    folder.write("config/config.yaml", "server: {port: 1002}\n");
    assert_eq!(port(&sources), 1002);
    set(&mut sources, "LLMUX_SERVER__PORT", "1003");
    assert_eq!(port(&sources), 1003);
    sources.port = Some(1004);
    assert_eq!(port(&sources), 1004);
    sources.host = Some("0.0.0.0".to_owned());
    assert_eq!(load(&sources).expect("right").server.host, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
}

#[test]
fn low_variables_reach_their_keys() {
    let loaded = settings(
        "",
        &[
            ("LOG_LEVEL", "DEBUG"),
            ("LLMUX_MASTER_KEY", "sk-m"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ],
    );
    assert_eq!(loaded.logging.level, "debug");
    assert_eq!(loaded.auth.master_key.expect("set").expose(), "sk-m");
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(
        problems("", &[("DB_HOST", "db"), ("REDIS_ADDR", "http://r"), ("PORT", "x")]),
        [
            "server.port: expected a whole number (set by PORT)",
            "auth.master_key: is needed with PostgreSQL, whose keys several gateways may share: set LLMUX_MASTER_KEY, \
             for example to the output of `openssl rand -hex 32`",
            "redis.addr: must be host:port or a redis:// or rediss:// URL (set by REDIS_ADDR)",
        ]
    );
    settings(
        "",
        &[
            ("DB_USER", "u"),
            ("DB_PASSWORD", "p"),
            ("REDIS_PASSWORD", "p"),
            ("DB_HOST", ""),
            ("PORT", ""),
        ],
    );
    settings(
        "database: {enabled: false}\nredis: {addr: \"\"}\n",
        &[("DB_HOST", "db"), ("REDIS_ADDR", "r:1")],
    );
}

#[test]
fn low_variables_that_the_file_overrides_are_not_looked_at() {
    let variables = [("PORT", "x"), ("LOG_LEVEL", "loud")];
    let loaded = settings("server: {port: 1}\nlogging: {level: warn}\n", &variables);
    assert_eq!((loaded.server.port, loaded.logging.level.as_str()), (1, "warn"));
    let null = settings("server: {port: }\nlogging:\n", &[("PORT", "2"), ("LOG_LEVEL", "error")]);
    assert_eq!((null.server.port, null.logging.level.as_str()), (2, "error"));
}

#[test]
fn overrides_reach_keys_of_each_kind() {
    let loaded = settings(
        &provider("server: {read_timeout: 1s, idle_timeout: 2s}\n"),
        &[
            ("LLMUX_SERVER__READ_TIMEOUT", "3s"),
            ("LLMUX_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1"),
            ("LLMUX_SERVER__MAX_BODY_BYTES", "1KiB"),
            ("LLMUX_ROUTING__FALLBACK_ENABLED", "FALSE"),
            ("LLMUX_ROUTING__RETRY_JITTER", "0.5"),
            ("LLMUX_AUTH__ENABLED", "true"),
            ("LLMUX_AUTH__MASTER_KEY", "0123$$${X}"),
            ("LLMUX_STREAM__INCLUDE_USAGE", "false"),
            ("LLMUX_LOGGING__FORMAT", "text"),
            ("LLMUX__DROP_PARAMS", "true"),
            ("LLMUX_PROVIDERS__A__MODELS", "[x, {name: y, upstream: z}]"),
            ("LLMUX_PROVIDERS__A__HEADERS", "{x-a: b}"),
            ("LLMUX_PROVIDERS__A__BASE_URL", "http://h/v1/"),
            ("LLMUX_MASTER_KEY", "low"),
            ("LLMUX_SERVICE_PORT", "ignored"),
            ("LLMUX_DATA_DIR", "/d"),
        ],
    );
    assert_eq!(
        [loaded.server.read_timeout, loaded.server.idle_timeout].map(|it| it.as_secs()),
        [3, 2]
    );
    assert_eq!(loaded.server.trusted_proxies.len(), 2);
    assert_eq!(loaded.server.max_body_bytes, 1024);
    assert_eq!((loaded.routing.retry.fallback, loaded.routing.retry.jitter), (false, 0.5));
    assert_eq!(loaded.auth.master_key.expect("set").expose(), "0123$$${X}");
    assert_eq!(
        (loaded.stream.include_usage, loaded.logging.format),
        (IncludeUsage::Never, LogFormat::Text)
    );
    assert!(loaded.drop_params);
    assert_eq!(loaded.warnings, [""; 0]);
    let a = &loaded.providers[0];
    assert_eq!(a.base_url, "http://h/v1");
    assert_eq!(a.models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(a.headers[0].1, "b");
    assert_eq!(loaded.data_dir, PathBuf::from("/d"));
}

#[test]
fn overrides_that_reach_nothing_are_problems_that_name_the_variable() {
    let told = problems(
        &provider(""),
        &[
            ("LLMUX_SERVER__PROT", "1"),
            ("LLMUX__PRICE_FILE", "x"),
            ("LLMUX_SEVER__PORT", "1"),
            ("LLMUX_SERVER__PORT", "x"),
            ("LLMUX_SERVER__PORT__X", "x"),
            ("LLMUX_SERVER__", "x"),
            ("LLMUX_PROVIDERS__A", "x"),
            ("LLMUX_PROVIDERS__B__TYPE", "openai"),
            ("LLMUX_PROVIDERS__A__URL", "x"),
            ("LLMUX_AUTH__MASTER_KEY", ""),
        ],
    );
    for problem in [
        "server.prot: unknown key; did you mean `port`? (set by LLMUX_SERVER__PROT)",
        "price_file: unknown key; did you mean `pricing_file`? (set by LLMUX__PRICE_FILE)",
        "sever: unknown key; did you mean `server`? (set by LLMUX_SEVER__PORT)",
        "LLMUX_SERVER__: is not LLMUX_<SECTION>__<KEY>",
        "LLMUX_PROVIDERS__A: names a provider, but none of its keys: LLMUX_PROVIDERS__<NAME>__<KEY>",
        "LLMUX_PROVIDERS__B__*: no provider has this name",
        "providers[0].url: unknown key (set by LLMUX_PROVIDERS__A__URL)",
        "auth.master_key: the master key is empty; `${LLMUX_MASTER_KEY:}` allows that, or leave the key out (set by \
         LLMUX_AUTH__MASTER_KEY)",
    ] {
        assert!(told.iter().any(|text| text == problem), "{problem}\nnot in {told:#?}");
    }
}

#[test]
fn what_an_override_replaces_is_not_looked_at() {
    let file =
        provider("    api_key: ${NONE}\nserver: {port: \"${NONE}\"}\nauth: {master_key: \"\"}\n");
    let loaded = settings(
        &file,
        &[
            ("LLMUX_SERVER__PORT", "1"),
            ("LLMUX_AUTH__MASTER_KEY", "k"),
            ("LLMUX_PROVIDERS__A__API_KEY", "p"),
        ],
    );
    assert_eq!(loaded.server.port, 1);
    assert_eq!(loaded.providers[0].api_key.as_ref().expect("set").expose(), "p");
}

#[test]
fn texts_stay_texts_and_numbers_may_come_from_texts() {
    let file = provider(
        "    api_key: ${KEY}
    weight: ${WEIGHT}
server: {port: \"${PORT_TEXT}\"}
routing: {fallback_enabled: \"${NO}\", retry_jitter: \"${HALF}\"}
",
    );
    for key in [
        "0123", "true", "null", "~", "1e3", "a: b # c", "[x]", "{", "a\"b'c", "$x", "${KEY}", "*a",
        "&a", "!x",
    ] {
        let variables =
            [("KEY", key), ("WEIGHT", "7"), ("PORT_TEXT", "99"), ("NO", "false"), ("HALF", "0.5")];
        let loaded = settings(&file, &variables);
        assert_eq!(loaded.providers[0].api_key.as_ref().expect(key).expose(), key);
        assert_eq!((loaded.providers[0].models[0].weight, loaded.server.port), (Some(7), 99));
        assert_eq!((loaded.routing.retry.fallback, loaded.routing.retry.jitter), (false, 0.5));
    }
}

#[test]
fn unquoted_scalars_of_the_file_stay_texts_where_a_text_is_wanted() {
    for (written, read) in
        [("0123", "0123"), ("true", "true"), ("1.50", "1.50"), ("'null'", "null"), ("a$$b", "a$b")]
    {
        let loaded = settings(&provider(&format!("    api_key: {written}\n")), &[]);
        assert_eq!(loaded.providers[0].api_key.as_ref().expect(written).expose(), read);
    }
}

#[test]
fn an_env_file_adds_to_the_environment_and_the_real_one_wins() {
    let folder = Folder::new();
    folder.write(".env", "PORT=1001\nLLMUX_LOGGING__LEVEL=warn\nexport KEY='from file'\n");
    folder.write("other.env", "PORT=1002\n");
    folder.write("config/config.yaml", &provider("    api_key: ${KEY}\n"));
    let mut sources = folder.sources(&[("LLMUX_LOGGING__LEVEL", "error")]);
    let loaded = load(&sources).expect("right");
    assert_eq!((loaded.server.port, loaded.logging.level.as_str()), (1001, "error"));
    assert_eq!(loaded.providers[0].api_key.as_ref().expect("set").expose(), "from file");
    sources.env_file = Some("other.env".into());
    assert_eq!(load(&sources).expect("right").server.port, 1002);
    sources.env_file = Some("none.env".into());
    let told = texts(load(&sources).expect_err("no such file"));
    assert!(told[0].contains("none.env: cannot be read"), "{told:?}");
    folder.write(".env", "A=1\nsk-secret\n");
    let told = texts(load(&folder.sources(&[])).expect_err("a bad line"));
    assert!(told[0].ends_with(".env (line 2): expected KEY=value"), "{told:?}");
}

#[test]
fn the_file_is_the_named_one_else_that_of_the_variable_else_the_usual_one() {
    let folder = Folder::new();
    folder.write("config/config.yaml", "server: {port: 1}\n");
    folder.write("a.json", "{\n\t\"server\": {\"port\": 2}\n}\n");
    folder.write("b.toml", "[server]\nport = 3\n");
    folder.write(".env", "LLMUX_CONFIG=a.json\n");
    let mut sources = folder.sources(&[]);
    assert_eq!(load(&sources).expect("right").server.port, 2);
    sources.environment.insert("LLMUX_CONFIG".to_owned(), String::new());
    assert_eq!(load(&sources).expect("right").server.port, 1);
    sources.file = Some("b.toml".into());
    assert_eq!(load(&sources).expect("right").server.port, 3);
    sources.file = Some("none.yaml".into());
    let told = texts(load(&sources).expect_err("no such file"));
    assert!(told[0].starts_with("none.yaml: cannot be read"), "{told:?}");
}

#[test]
fn files_of_each_format_say_the_same() {
    let folder = Folder::new();
    folder.write(
        "c.toml",
        "strict_env = true\n[server]\nport = 7\nread_timeout = \"1s\"\n[[providers]]\nname = \"a\"\ntype = \"ollama\"\n\
         weight = 2\nmodels = [\"m\", { name = \"n\", upstream = \"o\" }]\n[routing]\nretry_jitter = 0.5\n",
    );
    folder.write(
        "c.json",
        r#"{"strict_env": true, "server": {"port": 7, "read_timeout": "1s"}, "providers": [{"name": "a", "type": "ollama",
        "weight": 2, "models": ["m", {"name": "n", "upstream": "o"}]}], "routing": {"retry_jitter": 0.5}}"#,
    );
    folder.write(
        "c.yaml",
        "strict_env: true\nserver: {port: 7, read_timeout: 1s}\nproviders:\n- name: a\n  type: ollama\n  weight: 2\n  \
         models: [m, {name: n, upstream: o}]\nrouting: {retry_jitter: 0.5}\n",
    );
    let read = |name: &str| {
        let sources = Sources { file: Some(name.into()), ..folder.sources(&[]) };
        let mut settings = load(&sources).expect(name);
        let source = std::mem::take(&mut settings.source);
        assert_eq!(source.path.as_deref(), Some(name));
        format!("{settings:?}")
    };
    assert_eq!(read("c.toml"), read("c.yaml"));
    assert_eq!(read("c.json"), read("c.yaml"));
}

#[test]
fn problems_in_json_and_toml_have_lines() {
    let folder = Folder::new();
    folder.write("c.json", "{\n  \"server\": {\n    \"port\": \"x\"\n  }\n}\n");
    folder.write("c.toml", "[server]\n\nport = \"x\"\n");
    for name in ["c.json", "c.toml"] {
        let sources = Sources { file: Some(name.into()), ..folder.sources(&[]) };
        let told = texts(load(&sources).expect_err(name));
        assert_eq!(told, ["server.port (line 3): expected a whole number, not `x`"], "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_parsed_is_one_problem_with_its_name_and_line() {
    for (file, start) in [
        ("server: {port: 1\nx: y\n", "config/config.yaml (line 2): not valid YAML"),
        ("- a\n", "config/config.yaml: expected sections and keys at the top"),
        ("text\n", "config/config.yaml: expected sections and keys at the top"),
        ("a: 1\na: 2\n", "config/config.yaml (line 2): the key `a` is written twice"),
    ] {
        let told = problems(file, &[]);
        assert!(told.len() == 1 && told[0].starts_with(start), "{told:?}");
    }
}

#[test]
fn whether_the_data_plane_needs_a_key_follows_from_what_is_exposed() {
    for (file, variables, needed) in [
        ("", &[][..], false),
        ("auth: {master_key: k}\n", &[], true),
        ("", &[("LLMUX_MASTER_KEY", "k")], true),
        ("auth: {master_key: \"${NONE:}\"}\n", &[], false),
        ("server: {host: localhost}\n", &[], false),
        ("server: {host: 127.1.2.3}\n", &[], false),
        ("server: {host: \"::1\"}\n", &[], false),
        ("server: {host: 0.0.0.0}\n", &[], true),
        ("server: {host: \"::\"}\n", &[], true),
        ("server: {host: 10.0.0.1}\n", &[], true),
        ("auth: {enabled: true}\n", &[], true),
        ("auth: {enabled: false, master_key: k}\n", &[], false),
        ("auth: {enabled: false}\nserver: {host: 0.0.0.0}\n", &[], false),
    ] {
        assert_eq!(settings(file, variables).auth.data_plane_needs_key, needed, "{file}");
    }
    let open = settings("auth: {enabled: false}\nserver: {host: 0.0.0.0}\n", &[]);
    assert!(open.warnings[0].starts_with("auth.enabled is false"), "{:?}", open.warnings);
}
