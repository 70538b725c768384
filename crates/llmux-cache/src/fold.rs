//! A whole stream of OpenAI's chat or completions as the answer that would have come unstreamed.

use std::borrow::Cow;

use crate::entry::{Kind, Unfit};
use crate::json::{Json, Object, is, member};

/// Lists whose items carry an `index` in streams only.
pub(crate) const INDEXED: &[&str] = &["tool_calls", "thinking_blocks", "annotations", "images"];

/// Texts that come whole, though perhaps repeatedly; all others come in fragments.
const WHOLE: &[&str] =
    &["role", "id", "type", "name", "format", "signature", "object", "status", "call_id"];

/// Folds a complete stream, opening comments and usage chunk included, into the JSON of a whole answer. Nothing is lost
/// that an unstreamed answer has: unknown members stay, numbers and texts keep their spelling, of what comes repeatedly
/// the last counts, and fragments are joined.
///
/// # Errors
/// [`Unfit`]: the stream did not come to its proper end (`[DONE]`, a finish reason for each choice), has an error in it, or
/// cannot be told as one answer.
pub fn fold(kind: Kind, sse: &[u8]) -> Result<Vec<u8>, Unfit> {
    let object = match kind {
        Kind::Chat => "chat.completion",
        Kind::Completion => "text_completion",
        Kind::Embedding => return Err(Unfit::Unreadable),
    };
    let mut answer = Answer::default();
    let mut done = false;
    for data in events(sse)? {
        if done {
            return Err(Unfit::Unreadable);
        }
        if data.trim() == "[DONE]" {
            done = true;
            continue;
        }
        let Some(Json::Object(chunk)) = Json::parse(data.as_bytes()) else {
            return Err(Unfit::Unreadable);
        };
        answer.take(chunk)?;
    }
    if !done {
        return Err(Unfit::Cut);
    }
    let mut text = String::with_capacity(sse.len() / 4);
    answer.finish(kind, object)?.write(&mut text);
    Ok(text.into_bytes())
}

/// The data of each event. Data of several lines is no JSON of a vendor's.
fn events(sse: &[u8]) -> Result<Vec<&str>, Unfit> {
    let text = std::str::from_utf8(sse).map_err(|_| Unfit::Unreadable)?;
    let mut events = Vec::new();
    let mut in_event = false;
    for line in text
        .trim_start_matches('\u{feff}')
        .split('\n')
        .flat_map(|line| line.trim_end_matches('\r').split('\r'))
    {
        if line.is_empty() {
            in_event = false;
        } else if let Some(data) = line.strip_prefix("data:") {
            if in_event {
                return Err(Unfit::Unreadable);
            }
            in_event = true;
            events.push(data);
        }
    }
    Ok(events)
}

#[derive(Default)]
struct Answer<'a> {
    top: Object<'a>,
    usage: Option<Json<'a>>,
    choices: Vec<Choice<'a>>,
}

struct Choice<'a> {
    index: u64,
    message: Object<'a>,
    text: Option<Json<'a>>,
    /// Everything beside the message.
    rest: Object<'a>,
}

impl<'a> Answer<'a> {
    fn take(&mut self, chunk: Object<'a>) -> Result<(), Unfit> {
        if member(&chunk, "error").is_some_and(|error| !error.is_null()) {
            return Err(Unfit::Error);
        }
        for (name, value) in chunk {
            match &*name {
                "choices" => {
                    let Json::Array(choices) = value else { return Err(Unfit::Unreadable) };
                    for choice in choices {
                        let Json::Object(choice) = choice else { return Err(Unfit::Unreadable) };
                        self.choice(choice)?;
                    }
                }
                "usage" => {
                    if !value.is_null() {
                        self.usage = Some(value);
                    }
                }
                // Padding against those who look at lengths.
                "object" | "obfuscation" => {}
                _ => set(&mut self.top, name, value),
            }
        }
        Ok(())
    }

    fn choice(&mut self, members: Object<'a>) -> Result<(), Unfit> {
        let index = member(&members, "index").and_then(Json::as_index).unwrap_or(0);
        let at =
            self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
                self.choices.push(Choice {
                    index,
                    message: Vec::new(),
                    text: None,
                    rest: Vec::new(),
                });
                self.choices.len() - 1
            });
        let choice = &mut self.choices[at];
        for (name, value) in members {
            match &*name {
                "index" => {}
                "delta" => match value {
                    Json::Object(delta) => merge_members(&mut choice.message, delta)?,
                    null if null.is_null() => {}
                    _ => return Err(Unfit::Unreadable),
                },
                "text" => match &mut choice.text {
                    Some(text) => merge(text, value, false)?,
                    none => *none = Some(value),
                },
                "logprobs" => match choice.rest.iter_mut().find(|(name, _)| name == "logprobs") {
                    Some((_, Json::Object(logprobs))) => match value {
                        Json::Object(more) => append(logprobs, more)?,
                        null if null.is_null() => {}
                        _ => return Err(Unfit::Unreadable),
                    },
                    _ => set(&mut choice.rest, name, value),
                },
                _ => set(&mut choice.rest, name, value),
            }
        }
        Ok(())
    }

    fn finish(mut self, kind: Kind, object: &'static str) -> Result<Json<'a>, Unfit> {
        if self.choices.is_empty() {
            return Err(Unfit::Empty);
        }
        self.choices.sort_by_key(|choice| choice.index);
        let choices =
            self.choices.into_iter().map(|choice| choice.finish(kind)).collect::<Result<_, _>>()?;
        let at = self.top.iter().position(|(name, _)| name == "id").map_or(0, |at| at + 1);
        self.top.insert(at, (Cow::Borrowed("object"), Json::text(object)));
        self.top.push((Cow::Borrowed("choices"), Json::Array(choices)));
        if let Some(usage) = self.usage {
            self.top.push((Cow::Borrowed("usage"), usage));
        }
        Ok(Json::Object(self.top))
    }
}

