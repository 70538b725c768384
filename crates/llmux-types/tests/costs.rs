//! Costs and amounts, by hand and by properties.

use llmux_types::{
    Money, PriceTable, Prices, SearchContext, ServiceTier, Unit, Usage, cost, estimate,
};
use proptest::prelude::*;

fn prices(vendor: &str, model: &str) -> Prices {
    PriceTable::default().find(vendor, model).expect("a price").prices
}

fn nanos(vendor: &str, model: &str, usage: Usage) -> i64 {
    let bill = cost(&prices(vendor, model), &usage);
    assert!(!bill.unpriced.any(), "{bill:?}");
    bill.total.nanos()
}

fn tokens(prompt: u64, completion: u64) -> Usage {
    Usage { prompt_tokens: Some(prompt), completion_tokens: Some(completion), ..Usage::default() }
}

#[test]
fn an_unknown_price_is_said_and_a_price_of_zero_is_free() {
    let bill = estimate(&Prices::per_token(Some(0), Some(0)), 10, 10);
    assert_eq!((bill.total, bill.unpriced.any()), (Money::ZERO, false));
    let bill = estimate(&Prices::per_token(Some(1000), None), 10, 10);
    assert_eq!(bill.total.nanos(), 10);
    assert!(bill.unpriced.output && !bill.unpriced.input);
    assert!(!estimate(&Prices::per_token(Some(1000), None), 10, 0).unpriced.any());
    let bill = estimate(&Prices::default(), 10, 0);
    assert!(bill.unpriced.input && !bill.unpriced.output);
    let searched = Usage { web_searches: Some(1), ..tokens(1, 1) };
    assert!(cost(&Prices::per_token(Some(1), Some(1)), &searched).unpriced.search);
    let sound = Usage { audio_milliseconds: Some(1), ..Usage::default() };
    assert!(cost(&Prices::per_token(Some(1), Some(1)), &sound).unpriced.input);
}

#[test]
fn each_kind_of_input_from_and_into_the_cache_has_its_price() {
    let usage = Usage {
        cached_tokens: Some(1000),
        cache_write_tokens: Some(500),
        cache_write_1h_tokens: Some(200),
        ..tokens(2000, 100)
    };
    // 500 x 3 + 1000 x 0.3 + 300 x 3.75 + 200 x 6 + 100 x 15, in micro-dollars.
    let micros = 1500 + 300 + 1125 + 1200 + 1500;
    assert_eq!(nanos("anthropic", "claude-sonnet-4-5", usage), micros * 1000);
    // Half of it in a batch; there is no batch price of hour-long cache writes.
    let batch = Usage { service_tier: Some(ServiceTier::Batch), ..usage };
    assert_eq!(
        nanos("anthropic", "claude-sonnet-4-5", batch),
        750_000 + 150_000 + 562_500 + 1_200_000 + 750_000
    );
}

#[test]
fn audio_is_charged_as_audio_once() {
    let usage = Usage {
        audio_prompt_tokens: Some(600),
        cached_tokens: Some(500),
        cached_audio_tokens: Some(100),
        ..tokens(2000, 0)
    };
    // Text 1000 x 0.3 + cached text 400 x 0.03 + cached audio 100 x 0.1 + audio 500 x 1, in micro-dollars.
    assert_eq!(nanos("gemini", "gemini-2.5-flash", usage), 300_000 + 12_000 + 10_000 + 500_000);
}

#[test]
fn reasoning_has_the_price_of_output_unless_it_has_another() {
    let usage = Usage { reasoning_tokens: Some(400), ..tokens(0, 500) };
    assert_eq!(nanos("gemini", "gemini-2.5-flash", usage), 500 * 2_500);
    let flex = Usage { service_tier: Some(ServiceTier::Flex), ..usage };
    assert_eq!(nanos("gemini", "gemini-2.5-flash", flex), 500 * 1_250);
    let priority = Usage { service_tier: Some(ServiceTier::Priority), ..usage };
    assert_eq!(nanos("gemini", "gemini-2.5-flash", priority), 500 * 4_500);
    assert_eq!(nanos("qwen", "qwen-turbo", usage), 100 * 200 + 400 * 500);
}

#[test]
fn the_whole_of_a_long_request_has_the_price_of_long_requests() {
    assert_eq!(nanos("gemini", "gemini-2.5-pro", tokens(200_000, 1)), 200_000 * 1_250 + 10_000);
    assert_eq!(nanos("gemini", "gemini-2.5-pro", tokens(200_001, 1)), 200_001 * 2_500 + 15_000);
    let cached = Usage { cached_tokens: Some(200_000), ..tokens(200_001, 0) };
    assert_eq!(nanos("gemini", "gemini-2.5-pro", cached), 2_500 + 200_000 * 250);
}

