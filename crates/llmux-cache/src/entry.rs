//! What is kept of an answer.

use bytes::Bytes;
use llmux_types::{SearchContext, ServiceTier, Usage};

use crate::fold::fold;
use crate::json::{Json, member, shallow};
use crate::replay::replay;

/// Begins each encoded entry; the last byte is the version of the form.
const MAGIC: [u8; 8] = *b"LLMuxC\0\x01";

/// The members of [`Usage`] that are numbers.
const NUMBERS: usize = 19;

/// What kind of answer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of chat completions, in OpenAI's dialect.
    Chat,
    /// Of completions.
    Completion,
    /// Of embeddings.
    Embedding,
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It holds an error.
    #[error("the answer is an error")]
    Error,
    /// It ended before its end: no `[DONE]`, or a choice without a finish reason.
    #[error("the answer was cut off")]
    Cut,
    /// A choice ended because of a limit (`length`) or a filter (`content_filter`), or in an error.
    #[error("the answer is incomplete")]
    Truncated,
    /// It has no choices or no data.
    #[error("the answer is empty")]
    Empty,
    /// It is not what its kind of answer looks like.
    #[error("the answer cannot be read")]
    Unreadable,
}

/// How an answer leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As one JSON document.
    Whole,
    /// As server-sent events.
    Stream {
        /// Whether the client asked for the usage.
        include_usage: bool,
    },
}

/// A good answer (status 200) and until when it may be given. It is kept whole, whatever form it came in, and leaves in
/// either form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    kind: Kind,
    created_ms: u64,
    expires_ms: u64,
    usage: Option<Usage>,
    finish_reason: Option<String>,
    content_type: String,
    body: Bytes,
}

impl Entry {
    /// Keeps an unstreamed answer of status 200: `body` is what the client got (and no slice of something larger, which would
    /// stay in memory with it), `content_type` what it was called, `usage`
    /// what it cost in tokens. It was made at `now_ms` (Unix time in milliseconds) and expires `ttl_ms` later, however
    /// often it is used.
    ///
    /// # Errors
    /// [`Unfit`] if it must not be kept.
    pub fn whole(
        kind: Kind,
        body: Bytes,
        content_type: &str,
        usage: Option<Usage>,
        now_ms: u64,
        ttl_ms: u64,
    ) -> Result<Self, Unfit> {
        let finish_reason = check(kind, &body)?;
        Ok(Self {
            kind,
            created_ms: now_ms,
            expires_ms: now_ms.saturating_add(ttl_ms),
            usage,
            finish_reason,
            content_type: content_type.to_owned(),
            body,
        })
    }

    /// Keeps a stream that came to its end: `sse` is all of it as the client would get it, with the usage chunk even if
    /// this client did not ask for it.
    ///
    /// # Errors
    /// [`Unfit`] if it must not be kept.
    pub fn stream(
        kind: Kind,
        sse: &[u8],
        usage: Option<Usage>,
        now_ms: u64,
        ttl_ms: u64,
    ) -> Result<Self, Unfit> {
        let body = Bytes::from(fold(kind, sse)?);
        Self::whole(kind, body, "application/json", usage, now_ms, ttl_ms)
    }

    /// Returns what kind of answer it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns when it was made, in Unix milliseconds.
    pub const fn created_ms(&self) -> u64 {
        self.created_ms
    }

    /// Returns the moment from which it is no longer given, in Unix milliseconds.
    pub const fn expires_ms(&self) -> u64 {
        self.expires_ms
    }

