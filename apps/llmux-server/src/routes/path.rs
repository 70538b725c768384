//! How clients spell routes.

use super::{Action, Role, Route};

/// A request's path, brought into one form. Data-plane paths also come without `/v1`, below `/openai` and below
/// `/openai/deployments/{model}`, as Azure's clients spell them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// The path without `/v1` and what stands before it, percent-decoded.
    pub(super) tail: String,
    /// Whether the path is as the client wrote it.
    plain: bool,
    pub(super) deployment: Option<String>,
}

impl Path {
    pub(super) fn of(path: &str) -> Self {
        let mut rest = path;
        let mut deployment = None;
        if let Some(below) = rest.strip_prefix("/openai").filter(|below| below.starts_with('/')) {
            rest = below;
            if let Some((model, tail)) =
                below.strip_prefix("/deployments/").and_then(|below| below.split_once('/'))
            {
                deployment = Some(decoded(model));
                rest = &below[below.len() - tail.len() - 1..];
            }
        }
        rest = rest.strip_prefix("/v1").filter(|below| below.starts_with('/')).unwrap_or(rest);
        let plain = rest.len() == path.len();
        Self { tail: decoded(rest), plain, deployment }
    }

    pub(super) fn is(&self, route: &Route) -> bool {
        // A model in the path belongs to a call that has one.
        if self.deployment.is_some() && !matches!(route.action, Action::Proxy(_)) {
            return false;
        }
        // All else is where it is, and nowhere else.
        if route.role != Role::Caller && !self.plain {
            return false;
        }
        self.matches(route.path)
    }

    /// Tells whether the client of this path speaks Anthropic's dialect.
    pub(super) fn is_anthropic(&self) -> bool {
        matches!(self.tail.as_str(), "/messages" | "/messages/count_tokens")
    }

    fn matches(&self, route: &str) -> bool {
        let wanted = route.strip_prefix("/v1").unwrap_or(route);
        match wanted.strip_suffix("{id}") {
            // Model names have slashes, encoded or not.
            Some(prefix) => self.tail.strip_prefix(prefix).is_some_and(|id| !id.is_empty()),
            None => self.tail == wanted,
        }
    }
}

/// Undoes percent-encoding (RFC 3986, 2.1); what is not an encoding stays.
pub(crate) fn decoded(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::ROUTES;
    use super::*;

    fn route(path: &str) -> Option<(&'static str, Option<String>)> {
        let path = Path::of(path);
        let found = ROUTES.iter().find(|route| path.is(route))?;
        Some((found.path, path.deployment))
    }

    #[test]
    fn all_spellings_of_a_path_find_their_route() {
        let chat = "/v1/chat/completions";
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/openai/v1/chat/completions",
            "/openai/chat/completions",
        ] {
            assert_eq!(route(path), Some((chat, None)), "{path}");
        }
        assert_eq!(
            route("/openai/deployments/my%2Fmodel/chat/completions"),
            Some((chat, Some("my/model".into())))
        );
        assert_eq!(route("/v1/models/a/b"), Some(("/v1/models/{id}", None)));
        assert_eq!(route("/models"), Some(("/v1/models", None)));
        assert_eq!(route("/health/live"), Some(("/health/live", None)));
    }

    #[test]
    fn other_paths_find_none() {
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v1/chat",
            "/v1/chat/completions/",
            "/v1/v1/models",
            "/v1/health",
            "/openai/deployments/m/models",
            "/V1/models",
            "/v1/models/",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn percent_encoding_is_undone_once() {
        for (text, expected) in
            [("a%2Fb", "a/b"), ("%252F", "%2F"), ("100%", "100%"), ("%zz", "%zz"), ("%C3%A9", "é")]
        {
            assert_eq!(decoded(text), expected);
        }
    }
}
