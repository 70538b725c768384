use std::collections::BTreeMap;

use llmux_types::FailureClass;

/// Models to go on with, by the model that failed.
pub type FallbackLists = BTreeMap<String, Vec<String>>;

/// Which of the lists are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackKind {
    /// For whatever else went wrong.
    General,
    /// For requests that do not fit the model's context window.
    ContextWindow,
    /// For content that the vendor refuses.
    ContentPolicy,
}

impl FallbackKind {
    const ALL: [Self; 3] = [Self::General, Self::ContextWindow, Self::ContentPolicy];

    /// Returns the lists that a failure of `class` leads to; `None` if the request is at fault.
    pub const fn of(class: FailureClass) -> Option<Self> {
        match class {
            FailureClass::ContextWindow => Some(Self::ContextWindow),
            FailureClass::ContentPolicy => Some(Self::ContentPolicy),
            FailureClass::Request => None,
            _ => Some(Self::General),
        }
    }

    /// Returns the name of the lists in LLMux's configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::General => "fallbacks",
            Self::ContextWindow => "context_window_fallbacks",
            Self::ContentPolicy => "content_policy_fallbacks",
        }
    }
}

/// Following the lists from one model leads back to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} lead in a circle: {}", .kind.as_str(), .circle.join(" -> "))]
pub struct FallbackLoop {
    /// The lists at fault.
    pub kind: FallbackKind,
    /// The models of the circle; the last is the first again.
    pub circle: Vec<String>,
}

/// Which models a request may go on with when one cannot answer it.
#[derive(Clone, Debug, Default)]
pub struct Fallbacks {
    general: FallbackLists,
    context_window: FallbackLists,
    content_policy: FallbackLists,
}

impl Fallbacks {
    /// Checks the lists.
    ///
    /// # Errors
    /// All circles among them, one for each model whose list closes one.
    pub fn new(
        general: FallbackLists,
        context_window: FallbackLists,
        content_policy: FallbackLists,
    ) -> Result<Self, Vec<FallbackLoop>> {
        let fallbacks = Self { general, context_window, content_policy };
        let mut loops = Vec::new();
        for kind in FallbackKind::ALL {
            let lists = fallbacks.lists(kind);
            let mut done = Vec::new();
            for model in lists.keys() {
                find_loops(lists, kind, &mut vec![model], &mut done, &mut loops);
            }
        }
        if loops.is_empty() { Ok(fallbacks) } else { Err(loops) }
    }

    const fn lists(&self, kind: FallbackKind) -> &FallbackLists {
        match kind {
            FallbackKind::General => &self.general,
            FallbackKind::ContextWindow => &self.context_window,
            FallbackKind::ContentPolicy => &self.content_policy,
        }
    }

    /// Returns the next model for a request that was with `visited`, the model it asked for first. The lists of
    /// models are followed in that order: first the whole list of the first, then those of its fallbacks.
    ///
    /// # Examples
    /// ```
    /// use llmux_router::{FallbackKind, FallbackLists, Fallbacks};
    ///
    /// let long = FallbackLists::from([("small".to_owned(), vec!["large".to_owned()])]);
    /// let fallbacks = Fallbacks::new(FallbackLists::new(), long, FallbackLists::new())?;
    /// assert_eq!(fallbacks.next(FallbackKind::ContextWindow, &["small"]), Some("large"));
    /// assert_eq!(fallbacks.next(FallbackKind::ContextWindow, &["small", "large"]), None);
    /// assert_eq!(fallbacks.next(FallbackKind::General, &["small"]), None);
    /// # Ok::<(), Vec<llmux_router::FallbackLoop>>(())
    /// ```
    pub fn next(&self, kind: FallbackKind, visited: &[&str]) -> Option<&str> {
        let lists = self.lists(kind);
        let following = visited.iter().filter_map(|model| lists.get(*model)).flatten();
        following.map(String::as_str).find(|model| !visited.contains(model))
    }

    /// Returns the models that `model` leads to, in the order they are tried.
    pub fn chain<'a>(&'a self, kind: FallbackKind, model: &'a str) -> Vec<&'a str> {
        let mut visited = vec![model];
        while let Some(next) = self.next(kind, &visited) {
            visited.push(next);
        }
        visited.split_off(1)
    }
}

/// Walks the lists in depth from the last model of `path`.
fn find_loops<'a>(
    lists: &'a FallbackLists,
    kind: FallbackKind,
    path: &mut Vec<&'a str>,
    done: &mut Vec<&'a str>,
    loops: &mut Vec<FallbackLoop>,
) {
    let Some(&model) = path.last() else { return };
    if done.contains(&model) {
        return;
    }
    for next in lists.get(model).into_iter().flatten() {
        if let Some(start) = path.iter().position(|on_path| on_path == next) {
            let circle = path[start..].iter().copied().chain([next.as_str()]);
            loops.push(FallbackLoop { kind, circle: circle.map(str::to_owned).collect() });
        } else {
            path.push(next);
            find_loops(lists, kind, path, done, loops);
            path.pop();
        }
    }
    done.push(model);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(pairs: &[(&str, &[&str])]) -> FallbackLists {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        pairs.iter().map(|(model, names)| ((*model).to_owned(), owned(names))).collect()
    }

    fn general(pairs: &[(&str, &[&str])]) -> Result<Fallbacks, Vec<FallbackLoop>> {
        Fallbacks::new(lists(pairs), FallbackLists::new(), FallbackLists::new())
    }

    #[test]
    fn a_models_own_list_comes_before_those_of_its_fallbacks() {
        let fallbacks =
            general(&[("a", &["b", "c"]), ("b", &["d", "c"]), ("d", &["e"])]).expect("no circle");
        assert_eq!(fallbacks.chain(FallbackKind::General, "a"), ["b", "c", "d", "e"]);
        assert_eq!(fallbacks.chain(FallbackKind::General, "e"), [""; 0]);
        assert_eq!(fallbacks.next(FallbackKind::ContextWindow, &["a"]), None);
    }

    #[test]
    fn circles_are_refused_and_named() {
        type Pairs<'a> = &'a [(&'a str, &'a [&'a str])];
        let cases: [(Pairs<'_>, &str); 3] = [
            (&[("a", &["a"])], "a -> a"),
            (&[("a", &["b"]), ("b", &["a"])], "a -> b -> a"),
            (&[("a", &["b"]), ("b", &["c"]), ("c", &["d", "b"])], "b -> c -> b"),
        ];
        for (pairs, circle) in cases {
            let loops = general(pairs).expect_err("a circle");
            assert_eq!(loops.len(), 1, "{loops:?}");
            assert_eq!(loops[0].to_string(), format!("fallbacks lead in a circle: {circle}"));
        }
    }

    #[test]
    fn two_ways_to_one_model_are_no_circle() {
        let fallbacks = general(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"])]);
        assert!(fallbacks.is_ok());
    }

    #[test]
    fn each_kind_of_failure_has_its_lists() {
        let fallbacks = Fallbacks::new(
            lists(&[("a", &["b"])]),
            lists(&[("a", &["long"])]),
            lists(&[("a", &["lax"])]),
        )
        .expect("no circle");
        for (class, expected) in [
            (FailureClass::Server, Some("b")),
            (FailureClass::Credential, Some("b")),
            (FailureClass::ContextWindow, Some("long")),
            (FailureClass::ContentPolicy, Some("lax")),
            (FailureClass::Request, None),
        ] {
            let kind = FallbackKind::of(class);
            assert_eq!(kind.and_then(|kind| fallbacks.next(kind, &["a"])), expected, "{class:?}");
        }
    }
}
