//! Which models a caller may use.

/// Stands for all models.
const ALL: [&str; 2] = ["*", "all-proxy-models"];
/// Stands for what the key's team may use.
const TEAM: &str = "all-team-models";
/// Stands for nothing of a user's own: only through a team.
const NONE: &str = "no-default-models";

/// The model lists of everyone whom a call is made for. `None` where there is nobody.
///
/// A call must be allowed by each list. In a list stand configured names, names as clients write them
/// (`openai/gpt-4o`), and patterns, where `*` is any text (`openai/*`). An empty list and `*` (or `all-proxy-models`)
/// allow all. In a key's list, `all-team-models` leaves the choice to the team, and allows nothing if there is none.
/// In a user's list, `no-default-models` refuses keys without a team.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AllowLists<'a> {
    /// The key's list.
    pub(crate) key: Option<&'a [String]>,
    /// The list of the key's team.
    pub(crate) team: Option<&'a [String]>,
    /// The list of the key's user.
    pub(crate) user: Option<&'a [String]>,
    /// The list of the key's organization.
    pub(crate) organization: Option<&'a [String]>,
    /// The list of the key's project.
    pub(crate) project: Option<&'a [String]>,
}

impl AllowLists<'_> {
    /// Tells whether a model may be used: the one that is configured as `configured` (a wildcard as it is written
    /// there) and was asked for as `requested`. A list allows it if it names either, so that the spelling decides
    /// nothing.
    pub(crate) fn allow(&self, configured: &str, requested: &str) -> bool {
        let teamless = self.team.is_none();
        let named = |entries: &[String]| {
            entries.iter().any(|entry| {
                ALL.contains(&entry.as_str())
                    || matches(entry, configured)
                    || matches(entry, requested)
            })
        };
        let plain = |list: Option<&[String]>| {
            list.is_none_or(|entries| entries.is_empty() || named(entries))
        };
        let key = self.key.is_none_or(|entries| {
            entries.is_empty()
                || named(entries)
                || (!teamless && entries.iter().any(|entry| entry == TEAM))
        });
        let user = self.user.is_none_or(|entries| {
            if entries.iter().any(|entry| entry == NONE) {
                !teamless && (entries.iter().all(|entry| entry == NONE) || named(entries))
            } else {
                entries.is_empty() || named(entries)
            }
        });
        key && user && plain(self.team) && plain(self.organization) && plain(self.project)
    }
}

/// Tells whether `name` is the entry, or fits its pattern.
fn matches(entry: &str, name: &str) -> bool {
    let mut parts = entry.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        // The earliest place leaves most for what follows.
        let Some(place) = rest.find(part) else { return false };
        rest = &rest[place + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|&entry| entry.to_owned()).collect()
    }

    fn key(entries: &[&str], configured: &str, requested: &str) -> bool {
        AllowLists { key: Some(&list(entries)), ..AllowLists::default() }
            .allow(configured, requested)
    }

    #[test]
    fn an_empty_list_and_a_star_allow_all() {
        assert!(AllowLists::default().allow("m", "m"));
        assert!(key(&[], "m", "m"));
        assert!(key(&["*"], "m", "vendor/m"));
        assert!(key(&["x", "all-proxy-models"], "m", "m"));
    }

    #[test]
    fn a_name_allows_itself_however_it_is_asked_for() {
        assert!(key(&["gpt-4o"], "gpt-4o", "gpt-4o"));
        assert!(key(&["gpt-4o"], "gpt-4o", "openai/gpt-4o"));
        assert!(key(&["openai/gpt-4o"], "gpt-4o", "openai/gpt-4o"));
        assert!(key(&["openai/gpt-4o"], "openai/*", "openai/gpt-4o"));
        assert!(!key(&["gpt-4o"], "gpt-4o-mini", "openai/gpt-4o-mini"));
        assert!(!key(&["gpt-4o-mini"], "gpt-4o", "gpt-4o"));
        assert!(!key(&["GPT-4o"], "gpt-4o", "gpt-4o"));
        assert!(!key(&[""], "m", "m"));
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(key(&["openai/*"], "gpt-4o", "openai/gpt-4o"));
        assert!(key(&["openai/o1-*"], "openai/*", "openai/o1-mini"));
        assert!(!key(&["openai/o1-*"], "openai/*", "openai/o3-mini"));
        assert!(!key(&["openai/*"], "m", "xopenai/m"));
        assert!(!key(&["openai/*"], "gpt-4o", "gpt-4o"));
        assert!(key(&["*-mini"], "gpt-4o-mini", "gpt-4o-mini"));
        assert!(!key(&["*-mini"], "gpt-4o-mini-x", "gpt-4o-mini-x"));
        assert!(key(&["a*b*c"], "a1b2b3c", "a1b2b3c"));
        assert!(!key(&["ab*ba"], "aba", "aba"));
        assert!(!key(&["a*b*c"], "acb", "acb"));
        assert!(key(&["**"], "m", "m"));
    }

    #[test]
    fn each_list_must_allow() {
        let (wide, narrow) = (list(&["a", "b"]), list(&["b", "c"]));
        let both = |name: &str| {
            AllowLists { key: Some(&wide), organization: Some(&narrow), ..AllowLists::default() }
                .allow(name, name)
        };
        assert_eq!(["a", "b", "c"].map(both), [false, true, false]);
        for lists in [
            AllowLists { team: Some(&narrow), ..AllowLists::default() },
            AllowLists { user: Some(&narrow), ..AllowLists::default() },
            AllowLists { project: Some(&narrow), ..AllowLists::default() },
        ] {
            assert!(lists.allow("c", "c"));
            assert!(!lists.allow("a", "a"));
        }
    }

    #[test]
    fn a_key_may_leave_the_choice_to_its_team() {
        let (key, team) = (list(&["all-team-models"]), list(&["m"]));
        let lists = AllowLists { key: Some(&key), team: Some(&team), ..AllowLists::default() };
        assert!(lists.allow("m", "m"));
        assert!(!lists.allow("n", "n"));
        assert!(AllowLists { team: Some(&[]), ..lists }.allow("n", "n"));
        assert!(!AllowLists { team: None, ..lists }.allow("m", "m"));
        let also = list(&["all-team-models", "n"]);
        assert!(AllowLists { key: Some(&also), team: None, ..lists }.allow("n", "n"));
    }

    #[test]
    fn a_user_without_default_models_needs_a_team() {
        let user = list(&["no-default-models"]);
        let lists = AllowLists { user: Some(&user), ..AllowLists::default() };
        assert!(!lists.allow("m", "m"));
        assert!(AllowLists { team: Some(&[]), ..lists }.allow("m", "m"));
        let with = list(&["no-default-models", "m"]);
        let lists = AllowLists { user: Some(&with), ..lists };
        assert!(!lists.allow("m", "m"));
        assert!(AllowLists { team: Some(&[]), ..lists }.allow("m", "m"));
        assert!(!AllowLists { team: Some(&[]), ..lists }.allow("n", "n"));
    }
}
