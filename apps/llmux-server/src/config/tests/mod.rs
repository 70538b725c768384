//! Whole configurations through `load`.

mod docs;
mod layers;
mod providers;
mod rules;
mod samples;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Settings, Sources, load};

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("llmux-config-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("writable");
        std::fs::write(path, text).expect("writable");
    }

    /// Sources that start in this folder, with these variables and nothing else.
    fn sources(&self, variables: &[(&str, &str)]) -> Sources {
        Sources {
            environment: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            working_dir: self.0.clone(),
            ..Sources::default()
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn try_load(file: &str, variables: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let folder = Folder::new();
    folder.write("config/config.yaml", file);
    load(&folder.sources(variables)).map_err(texts)
}

fn texts(problems: Vec<super::Problem>) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The settings of a file that has no problem.
fn settings(file: &str, variables: &[(&str, &str)]) -> Settings {
    let loaded = try_load(file, variables);
    assert!(loaded.is_ok(), "{file}: {loaded:?}");
    loaded.expect("just checked")
}

/// The problems of a file that has some.
fn problems(file: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let loaded = try_load(file, variables);
    assert!(loaded.is_err(), "no problem with {file}");
    loaded.expect_err("just checked")
}

/// A file with one provider that works, to which `more` is added at its level.
fn provider(more: &str) -> String {
    format!("providers:\n  - name: a\n    type: ollama\n    models: [m]\n{more}")
}
