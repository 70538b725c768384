use serde::Serialize;
use serde_json::Value;

/// Why one attempt at a deployment failed, as far as the next step depends on it.
///
/// Vendors' codecs classify, the router decides, and the server turns what is left into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// No connection: refused, name not found, TLS failed.
    Connect,
    /// One of our timeouts ran out, or the vendor answered 408 or 504.
    Timeout,
    /// The vendor answered 429.
    RateLimited,
    /// The vendor answered 503 or 529.
    Overloaded,
    /// Another 5xx, 409 or 425.
    Server,
    /// The reply was cut off or is not what the protocol allows.
    Malformed,
    /// The vendor refuses our credential or account: 401, 402, 429 `insufficient_quota`.
    Credential,
    /// The vendor answered 403.
    Forbidden,
    /// A 4xx that the request itself caused: no deployment would answer otherwise.
    Request,
    /// The request does not fit the model's context window: a model with a larger one may take it.
    ContextWindow,
    /// The vendor refuses the content by its policy: another vendor may not.
    ContentPolicy,
}

impl FailureClass {
    /// Returns the name used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Malformed => "malformed",
            Self::Credential => "credential",
            Self::Forbidden => "forbidden",
            Self::Request => "request",
            Self::ContextWindow => "context_window",
            Self::ContentPolicy => "content_policy",
        }
    }

    /// Tells whether the client's request is at fault, not the deployment that refused it.
    pub const fn is_request_fault(self) -> bool {
        matches!(self, Self::Request | Self::ContextWindow | Self::ContentPolicy)
    }
}

/// The object under `error` in OpenAI's error envelope.
///
/// See <https://platform.openai.com/docs/guides/error-codes>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorObject {
    /// What went wrong, for a person.
    pub message: String,
    /// The kind of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The request field at fault.
    pub param: Option<String>,
    /// A machine-readable code. A string nearly everywhere; some vendors send numbers.
    pub code: Option<Value>,
}

/// OpenAI's error envelope: `{"error": {...}}`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ErrorEnvelope<'a> {
    /// What went wrong.
    pub error: &'a ErrorObject,
}

impl ErrorEnvelope<'_> {
    /// Returns the envelope as JSON text.
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).expect("texts, numbers and nulls are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_at_fault_for_its_request_alone() {
        for class in
            [FailureClass::Request, FailureClass::ContextWindow, FailureClass::ContentPolicy]
        {
            assert!(class.is_request_fault(), "{}", class.as_str());
        }
        for class in [
            FailureClass::Connect,
            FailureClass::Timeout,
            FailureClass::RateLimited,
            FailureClass::Overloaded,
            FailureClass::Server,
            FailureClass::Malformed,
            FailureClass::Credential,
            FailureClass::Forbidden,
        ] {
            assert!(!class.is_request_fault(), "{}", class.as_str());
        }
    }
}
