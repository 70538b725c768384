//! `docs/providers.md`: how many recordings of each vendor the tests replay and find right, feature by feature.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::fixtures::Fixture;

/// A column: its title, and the tags of recordings that count in it.
const COLUMNS: [(&str, &[&str]); 11] = [
    ("Text", &["text"]),
    ("Streams", &["stream"]),
    ("Tools", &["tools", "tool_calls", "tool_result", "legacy_functions"]),
    ("Parallel calls", &["parallel_tools"]),
    ("Images", &["image", "image_url"]),
    ("Files", &["file", "file_uri", "pdf"]),
    ("Structured output", &["json_schema", "json_mode"]),
    ("Reasoning", &["thinking", "reasoning_tokens>0"]),
    ("Cached tokens", &["cached_tokens>0"]),
    ("Errors", &["error"]),
    ("Embeddings", &["embedding_single", "embedding_batch", "embedding_tokens_input"]),
];

/// Tests that write run at the same time.
static FILE: Mutex<()> = Mutex::new(());

fn table<'a>(passed: impl Iterator<Item = &'a Fixture>) -> String {
    let mut vendors: BTreeMap<&str, [u32; COLUMNS.len() + 1]> = BTreeMap::new();
    for fixture in passed {
        let counts = vendors.entry(&fixture.provider).or_default();
        counts[0] += 1;
        for (count, (_, tags)) in counts[1..].iter_mut().zip(COLUMNS) {
            *count += u32::from(fixture.features.iter().any(|tag| tags.contains(&tag.as_str())));
        }
    }
    let titles = COLUMNS.map(|(title, _)| title).join(" | ");
    let mut table = format!("| Vendor | All | {titles} |\n|---|{}\n", "--:|".repeat(12));
    for (vendor, counts) in vendors {
        // An empty cell says "no recording" at a glance.
        let show = |count: u32| if count == 0 { String::new() } else { count.to_string() };
        table.push_str(&format!("| `{vendor}` | {} |\n", counts.map(show).join(" | ")));
    }
    table
}

/// Compares one table of `docs/providers.md` with the recordings that passed just now; with `LLMUX_BLESS` writes it.
pub(crate) fn check<'a>(name: &str, passed: impl Iterator<Item = &'a Fixture>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/providers.md");
    let lock = FILE.lock();
    let text = std::fs::read_to_string(path).expect("docs/providers.md is there");
    let (start, end) = (format!("<!-- {name}: start -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&start).expect("the start of the table");
    let (found, after) = rest.split_once(&end).expect("the end of the table");
    let table = table(passed);
    if found != table && std::env::var_os("LLMUX_BLESS").is_some() {
        std::fs::write(path, format!("{before}{start}{table}{end}{after}")).expect("writable");
        return;
    }
    // A failed comparison must not poison the others'.
    drop(lock);
    let hint = "`LLMUX_BLESS=1 cargo test -p llmux-server --test e2e -- recorded own_dialect` writes docs/providers.md anew";
    assert_eq!(found, table, "{hint}");
}
