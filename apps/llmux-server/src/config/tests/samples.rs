//! Files that are promised to work as they are.

use super::super::{Sources, load, schema};
use super::Folder;

const PROMISED_1: &str = include_str!("../../../tests/data/promised-config-1.yaml");
const PROMISED_2: &str = include_str!("../../../tests/data/promised-config-2.yaml");
const SHIPPED: &str = include_str!("../../../../../config/config.yaml");
const ENV_EXAMPLE: &str = include_str!("../../../../../.env.example");

fn load_text(file: &str, variables: &[(&str, &str)]) -> super::Settings {
    super::settings(file, variables)
}

fn names(settings: &super::Settings) -> Vec<String> {
    let models = settings.providers.iter().flat_map(|provider| {
        provider.models.iter().map(move |model| format!("{}: {}", provider.name, model.name))
    });
    models.collect()
}

#[test]
fn the_first_promised_sample_loads() {
    let loaded = load_text(PROMISED_1, &[("OPENAI_API_KEY", "a"), ("ANTHROPIC_API_KEY", "b")]);
    assert_eq!(
        names(&loaded),
        ["openai: gpt-4o", "openai: gpt-4o-mini", "anthropic: claude-3-5-sonnet-20241022"]
    );
    assert_eq!(
        loaded.warnings,
        [
            "cache.enabled is true and the data plane needs no key: calls without one share their answers, whatever \
          cache.scope is"
        ]
    );
}

#[test]
fn the_second_promised_sample_loads() {
    let loaded = load_text(PROMISED_2, &[("SILICONFLOW_API_KEY", "a")]);
    assert_eq!(names(&loaded), ["siliconflow: deepseek-ai/DeepSeek-V3"]);
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_promised_samples_load_without_their_variables() {
    let loaded = load_text(PROMISED_1, &[]);
    assert!(loaded.providers.is_empty());
    assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
    let loaded = load_text(PROMISED_2, &[]);
    assert!(loaded.providers.is_empty());
    assert_eq!(
        loaded.warnings,
        ["provider siliconflow is disabled: SILICONFLOW_API_KEY is not set"]
    );
}

#[test]
fn the_shipped_file_loads_in_an_empty_environment_and_changes_no_default() {
    let shipped = load_text(SHIPPED, &[]);
    let folder = Folder::new();
    let default = load(&folder.sources(&[])).expect("right");
    let part = |settings: &super::Settings| {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            settings.server,
            settings.auth,
            settings.routing,
            settings.stream,
            settings.logging,
            settings.metrics
        )
    };
    assert_eq!(part(&shipped), part(&default));
    assert!(shipped.providers.is_empty());
    let all_disabled = shipped.warnings.iter().all(|warning| warning.ends_with("not set"));
    assert!(all_disabled, "{:?}", shipped.warnings);
}

#[test]
fn the_shipped_file_enables_what_has_a_key() {
    let loaded = load_text(SHIPPED, &[("OPENAI_API_KEY", "k"), ("LLMUX_MASTER_KEY", "m")]);
    assert!(names(&loaded).contains(&"openai: gpt-4o".to_owned()));
    assert!(loaded.auth.data_plane_needs_key);
    let variables =
        [("AZURE_OPENAI_API_KEY", "k"), ("AZURE_OPENAI_ENDPOINT", "https://r.openai.azure.com")];
    assert_eq!(load_text(SHIPPED, &variables).providers[0].name, "azure");
    assert_eq!(load_text(SHIPPED, &[("GOOGLE_API_KEY", "k")]).providers[0].name, "gemini");
}

#[test]
fn the_shipped_file_names_every_key_of_the_schema() {
    let schema = schema();
    let mut missing = Vec::new();
    for (name, definition) in
        schema["$defs"].as_object().expect("sections").iter().chain([(&"top".to_owned(), &schema)])
    {
        for key in definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
            let written = SHIPPED.contains(&format!("{key}:"));
            if !written {
                missing.push(format!("{name}.{key}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_example_env_file_can_be_copied_and_used() {
    let folder = Folder::new();
    folder.write(".env", ENV_EXAMPLE);
    folder.write("config/config.yaml", SHIPPED);
    let loaded = load(&Sources { ..folder.sources(&[]) }).expect("right");
    assert!(loaded.auth.master_key.is_none());
}