    /// Tells whether it may be given.
    pub const fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms
    }

    /// Returns what it cost in tokens when it was made.
    pub const fn usage(&self) -> Option<&Usage> {
        self.usage.as_ref()
    }

    /// Returns why the first choice ended.
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    /// Returns the body in one of its forms; embeddings have one only.
    pub fn body(&self, form: Form) -> Bytes {
        match form {
            Form::Stream { include_usage } if self.kind != Kind::Embedding => {
                // What is kept was read before; if it cannot be replayed, it is still an answer.
                replay(self.kind, &self.body, include_usage)
                    .map_or_else(|_| self.body.clone(), Bytes::from)
            }
            _ => self.body.clone(),
        }
    }

    /// Returns the content type of that form.
    pub fn content_type(&self, form: Form) -> &str {
        match form {
            Form::Stream { .. } if self.kind != Kind::Embedding => "text/event-stream",
            _ => &self.content_type,
        }
    }

    /// Returns its size in bytes, as it counts against limits.
    pub fn size(&self) -> usize {
        let reason = self.finish_reason.as_ref().map_or(0, String::len);
        self.body.len() + self.content_type.len() + reason + MAGIC.len() + 8 * (NUMBERS + 4)
    }

    /// Writes it for another process.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(&MAGIC);
        out.push(match self.kind {
            Kind::Chat => 1,
            Kind::Completion => 2,
            Kind::Embedding => 3,
        });
        out.extend_from_slice(&self.created_ms.to_be_bytes());
        out.extend_from_slice(&self.expires_ms.to_be_bytes());
        match &self.usage {
            None => out.push(0),
            Some(usage) => {
                out.push(1);
                let numbers = numbers(usage);
                let mask = numbers
                    .iter()
                    .zip(0..)
                    .fold(0_u32, |mask, (number, bit)| mask | u32::from(number.is_some()) << bit);
                out.extend_from_slice(&mask.to_be_bytes());
                numbers
                    .into_iter()
                    .flatten()
                    .for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
                out.push(usage.search_context.map_or(0, |size| match size {
                    SearchContext::Low => 1,
                    SearchContext::Medium => 2,
                    SearchContext::High => 3,
                }));
                out.push(usage.service_tier.map_or(0, |tier| {
                    TIERS
                        .iter()
                        .zip(1..)
                        .find(|(known, _)| **known == tier)
                        .map_or(0, |(_, code)| code)
                }));
            }
        }
        put_text(&mut out, self.finish_reason.as_deref().unwrap_or_default().as_bytes());
        put_text(&mut out, self.content_type.as_bytes());
        put_text(&mut out, &self.body);
        out
    }

    /// Reads what [`Entry::encode`] wrote. `None`: it is of another version, of another program, or damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest: &[u8] = bytes.strip_prefix(&MAGIC)?;
        let kind = match byte(&mut rest)? {
            1 => Kind::Chat,
            2 => Kind::Completion,
            3 => Kind::Embedding,
            _ => return None,
        };
        let created_ms = number(&mut rest)?;
        let expires_ms = number(&mut rest)?;
        let usage = match byte(&mut rest)? {
            0 => None,
            1 => {
                let mask = u32::from_be_bytes(rest.split_off(..4)?.try_into().ok()?);
                if mask >> NUMBERS != 0 {
                    return None;
                }
                let mut numbers = [None; NUMBERS];
                for (bit, slot) in numbers.iter_mut().enumerate() {
                    if mask >> bit & 1 == 1 {
                        *slot = Some(number(&mut rest)?);
                    }
                }
                let search_context = match byte(&mut rest)? {
                    0 => None,
                    1 => Some(SearchContext::Low),
                    2 => Some(SearchContext::Medium),
                    3 => Some(SearchContext::High),
                    _ => return None,
                };
                let service_tier = match usize::from(byte(&mut rest)?) {
                    0 => None,
                    code => Some(*TIERS.get(code - 1)?),
                };
                Some(Usage { search_context, service_tier, ..usage_of(&numbers) })
            }
            _ => return None,
        };
        let reason = std::str::from_utf8(text(&mut rest)?).ok()?;
        let content_type = std::str::from_utf8(text(&mut rest)?).ok()?;
        let body = text(&mut rest)?;
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            kind,
            created_ms,
            expires_ms,
            usage,
            finish_reason: (!reason.is_empty()).then(|| reason.to_owned()),
            content_type: content_type.to_owned(),
            // A copy: a slice would keep whatever buffer it was read into.
            body: Bytes::copy_from_slice(body),
        })
    }
}

