//! The routing section: strategies, retries and fallback lists.

use std::collections::BTreeMap;

use llmux_router::{Builtin, FallbackKind, FallbackLists, Fallbacks, RetryPolicy, TagMatch};

use super::check::{Check, text_of};
use super::file::{self, ModelEntry};
use super::{Provider, Routing, nearest};
use crate::names::{is_pattern, matches, own};

pub(super) fn check(check: &mut Check<'_>, providers: &[Provider]) -> Routing {
    let config = &check.config.routing;
    let default_provider = check_default_provider(check, providers);
    let model_strategy = check_model_strategy(check);
    let router = llmux_router::Config {
        strategy: builtin(&config.strategy),
        cooldown: config.cooldown_period.duration(),
        allowed_fails: config.allowed_fails,
        latency_buffer: config.latency_buffer,
        tag_match: match config.tag_match {
            file::TagMatch::Any => TagMatch::Any,
            file::TagMatch::All => TagMatch::All,
        },
    };
    let retry = RetryPolicy {
        count: config.retry_count,
        backoff: config.retry_backoff.duration(),
        max_backoff: config.retry_max_backoff.duration(),
        jitter: config.retry_jitter,
        fallback: config.fallback_enabled,
    };
    let fallbacks = check_fallbacks(check, providers, default_provider.as_deref());
    Routing { router, model_strategy, retry, fallbacks, default_provider }
}

fn builtin(strategy: &file::Strategy) -> Builtin {
    text_of(strategy).parse().expect("both lists have the same names; a test holds them together")
}

fn check_default_provider(check: &mut Check<'_>, providers: &[Provider]) -> Option<String> {
    let name = check.config.routing.default_provider.clone();
    if name.is_empty() {
        return None;
    }
    let known = check.config.providers.iter().map(|provider| provider.name.as_str());
    if !known.clone().any(|known| known == name) {
        let suggestion = nearest(&name, known);
        let message = format!("no provider has this name{suggestion}");
        check.problem("routing.default_provider", message);
    } else if !providers.iter().any(|provider| provider.name == name) {
        check
            .warnings
            .push(format!("routing.default_provider has no effect: provider {name} is disabled"));
        return None;
    }
    Some(name)
}

fn check_model_strategy(check: &mut Check<'_>) -> BTreeMap<String, Builtin> {
    let config = check.config;
    let known = Names::all(config);
    for name in config.routing.model_strategy.keys() {
        let has = known.configured.iter().any(|(_, model)| model == name);
        if !has && !config.providers.is_empty() {
            let suggestion = nearest(name, known.configured.iter().map(|(_, model)| *model));
            let message = format!("no provider has a model of this name{suggestion}");
            check.problem(super::walk::join("routing.model_strategy", name), message);
        }
    }
    let strategies = &config.routing.model_strategy;
    strategies.iter().map(|(name, strategy)| (name.clone(), builtin(strategy))).collect()
}

/// The names under which models can be asked for.
struct Names<'a> {
    /// Providers, and the models they are configured with, patterns among them.
    configured: Vec<(&'a str, &'a str)>,
    /// Whether any other name is taken too, or nothing is configured yet that a name could be compared with.
    any: bool,
}

impl<'a> Names<'a> {
    /// Those of all providers, disabled ones included.
    fn all(config: &'a file::FileConfig) -> Self {
        let configured = config.providers.iter().flat_map(|provider| {
            let name = |entry: &'a ModelEntry| match entry {
                ModelEntry::Name(name) => name.as_str(),
                ModelEntry::Model(model) => model.name.as_str(),
            };
            provider.models.iter().map(move |entry| (provider.name.as_str(), name(entry)))
        });
        let any = !config.routing.default_provider.is_empty() || config.providers.is_empty();
        Self { configured: configured.collect(), any }
    }

    fn enabled(providers: &'a [Provider], any: bool) -> Self {
        let configured = providers.iter().flat_map(|provider| {
            provider.models.iter().map(|model| (provider.name.as_str(), model.name.as_str()))
        });
        Self { configured: configured.collect(), any }
    }

    /// Tells whether a request for `name` finds a deployment; see `Catalog::resolve`.
    fn has(&self, name: &str) -> bool {
        let fits = |model: &str, name: &str| {
            if is_pattern(model) { matches(model, name) } else { model == name }
        };
        self.any
            || self.configured.iter().any(|&(provider, model)| {
                fits(model, name) || own(provider, name).is_some_and(|rest| fits(model, rest))
            })
    }
}

fn check_fallbacks(
    check: &mut Check<'_>,
    providers: &[Provider],
    default_provider: Option<&str>,
) -> Fallbacks {
    let config = check.config;
    let all = Names::all(config);
    let enabled = Names::enabled(providers, default_provider.is_some());
    let mut checked = |kind: FallbackKind, lists: &FallbackLists| -> FallbackLists {
        let path = format!("routing.{}", kind.as_str());
        let mut kept = FallbackLists::new();
        for (model, list) in lists {
            let path = super::walk::join(&path, model);
            let known = all.configured.iter().map(|(_, model)| *model);
            if !all.has(model) {
                let suggestion = nearest(model, known.clone());
                check.problem(&path, format!("no provider has a model of this name{suggestion}"));
            }
            for (index, name) in list.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if !all.has(name) {
                    let suggestion = nearest(name, known.clone());
                    let message = format!("no provider has the model `{name}`{suggestion}");
                    check.problem(path, message);
                } else if !enabled.has(name) {
                    let message = format!("{path}: {name} is left out: its provider is disabled");
                    check.warnings.push(message);
                } else {
                    kept.entry(model.clone()).or_default().push(name.clone());
                }
            }
        }
        kept
    };
    let routing = &config.routing;
    let general = checked(FallbackKind::General, &routing.fallbacks);
    let window = checked(FallbackKind::ContextWindow, &routing.context_window_fallbacks);
    let policy = checked(FallbackKind::ContentPolicy, &routing.content_policy_fallbacks);
    Fallbacks::new(general, window, policy).unwrap_or_else(|loops| {
        for found in loops {
            let start = found.circle.first().map_or("", String::as_str);
            let path = super::walk::join(&format!("routing.{}", found.kind.as_str()), start);
            check.problem(path, format!("leads in a circle: {}", found.circle.join(" -> ")));
        }
        Fallbacks::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strategies_of_the_file_are_those_of_the_router() {
        for name in Builtin::ALL.map(Builtin::as_str) {
            let strategy: file::Strategy = serde_json::from_value(name.into()).expect(name);
            assert_eq!(builtin(&strategy).as_str(), name);
        }
    }
}
