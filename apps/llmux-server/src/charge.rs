//! One attempt's money: reserved before the call, settled and written down when it ends, however it ends.

use std::sync::Arc;
use std::time::Duration;

use llmux_auth::limits::{Limiter, MoneyReservation};
use llmux_auth::tenants::{UsageRecord, UsageStatus};
use llmux_providers::Endpoint;
use llmux_types::{Money, Prices, Usage};

use crate::metrics::Account;
use crate::spool::Spool;
use crate::tenants::wall_clock;

/// Bytes of text that one token is taken for where a vendor does not count.
const BYTES_PER_TOKEN: u64 = 4;

/// What came of an attempt so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Produced {
    /// As the vendor counted.
    pub(crate) usage: Option<Usage>,
    /// About how many bytes of answer there were.
    pub(crate) bytes: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) status: UsageStatus,
    /// The vendor's HTTP status.
    pub(crate) status_code: Option<u16>,
    /// The kind of failure.
    pub(crate) error: Option<&'static str>,
    /// From the start to the first output.
    pub(crate) first_output: Option<Duration>,
    /// The client did not wait: the vendor may have worked for it all the same.
    pub(crate) by_client: bool,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charged {
    /// `None`: a price is not known.
    pub(crate) cost: Option<Money>,
    pub(crate) tokens: u64,
}

/// See the [module](self). Dropped without a word, it is that of a client that left before anything came.
#[derive(Debug)]
pub(crate) struct Charge {
    spool: Arc<Spool>,
    limiter: Arc<Limiter>,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    money: MoneyReservation,
    account: Account,
    prices: Arc<Prices>,
    endpoint: Endpoint,
    /// What the request is charged by where the vendor does not count, but for the text of the answer.
    expected: Usage,
    /// All that is known before the end.
    record: UsageRecord,
}

impl Charge {
    pub(crate) fn new(
        (spool, limiter): (&Arc<Spool>, &Arc<Limiter>),
        (money, account): (MoneyReservation, Account),
        prices: Arc<Prices>,
        endpoint: Endpoint,
        expected: Usage,
        record: UsageRecord,
    ) -> Self {
        let open = Open { money, account, prices, endpoint, expected, record };
        Self { spool: Arc::clone(spool), limiter: Arc::clone(limiter), open: Some(Box::new(open)) }
    }

    /// Charges the attempt and writes its record down. When this returns, neither can be lost.
    pub(crate) fn settle(mut self, end: &End, produced: &Produced) -> Charged {
        self.close(end, produced)
    }

