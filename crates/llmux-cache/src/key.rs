//! Keys: who asks, where, for which model, and all of the body that can change the answer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::json::{Json, Object, is, write_canonical_object};

/// Changes whenever the form of what is hashed does: old entries are no longer found then.
const FORM: &[u8] = b"llmux-cache key 1";

/// Who shares answers (`cache.scope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each key has its own.
    #[default]
    Key,
    /// The keys of a team.
    Team,
    /// The keys of an organization.
    Organization,
    /// Everybody.
    Global,
}

impl Scope {
    /// Reads the word used in configurations. `None`: there is no such scope.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Key, Self::Team, Self::Organization, Self::Global]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }

    /// Returns the word used in configurations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Team => "team",
            Self::Organization => "organization",
            Self::Global => "global",
        }
    }
}

/// Who asks. Ids are whatever stays the same for as long as answers are kept; they cannot be read from a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The key's id; `None`: callers without keys, who are all the same one.
    pub key: Option<&'a str>,
    /// Its team's id.
    pub team: Option<&'a str>,
    /// Its organization's id.
    pub organization: Option<&'a str>,
}

impl<'a> Asker<'a> {
    /// Whose the answer is. Who belongs to nothing of the scope shares with nobody else, rather than with everybody.
    fn owner(&self, scope: Scope) -> (&'static str, &'a str) {
        let shared = match scope {
            Scope::Global => return ("global", ""),
            Scope::Team => self.team.map(|id| ("team", id)),
            Scope::Organization => self.organization.map(|id| ("organization", id)),
            Scope::Key => None,
        };
        shared.or(self.key.map(|id| ("key", id))).unwrap_or(("nobody", ""))
    }
}

/// A request, as far as its answer depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who shares answers.
    pub scope: Scope,
    /// Who asks.
    pub asker: Asker<'a>,
    /// The endpoint or route, one spelling for all of its paths: `/v1/chat/completions`.
    pub route: &'a str,
    /// The model as the client named it; the body's own member is not looked at.
    pub model: &'a str,
    /// The tags that bound the choice of a deployment, in any order. Leave them out where no deployment of the model has
    /// tags, so that tags for accounting do not divide the cache.
    pub tags: &'a [&'a str],
    /// The body: a JSON object.
    pub body: &'a [u8],
}

/// Names one answer: a namespace and a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheKey {
    namespace: Arc<str>,
    hash: [u8; 32],
}

impl CacheKey {
    /// Derives the key of a question: SHA-256 over its parts and a canonical form of its body. Whitespace, the order of
    /// an object's members and the escaping of strings do not matter. All members of the body count, unknown ones and
    /// `user` too, but for those that only say how the answer is to come or be kept: `stream`, `stream_options`, `tags`,
    /// `cache`, and `metadata.tags` where it is an array.
    ///
    /// Numbers count as they are written: `1`, `1.0` and `1e0` are three keys. To find them equal would need a common
    /// form for numbers of any size (seeds beyond 2^53 differ in digits that floats lose), and vendors do not take all
    /// spellings alike. A miss too many costs one call; a hit too many is a wrong answer.
    ///
    /// `None`: the body is no JSON object, so that nothing can be kept under it.
    pub fn derive(namespace: &Arc<str>, question: &Question<'_>) -> Option<Self> {
        let Json::Object(body) = Json::parse(question.body)? else {
            return None;
        };
        let (kind, owner) = question.asker.owner(question.scope);
        let mut form = Vec::with_capacity(question.body.len() + 256);
        let mut tags = question.tags.to_vec();
        tags.sort_unstable();
        tags.dedup();
        for part in [FORM, namespace.as_bytes(), kind.as_bytes(), owner.as_bytes()]
            .into_iter()
            .chain([question.route.as_bytes(), question.model.as_bytes()])
            .chain([&(tags.len() as u64).to_be_bytes()[..]])
            .chain(tags.iter().map(|tag| tag.as_bytes()))
        {
            form.extend_from_slice(&(part.len() as u64).to_be_bytes());
            form.extend_from_slice(part);
        }
        let body: Object<'_> =
            body.into_iter().filter_map(|(name, value)| counting(name, value)).collect();
        write_canonical_object(body.iter().map(|(name, value)| (&**name, value)), &mut form);
        Some(Self { namespace: Arc::clone(namespace), hash: Sha256::digest(&form).into() })
    }

    /// Returns the namespace, which a flush names.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the namespace for somebody to keep.
    pub(crate) fn shared_namespace(&self) -> Arc<str> {
        Arc::clone(&self.namespace)
    }

    /// Returns the hash.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Returns the hash in lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = self.hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.hex())
    }
}

