//! Takes secrets out of what is logged: those that the configuration has, and what looks like one.

use std::borrow::Cow;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use llmux_types::Secret;
use memchr::memmem::{self, Finder};

use crate::config::{Database, Settings};

/// What stands in a secret's place.
const MASK: &[u8] = b"***";

/// A shorter text of the configuration is no credential, and stands in ordinary text by chance.
const SHORTEST_SECRET: usize = 8;

/// How the credentials of common vendors and services begin, ours among them, and whether a dash may follow later: names
/// have dashes, too.
const BEGINNINGS: [(&str, bool); 17] = [
    ("sk-", true),
    ("AIza", true),
    ("ya29.", true),
    ("nvapi-", true),
    ("glpat-", true),
    ("xox", true),
    ("gsk_", false),
    ("xai-", false),
    ("pplx-", false),
    ("hf_", false),
    ("r8_", false),
    ("AKIA", false),
    ("ASIA", false),
    ("ghp_", false),
    ("gho_", false),
    ("ghs_", false),
    ("github_pat_", false),
];

/// The fewest characters behind such a beginning, one of which is a digit.
const SHORTEST_TOKEN: usize = 16;

/// So many bytes of secrets are few.
const FEW_LETTERS: usize = 1024;

/// How JSON web tokens begin.
const WEB_TOKEN: &str = "eyJ";

/// The fewest characters of each of the three parts of a JSON web token.
const SHORTEST_PART: usize = 8;

/// What a credential follows, behind a colon or an equals sign. In lower case.
const NAMES: [&str; 5] = ["authorization", "api-key", "api_key", "apikey", "password"];

/// What comes before a credential in an `Authorization` header. In lower case.
const SCHEMES: [&str; 2] = ["bearer ", "basic "];

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Redactor {
    /// The secrets of the configuration, as they are and as JSON writes them.
    known: Vec<Finder<'static>>,
    /// Finds all of those and whatever else a credential can be told by, in one pass: most lines have none of it.
    /// `None` if it cannot be made.
    any: Option<AhoCorasick>,
}

impl Redactor {
    pub(crate) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut texts = Vec::new();
        for secret in secrets {
            let text = secret.expose();
            if text.len() < SHORTEST_SECRET {
                continue;
            }
            let json = serde_json::to_string(text).unwrap_or_default();
            let json = json.trim_matches('"').to_owned();
            if json != text {
                texts.push(json);
            }
            texts.push(text.to_owned());
        }
        texts.sort_unstable();
        texts.dedup();
        let beginnings = BEGINNINGS.iter().map(|(beginning, _)| *beginning);
        let signs = beginnings.chain([WEB_TOKEN]).chain(NAMES).chain(SCHEMES);
        // The fastest kind takes kilobytes for each letter: it is for few secrets.
        let is_small = texts.iter().map(String::len).sum::<usize>() <= FEW_LETTERS;
        let kind = if is_small { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let any = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(kind))
            .build(texts.iter().map(String::as_str).chain(signs))
            .ok();
        let known = texts.iter().map(|text| Finder::new(text).into_owned()).collect();
        Self { known, any }
    }

    /// Returns the text without secrets. What is JSON stays JSON.
    pub(crate) fn redact<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        if self.any.as_ref().is_some_and(|any| !any.is_match(text)) {
            return Cow::Borrowed(text);
        }
        let mut found: Vec<Range<usize>> = Vec::new();
        for secret in &self.known {
            let length = secret.needle().len();
            found.extend(secret.find_iter(text).map(|at| at..at + length));
        }
        for (beginning, dashes) in BEGINNINGS {
            find_tokens(text, beginning.as_bytes(), dashes, &mut found);
        }
        find_web_tokens(text, &mut found);
        find_named(text, &mut found);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_unstable_by_key(|range| range.start);
        let mut out = Vec::with_capacity(text.len());
        let mut end = 0;
        for range in found {
            if range.start >= end {
                out.extend_from_slice(&text[end..range.start]);
                out.extend_from_slice(MASK);
            }
            end = end.max(range.end);
        }
        out.extend_from_slice(&text[end..]);
        Cow::Owned(out)
    }
}