#[test]
fn seconds_characters_and_images_are_charged_where_tokens_are_not() {
    let sound = Usage { audio_milliseconds: Some(1500), ..Usage::default() };
    assert_eq!(nanos("openai", "whisper-1", sound), 150_000);
    let both =
        Usage { audio_milliseconds: Some(1500), audio_prompt_tokens: Some(37), ..tokens(37, 0) };
    assert_eq!(nanos("openai", "gpt-4o-transcribe", both), 37 * 2_500);
    let speech = Usage { input_characters: Some(7), ..Usage::default() };
    assert_eq!(nanos("openai", "tts-1", speech), 7 * 15_000);
    let images = Usage { images: Some(2), ..Usage::default() };
    assert_eq!(nanos("openai", "1024-x-1024/gpt-image-1.5", images), 18_000_000);
    let counted = Usage { images: Some(2), image_completion_tokens: Some(10), ..tokens(4, 10) };
    assert_eq!(nanos("openai", "gpt-image-1", counted), 4 * 5_000 + 10 * 40_000);
}

#[test]
fn requests_and_searches_have_prices_of_their_own() {
    assert_eq!(nanos("perplexity", "sonar-small-online", tokens(10, 10)), 5_000_000 + 10 * 280);
    let wide =
        Usage { web_searches: Some(1), search_context: Some(SearchContext::High), ..tokens(0, 0) };
    assert_eq!(nanos("perplexity", "sonar-pro", wide), 14_000_000);
    let searched = Usage { web_searches: Some(3), ..tokens(0, 0) };
    assert_eq!(nanos("anthropic", "claude-sonnet-4-5", searched), 30_000_000);
}

#[test]
fn tokens_counted_apart_are_charged() {
    let usage = Usage {
        beside_prompt_tokens: Some(375),
        audio_prompt_tokens: Some(375),
        beside_completion_tokens: Some(50),
        reasoning_tokens: Some(50),
        ..tokens(9, 20)
    };
    assert_eq!(nanos("gemini", "gemini-2.5-flash", usage), 9 * 300 + 375 * 1_000 + 70 * 2_500);
}

#[test]
fn a_side_that_is_not_told_is_the_rest_of_the_total() {
    let only = |total| Usage { total_tokens: Some(total), ..Usage::default() };
    assert_eq!(nanos("openai", "gpt-4o", only(10)), 25_000);
    let usage = Usage { prompt_tokens: Some(4), ..only(10) };
    assert_eq!(nanos("openai", "gpt-4o", usage), 4 * 2_500 + 6 * 10_000);
    assert_eq!(nanos("openai", "gpt-4o", Usage::default()), 0);
}

const MODELS: &[(&str, &str)] = &[
    ("openai", "gpt-4o"),
    ("openai", "gpt-5.4"),
    ("openai", "gpt-image-1"),
    ("openai", "gpt-audio-mini"),
    ("openai", "gpt-4o-transcribe"),
    ("anthropic", "claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-pro"),
    ("gemini", "gemini-2.5-flash"),
    ("gemini", "gemini-2.5-flash-image"),
    ("qwen", "qwen3-max"),
    ("qwen", "qwen-turbo"),
    ("deepseek", "deepseek-chat"),
    ("perplexity", "sonar-pro"),
];

fn count() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        2 => Just(None),
        4 => (0_u64..2000).prop_map(Some),
        3 => (0_u64..600_000).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        1 => Just(Some(u64::MAX)),
    ]
}

fn tier() -> impl Strategy<Value = Option<ServiceTier>> {
    prop_oneof![
        Just(None),
        Just(Some(ServiceTier::Batch)),
        Just(Some(ServiceTier::Flex)),
        Just(Some(ServiceTier::Priority)),
    ]
}

prop_compose! {
    fn usage()(
        counts in prop::array::uniform12(count()),
        others in prop::array::uniform4(count()),
        service_tier in tier(),
    ) -> Usage {
        Usage {
            prompt_tokens: counts[0],
            completion_tokens: counts[1],
            total_tokens: counts[2],
            cached_tokens: counts[3],
            cache_write_tokens: counts[4],
            reasoning_tokens: counts[5],
            cache_write_1h_tokens: counts[6],
            audio_prompt_tokens: counts[7],
            image_prompt_tokens: counts[8],
            cached_audio_tokens: counts[9],
            cached_image_tokens: counts[10],
            audio_completion_tokens: counts[11],
            image_completion_tokens: others[0],
            audio_milliseconds: others[1],
            images: others[2],
            web_searches: others[3],
            service_tier,
            ..Usage::default()
        }
    }
}

