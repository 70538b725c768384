//! What differs between the models, by the families of their names.

use super::bare;

/// How much a model thinks can be told it in one of two ways, and never in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thinking {
    /// It cannot be told.
    Fixed,
    /// `thinkingBudget`: tokens from `min` to `max`, or 0 if it can be switched `off`.
    Budget { min: u64, max: u64, off: bool },
    /// `thinkingLevel`: `low` and `high`, and those of the others that it has.
    Level { minimal: bool, medium: bool },
}

/// What a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    pub(super) thinking: Thinking,
    /// Takes JSON schemas as they are; others take a subset of OpenAPI's.
    pub(super) json_schema: bool,
    /// Refuses calls of the current turn that have lost their signature.
    pub(super) signed_calls: bool,
    /// Takes images and files inside of a call's result.
    pub(super) media_results: bool,
    /// Has the mode `VALIDATED` of calling functions.
    pub(super) validated_calls: bool,
    /// Takes penalties other than 0.
    pub(super) penalties: bool,
    /// Heeds temperature, top-p and top-k.
    pub(super) sampling: bool,
    /// Has an instruction of its own, apart from the conversation.
    pub(super) system: bool,
}

/// Sorts a model by its name. Names that are not known count as the newest generation's.
pub(super) fn traits(model: &str) -> Traits {
    let name = bare(model).to_ascii_lowercase();
    let version = version(&name);
    // Gemma: "Developer instruction is not enabled", and its schemas are the old ones.
    let gemma = name.starts_with("gemma-");
    let newest = version >= (3, 6) || name.starts_with("gemini-3.5-flash-lite");
    Traits {
        thinking: thinking(&name, version, gemma),
        json_schema: !gemma && version >= (2, 0),
        // https://ai.google.dev/gemini-api/docs/thought-signatures: from Gemini 3 on.
        signed_calls: !gemma && version >= (3, 0),
        // https://ai.google.dev/gemini-api/docs/function-calling#multimodal: from Gemini 3 on.
        media_results: !gemma && version >= (3, 0),
        validated_calls: !gemma && version >= (2, 5),
        // https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/gemini/3-5-flash-lite: custom penalties
        // are errors, custom temperature, top-p and top-k are passed over; later models took that over.
        penalties: gemma || !newest,
        sampling: gemma || !newest,
        system: !gemma || name.starts_with("gemma-4"),
    }
}

/// See <https://ai.google.dev/gemini-api/docs/thinking#set-budget> for budgets, and for levels
/// <https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/guides/gemini-3-5-flash> and
/// <https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/guides/gemini-3-8-flash>.
fn thinking(name: &str, version: (u32, u32), gemma: bool) -> Thinking {
    let family = |prefix: &str| name.starts_with(prefix);
    let special =
        ["-image", "-tts", "-live", "native-audio"].iter().any(|part| name.contains(part));
    match () {
        () if gemma || special || version < (2, 5) => Thinking::Fixed,
        () if family("gemini-2.5-pro") => Thinking::Budget { min: 128, max: 32_768, off: false },
        () if family("gemini-2.5-flash-lite") => {
            Thinking::Budget { min: 512, max: 24_576, off: true }
        }
        () if version < (3, 0) => Thinking::Budget { min: 1, max: 24_576, off: true },
        () if family("gemini-3-pro") => Thinking::Level { minimal: false, medium: false },
        () if family("gemini-3-flash")
            || family("gemini-3.5-flash")
            || family("gemini-3.6-flash")
            || (family("gemini-3.") && name.contains("-flash-lite")) =>
        {
            Thinking::Level { minimal: true, medium: true }
        }
        () => Thinking::Level { minimal: false, medium: true },
    }
}

/// Reads the generation out of `gemini-2.5-flash`; names without one are aliases of the newest.
fn version(name: &str) -> (u32, u32) {
    const NEWEST: (u32, u32) = (u32::MAX, 0);
    // https://ai.google.dev/gemini-api/docs/robotics-overview: made of Gemini 2.5 Flash.
    if name.starts_with("gemini-robotics-er-1.5") {
        return (2, 5);
    }
    if name.starts_with("learnlm") {
        return (2, 0);
    }
    let Some(rest) = name.strip_prefix("gemini-") else {
        return NEWEST;
    };
    let number = rest.split('-').next().unwrap_or_default();
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (major, minor),
        _ => NEWEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_by_family_and_new_ones_fall_on_the_newest() {
        let low_high = Thinking::Level { minimal: false, medium: false };
        let no_minimal = Thinking::Level { minimal: false, medium: true };
        let levels = Thinking::Level { minimal: true, medium: true };
        let flash = Thinking::Budget { min: 1, max: 24_576, off: true };
        for (model, thinking) in [
            ("gemini-1.5-flash", Thinking::Fixed),
            ("models/gemini-2.0-flash", Thinking::Fixed),
            ("gemini-2.5-pro", Thinking::Budget { min: 128, max: 32_768, off: false }),
            ("gemini-2.5-flash", flash),
            ("Gemini-2.5-Flash-Preview-09-2025", flash),
            ("gemini-2.5-flash-lite", Thinking::Budget { min: 512, max: 24_576, off: true }),
            ("gemini-2.5-flash-image", Thinking::Fixed),
            ("gemini-robotics-er-1.5-preview", flash),
            ("gemini-3-pro-preview", low_high),
            ("gemini-3-pro-image-preview", Thinking::Fixed),
            ("gemini-3.1-pro-preview", no_minimal),
            ("gemini-3-flash-preview", levels),
            ("gemini-3.1-flash-lite", levels),
            ("gemini-3.5-flash", levels),
            ("gemini-3.8-flash", no_minimal),
            ("gemini-flash-latest", no_minimal),
            ("gemini-4-ultra", no_minimal),
            ("gemma-3-27b-it", Thinking::Fixed),
        ] {
            assert_eq!(traits(model).thinking, thinking, "{model}");
        }
    }

    #[test]
    fn abilities_follow_the_generation() {
        for (model, schema, signed, validated, penalties) in [
            ("gemini-1.5-pro", false, false, false, true),
            ("gemini-2.0-flash", true, false, false, true),
            ("gemini-2.5-flash", true, false, true, true),
            ("gemini-3-flash-preview", true, true, true, true),
            ("gemini-3.5-flash", true, true, true, true),
            ("gemini-3.5-flash-lite", true, true, true, false),
            ("gemini-3.6-flash", true, true, true, false),
            ("gemini-flash-latest", true, true, true, false),
            ("gemma-3-27b-it", false, false, false, true),
        ] {
            let found = traits(model);
            assert_eq!(
                (found.json_schema, found.signed_calls, found.validated_calls, found.penalties),
                (schema, signed, validated, penalties),
                "{model}"
            );
        }
        assert!(!traits("gemma-3-27b-it").system);
    }
}