/// Returns a member of the body as far as it counts.
fn counting<'a>(name: Cow<'a, str>, mut value: Json<'a>) -> Option<(Cow<'a, str>, Json<'a>)> {
    if ["model", "stream", "stream_options", "tags", "cache"]
        .iter()
        .any(|left_out| is(&name, left_out))
    {
        return None;
    }
    if is(&name, "metadata")
        && let Json::Object(members) = &mut value
    {
        let before = members.len();
        members.retain(|(name, value)| !(is(name, "tags") && matches!(value, Json::Array(_))));
        // An object that held tags alone is as good as none.
        if members.is_empty() && before > 0 {
            return None;
        }
    }
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    const BODY: &str =
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":1}"#;

    fn key_of<'a>(change: impl FnOnce(&mut Question<'a>)) -> CacheKey {
        let asker = Asker { key: Some("k1"), team: Some("t1"), organization: Some("o1") };
        let mut question = Question {
            scope: Scope::Key,
            asker,
            route: "/v1/chat/completions",
            model: "m",
            tags: &[],
            body: BODY.as_bytes(),
        };
        change(&mut question);
        CacheKey::derive(&"llmux".into(), &question).expect("an object")
    }

    fn of_body(body: &str) -> CacheKey {
        key_of(|question| question.body = body.as_bytes())
    }

    fn same() -> CacheKey {
        key_of(|_| {})
    }

    #[test]
    fn spelling_makes_no_difference() {
        let other = " { \"temperature\" : 1 , \"messages\" : [ {\"content\":\"\\u0068i\",\"role\":\"user\"} ], \"model\":\"m\" }\n";
        assert_eq!(of_body(other), same());
    }

    #[test]
    fn how_the_answer_comes_makes_no_difference() {
        for member in [
            r#""stream":true"#,
            r#""stream_options":{"include_usage":true}"#,
            r#""tags":["a"]"#,
            r#""cache":{"ttl":5}"#,
            r#""metadata":{"tags":["a"]}"#,
        ] {
            assert_eq!(
                of_body(&BODY.replacen('{', &format!("{{{member},"), 1)),
                same(),
                "{member}"
            );
        }
        assert_eq!(
            of_body(&BODY.replace("\"m\"", "\"x\"")),
            same(),
            "the name that counts is an argument"
        );
    }

    #[test]
    fn all_else_makes_a_difference() {
        for member in [
            r#""metadata":{"tags":"a"}"#,
            r#""metadata":{"a":"b"}"#,
            r#""user":"u""#,
            r#""n":1"#,
            r#""never_heard_of":null"#,
            r#""top_p":1.0"#,
            r#""top_p":1"#,
        ] {
            assert_ne!(
                of_body(&BODY.replacen('{', &format!("{{{member},"), 1)),
                same(),
                "{member}"
            );
        }
        assert_ne!(of_body(&BODY.replace(":1}", ":1.0}")), same());
        assert_ne!(of_body(&BODY.replace("hi", "ho")), same());
        assert_ne!(key_of(|question| question.route = "/v1/completions"), same());
        assert_ne!(key_of(|question| question.model = "n"), same());
        assert_ne!(key_of(|question| question.tags = &["a"]), same());
        let other = CacheKey::derive(
            &"other".into(),
            &Question {
                scope: Scope::Key,
                asker: Asker { key: Some("k1"), ..Asker::default() },
                route: "/v1/chat/completions",
                model: "m",
                tags: &[],
                body: BODY.as_bytes(),
            },
        );
        assert_ne!(other.unwrap().hash(), same().hash());
    }

    #[test]
    fn tags_count_as_a_set() {
        fn tagged<'a>(tags: &'a [&'a str]) -> String {
            key_of(|question| question.tags = tags).hex()
        }
        assert_eq!(key_of(|question| question.tags = &["b", "a", "b"]).hex(), tagged(&["a", "b"]));
        assert_ne!(tagged(&["ab"]), tagged(&["a", "b"]));
    }

    fn asked_by(
        scope: Scope,
        key: &'static str,
        team: Option<&'static str>,
        organization: Option<&'static str>,
    ) -> CacheKey {
        key_of(|question| {
            question.scope = scope;
            question.asker = Asker { key: Some(key), team, organization };
        })
    }

    #[test]
    fn the_scope_decides_who_shares() {
        let (a, b) = (Some("a"), Some("b"));
        assert_ne!(asked_by(Scope::Key, "1", a, a), asked_by(Scope::Key, "2", a, a));
        assert_eq!(asked_by(Scope::Team, "1", a, a), asked_by(Scope::Team, "2", a, b));
        assert_ne!(asked_by(Scope::Team, "1", a, a), asked_by(Scope::Team, "1", b, a));
        assert_eq!(
            asked_by(Scope::Organization, "1", a, a),
            asked_by(Scope::Organization, "2", b, a)
        );
        assert_eq!(asked_by(Scope::Global, "1", a, a), asked_by(Scope::Global, "2", b, None));
    }

    #[test]
    fn who_has_no_team_shares_with_nobody() {
        assert_ne!(asked_by(Scope::Team, "1", None, None), asked_by(Scope::Team, "2", None, None));
        assert_eq!(asked_by(Scope::Team, "1", None, None), asked_by(Scope::Key, "1", None, None));
        assert_ne!(
            asked_by(Scope::Team, "1", Some("x"), None),
            asked_by(Scope::Team, "x", None, None)
        );
    }

    #[test]
    fn no_id_can_be_read_from_a_key() {
        let key = asked_by(Scope::Team, "sk-secret", Some("team-secret"), None);
        assert!(!format!("{key:?}").contains("secret"));
        assert_eq!(key.hex().len(), 64);
    }

    #[test]
    fn what_is_no_object_has_no_key() {
        for body in ["", "[]", "null", "{\"a\":", "{\"a\":1} x"] {
            let question = Question {
                scope: Scope::Global,
                asker: Asker::default(),
                route: "r",
                model: "m",
                tags: &[],
                body: body.as_bytes(),
            };
            assert_eq!(CacheKey::derive(&"n".into(), &question), None, "{body}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_body_has_one_key_and_other_bodies_have_others(a in value(), b in value()) {
            let body = |value: &Value| json!({"messages": value}).to_string();
            let pretty = serde_json::to_string_pretty(&json!({"messages": a})).unwrap();
            prop_assert_eq!(of_body(&pretty), of_body(&body(&a)));
            prop_assert_eq!(of_body(&body(&a)) == of_body(&body(&b)), a == b);
        }
    }
}