    fn close(&mut self, end: &End, produced: &Produced) -> Charged {
        let Some(open) = self.open.take() else { return Charged::default() };
        let Open { money, account, prices, endpoint, expected, mut record } = *open;
        let (usage, estimated) = billed(endpoint, &expected, end.status, produced);
        let cost = llmux_types::cost(&prices, &usage);
        record.end_time = wall_clock().max(record.start_time);
        record.status = end.status;
        record.status_code = end.status_code;
        record.error_code = end.error.map(str::to_owned);
        record_usage(&mut record, &usage);
        record.spend = cost.total;
        record.time_to_first_token_ms =
            end.first_output.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        if estimated {
            record.metadata.insert("usage_estimated".to_owned(), true.into());
        }
        if cost.unpriced.any() {
            record.metadata.insert("price_unknown".to_owned(), true.into());
        }
        account.charge(&record, endpoint, cost.unpriced.any());
        let tokens = record.total_tokens;
        // In this order: what the store has must not be missing in the limiter.
        money.settle(cost.total.nanos());
        if let Err(dropped) = self.spool.append(record) {
            self.limiter.recorded_usage(&dropped);
        }
        let known = !cost.unpriced.any();
        // Free as it is, a call that its client broke off counts in the limits of tokens.
        let asked = if end.by_client { expected.prompt_tokens.unwrap_or(0) } else { 0 };
        Charged { cost: known.then_some(cost.total), tokens: tokens.max(asked) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let end = End {
            status: UsageStatus::Cancelled,
            status_code: None,
            error: None,
            first_output: None,
            by_client: true,
        };
        self.close(&end, &Produced::default());
    }
}

/// Writes the tokens into a record.
pub(crate) fn record_usage(record: &mut UsageRecord, usage: &Usage) {
    let sum = |parts: [Option<u64>; 2]| parts.into_iter().flatten().fold(0, u64::saturating_add);
    record.prompt_tokens = sum([usage.prompt_tokens, usage.beside_prompt_tokens]);
    record.completion_tokens = sum([usage.completion_tokens, usage.beside_completion_tokens]);
    record.total_tokens = record.prompt_tokens.saturating_add(record.completion_tokens);
    record.cached_tokens = usage.cached_tokens.unwrap_or(0);
    record.cache_write_tokens = usage.cache_write_tokens.unwrap_or(0);
    record.reasoning_tokens = usage.reasoning_tokens.unwrap_or(0);
}

/// Returns what is to be charged, and whether some of it is an estimate. The vendor's counts are the bill; of an answer that
/// was cut off they may lack what came last, and some vendors do not count, or count one side only.
fn billed(
    endpoint: Endpoint,
    expected: &Usage,
    status: UsageStatus,
    produced: &Produced,
) -> (Usage, bool) {
    let is_whole = status == UsageStatus::Success;
    let answers_text = endpoint.answers_tokens();
    let seen = produced.bytes.div_ceil(BYTES_PER_TOKEN);
    // Of what was cut off the vendor may have counted more than came: below, the larger counts.
    let text = if answers_text && is_whole { Some(seen) } else { None };
    let counted = produced.usage.map(plausible).filter(is_counted);
    match counted.map(|usage| both_sides(usage, expected, text)) {
        Some(known) if is_whole => known,
        Some((usage, estimated)) => {
            let more = answers_text && seen > usage.completion_tokens.unwrap_or(0);
            let completion_tokens = if more { Some(seen) } else { usage.completion_tokens };
            (Usage { completion_tokens, total_tokens: None, ..usage }, estimated || more)
        }
        None if is_whole || produced.bytes > 0 => {
            let completion_tokens = if answers_text { Some(seen) } else { None };
            let usage = Usage { completion_tokens, ..*expected };
            (usage, usage.prompt_tokens.is_some())
        }
        None => (Usage::default(), false),
    }
}

/// Tells whether a usage says anything that can be charged.
fn is_counted(usage: &Usage) -> bool {
    [
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.audio_milliseconds,
        usage.input_characters,
        usage.images,
    ]
    .iter()
    .any(Option::is_some)
}

/// Completes a usage of tokens that tells one side only, or nothing but the sum. `text` is what the answer's text makes, if
/// it is one. Returns whether one of the sides is an estimate.
fn both_sides(usage: Usage, expected: &Usage, text: Option<u64>) -> (Usage, bool) {
    let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
    let asked = expected.prompt_tokens.unwrap_or(0);
    let (prompt, completion, estimated) = match (prompt, completion, usage.total_tokens) {
        (Some(prompt), None, Some(total)) => (prompt, Some(total.saturating_sub(prompt)), false),
        (Some(prompt), None, None) => (prompt, text, text.is_some_and(|tokens| tokens > 0)),
        (None, Some(completion), Some(total)) => {
            (total.saturating_sub(completion), Some(completion), false)
        }
        // Gemini leaves out counts of zero: where no count can be read, nothing but such a zero is left.
        (None, Some(0), None) if text.is_some() => (asked, text, true),
        (None, Some(completion), None) => (asked, Some(completion), true),
        (None, None, Some(total)) if text.is_some() => {
            let prompt = asked.min(total);
            (prompt, Some(total - prompt), true)
        }
        (None, None, Some(total)) => (total, None, false),
        (Some(_), Some(_), _) | (None, None, None) => return (usage, false),
    };
    let usage = Usage { prompt_tokens: Some(prompt), completion_tokens: completion, ..usage };
    (usage, estimated)
}

/// The most tokens of a kind that are believed: no model takes or makes as many in one call.
const MOST_TOKENS: u64 = 1 << 25;

/// Passes over counts that cannot be: they come from a broken vendor, and must neither ruin the caller nor the record.
pub(crate) fn plausible(mut usage: Usage) -> Usage {
    for count in [
        &mut usage.prompt_tokens,
        &mut usage.completion_tokens,
        &mut usage.total_tokens,
        &mut usage.cached_tokens,
        &mut usage.cache_write_tokens,
        &mut usage.reasoning_tokens,
        &mut usage.beside_prompt_tokens,
        &mut usage.beside_completion_tokens,
        &mut usage.cache_write_1h_tokens,
        &mut usage.audio_prompt_tokens,
        &mut usage.image_prompt_tokens,
        &mut usage.cached_audio_tokens,
        &mut usage.cached_image_tokens,
        &mut usage.audio_completion_tokens,
        &mut usage.image_completion_tokens,
        &mut usage.audio_milliseconds,
        &mut usage.input_characters,
        &mut usage.images,
        &mut usage.web_searches,
    ] {
        count.take_if(|count| *count > MOST_TOKENS);
    }
    usage
}

/// Returns the kind of call in records.
pub(crate) const fn call_type(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions => "chat_completion",
        Endpoint::Completions => "completion",
        Endpoint::Embeddings => "embedding",
        Endpoint::Responses => "responses",
        Endpoint::Moderations => "moderation",
        Endpoint::ImagesGenerations => "image_generation",
        Endpoint::AudioSpeech => "audio_speech",
        Endpoint::AudioTranscriptions => "audio_transcription",
        Endpoint::AudioTranslations => "audio_translation",
        Endpoint::Messages => "messages",
        Endpoint::CountTokens => "count_tokens",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(prompt: u64, completion: u64) -> Option<Usage> {
        Some(Usage {
            prompt_tokens: Some(prompt),
            completion_tokens: Some(completion),
            ..Usage::default()
        })
    }

    fn charged(endpoint: Endpoint, status: UsageStatus, produced: Produced) -> (u64, u64, bool) {
        let expected = match endpoint {
            Endpoint::CountTokens => Usage::default(),
            _ => Usage { prompt_tokens: Some(10), ..Usage::default() },
        };
        let (usage, estimated) = billed(endpoint, &expected, status, &produced);
        let known = |count: Option<u64>| count.unwrap_or(0);
        (known(usage.prompt_tokens), known(usage.completion_tokens), estimated)
    }

    #[test]
    fn the_vendors_counts_are_the_bill_of_a_whole_answer() {
        let produced = Produced { usage: usage(7, 3), bytes: 400 };
        let chat = Endpoint::ChatCompletions;
        assert_eq!(charged(chat, UsageStatus::Success, produced), (7, 3, false));
        let produced = Produced { usage: None, bytes: 401 };
        assert_eq!(charged(chat, UsageStatus::Success, produced), (10, 101, true));
        assert_eq!(charged(Endpoint::Embeddings, UsageStatus::Success, produced), (10, 0, true));
        assert_eq!(charged(Endpoint::CountTokens, UsageStatus::Success, produced), (0, 0, false));
    }

    #[test]
    fn what_the_vendor_does_not_say_is_estimated() {
        let (chat, success) = (Endpoint::ChatCompletions, UsageStatus::Success);
        let of = |prompt, completion, total| {
            let usage = Usage {
                prompt_tokens: prompt,
                completion_tokens: completion,
                total_tokens: total,
                ..Usage::default()
            };
            Produced { usage: Some(usage), bytes: 400 }
        };
        for (produced, expected) in [
            // Nothing, or nothing that can be.
            (of(None, None, None), (10, 100, true)),
            (of(Some(u64::MAX), Some(1 << 40), None), (10, 100, true)),
            // One side.
            (of(Some(7), None, None), (7, 100, true)),
            (of(None, Some(3), None), (10, 3, true)),
            (of(None, Some(0), None), (10, 100, true)),
            (of(Some(7), Some(u64::MAX), None), (7, 100, true)),
            // The sum tells the other.
            (of(Some(7), None, Some(9)), (7, 2, false)),
            (of(None, Some(3), Some(9)), (6, 3, false)),
            (of(None, None, Some(15)), (10, 5, true)),
            (of(None, None, Some(4)), (4, 0, true)),
            (of(Some(0), Some(0), Some(0)), (0, 0, false)),
        ] {
            assert_eq!(charged(chat, success, produced), expected, "{produced:?}");
        }
        assert_eq!(
            charged(Endpoint::Embeddings, success, of(None, None, Some(15))),
            (15, 0, false)
        );
        assert_eq!(charged(Endpoint::Embeddings, success, of(Some(7), None, None)), (7, 0, false));
    }

    #[test]
    fn speech_is_charged_by_its_letters_once_some_of_it_was_heard() {
        let expected = Usage { input_characters: Some(20), ..Usage::default() };
        for (status, bytes, characters) in [
            (UsageStatus::Success, 0, Some(20)),
            (UsageStatus::Cancelled, 1, Some(20)),
            (UsageStatus::Cancelled, 0, None),
        ] {
            let produced = Produced { usage: None, bytes };
            let (usage, estimated) = billed(Endpoint::AudioSpeech, &expected, status, &produced);
            assert_eq!((usage.input_characters, estimated), (characters, false), "{status:?}");
        }
    }

    #[test]
    fn a_cut_answer_is_charged_for_what_was_produced() {
        let chat = Endpoint::ChatCompletions;
        for status in [UsageStatus::Failure, UsageStatus::Cancelled] {
            let produced = Produced { usage: usage(7, 3), bytes: 400 };
            assert_eq!(charged(chat, status, produced), (7, 100, true));
            let produced = Produced { usage: usage(7, 300), bytes: 400 };
            assert_eq!(charged(chat, status, produced), (7, 300, false));
            let produced = Produced { usage: None, bytes: 400 };
            assert_eq!(charged(chat, status, produced), (10, 100, true));
            assert_eq!(charged(chat, status, Produced::default()), (0, 0, false));
        }
    }
}
