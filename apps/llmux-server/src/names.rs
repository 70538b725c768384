//! Names of models: patterns, and providers before them.

/// Cuts `<provider>/` off a name.
pub(crate) fn own<'a>(provider: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(provider)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

pub(crate) fn is_pattern(name: &str) -> bool {
    name.contains('*')
}

/// Matches a name against a pattern in which `*` stands for any text, the empty one included.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let Some(tail) = parts.pop() else { return false };
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "a/b", true),
            ("openai/*", "openai/gpt", true),
            ("openai/*", "openai", false),
            ("gpt-*-mini", "gpt-4o-mini", true),
            ("gpt-*-mini", "gpt-mini", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
