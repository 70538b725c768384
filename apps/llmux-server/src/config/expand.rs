//! `${NAME}`, `${NAME:default}` and `$$` inside one parsed text.

use std::collections::BTreeMap;

/// What came of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    /// Whether a variable is named in it, so that the text may be somebody's secret.
    pub(super) from_variable: bool,
    /// Whether a default that the text itself gives was used.
    pub(super) used_default: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The variables that are not set and have no default.
    Unset(Vec<String>),
    Syntax(&'static str),
}

/// Expands `text`. A default is taken when the variable is not set or empty. A dollar before anything but `{` or `$`
/// stays.
///
/// # Errors
/// Fails when a variable without a default is not set, or a `${` is not closed or holds no name.
pub(super) fn expand(
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Expanded, Failure> {
    let mut expanded = Expanded {
        text: String::with_capacity(text.len()),
        from_variable: false,
        used_default: false,
    };
    let mut unset = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, after) = (&rest[..dollar], &rest[dollar + 1..]);
        expanded.text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.text.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let (inside, after) = inside
                .split_once('}')
                .ok_or(Failure::Syntax("`${` without `}`; a literal dollar is `$$`"))?;
            let (name, default) = match inside.split_once(':') {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            if !is_name(name) {
                return Err(Failure::Syntax(
                    "`${...}` must hold a variable's name; a literal dollar is `$$`",
                ));
            }
            expanded.from_variable = true;
            match (environment.get(name), default) {
                (Some(value), Some(_)) if !value.is_empty() => expanded.text.push_str(value),
                (_, Some(default)) => {
                    expanded.used_default = true;
                    expanded.text.push_str(default);
                }
                (Some(value), None) => expanded.text.push_str(value),
                (None, None) => unset.push(name.to_owned()),
            }
            rest = after;
        } else {
            expanded.text.push('$');
            rest = after;
        }
    }
    expanded.text.push_str(rest);
    if unset.is_empty() { Ok(expanded) } else { Err(Failure::Unset(unset)) }
}

/// Tells whether `name` can be the name of a variable.
pub(super) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Failure, expand};

    fn environment() -> BTreeMap<String, String> {
        [("A", "x"), ("EMPTY", ""), ("ODD", "a: b # ${A} $$\n- c")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn variables_defaults_and_dollars_are_expanded() {
        for (text, wanted) in [
            ("${A}", "x"),
            ("1${A}2${A}3", "1x2x3"),
            ("${EMPTY}", ""),
            ("${NONE:}", ""),
            ("${NONE:y}", "y"),
            ("${EMPTY:y}", "y"),
            ("${A:y}", "x"),
            ("${NONE:http://host:80/v1}", "http://host:80/v1"),
            ("$A", "$A"),
            ("a$", "a$"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$$$${A}", "$${A}"),
            ("pa$$word$1", "pa$word$1"),
            ("${ODD}", "a: b # ${A} $$\n- c"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &environment()).expect(text).text, wanted, "{text}");
        }
    }

    #[test]
    fn a_used_default_is_told() {
        for (text, used) in [
            ("${NONE:}", true),
            ("${EMPTY:}", true),
            ("${A:}", false),
            ("${EMPTY}", false),
            ("", false),
        ] {
            assert_eq!(expand(text, &environment()).expect(text).used_default, used, "{text}");
        }
    }

    #[test]
    fn all_unset_variables_are_named() {
        let failure = expand("${X}${A}${Y}", &environment()).expect_err("unset");
        assert_eq!(failure, Failure::Unset(vec!["X".to_owned(), "Y".to_owned()]));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["${A", "${}", "${1A}", "${A B}", "${a-b}", "${:x}"] {
            assert!(matches!(expand(text, &environment()), Err(Failure::Syntax(_))), "{text}");
        }
    }
}
