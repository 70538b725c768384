//! Sources of a grounded answer, as OpenAI's `annotations`.
//!
//! See <https://ai.google.dev/gemini-api/docs/google-search>.

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default)]
    grounding_chunks: Vec<Chunk>,
    #[serde(default)]
    grounding_supports: Vec<Support>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    web: Option<Page>,
    retrieved_context: Option<Page>,
}

#[derive(Deserialize)]
struct Page {
    uri: Option<String>,
    title: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Support {
    segment: Option<Segment>,
    #[serde(default)]
    grounding_chunk_indices: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Segment {
    #[serde(default)]
    start_index: usize,
    #[serde(default)]
    end_index: usize,
    #[serde(default)]
    text: String,
}

/// Lists each source with the stretch of `text` that it supports, or with all of it where the vendor does not say.
/// `metadata` of another shape has none.
pub(super) fn annotations(metadata: &str, text: &str) -> Vec<Value> {
    let Ok(grounding) = serde_json::from_str::<Grounding>(metadata) else {
        return Vec::new();
    };
    let pages: Vec<Option<(&str, &str)>> = grounding
        .grounding_chunks
        .iter()
        .map(|chunk| {
            let page = chunk.web.as_ref().or(chunk.retrieved_context.as_ref())?;
            let uri = page.uri.as_deref()?;
            Some((uri, page.title.as_deref().unwrap_or(uri)))
        })
        .collect();
    let citation = |page: (&str, &str), start: usize, end: usize| {
        let (url, title) = page;
        json!({
            "type": "url_citation",
            "url_citation": {"start_index": start, "end_index": end, "url": url, "title": title},
        })
    };
    let mut list = Vec::new();
    for support in &grounding.grounding_supports {
        let Some(segment) = &support.segment else {
            continue;
        };
        let (start, end) = characters(segment, text);
        for &index in &support.grounding_chunk_indices {
            if let Some(Some(page)) = pages.get(index) {
                list.push(citation(*page, start, end));
            }
        }
    }
    if list.is_empty() {
        let end = text.chars().count();
        list.extend(pages.into_iter().flatten().map(|page| citation(page, 0, end)));
    }
    list
}

/// Finds a segment in the text. The vendor counts bytes from the start of one part, OpenAI characters of the message.
fn characters(segment: &Segment, text: &str) -> (usize, usize) {
    let counted = text.get(segment.start_index..segment.end_index);
    let start = if segment.text.is_empty() || counted == Some(segment.text.as_str()) {
        segment.start_index
    } else {
        text.find(&segment.text).unwrap_or(segment.start_index)
    };
    let length = match segment.text.len() {
        0 => segment.end_index.saturating_sub(segment.start_index),
        length => length,
    };
    let count = |end: usize| text.char_indices().take_while(|(at, _)| *at < end).count();
    (count(start), count(start.saturating_add(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_characters() {
        let metadata = r#"{"groundingChunks":[{"web":{"uri":"https://a","title":"A"}},{"web":{"uri":"https://b"}},{"other":1}],
            "groundingSupports":[{"segment":{"startIndex":4,"endIndex":8,"text":"öö"},"groundingChunkIndices":[0,1,2,9]},
            {"segment":{"endIndex":4,"text":"éé"},"groundingChunkIndices":[0]},{"groundingChunkIndices":[0]}]}"#;
        let list = annotations(metadata, "ééöö");
        let found: Vec<_> = list
            .iter()
            .map(|item| {
                let citation = &item["url_citation"];
                (
                    citation["start_index"].as_u64().unwrap(),
                    citation["end_index"].as_u64().unwrap(),
                    citation["title"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(found, [(2, 4, "A"), (2, 4, "https://b"), (0, 2, "A")]);
    }

    #[test]
    fn a_segment_of_a_later_part_is_found_by_its_text() {
        let metadata = r#"{"groundingChunks":[{"web":{"uri":"https://a"}}],
            "groundingSupports":[{"segment":{"partIndex":1,"startIndex":0,"endIndex":3,"text":"two"},"groundingChunkIndices":[0]}]}"#;
        let list = annotations(metadata, "one two");
        assert_eq!(list[0]["url_citation"]["start_index"], 4);
        assert_eq!(list[0]["url_citation"]["end_index"], 7);
    }

    #[test]
    fn sources_without_segments_support_all_of_the_text() {
        let metadata = r#"{"groundingChunks":[{"web":{"uri":"https://a"}}]}"#;
        let list = annotations(metadata, "abc");
        assert_eq!(list[0]["url_citation"]["end_index"], 3);
        assert!(annotations("[]", "abc").is_empty());
        assert!(annotations(r#"{"groundingChunks":7}"#, "abc").is_empty());
    }
}