/// Returns the secrets that a configuration has.
pub(crate) fn secrets_of(settings: &Settings) -> Vec<Secret> {
    let mut secrets: Vec<Secret> = settings.auth.master_key.iter().cloned().collect();
    let mut urls = Vec::new();
    if let Database::Postgres(config) = &settings.database {
        urls.push(config.url.clone());
    }
    if let Some(redis) = &settings.redis {
        urls.push(redis.addr.clone());
        secrets.extend(redis.password.clone());
    }
    // Errors name parts of them.
    secrets.extend(urls.iter().filter_map(|url| password_in(url.expose())).map(Secret::new));
    secrets.extend(urls.into_iter().filter(|url| url.expose().contains('@')));
    for provider in &settings.providers {
        secrets.extend(provider.api_key.clone());
    }
    let of_providers = settings.providers.iter().flat_map(|provider| &provider.headers);
    let headers = of_providers.chain(&settings.tracing.collector.headers);
    let credentials = headers.filter(|(name, _)| is_credential(name.as_str()));
    secrets.extend(credentials.filter_map(|(_, value)| value.to_str().ok()).map(Secret::new));
    secrets
}

/// Tells whether a header of this name has a credential: others, such as versions, stand in lines by right.
fn is_credential(name: &str) -> bool {
    let words = ["auth", "key", "token", "secret", "password", "cookie", "credential"];
    words.iter().any(|word| name.contains(word))
}

/// Returns the password in a URL as it is written there.
fn password_in(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user, _) = rest.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn word_length(text: &[u8]) -> usize {
    text.iter().take_while(|&&byte| is_word(byte)).count()
}

/// Tells whether a word begins at `at`. In JSON a letter behind a backslash may be none of a word.
fn begins_word(text: &[u8], at: usize) -> bool {
    match text[..at] {
        [.., b'\\', b'n' | b't' | b'r'] => true,
        [.., before] => !is_word(before),
        [] => true,
    }
}

fn find_tokens(text: &[u8], beginning: &[u8], dashes: bool, found: &mut Vec<Range<usize>>) {
    // Words do not overlap, so that each letter is looked at once.
    for at in memmem::find_iter(text, beginning).filter(|&at| begins_word(text, at)) {
        let start = at + beginning.len();
        let token = &text[start..start + word_length(&text[start..])];
        let is_random = token.iter().any(u8::is_ascii_digit) && (dashes || !token.contains(&b'-'));
        if token.len() >= SHORTEST_TOKEN && is_random {
            found.push(at..start + token.len());
        }
    }
}

/// Finds JSON web tokens: three words with points between.
fn find_web_tokens(text: &[u8], found: &mut Vec<Range<usize>>) {
    let mut end = 0;
    for start in memmem::find_iter(text, WEB_TOKEN) {
        // What begins inside of what was looked at has fewer parts than that.
        if start < end {
            continue;
        }
        let mut parts = 0;
        end = start;
        loop {
            let length = word_length(&text[end..]);
            end += length;
            parts += 1;
            if length < SHORTEST_PART {
                break;
            }
            if parts == 3 {
                found.push(start..end);
                break;
            }
            if text.get(end) != Some(&b'.') {
                break;
            }
            end += 1;
        }
    }
}

/// Finds what is called a credential, and what follows the name of a scheme.
fn find_named(text: &[u8], found: &mut Vec<Range<usize>>) {
    let lower = text.to_ascii_lowercase();
    for name in NAMES {
        let mut end = 0;
        for at in memmem::find_iter(&lower, name) {
            if at < end {
                continue;
            }
            let mut start = at + name.len();
            // Between a name and its value stand a colon or an equals sign, spaces, and quotes, which may be escaped.
            let between =
                lower[start..].iter().take_while(|byte| b" :=\"'\\".contains(byte)).count();
            let separators = &lower[start..start + between];
            start += between;
            let quotes = memchr::memchr_iter(b'"', separators).count();
            // A number or the like has no quotes of its own: without it the line would be no JSON.
            let is_bare = quotes == 1 && separators.first() == Some(&b'"');
            if is_bare || !separators.iter().any(|byte| b":=".contains(byte)) {
                continue;
            }
            let scheme =
                SCHEMES.iter().find(|scheme| lower[start..].starts_with(scheme.as_bytes()));
            start += scheme.map_or(0, |scheme| scheme.len());
            end = push_value(text, start, 1, found);
        }
    }
    for scheme in SCHEMES {
        let mut end = 0;
        for at in memmem::find_iter(&lower, scheme) {
            if at >= end && begins_word(&lower, at) {
                end = push_value(text, at + scheme.len(), SHORTEST_TOKEN, found);
            }
        }
    }
}

