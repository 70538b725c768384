//! How often a program asks its allocator for memory, read from what callgrind writes.

use std::collections::HashMap;

/// Where programs ask: the C library's allocator, which SQLite and nginx use too, and mimalloc's, which LLMux uses.
const ENTRIES: &[&str] = &[
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "aligned_alloc",
    "memalign",
    "posix_memalign",
    "mi_malloc",
    "mi_zalloc",
    "mi_calloc",
    "mi_realloc",
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
];

/// Whether a function belongs to an allocator: what it asks of itself is no request of the program's.
fn is_allocator(function: &str) -> bool {
    ENTRIES.contains(&function)
        || function.starts_with("mi_")
        || function.starts_with("_mi_")
        || function.starts_with("_int_")
        || function.starts_with("__libc_")
        || function.starts_with("_mid_memalign")
}

/// Calls of the allocators' entry points by anything else than the allocators, those that change the size of what there
/// is included. `None` if the program calls none: then its functions have no names, or another allocator.
pub(super) fn allocations(text: &str) -> Option<f64> {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut caller, mut callee) = ("", "");
    let mut calls = 0_u64;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            caller = named(name, &mut names);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee = named(name, &mut names);
        } else if let Some(call) = line.strip_prefix("calls=")
            && ENTRIES.contains(&callee)
            && !is_allocator(caller)
        {
            let number = call.split_ascii_whitespace().next()?;
            calls += number.parse::<u64>().ok()?;
        }
    }
    (calls > 0).then_some(calls as f64)
}

/// The function that `(number) name` means. The name stands there only once.
fn named<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> &'a str {
    let Some((number, name)) = text.split_once(')') else { return text };
    let name = name.trim();
    if name.is_empty() {
        return names.get(number).copied().unwrap_or_default();
    }
    names.insert(number, name);
    name
}

#[cfg(test)]
mod tests {
    use super::allocations;

    /// What callgrind wrote, abridged, of a program that asks 1,100 times for memory, 1,100 times for zeroed memory, and
    /// 1,100 times for more.
    const MIMALLOC: &str = "\
events: Ir

ob=(2) /program
fl=(40) /src/lib.rs
fn=(1186) program::main
9 4400
cfi=(41) /src/alloc-aligned.c
cfn=(1182) mi_malloc_aligned
calls=1100 210
9 42000
cfn=(1300) mi_zalloc_aligned
calls=1000 230
9 42000
cfn=(1300)
calls=100 230
9 4200
cfn=(1200) <alloc::raw_vec::RawVec<u8>>::grow_one (part 1)
calls=1100 300
9 90000

fn=(1200)
9 900
cfn=(1332) mi_realloc_aligned
calls=1100 240
9 90000

fn=(1332)
5 100
cfn=(1308) _mi_theap_realloc_zero
calls=1100 250
5 80000

fn=(1308)
5 100
cfn=(1182)
calls=1100 210
5 80000

totals: 400000
";

    #[test]
    fn only_the_programs_own_requests_count() {
        assert_eq!(allocations(MIMALLOC), Some(3300.0));
    }

    #[test]
    fn the_c_library_counts_beside_it_and_what_it_asks_of_itself_does_not() {
        let text = "fn=(1) sqlite3MemMalloc\n1 2\ncfn=(2) malloc\ncalls=7 3\n1 2\nfn=(3) posix_memalign\n1 2\ncfn=(2)\n\
                    calls=5 3\n1 2\nfn=(4) main\n1 2\ncfn=(3)\ncalls=2 3\n1 2\ncfn=(5) malloc_usable_size\ncalls=9 3\n";
        assert_eq!(allocations(text), Some(9.0));
    }

    #[test]
    fn a_program_without_names_has_no_count_rather_than_none() {
        assert_eq!(allocations("fn=(1) 0x000000000001f2a0\n1 2\ncfn=(2) 0x10\ncalls=7 3\n"), None);
        assert_eq!(allocations(""), None);
    }
}
