//! How many tokens a JSON body may be, from its bytes.

use memchr::memmem;

/// Tokens that a base64 payload counts for. A model is shown an image, a sound or a page, not the letters of its
/// encoding: that costs some hundred to some thousand tokens, and its bytes do not tell which.
const PAYLOAD_TOKENS: u64 = 1000;

/// Bytes of base64 from which a run is a payload wherever it stands. No text of a human has a word that long.
const LONG: usize = 1024;

/// Bytes that one token is taken for.
const BYTES_PER_TOKEN: u64 = 4;

/// How far before `;base64,` a data URL may begin.
const MEDIA_TYPE: usize = 128;

/// Estimates the input tokens of a JSON body: a quarter of its bytes, rounded up, base64 payloads left out, and
/// [`PAYLOAD_TOKENS`] for each of these.
///
/// A payload is what follows `;base64,` in a string that begins with `data:`, or a run of [`LONG`] bytes or more that
/// are all letters, digits, `+`, `/`, `-`, `_` or `=` (a slash may be escaped).
pub(crate) fn tokens(body: &[u8]) -> u64 {
    let (mut payloads, mut bytes) = (0, 0);
    let mut add = |length: usize| {
        payloads += 1;
        bytes += length as u64;
    };
    long_runs(body, &mut add);
    short_payloads(body, &mut add);
    (body.len() as u64 - bytes).div_ceil(BYTES_PER_TOKEN) + payloads * PAYLOAD_TOKENS
}

/// Finds the runs of [`LONG`] bytes and more. Each covers a multiple of [`LONG`], so only these positions are looked at,
/// and what is around them: a body without payloads costs some bytes per KiB.
fn long_runs(body: &[u8], add: &mut impl FnMut(usize)) {
    let mut at = 0;
    while at < body.len() {
        let end = at + run_length(&body[at..]);
        if end > at {
            let start = run_start(body, at);
            if end - start >= LONG {
                add(end - start);
            }
        }
        at = (end / LONG + 1) * LONG;
    }
}

/// Finds the payloads of data URLs that [`long_runs`] does not.
fn short_payloads(body: &[u8], add: &mut impl FnMut(usize)) {
    const MARK: &[u8] = b";base64,";
    for mark in memmem::find_iter(body, MARK) {
        let before = &body[mark.saturating_sub(MEDIA_TYPE)..mark];
        let in_url = memchr::memrchr(b'"', before)
            .and_then(|quote| before.get(quote + 1..quote + 6))
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"));
        let payload = &body[mark + MARK.len()..];
        let length = run_length(&payload[..payload.len().min(LONG + 1)]);
        if in_url && (1..LONG).contains(&length) {
            add(length);
        }
    }
}

/// Returns how many bytes of base64 `bytes` begins with.
fn run_length(bytes: &[u8]) -> usize {
    const BLOCK: usize = 64;
    let mut at = 0;
    loop {
        // Whole blocks without a branch per byte, for payloads of megabytes.
        while let Some(block) = bytes[at..].first_chunk::<BLOCK>()
            && block.iter().fold(true, |all, &byte| all & is_base64(byte))
        {
            at += BLOCK;
        }
        at += bytes[at..].iter().take_while(|&&byte| is_base64(byte)).count();
        if bytes[at..].starts_with(br"\/") {
            at += 2;
        } else {
            return at;
        }
    }
}

/// Returns where the run begins that the byte at `at` is in.
fn run_start(body: &[u8], mut at: usize) -> usize {
    while at > 0 {
        let before = body[at - 1];
        let escapes = before == b'\\' && body.get(at) == Some(&b'/');
        if !is_base64(before) && !escapes {
            break;
        }
        at -= 1;
    }
    at
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(length: usize) -> String {
        "aZ09+/-_".chars().cycle().take(length).collect()
    }

    fn of(body: &str) -> u64 {
        tokens(body.as_bytes())
    }

    /// What `body` counts for with `payloads` payloads of `bytes` together.
    fn with(body: &str, payloads: u64, bytes: usize) -> u64 {
        (body.len() as u64 - bytes as u64).div_ceil(4) + 1000 * payloads
    }

    #[test]
    fn four_bytes_are_a_token() {
        for (body, expected) in [("", 0), ("{}", 1), ("1234", 1), ("12345", 2), ("éé", 1)] {
            assert_eq!(of(body), expected, "{body}");
        }
        assert_eq!(of(&format!(r#"{{"a":"{}"}}"#, "word ".repeat(10_000))), 12_502);
    }

    #[test]
    fn a_payload_counts_the_same_whatever_its_length() {
        for length in [1, 4, 63, 64, 65, 1023, 1024, 1025, 2048, 100_001] {
            let body = format!(r#"{{"url":"data:image/png;base64,{}"}}"#, payload(length));
            assert_eq!(of(&body), with(&body, 1, length), "{length}");
        }
        let empty = r#"{"url":"data:image/png;base64,"}"#;
        assert_eq!(of(empty), with(empty, 0, 0));
    }

    #[test]
    fn long_runs_count_wherever_they_stand() {
        for before in [0, 1, 500, 1021, 1022, 1023, 1024, 5000] {
            for (length, payloads) in [(1023, 0), (1024, 1), (1025, 1), (3000, 1)] {
                let body = format!(r#"{}"{}" more text"#, " ".repeat(before), payload(length));
                let bytes = if payloads == 0 { 0 } else { length };
                assert_eq!(of(&body), with(&body, payloads, bytes), "{before} {length}");
            }
        }
        let alone = payload(1024);
        assert_eq!(of(&alone), 1000);
    }

    #[test]
    fn each_payload_counts() {
        let (short, long) = (payload(100), payload(5000));
        let body = format!(
            r#"{{"content":["{long}","{long}",{{"url":"data:audio/wav;rate=8000;base64,{long}"}},"data:;base64,{short}","DATA:image\/png;base64,{short}"]}}"#
        );
        assert_eq!(of(&body), with(&body, 5, 3 * 5000 + 2 * 100));
    }

    #[test]
    fn a_short_one_counts_in_a_data_url_only() {
        for body in [
            r#"{"a":"a text;base64,AAAA"}"#,
            r#"{"a":"see data:image/png;base64,AAAA"}"#,
            "data:image/png;base64,AAAA",
            r#"{"a":"data:image/png;base64"}"#,
        ] {
            assert_eq!(of(body), with(body, 0, 0), "{body}");
        }
    }

    #[test]
    fn escaped_slashes_are_a_part_of_a_payload() {
        let long = r"aZ09\/\/".repeat(300);
        for before in 0..10 {
            let body = format!(r#"{}"{long}""#, " ".repeat(before));
            assert_eq!(of(&body), with(&body, 1, long.len()), "{before}");
        }
        // Escaped letters are a text.
        let text = format!(r#""{}""#, r"\u4f60\u597d".repeat(500));
        assert_eq!(of(&text), with(&text, 0, 0));
    }

    #[test]
    fn a_run_is_counted_once_however_it_is_cut() {
        // One byte that is no base64, at each position of two kilobytes.
        for cut in 0..2048 {
            let mut body = payload(2048).into_bytes();
            body[cut] = b'"';
            let (left, right) = (cut, 2047 - cut);
            let long = [left, right].into_iter().filter(|&length| length >= LONG);
            let (payloads, bytes) = long.fold((0, 0), |(n, bytes), length| (n + 1, bytes + length));
            let expected = (2048 - bytes as u64).div_ceil(4) + 1000 * payloads;
            assert_eq!(tokens(&body), expected, "{cut}");
        }
    }
}
