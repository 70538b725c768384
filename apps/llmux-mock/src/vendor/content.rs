//! What an answer says, before a dialect puts it into words.

use serde_json::Value;
use serde_json::value::RawValue;

use super::{Call, Endpoint, Look, choices, prompt_tokens, sample};
use crate::Options;
use crate::reply::{Finish, Reply};

/// Length of the pieces in which JSON is streamed, in characters.
const JSON_PIECE: usize = 12;

/// An answer, in the pieces a stream sends; each piece is one token.
pub(super) struct Content {
    pub(super) reasoning: Vec<String>,
    pub(super) text: Vec<String>,
    pub(super) tools: Vec<Tool>,
    pub(super) finish: Finish,
    pub(super) choices: usize,
    pub(super) prompt_tokens: u64,
    /// How many of them came from the vendor's cache.
    pub(super) cached_tokens: u64,
}

pub(super) struct Tool {
    pub(super) name: String,
    /// The arguments, in pieces.
    pub(super) arguments: Vec<String>,
}

impl Content {
    pub(super) fn new(
        options: &Options,
        endpoint: Endpoint,
        call: &Call<'_>,
        look: &Look<'_>,
        reply: &Reply,
    ) -> Self {
        let chunks = reply.chunks.unwrap_or(options.chunks);
        let mut tools: Vec<Tool> = reply
            .tool_calls
            .iter()
            .map(|call| Tool { name: call.name.clone(), arguments: fragments(&call.arguments) })
            .collect();
        if tools.is_empty() && reply.text.is_none() {
            tools.extend(forced_tool(endpoint, look));
        }
        let text = match &reply.text {
            Some(text) => pieces(text, chunks),
            None if !tools.is_empty() => Vec::new(),
            None => match structured(endpoint, look) {
                Some(json) => fragments(&json.to_string()),
                None => pieces(&options.text, chunks),
            },
        };
        let prompt_tokens = prompt_tokens(call, look);
        Self {
            reasoning: reply.reasoning.as_deref().map(|text| pieces(text, 0)).unwrap_or_default(),
            text,
            tools,
            finish: reply.finish.unwrap_or(Finish::Stop),
            choices: choices(endpoint, look),
            prompt_tokens,
            cached_tokens: reply.cached_tokens.unwrap_or(0).min(prompt_tokens),
        }
    }

    pub(super) fn whole_text(&self) -> String {
        self.text.concat()
    }

    pub(super) fn whole_reasoning(&self) -> String {
        self.reasoning.concat()
    }

    pub(super) fn reasoning_tokens(&self) -> u64 {
        (self.reasoning.len() * self.choices) as u64
    }

    /// Everything the model produced, reasoning included.
    pub(super) fn completion_tokens(&self) -> u64 {
        let arguments: usize = self.tools.iter().map(|tool| tool.arguments.len()).sum();
        ((self.reasoning.len() + self.text.len() + arguments) * self.choices) as u64
    }
}

impl Tool {
    pub(super) fn whole_arguments(&self) -> String {
        self.arguments.concat()
    }
}

/// Cuts `text` into `chunks` pieces at the starts of words; joined they are the text. 0: a piece for each word. More
/// chunks than words: the text repeats.
fn pieces(text: &str, chunks: usize) -> Vec<String> {
    let mut words: Vec<&str> = Vec::new();
    let (mut start, mut after_word) = (0, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            if after_word {
                words.push(&text[start..at]);
                start = at;
            }
            after_word = false;
        } else {
            after_word = true;
        }
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    if words.is_empty() || chunks == 0 {
        return words.into_iter().map(str::to_owned).collect();
    }
    if chunks <= words.len() {
        let (size, longer) = (words.len() / chunks, words.len() % chunks);
        let mut rest = words.as_slice();
        return (0..chunks)
            .map(|index| {
                let (piece, tail) = rest.split_at(size + usize::from(index < longer));
                rest = tail;
                piece.concat()
            })
            .collect();
    }
    (0..chunks)
        .map(|index| match index % words.len() {
            0 if index > 0 => format!(" {}", words[0].trim_start()),
            word => words[word].to_owned(),
        })
        .collect()
}

/// Cuts JSON into pieces of a dozen characters.
fn fragments(json: &str) -> Vec<String> {
    let characters: Vec<char> = json.chars().collect();
    characters.chunks(JSON_PIECE).map(|piece| piece.iter().collect()).collect()
}