/// Adds the value that begins at `start`, if it is long enough to be one. Returns its end.
fn push_value(text: &[u8], start: usize, shortest: usize, found: &mut Vec<Range<usize>>) -> usize {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
    let length = text[start..].iter().take_while(is_part).count();
    if length >= shortest {
        found.push(start..start + length);
    }
    start + length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found_in_urls() {
        assert_eq!(password_in("postgres://user:pass%40word@host/db"), Some("pass%40word"));
        assert_eq!(password_in("rediss://:secret@host:1/0"), Some("secret"));
        assert_eq!(password_in("postgres://user@host/db"), None);
        assert_eq!(password_in("host:6379"), None);
        assert!(is_credential("x-goog-api-key") && !is_credential("anthropic-version"));
    }

    #[test]
    fn what_looks_like_many_beginnings_is_read_once() {
        // Quadratic work would not end.
        for piece in ["xox", "eyJ", "password=", "sk-", "bearer ", "eyJabcdefgh.", "api_key:\\\""] {
            let text = piece.repeat(2_000_000 / piece.len());
            assert!(redacted(&text).len() <= text.len());
        }
        let token = "eyJabcdefgh.eyJabcdefgh.eyJabcdefgh";
        assert_eq!(redacted(&format!("eyJa.{token}.x eyJ.{token}")), "eyJa.***.x eyJ.***");
    }

    fn redacted(text: &str) -> String {
        let redactor =
            Redactor::new(["our own pass\"word", "gateway-secret", "short"].map(Secret::new));
        String::from_utf8(redactor.redact(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn secrets_of_the_configuration_are_taken_out() {
        assert_eq!(redacted("a gateway-secret, b"), "a ***, b");
        assert_eq!(redacted("xgateway-secretgateway-secret"), "x******");
        assert_eq!(redacted(r#"{"a":"our own pass\"word"}"#), r#"{"a":"***"}"#);
        assert_eq!(redacted("our own pass\"word"), "***");
        assert_eq!(redacted("a short text"), "a short text", "it is too short for a secret");
    }

    #[test]
    fn what_looks_like_a_credential_is_taken_out() {
        for (beginning, dashes) in BEGINNINGS {
            let word = if dashes { "Abcdef0123456789_-x" } else { "Abcdef0123456789_x" };
            for (before, behind) in
                [("", ""), ("key: ", " end"), ("\"", "\""), ("\\n", "\\n"), ("=", ".")]
            {
                let text = format!("{before}{beginning}{word}{behind}");
                assert_eq!(redacted(&text), format!("{before}***{behind}"), "{text}");
            }
        }
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N";
        assert_eq!(redacted(&format!("({token})")), "(***)");
        for (text, clean) in [
            ("Authorization: Bearer abc", "Authorization: Bearer ***"),
            ("authorization=Basic YTpi", "authorization=Basic ***"),
            (r#"{"Authorization":"Bearer a.b-c"}"#, r#"{"Authorization":"Bearer ***"}"#),
            (
                r#"{"x":"{\"authorization\": \"token-1\"}"}"#,
                r#"{"x":"{\"authorization\": \"***\"}"}"#,
            ),
            (r#"{"api_key":"abc","n":1}"#, r#"{"api_key":"***","n":1}"#),
            ("x-api-key: abc, more", "x-api-key: ***, more"),
            ("it was Bearer abcdefghijklmnop1 then", "it was Bearer *** then"),
            ("postgres password='hunter2'", "postgres password='***'"),
        ] {
            assert_eq!(redacted(text), clean, "{text}");
        }
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "",
            "a task-force-of-many-people-at-work and a risk-free-rate-of-interest",
            "sk-short, sk-...abcd, sk- and sk-, sk-that-is-not-random-at-all",
            "xai-chat-multi-tool-ef8034 and pplx-7b-online-with-a-long-name",
            "the bearer of the ring needs basic knowledge and authorization codes",
            "eyJhbGciOiJIUzI1NiJ9 alone, eyJ.a.b",
            r#"{"api_key":12345,"password":null,"tokens":3}"#,
            "what is an api_key? The password is what you know.",
            "ends with authorization: ",
            "日本語 🦀",
        ] {
            assert_eq!(redacted(text), text);
            assert!(matches!(Redactor::default().redact(text.as_bytes()), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn lines_of_json_stay_json() {
        for value in ["\"Bearer abcdefgh\"", "12", "null", "true", "[1]", "{\"a\":1}"] {
            for name in NAMES {
                let text = format!("{{\"{name}\":{value},\"b\":\"{name}: \\\"x\\\\y\\\"\"}}");
                let clean = redacted(&text);
                assert!(serde_json::from_str::<serde_json::Value>(&clean).is_ok(), "{clean}");
            }
        }
    }
}