impl<'a> Choice<'a> {
    fn finish(mut self, kind: Kind) -> Result<Json<'a>, Unfit> {
        if member(&self.rest, "finish_reason").is_none_or(Json::is_null) {
            return Err(Unfit::Cut);
        }
        let mut members = vec![(Cow::Borrowed("index"), Json::number(self.index))];
        if kind == Kind::Chat {
            if member(&self.message, "role").is_none() {
                self.message.insert(0, (Cow::Borrowed("role"), Json::text("assistant")));
            }
            for (_, list) in self.message.iter_mut().filter(|(name, _)| INDEXED.contains(&&**name))
            {
                if let Json::Array(items) = list {
                    for item in items {
                        if let Json::Object(item) = item {
                            item.retain(|(name, _)| name != "index");
                        }
                    }
                }
            }
            members.push((Cow::Borrowed("message"), Json::Object(self.message)));
        } else {
            members.push((Cow::Borrowed("text"), self.text.unwrap_or(Json::text(""))));
        }
        members.append(&mut self.rest);
        Ok(Json::Object(members))
    }
}

/// Of what is told in each chunk the last counts, unless it says nothing.
fn set<'a>(members: &mut Object<'a>, name: Cow<'a, str>, value: Json<'a>) {
    match members.iter_mut().find(|(known, _)| *known == name) {
        None => members.push((name, value)),
        Some((_, old)) => {
            let says_nothing = match &value {
                Json::Plain(word) => word == "null" || word == "0",
                Json::Text(text) => text.is_empty(),
                Json::Array(items) => items.is_empty(),
                Json::Object(members) => members.is_empty(),
            };
            if !says_nothing {
                *old = value;
            }
        }
    }
}

fn merge_members<'a>(members: &mut Object<'a>, more: Object<'a>) -> Result<(), Unfit> {
    for (name, value) in more {
        let is_whole = WHOLE.iter().any(|whole| is(&name, whole));
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => {
                // Base64 that was padded cannot go on.
                let is_padded =
                    name == "data" && old.as_text().is_some_and(|data| data.ends_with('='));
                if is_padded && value.as_text() != Some("") {
                    return Err(Unfit::Unreadable);
                }
                merge(old, value, is_whole)?;
            }
            // Indices are looked at in the first chunk, too: it may have several items of one.
            None => match value {
                Json::Array(items) => {
                    let mut list = Json::Array(Vec::new());
                    merge(&mut list, Json::Array(items), is_whole)?;
                    members.push((name, list));
                }
                value => members.push((name, value)),
            },
        }
    }
    Ok(())
}

fn merge<'a>(old: &mut Json<'a>, new: Json<'a>, is_whole: bool) -> Result<(), Unfit> {
    match (old, new) {
        (_, new) if new.is_null() => {}
        (old, new) if old.is_null() => *old = new,
        (Json::Text(old), Json::Text(new)) if is_whole => {
            if !new.is_empty() {
                *old = new;
            }
        }
        (Json::Text(old), Json::Text(new)) => {
            old.to_mut().push_str(&new);
        }
        (Json::Object(old), Json::Object(new)) => merge_members(old, new)?,
        (Json::Array(old), Json::Array(new)) => {
            for item in new {
                merge_item(old, item)?;
            }
        }
        (Json::Plain(old), Json::Plain(new)) => *old = new,
        _ => return Err(Unfit::Unreadable),
    }
    Ok(())
}

/// Finds the item of a list that a fragment belongs to: by its index, unless its id says that it is another one. Without
/// an index it belongs to the item of its id, or, without an id, to the last item if it goes on a call's arguments.
fn merge_item<'a>(items: &mut Vec<Json<'a>>, new: Json<'a>) -> Result<(), Unfit> {
    let Json::Object(new) = new else {
        items.push(new);
        return Ok(());
    };
    let id_of = |item: &Object<'a>| {
        member(item, "id").and_then(Json::as_text).filter(|id| !id.is_empty()).map(str::to_owned)
    };
    let index = member(&new, "index").and_then(Json::as_index);
    let id = id_of(&new);
    let goes_on = matches!(member(&new, "function"), Some(Json::Object(call)) if member(call, "name").is_none());
    let last = items.len().wrapping_sub(1);
    let found = items.iter_mut().enumerate().rev().find_map(|(at, item)| {
        let Json::Object(item) = item else { return None };
        let known = id_of(item);
        let belongs = match (index, &id, &known) {
            (Some(index), _, _) => {
                member(item, "index").and_then(Json::as_index) == Some(index)
                    && (id.is_none() || known.is_none() || id == known)
            }
            (None, Some(_), _) => id == known,
            (None, None, _) => goes_on && at == last,
        };
        belongs.then_some(item)
    });
    match found {
        Some(item) => merge_members(item, new)?,
        None => items.push(Json::Object(new)),
    }
    Ok(())
}

/// Log probabilities come in lists, of which each chunk has the next part.
fn append<'a>(members: &mut Object<'a>, more: Object<'a>) -> Result<(), Unfit> {
    for (name, value) in more {
        match members.iter_mut().find(|(known, _)| *known == name) {
            None => members.push((name, value)),
            Some((_, old)) => match (old, value) {
                (Json::Array(old), Json::Array(new)) => old.extend(new),
                (_, new) if new.is_null() => {}
                (old, new) if old.is_null() => *old = new,
                _ => return Err(Unfit::Unreadable),
            },
        }
    }
    Ok(())
}
