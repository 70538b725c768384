//! W3C trace context: where a request stands in its trace, as `traceparent` and `tracestate` say it.
//!
//! See <https://www.w3.org/TR/trace-context/>.

use http::header::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The bit of the flags that says that the caller records its spans.
const SAMPLED: u8 = 1;

/// The longest `tracestate` that is carried, in bytes, which is what the specification asks for; those over it are dropped.
const LONGEST_STATE: usize = 512;

/// A span of somebody else's that ours belong under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) sampled: bool,
}

impl Parent {
    /// Reads the client's `traceparent`; `None` if there is none, or none that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Self::parse(value.to_str().ok()?),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = text.trim().as_bytes();
        let (known, rest) = bytes.split_at_checked(55)?;
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        let version = hex(&known[..2])?;
        // A later version may have more behind another dash.
        let ends = rest.is_empty() || (version > 0 && rest[0] == b'-');
        if !dashes || version == 0xff || !ends {
            return None;
        }
        let trace_id = hex(&known[3..35])?;
        let span_id = u64::try_from(hex(&known[36..52])?).ok()?;
        let flags = u8::try_from(hex(&known[53..])?).ok()?;
        (trace_id != 0 && span_id != 0).then_some(Self {
            trace_id,
            span_id,
            sampled: flags & SAMPLED != 0,
        })
    }
}

/// Reads lower-case hexadecimal digits, at most 32.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Says where a call to a vendor belongs.
pub(super) fn traceparent(trace_id: u128, span_id: u64, sampled: bool) -> HeaderValue {
    let flags = if sampled { SAMPLED } else { 0 };
    let text = format!("00-{trace_id:032x}-{span_id:016x}-{flags:02x}");
    HeaderValue::try_from(text).expect("hexadecimal digits are a header value")
}

/// Returns what other systems have to say of the trace: all `tracestate` headers as one.
pub(crate) fn tracestate(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE).iter();
    let first = values.next()?;
    let mut all = first.as_bytes().to_vec();
    for value in values {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    if all.len() > LONGEST_STATE {
        return None;
    }
    HeaderValue::from_bytes(&all).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn what_is_no_traceparent_is_passed_over() {
        let parent = Parent {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span_id: 0xb7ad_6b71_6920_3331,
            sampled: true,
        };
        let read = |text: String| Parent::parse(&text);
        assert_eq!(read(format!("00-{TRACE}-{SPAN}-01")), Some(parent));
        assert_eq!(read(format!(" 00-{TRACE}-{SPAN}-03 ")), Some(parent));
        let unsampled = Some(Parent { sampled: false, ..parent });
        assert_eq!(read(format!("00-{TRACE}-{SPAN}-00")), unsampled);
        assert_eq!(read(format!("00-{TRACE}-{SPAN}-02")), unsampled);
        assert_eq!(read(format!("cc-{TRACE}-{SPAN}-01")), Some(parent));
        assert_eq!(read(format!("cc-{TRACE}-{SPAN}-01-more")), Some(parent));
        for bad in [
            String::new(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("0g-{TRACE}-{SPAN}-01"),
            "é".repeat(40),
        ] {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
    }

    #[test]
    fn two_traceparents_are_none() {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::try_from(format!("00-{TRACE}-{SPAN}-01")).unwrap();
        headers.append(TRACEPARENT, value.clone());
        assert!(Parent::of(&headers).is_some());
        headers.append(TRACEPARENT, value);
        assert_eq!(Parent::of(&headers), None);
    }

    #[test]
    fn what_is_written_can_be_read() {
        for sampled in [false, true] {
            let text = traceparent(7, 9, sampled);
            let parent = Parent { trace_id: 7, span_id: 9, sampled };
            assert_eq!(Parent::parse(text.to_str().unwrap()), Some(parent));
        }
    }

    #[test]
    fn several_tracestates_are_one() {
        let mut headers = HeaderMap::new();
        assert_eq!(tracestate(&headers), None);
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2,c=3"));
        assert_eq!(tracestate(&headers).unwrap(), "a=1,b=2,c=3");
        headers.append(TRACESTATE, HeaderValue::try_from("x".repeat(LONGEST_STATE)).unwrap());
        assert_eq!(tracestate(&headers), None);
    }
}
