//! A whole answer of OpenAI's chat or completions as the stream that a streaming client expects.

use crate::entry::{Kind, Unfit};
use crate::fold::INDEXED;
use crate::json::{Json, Object, member, write_members};

/// The members that each chunk repeats.
const REPEATED: &[&str] =
    &["id", "created", "model", "system_fingerprint", "service_tier", "provider"];

/// Makes the events of a stream, `[DONE]` included. The usage is in them if `include_usage`. [`fold`](crate::fold) of them is
/// the answer again.
///
/// The opening chunk of each choice has the role, one chunk each member of the message, the last one the finish reason.
///
/// # Errors
/// [`Unfit`]: it is no such answer.
pub fn replay(kind: Kind, answer: &[u8], include_usage: bool) -> Result<Vec<u8>, Unfit> {
    let object = match kind {
        Kind::Chat => "chat.completion.chunk",
        Kind::Completion => "text_completion",
        Kind::Embedding => return Err(Unfit::Unreadable),
    };
    let Some(Json::Object(members)) = Json::parse(answer) else {
        return Err(Unfit::Unreadable);
    };
    let mut chunks = Chunks {
        out: String::with_capacity(answer.len() * 2),
        head: String::new(),
        once: String::new(),
        usage: "",
    };
    let repeated = |name: &str| REPEATED.contains(&name);
    let named = |(name, value)| (AsRef::<str>::as_ref(name), value);
    write_members(
        [("object", &Json::text(object))].into_iter().chain(
            members
                .iter()
                .map(|(name, value)| named((name, value)))
                .filter(|(name, _)| repeated(name)),
        ),
        &mut chunks.head,
    );
    for (name, value) in members.iter().map(|(name, value)| named((name, value))) {
        if !repeated(name) && !matches!(name, "object" | "choices" | "usage") {
            chunks.once.push(',');
            write_members([(name, value)].into_iter(), &mut chunks.once);
        }
    }
    let usage = member(&members, "usage").filter(|usage| include_usage && !usage.is_null());
    if usage.is_some() {
        chunks.usage = ",\"usage\":null";
    }
    let Some(Json::Array(choices)) = member(&members, "choices") else {
        return Err(Unfit::Unreadable);
    };
    for choice in choices {
        let Json::Object(choice) = choice else { return Err(Unfit::Unreadable) };
        chunks.choice(kind, choice)?;
    }
    if let Some(usage) = usage {
        let mut text = String::new();
        usage.write(&mut text);
        chunks.event(&format!("\"choices\":[],\"usage\":{text}"));
    }
    chunks.out.push_str("data: [DONE]\n\n");
    Ok(chunks.out.into_bytes())
}

struct Chunks {
    out: String,
    head: String,
    /// Members that only the first chunk has, each with a comma before it.
    once: String,
    usage: &'static str,
}

impl Chunks {
    fn event(&mut self, rest: &str) {
        self.out.push_str("data: {");
        self.out.push_str(&self.head);
        self.out.push_str(&std::mem::take(&mut self.once));
        self.out.push(',');
        self.out.push_str(rest);
        self.out.push_str("}\n\n");
    }

    /// Writes a chunk with these members of one choice.
    fn chunk<'m, 'a: 'm>(&mut self, choice: impl Iterator<Item = (&'m str, &'m Json<'a>)>) {
        let mut text = String::from("\"choices\":[{");
        write_members(choice, &mut text);
        text.push_str("}]");
        text.push_str(self.usage);
        self.event(&text);
    }

    fn choice(&mut self, kind: Kind, choice: &Object<'_>) -> Result<(), Unfit> {
        let zero = Json::number(0);
        let index = member(choice, "index").unwrap_or(&zero);
        let logprobs = member(choice, "logprobs");
        let has_logprobs = logprobs.is_some_and(|logprobs| !logprobs.is_null());
        // Chunks without log probabilities say so where the answer has the member.
        let none = logprobs.map(|_| ("logprobs", &Json::NULL));
        let unfinished = ("finish_reason", &Json::NULL);
        let nothing = Json::Object(Vec::new());
        if kind == Kind::Completion {
            let text = member(choice, "text").ok_or(Unfit::Unreadable)?;
            let logprobs = logprobs.map(|logprobs| ("logprobs", logprobs));
            self.chunk(
                [("index", index), ("text", text)].into_iter().chain(logprobs).chain([unfinished]),
            );
        } else {
            let Some(Json::Object(message)) = member(choice, "message") else {
                return Err(Unfit::Unreadable);
            };
            self.chunk(
                [("index", index), ("delta", &opening(message))]
                    .into_iter()
                    .chain(none)
                    .chain([unfinished]),
            );
            let mut logprobs = logprobs.filter(|_| has_logprobs);
            for (name, value) in message.iter().filter(|(name, value)| follows(name, value)) {
                let delta = Json::Object(vec![(name.clone(), in_stream(name, value))]);
                let of_text = (name == "content" || name == "refusal")
                    .then(|| logprobs.take())
                    .flatten()
                    .map(|logprobs| ("logprobs", logprobs))
                    .or(none);
                self.chunk(
                    [("index", index), ("delta", &delta)]
                        .into_iter()
                        .chain(of_text)
                        .chain([unfinished]),
                );
            }
            if let Some(logprobs) = logprobs {
                self.chunk(
                    [("index", index), ("delta", &nothing), ("logprobs", logprobs), unfinished]
                        .into_iter(),
                );
            }
        }
        let empty_text = Json::text("");
        let empty = if kind == Kind::Chat { ("delta", &nothing) } else { ("text", &empty_text) };
        let rest = choice
            .iter()
            .map(|(name, value)| (&**name, value))
            .filter(|(name, _)| !matches!(*name, "index" | "message" | "text" | "logprobs"));
        self.chunk([("index", index), empty].into_iter().chain(none).chain(rest));
        Ok(())
    }
}

/// The first delta: the role, and whether there is to be text.
fn opening<'a>(message: &Object<'a>) -> Json<'a> {
    let mut delta =
        vec![("role".into(), member(message, "role").cloned().unwrap_or(Json::text("assistant")))];
    for (name, value) in message.iter().filter(|(name, _)| name != "role") {
        match value {
            Json::Text(_) if name == "content" => delta.push((name.clone(), Json::text(""))),
            value if !follows(name, value) => delta.push((name.clone(), value.clone())),
            _ => {}
        }
    }
    Json::Object(delta)
}

/// Tells whether a member of the message has a chunk of its own.
fn follows(name: &str, value: &Json<'_>) -> bool {
    let is_empty = match value {
        Json::Plain(_) => true,
        Json::Text(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(members) => members.is_empty(),
    };
    name != "role" && !is_empty
}

/// A member of the message as a delta has it: items of lists that come in fragments say which one they are.
fn in_stream<'a>(name: &str, value: &Json<'a>) -> Json<'a> {
    let Json::Array(items) = value else { return value.clone() };
    if !INDEXED.contains(&name) {
        return value.clone();
    }
    let numbered = items.iter().zip(0..).map(|(item, index)| match item {
        Json::Object(members) => {
            let index = [("index".into(), Json::number(index))];
            let rest = members.iter().filter(|(name, _)| name != "index").cloned();
            Json::Object(index.into_iter().chain(rest).collect())
        }
        other => other.clone(),
    });
    Json::Array(numbered.collect())
}
