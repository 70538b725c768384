//! A finished span as the request's thread leaves it: cheap to make, turned into OTLP's messages elsewhere.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as Message, Status};

/// Says in a span's flags that it is known whether its parent is of another process.
const KNOWS_PARENT: u32 = 1 << 8;
/// Says that it is.
const PARENT_IS_REMOTE: u32 = 1 << 9;
const SAMPLED: u32 = 1;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(Cow<'static, str>),
    Number(i64),
    Float(f64),
    Bool(bool),
    /// A list of one text.
    One(String),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Bool(is)
    }
}

/// What a span is called and belongs to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    /// `None`: the trace begins here.
    pub(super) parent: Option<u64>,
    pub(super) state: Option<HeaderValue>,
    pub(super) started: SystemTime,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Span {
    place: Place,
    /// Ours is the call, not the answer.
    is_client: bool,
    name: String,
    ended: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    /// What went wrong, if something did.
    error: Option<String>,
}

impl Span {
    /// Ends a span of a request that came in.
    pub(super) fn server(place: Place, name: String) -> Self {
        Self::ending(place, false, name)
    }

    /// Ends a span of a call to a vendor.
    pub(super) fn client(place: Place, name: String) -> Self {
        Self::ending(place, true, name)
    }

    fn ending(place: Place, is_client: bool, name: String) -> Self {
        let ended = SystemTime::now().max(place.started);
        Self { place, is_client, name, ended, attributes: Vec::with_capacity(20), error: None }
    }

    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// Sets what is known.
    pub(super) fn set_some<T: Into<Value>>(&mut self, name: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(super) fn fail(&mut self, message: impl Into<String>) {
        self.error = Some(message.into());
    }

    /// Says it in the collector's words.
    pub(super) fn into_message(self) -> Message {
        let Place { trace_id, span_id, parent, state, started } = self.place;
        // Only the parent of a request is another's.
        let remote = if self.is_client || parent.is_none() { 0 } else { PARENT_IS_REMOTE };
        let status = self.error.map(|message| Status { message, code: StatusCode::Error.into() });
        let kind = if self.is_client { SpanKind::Client } else { SpanKind::Server };
        let state = state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default();
        let attributes = self.attributes.into_iter();
        Message {
            trace_id: trace_id.to_be_bytes().to_vec(),
            span_id: span_id.to_be_bytes().to_vec(),
            trace_state: state.to_owned(),
            parent_span_id: parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
            flags: SAMPLED | KNOWS_PARENT | remote,
            name: self.name,
            kind: kind.into(),
            start_time_unix_nano: nanos(started),
            end_time_unix_nano: nanos(self.ended),
            attributes: attributes.map(|(name, value)| attribute(name, value)).collect(),
            status,
            ..Message::default()
        }
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Makes an attribute.
pub(super) fn attribute(name: &str, value: Value) -> KeyValue {
    let text = |text: String| any_value::Value::StringValue(text);
    let value = match value {
        Value::Text(words) => text(words.into_owned()),
        Value::Number(number) => any_value::Value::IntValue(number),
        Value::Float(number) => any_value::Value::DoubleValue(number),
        Value::Bool(is) => any_value::Value::BoolValue(is),
        Value::One(word) => any_value::Value::ArrayValue(ArrayValue {
            values: vec![AnyValue { value: Some(text(word)) }],
        }),
    };
    KeyValue {
        key: name.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