fn parsed(raw: Option<&RawValue>) -> Option<Value> {
    serde_json::from_str(raw?.get()).ok()
}

/// The tool call that the request insists on, if it does.
fn forced_tool(endpoint: Endpoint, look: &Look<'_>) -> Option<Tool> {
    let choice = parsed(look.tool_choice)?;
    let tools = parsed(look.tools)?;
    let tools = tools.as_array()?;
    // The wanted name; `None` leaves the choice to the model.
    let name: Option<&str> = match endpoint {
        Endpoint::Chat | Endpoint::Responses => match choice["type"].as_str() {
            None if choice == "required" => None,
            Some("function") => {
                Some(choice["function"]["name"].as_str().or(choice["name"].as_str())?)
            }
            Some("allowed_tools") => {
                let allowed = choice.get("allowed_tools").unwrap_or(&choice);
                (allowed["mode"] == "required").then_some(())?;
                let tool = allowed["tools"].get(0)?;
                Some(tool["function"]["name"].as_str().or(tool["name"].as_str())?)
            }
            _ => return None,
        },
        Endpoint::Messages => match choice["type"].as_str() {
            Some("any") => None,
            Some("tool") => Some(choice["name"].as_str()?),
            _ => return None,
        },
        Endpoint::Generate | Endpoint::StreamGenerate { .. } => {
            let config = either(&choice, "functionCallingConfig", "function_calling_config");
            (config["mode"] == "ANY").then_some(())?;
            either(config, "allowedFunctionNames", "allowed_function_names")
                .get(0)
                .and_then(Value::as_str)
        }
        _ => return None,
    };
    let functions = tools.iter().flat_map(functions);
    let (name, schema) =
        functions.into_iter().find(|(known, _)| name.is_none_or(|name| name == *known))?;
    let arguments = sample::instance(schema);
    Some(Tool { name: name.to_owned(), arguments: fragments(&arguments.to_string()) })
}

/// Name and schema of each function in an entry of `tools`, in any dialect.
fn functions(tool: &Value) -> Vec<(&str, &Value)> {
    let declared = either(tool, "functionDeclarations", "function_declarations");
    let list = match declared.as_array() {
        Some(list) => list.iter().collect(),
        None => vec![tool.get("function").unwrap_or(tool)],
    };
    list.into_iter()
        .filter_map(|function| {
            let schema = ["parameters", "input_schema", "parametersJsonSchema"]
                .iter()
                .find_map(|key| function.get(key));
            Some((function["name"].as_str()?, schema.unwrap_or(&Value::Null)))
        })
        .collect()
}

/// An answer to a request for JSON, if it is one.
fn structured(endpoint: Endpoint, look: &Look<'_>) -> Option<Value> {
    let wanted = parsed(look.response_format)?;
    let (wants_json, schema) = match endpoint {
        Endpoint::Chat => match wanted["type"].as_str() {
            Some("json_schema") => (true, wanted["json_schema"].get("schema")),
            kind => (kind == Some("json_object"), None),
        },
        Endpoint::Responses | Endpoint::Messages => match wanted["format"]["type"].as_str() {
            Some("json_schema") => (true, wanted["format"].get("schema")),
            kind => (kind == Some("json_object"), None),
        },
        Endpoint::Generate | Endpoint::StreamGenerate { .. } => (
            wanted["responseMimeType"] == "application/json",
            wanted.get("responseJsonSchema").or(wanted.get("responseSchema")),
        ),
        _ => (false, None),
    };
    wants_json.then(|| match schema {
        Some(schema) => sample::instance(schema),
        None => serde_json::json!({"answer": "This JSON comes from the built-in mock."}),
    })
}

fn either<'v>(value: &'v Value, camel: &str, snake: &str) -> &'v Value {
    value.get(camel).or_else(|| value.get(snake)).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_the_text() {
        for text in ["", " ", "one", "  two  words ", "a\nb\tc d", "ключ 鍵 🔑"] {
            for chunks in [0, 1] {
                assert_eq!(pieces(text, chunks).concat(), text, "{text:?} in {chunks}");
            }
        }
        assert_eq!(pieces("a b c d e", 2), ["a b c", " d e"]);
    }

    #[test]
    fn more_chunks_than_words_repeat_the_text() {
        assert_eq!(pieces("a b", 5), ["a", " b", " a", " b", " a"]);
    }
}