/// In the order of their codes, from 1: new ones are added at the end.
const TIERS: &[ServiceTier] = &[
    ServiceTier::Batch,
    ServiceTier::Flex,
    ServiceTier::Priority,
    ServiceTier::Balanced,
    ServiceTier::Ultrafast,
];

/// The members that are numbers. The order is part of the form.
fn numbers(usage: &Usage) -> [Option<u64>; NUMBERS] {
    [
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
        usage.beside_prompt_tokens,
        usage.beside_completion_tokens,
        usage.cache_write_1h_tokens,
        usage.audio_prompt_tokens,
        usage.image_prompt_tokens,
        usage.cached_audio_tokens,
        usage.cached_image_tokens,
        usage.audio_completion_tokens,
        usage.image_completion_tokens,
        usage.audio_milliseconds,
        usage.input_characters,
        usage.images,
        usage.web_searches,
    ]
}

/// Names all members, so that a new one is not forgotten here.
fn usage_of(numbers: &[Option<u64>; NUMBERS]) -> Usage {
    Usage {
        prompt_tokens: numbers[0],
        completion_tokens: numbers[1],
        total_tokens: numbers[2],
        cached_tokens: numbers[3],
        cache_write_tokens: numbers[4],
        reasoning_tokens: numbers[5],
        beside_prompt_tokens: numbers[6],
        beside_completion_tokens: numbers[7],
        cache_write_1h_tokens: numbers[8],
        audio_prompt_tokens: numbers[9],
        image_prompt_tokens: numbers[10],
        cached_audio_tokens: numbers[11],
        cached_image_tokens: numbers[12],
        audio_completion_tokens: numbers[13],
        image_completion_tokens: numbers[14],
        audio_milliseconds: numbers[15],
        input_characters: numbers[16],
        images: numbers[17],
        web_searches: numbers[18],
        search_context: None,
        service_tier: None,
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_be_bytes());
    out.extend_from_slice(text);
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    rest.split_off_first().copied()
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(rest.split_off(..8)?.try_into().ok()?))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    rest.split_off(..length)
}

/// Looks whether an answer is worth keeping, and returns why its first choice ended.
fn check(kind: Kind, body: &[u8]) -> Result<Option<String>, Unfit> {
    let members = shallow(body).ok_or(Unfit::Unreadable)?;
    let find = |name: &str| members.iter().find(|(found, _)| *found == name).map(|(_, text)| *text);
    if find("error").is_some_and(|error| error != "null") {
        return Err(Unfit::Error);
    }
    if kind == Kind::Embedding {
        let data = find("data").ok_or(Unfit::Empty)?;
        let items = data.strip_prefix('[').ok_or(Unfit::Unreadable)?;
        return if items.trim_start().starts_with(']') { Err(Unfit::Empty) } else { Ok(None) };
    }
    let choices = find("choices").ok_or(Unfit::Empty)?;
    let Some(Json::Array(choices)) = Json::parse(choices.as_bytes()) else {
        return Err(Unfit::Unreadable);
    };
    let mut first = None;
    for choice in &choices {
        let Json::Object(choice) = choice else { return Err(Unfit::Unreadable) };
        let content = if kind == Kind::Chat { "message" } else { "text" };
        member(choice, content).ok_or(Unfit::Unreadable)?;
        match member(choice, "finish_reason").and_then(Json::as_text) {
            None | Some("") => return Err(Unfit::Cut),
            Some("length" | "max_tokens" | "content_filter" | "error") => {
                return Err(Unfit::Truncated);
            }
            Some(reason) => first = first.or_else(|| Some(reason.to_owned())),
        }
    }
    first.ok_or(Unfit::Empty).map(Some)
}