proptest! {
    #[test]
    fn the_parts_are_the_total_and_nothing_is_below_zero(model in 0..MODELS.len(), usage in usage()) {
        let (vendor, model) = MODELS[model];
        let bill = cost(&prices(vendor, model), &usage);
        prop_assert!(bill.total >= Money::ZERO);
        prop_assert_eq!(bill.total, Money::from_picos(bill.parts.sum()));
    }

    #[test]
    fn one_price_for_all_tokens_charges_each_of_them_once(usage in usage(), prompt in any::<u64>(), completion in any::<u64>()) {
        let usage = Usage {
            prompt_tokens: Some(prompt), completion_tokens: Some(completion), images: None, web_searches: None, ..usage
        };
        let bill = cost(&Prices::per_token(Some(1), Some(1)), &usage);
        let output = completion.max(usage.reasoning_tokens.unwrap_or(0));
        prop_assert_eq!(bill.parts.sum(), u128::from(prompt) + u128::from(output));
        let alone = prompt > 0 || usage.audio_milliseconds.is_none_or(|count| count == 0);
        prop_assert!(!alone || !bill.unpriced.any());
    }

    #[test]
    fn more_tokens_never_cost_less(
        model in 0..MODELS.len(), usage in usage(), prompt in 0_u64..600_000, completion in 0_u64..600_000,
        more in 0_u64..400_000,
    ) {
        let (vendor, model) = MODELS[model];
        let prices = prices(vendor, model);
        let usage = Usage {
            prompt_tokens: Some(prompt), completion_tokens: Some(completion), images: None,
            audio_milliseconds: None, ..usage
        };
        let before = cost(&prices, &usage).total;
        let longer = Usage { prompt_tokens: Some(prompt + more), ..usage };
        prop_assert!(cost(&prices, &longer).total >= before);
        let longer = Usage { completion_tokens: Some(completion + more), ..usage };
        prop_assert!(cost(&prices, &longer).total >= before);
    }

    #[test]
    fn dearer_kinds_of_token_cost_more_the_more_there_are(
        usage in usage(), prompt in 0_u64..600_000, completion in 0_u64..600_000, more in any::<u64>(), which in 0..4,
    ) {
        // No cache: everything but text costs at least as much as text.
        let usage = Usage {
            prompt_tokens: Some(prompt), completion_tokens: Some(completion), images: None, cached_tokens: None,
            image_completion_tokens: None, image_prompt_tokens: None, service_tier: None, ..usage
        };
        let add = |count: &mut Option<u64>| *count = Some(count.unwrap_or(0).saturating_add(more));
        let mut dearer = usage;
        let (vendor, model) = match which {
            0 => { add(&mut dearer.audio_prompt_tokens); ("gemini", "gemini-2.5-flash") }
            1 => { add(&mut dearer.audio_completion_tokens); ("openai", "gpt-audio-mini") }
            2 => { add(&mut dearer.reasoning_tokens); ("qwen", "qwen-turbo") }
            _ => { add(&mut dearer.cache_write_1h_tokens); ("anthropic", "claude-sonnet-4-5") }
        };
        let prices = prices(vendor, model);
        prop_assert!(cost(&prices, &dearer).total >= cost(&prices, &usage).total);
    }

    #[test]
    fn estimates_are_bills_of_ordinary_tokens(model in 0..MODELS.len(), prompt in any::<u64>(), completion in any::<u64>()) {
        let (vendor, model) = MODELS[model];
        let prices = prices(vendor, model);
        prop_assert_eq!(estimate(&prices, prompt, completion), cost(&prices, &tokens(prompt, completion)));
    }

    #[test]
    fn amounts_survive_text_and_json(nanos in any::<i64>(), small in -4_500_000_000_000_000_i64..=4_500_000_000_000_000) {
        let money = Money::from_nanos(nanos);
        prop_assert_eq!(Money::from_usd(&money.to_string()), Ok(money));
        prop_assert_eq!(serde_json::from_str::<Money>(&format!("\"{money}\"")).unwrap(), money);
        let money = Money::from_nanos(small);
        let json = serde_json::to_string(&money).unwrap();
        prop_assert!(!json.contains(['e', 'E']));
        prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
        let value = serde_json::to_value(money).unwrap();
        prop_assert_eq!(serde_json::from_value::<Money>(value).unwrap(), money);
    }
}

#[test]
fn the_largest_counts_at_the_largest_prices_saturate() {
    let mut all = tokens(u64::MAX, u64::MAX);
    all.cached_tokens = Some(u64::MAX);
    all.web_searches = Some(u64::MAX);
    let bill = cost(&Prices::per_token(Some(u64::MAX), Some(u64::MAX)), &all);
    assert_eq!(bill.total, Money::MAX);
    assert_eq!(Prices::per_token(Some(1), None).price(Unit::Input, u64::MAX, None), Some(1));
}
