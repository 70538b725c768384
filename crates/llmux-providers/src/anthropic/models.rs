//! What Claude's generations differ in.
//!
//! Sources: the models overview <https://platform.claude.com/docs/en/about-claude/models/overview>, the pages on effort,
//! adaptive thinking and structured outputs beside it, and recorded refusals ("`temperature` is deprecated for this
//! model" from Opus 4.7 on; "adaptive thinking is not supported on this model" before 4.6).

/// A generation, told by the small numbers of a model's name: `claude-sonnet-4-5-20250929` is 4.5, `claude-3-7-sonnet` is
/// 3.7. A name without any is taken for the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(u32, u32);

impl Generation {
    pub(super) fn of(model: &str) -> Self {
        let numbers = model
            .split(['-', '@', '.', ':', '/'])
            .filter_map(|part| part.parse::<u32>().ok())
            .filter(|number| *number < 100);
        let mut numbers = numbers.skip_while(|number| *number == 0);
        match numbers.next() {
            Some(major) => Self(major, numbers.next().unwrap_or(0)),
            None => Self(u32::MAX, 0),
        }
    }

    /// `temperature`, `top_p` and `top_k` are refused.
    pub(super) fn refuses_sampling(self) -> bool {
        self >= Self(4, 7)
    }

    /// `temperature` and `top_p` may not both be given.
    pub(super) fn takes_one_sampling(self) -> bool {
        self >= Self(4, 1)
    }

    /// The model thinks at all.
    pub(super) fn thinks(self) -> bool {
        self >= Self(3, 7)
    }

    /// `thinking: {"type": "adaptive"}` with `output_config.effort`, rather than a budget of tokens.
    pub(super) fn adapts(self) -> bool {
        self >= Self(4, 6)
    }

    /// `thinking: {"type": "enabled", "budget_tokens": ..}` is refused.
    pub(super) fn refuses_budgets(self) -> bool {
        self >= Self(4, 7)
    }

    /// Returns the nearest effort that the model takes.
    pub(super) fn effort(self, asked: &str) -> Option<&'static str> {
        Some(match asked {
            "low" => "low",
            "medium" => "medium",
            "high" => "high",
            "xhigh" if self >= Self(4, 7) => "xhigh",
            "xhigh" => "high",
            "max" => "max",
            _ => return None,
        })
    }

    /// `output_config.format`, rather than a forced tool.
    pub(super) fn formats(self) -> bool {
        self >= Self(4, 5)
    }

    /// Returns the most output tokens of the model, for when no table knows them.
    pub(super) fn max_output_tokens(self, model: &str) -> u64 {
        match self {
            Self(..=2, _) | Self(3, 0..=4) => 4096,
            Self(3, 5..=6) => 8192,
            Self(4, 0..=4) if model.contains("opus") => 32_000,
            _ => 64_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Generation;

    #[test]
    fn generations_are_told_by_the_name() {
        for (model, generation) in [
            ("claude-sonnet-4-5-20250929", Generation(4, 5)),
            ("claude-3-5-sonnet-20241022", Generation(3, 5)),
            ("claude-3-haiku-20240307", Generation(3, 0)),
            ("claude-sonnet-5", Generation(5, 0)),
            ("claude-opus-4-1@20250805", Generation(4, 1)),
            ("claude-sonnet-4-20250514", Generation(4, 0)),
            ("claude-next", Generation(u32::MAX, 0)),
        ] {
            assert_eq!(Generation::of(model), generation, "{model}");
        }
    }
}
